"""What a step that is out of room does with the next call, and with whoever holds the room."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import Any

import litellm
import pytest
from calling import CALL_USD, HUNDRED_TOKENS, acall, arguments, call, run

from provider import Provider
from steptrack_callbacks import BudgetExhausted, step
from steptrack_callbacks.steps.attribution import unattributed_usage

NO_CLIENT_THAT_RETRIES = "hosted_vllm/some-model"
"""LiteLLM hands `num_retries` on to OpenAI's client, whose own retries nobody outside of it sees."""


@pytest.mark.parametrize("name", ["completion", "acompletion"])
def test_a_program_that_swallows_errors_gets_nothing_more_sent(name: str, provider: Provider) -> None:
    with step("plan", max_calls=1, error_boundary="continue") as plan:
        call(name, provider)
        for _ in range(100):
            with suppress(Exception):
                call(name, provider)
    assert provider.count() == plan.usage.calls == 1
    assert plan.record().denied_calls == 100
    assert plan.exhausted


@pytest.mark.parametrize("name", ["completion", "acompletion"])
def test_litellms_retries_neither_send_a_refused_call_nor_hide_the_refusal(
    name: str, provider: Provider
) -> None:
    refusals = []
    with step("plan", max_calls=2, error_boundary="continue") as plan:
        for _ in range(6):
            try:
                call(name, provider, num_retries=3)
            except BudgetExhausted as refusal:
                refusals.append(refusal)
    assert provider.count() == plan.usage.calls == 2
    assert [refusal.step for refusal in refusals] == ["plan"] * 4


@pytest.mark.parametrize("name", ["completion", "acompletion"])
def test_each_retry_of_litellm_is_counted_and_the_failed_ones_cost_nothing(
    name: str, provider: Provider
) -> None:
    provider.fail_next(2, status=503)
    with step("plan") as plan:
        call(name, provider, num_retries=3, model=NO_CLIENT_THAT_RETRIES)
    assert provider.count() == plan.usage.calls == 3
    assert plan.usage.failed_calls == 2
    assert plan.usage.output_tokens == 200


@pytest.mark.parametrize("name", ["completion", "acompletion"])
def test_retries_that_all_fail_are_counted(name: str, provider: Provider) -> None:
    provider.fail_next(10, status=503)
    with step("plan", max_tokens=1000) as plan, pytest.raises(litellm.ServiceUnavailableError):
        call(name, provider, num_retries=2, model=NO_CLIENT_THAT_RETRIES)
    assert provider.count() == plan.usage.calls == plan.usage.failed_calls == 3
    assert plan.usage.total_tokens == 0


def test_who_holds_a_stream_and_asks_for_more_is_refused_at_once(provider: Provider) -> None:
    with step("plan", max_usd=CALL_USD * 3 / 2, wait_s=3600) as plan:
        stream = call("completion", provider, messages=HUNDRED_TOKENS, max_tokens=200, stream=True)
        next(stream)
        with pytest.raises(BudgetExhausted) as refused:
            call("completion", provider, messages=HUNDRED_TOKENS, max_tokens=200)
        assert refused.value.phase == "busy"
        list(stream)
        assert plan.usage.calls == provider.count() == 1
    assert not plan.exhausted


def test_a_task_that_holds_a_stream_and_asks_for_more_is_refused_at_once(provider: Provider) -> None:
    async def main() -> None:
        async with step("plan", max_usd=CALL_USD * 3 / 2, wait_s=3600):
            stream = await acall(
                "acompletion", provider, messages=HUNDRED_TOKENS, max_tokens=200, stream=True
            )
            await anext(stream)
            with pytest.raises(BudgetExhausted) as refused:
                await acall("acompletion", provider, messages=HUNDRED_TOKENS, max_tokens=200)
            assert refused.value.phase == "busy"
            await stream.aclose()
            await acall("acompletion", provider, messages=HUNDRED_TOKENS, max_tokens=100)

    run(main())
    assert provider.count() == 2


def test_a_call_waits_for_room_that_another_task_gives_back(provider: Provider) -> None:
    provider.hold()

    async def main() -> None:
        async with step("plan", max_usd=CALL_USD * 5 / 2) as plan:
            options = {"messages": HUNDRED_TOKENS, "max_tokens": 400}  # asks for nearly twice what it uses
            first = asyncio.create_task(acall("acompletion", provider, **options))
            await asyncio.to_thread(provider.wait_for, 1)
            second = asyncio.create_task(acall("acompletion", provider, **options))
            while not plan.account.waiting:
                await asyncio.sleep(0)
            assert provider.count() == 1
            provider.release()
            await first
            await second
            assert plan.usage.calls == provider.count() == 2

    run(main())


def test_a_sync_call_on_a_running_loop_is_never_kept_waiting(provider: Provider) -> None:
    provider.hold()

    async def main() -> None:
        async with step("plan", max_usd=CALL_USD * 3 / 2, wait_s=3600) as plan:
            options: dict[str, Any] = {"messages": HUNDRED_TOKENS, "max_tokens": 200}
            task = asyncio.create_task(acall("acompletion", provider, **options))
            await asyncio.to_thread(provider.wait_for, 1)
            with pytest.raises(BudgetExhausted) as refused:
                litellm.completion(**arguments("completion", provider, **options))
            assert refused.value.phase == "busy"
            assert "use the async function" in str(refused.value)
            provider.release()
            await task
            assert plan.usage.calls == provider.count() == 1

    run(main())


def test_a_fallback_to_a_cheaper_model_that_fits_may_go(provider: Provider) -> None:
    with step("plan", max_usd=0.001) as plan:
        with pytest.raises(BudgetExhausted):
            call("completion", provider, messages=[{"role": "user", "content": " word" * 1000}])
        call("completion", provider, model="openai/gpt-4o-mini")
    assert provider.count() == plan.usage.calls == 1


def test_a_strict_step_sets_the_max_tokens_that_are_left(provider: Provider) -> None:
    for name, cap in (
        ("completion", "max_tokens"),
        ("acompletion", "max_tokens"),
        ("text_completion", "max_tokens"),
        ("responses", "max_output_tokens"),
        ("aresponses", "max_output_tokens"),
    ):
        provider.behave(output_tokens=5000, input_tokens=8)
        with step("plan", max_tokens=500, enforce="strict", error_boundary="continue") as plan:
            call(name, provider)
            sent = provider.requests[-1].body
            assert sent.get(cap) > 400 or sent.get("max_completion_tokens") < 500, (name, sent)
        assert plan.usage.total_tokens <= 500, name
        assert plan.record().strict_breaches == 0, name


def test_a_call_started_from_a_step_that_has_ended_exhausted_is_refused(provider: Provider) -> None:
    async def main() -> None:
        started, ended = asyncio.Event(), asyncio.Event()

        async def left_running() -> None:
            started.set()
            await ended.wait()
            await acall("acompletion", provider)

        async with step("plan", max_calls=1, error_boundary="continue"):
            await acall("acompletion", provider)
            task = asyncio.create_task(left_running())
            await started.wait()
            await acall("acompletion", provider)
        ended.set()
        with pytest.raises(BudgetExhausted) as refused:
            await task
        assert refused.value.phase == "closed"

    run(main())
    assert provider.count() == 1
    assert unattributed_usage().calls == 0
