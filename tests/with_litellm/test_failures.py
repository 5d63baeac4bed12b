"""Calls that fail, time out or are cancelled; answers from a cache, from nowhere, and without a price."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from decimal import Decimal
from typing import Any

import litellm
import pytest
from calling import CALL_USD, NAMES, STREAMING, acall, ask, call, read, run, wait_until, wait_until_async

from left_out import FASTAPI
from provider import Provider
from steptrack_callbacks import step
from steptrack_callbacks.testing import recorder

CHAT = ("completion", "acompletion")


@pytest.mark.parametrize("name", NAMES)
def test_an_error_of_the_provider_counts_as_a_failed_call_and_costs_nothing(
    name: str, provider: Provider
) -> None:
    # LiteLLM takes max_retries=0 of an embedding for unset, and the client's own retries are not seen.
    provider.fail_next(3 if "embedding" in name else 1, status=500)
    with step("plan", max_usd=1) as plan:
        with pytest.raises(Exception) as failed:
            call(name, provider)
        assert type(failed.value).__module__.startswith("litellm")
        assert (plan.usage.calls, plan.usage.failed_calls) == (1, 1)
        assert (plan.cost_usd, plan.usage.total_tokens) == (0, 0)
        call(name, provider)
        assert (plan.usage.calls, plan.usage.failed_calls) == (2, 1)
    assert not plan.exhausted


@pytest.mark.parametrize("name", STREAMING)
def test_a_stream_that_does_not_begin_counts_as_a_failed_call(name: str, provider: Provider) -> None:
    provider.fail_next(1, status=500)
    with step("plan", max_usd=1) as plan, pytest.raises(litellm.InternalServerError):
        read(name, provider)
    assert (plan.usage.calls, plan.usage.failed_calls, plan.cost_usd) == (1, 1, 0)


def test_failed_calls_use_up_max_calls(provider: Provider) -> None:
    provider.fail_next(5, status=500)
    with step("plan", max_calls=3, error_boundary="continue") as plan:
        for _ in range(3):
            with pytest.raises(litellm.InternalServerError):
                call("completion", provider)
        call("completion", provider)
    assert plan.exhausted
    assert provider.count() == 3


@pytest.mark.parametrize("name", CHAT)
@pytest.mark.parametrize(
    "wrong", [{"model": "no-such-provider/x"}, {"model": "gemini/gemini-2.0-flash", "logit_bias": {"1": 1}}]
)
def test_what_litellm_refuses_by_itself_is_not_counted(
    name: str, wrong: dict[str, Any], provider: Provider
) -> None:
    with recorder() as seen, step("plan", max_tokens=1000) as plan:
        with pytest.raises(litellm.exceptions.BadRequestError):
            call(name, provider, **wrong)
        assert plan.usage.calls == 0
        assert plan.account.held_calls == 0
    assert provider.count() == 0
    assert not seen.calls


@pytest.mark.parametrize("name", [name for name in NAMES if name.startswith("a")])
def test_a_cancelled_call_is_charged_an_estimate(name: str, provider: Provider) -> None:
    provider.hold()

    async def main() -> None:
        async with step("plan", max_usd=1) as plan:
            task = asyncio.create_task(acall(name, provider))
            await asyncio.to_thread(provider.wait_for, 1)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            usage = plan.usage
            assert (usage.calls, usage.estimated_calls, usage.failed_calls) == (1, 1, 0)
            assert usage.input_tokens > 0
            assert (usage.output_tokens > 0) is ("embedding" not in name)
            assert plan.account.held_calls == 0

    run(main())


@pytest.mark.parametrize("name", CHAT)
def test_an_answer_that_comes_too_late_may_have_been_paid_for(name: str, provider: Provider) -> None:
    provider.hold()
    with step("plan", max_usd=1) as plan, pytest.raises(litellm.Timeout):
        call(name, provider, timeout=0.2)
    assert (plan.usage.calls, plan.usage.estimated_calls, plan.usage.failed_calls) == (1, 1, 0)
    assert plan.cost_usd > 0


@pytest.fixture
def cache() -> Iterator[None]:
    litellm.enable_cache(type="local")
    yield
    litellm.disable_cache()


@FASTAPI
@pytest.mark.parametrize("name", [name for name in NAMES if "text" not in name])
def test_an_answer_from_litellms_cache_is_free(name: str, provider: Provider, cache: None) -> None:
    async def twice() -> None:
        await acall(name, provider)
        await wait_until_async(lambda: bool(litellm.cache.cache.cache_dict))
        await acall(name, provider)

    with step("plan", max_calls=2) as plan:
        if name.startswith("a"):
            run(twice())
        else:
            call(name, provider)
            call(name, provider)
        assert provider.count() == plan.usage.calls == 1
        assert plan.usage.input_tokens == 100
        call(name, provider, **({"messages": [{"role": "user", "content": "?"}]} if name in CHAT else {}))
    assert plan.usage.calls == provider.count()


@FASTAPI
@pytest.mark.parametrize("name", CHAT)
def test_a_stream_from_litellms_cache_is_free(name: str, provider: Provider, cache: None) -> None:
    def is_cached() -> bool:
        return bool(litellm.cache.cache.cache_dict)

    async def twice() -> None:
        for _ in range(2):
            assert [chunk async for chunk in await acall(name, provider, stream=True)]
            await wait_until_async(is_cached)

    with step("plan", max_calls=3) as plan:
        if name == "acompletion":
            run(twice())
        else:
            read(name, provider)
            wait_until(is_cached)
            assert read(name, provider)
    assert provider.count() == plan.usage.calls == 1
    assert plan.cost_usd == CALL_USD


@FASTAPI
def test_embeddings_that_are_cached_in_part_are_charged_for_what_was_sent(
    provider: Provider, cache: None
) -> None:
    async def main() -> None:
        await acall("aembedding", provider, input=["one", "two"])
        await wait_until_async(lambda: len(litellm.cache.cache.cache_dict) >= 2)
        await acall("aembedding", provider, input=["one", "two", "three"])

    with step("plan") as plan:
        run(main())
    assert provider.count() == plan.usage.calls == 2
    assert plan.cost_usd >= Decimal("0.000004")
    assert plan.usage.estimated_calls == 1  # LiteLLM adds what was cached to what was sent


@pytest.mark.parametrize("name", CHAT)
def test_several_answers_count_as_one_call(name: str, provider: Provider) -> None:
    with step("plan", max_usd=1) as plan:
        call(name, provider, n=2)
    assert (plan.usage.calls, plan.usage.output_tokens) == (1, 400)
    assert plan.cost_usd == CALL_USD + Decimal("0.002")


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("name", CHAT)
def test_a_mock_response_is_charged_as_litellm_reports_it(
    name: str, stream: bool, provider: Provider
) -> None:
    with step("plan", max_usd=1) as plan:
        ask(name, provider, stream=stream, mock_response="It rains.")
    assert plan.usage.calls == 1
    assert plan.usage.output_tokens > 0
    assert plan.cost_usd > 0
    assert provider.count() == 0


@pytest.mark.parametrize("name", CHAT)
def test_a_mock_error_keeps_its_type(name: str, provider: Provider) -> None:
    with step("plan", max_usd=1) as plan, pytest.raises(litellm.RateLimitError):
        call(name, provider, mock_response="litellm.RateLimitError")
    assert plan.cost_usd == 0
    assert plan.account.held_calls == 0
