"""What goes wrong at the worst moment leaves the books right and nothing reserved."""

from __future__ import annotations

import asyncio
import gc
import threading
from typing import Any

import pytest
from calling import ASK, CALL_USD, HUNDRED_TOKENS, acall, call, read, run
from litellm import Router
from litellm.exceptions import GuardrailRaisedException

import steptrack_callbacks as steptrack
from provider import Provider
from steptrack_callbacks import BudgetExhausted, StepDenied, hooks, step


def assert_nothing_is_held(plan: Any) -> None:
    account = plan.account
    assert account.held_cost == account.held_tokens == account.held_calls == 0
    assert account.in_flight.running == [0, 0]
    assert account.waiting == account.open_calls == 0


@pytest.mark.parametrize("stream", [False, True])
def test_two_hundred_cancelled_tasks_leave_nothing_reserved(stream: bool, provider: Provider) -> None:
    provider.hold()

    async def main() -> None:
        async with step("plan", max_usd=50 * CALL_USD) as plan:
            given = {"messages": HUNDRED_TOKENS, "max_tokens": 200, "stream": stream}
            tasks = [asyncio.create_task(acall("acompletion", provider, **given)) for _ in range(200)]
            await asyncio.to_thread(provider.wait_for, 20, 60)  # seconds, on a busy machine
            async with asyncio.timeout(60):
                while not plan.account.waiting:
                    await asyncio.sleep(0)
            for task in tasks:
                task.cancel()
            results = await asyncio.gather(*tasks, return_exceptions=True)
            assert all(isinstance(result, asyncio.CancelledError) for result in results)
            del results, tasks
            gc.collect()
            assert_nothing_is_held(plan)
            usage = plan.usage
            assert usage.estimated_calls == usage.calls <= 55
            assert usage.calls >= provider.count()

    run(main())


@pytest.mark.parametrize("after", range(12))
def test_a_call_cancelled_at_any_turn_of_the_loop_leaves_nothing_reserved(
    after: int, provider: Provider
) -> None:
    async def main() -> None:
        async with step("plan", max_usd=1) as plan:
            task = asyncio.create_task(acall("acompletion", provider, stream=after % 2 == 0))
            for _ in range(after):
                await asyncio.sleep(0)
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            del task
            gc.collect()
            assert_nothing_is_held(plan)

    run(main())


def test_two_event_loops_in_two_threads_share_a_step(provider: Provider) -> None:
    async def ask_many() -> None:
        given = {"messages": HUNDRED_TOKENS, "max_tokens": 200}
        await asyncio.gather(
            *(acall("acompletion", provider, **given) for _ in range(20)), return_exceptions=True
        )

    with step("plan", max_usd=10 * CALL_USD, error_boundary="continue") as plan:
        threads = [threading.Thread(target=steptrack.bind(asyncio.run), args=(ask_many(),)) for _ in range(2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert plan.usage.calls == provider.count()
        assert 9 <= provider.count() <= 11
        assert_nothing_is_held(plan)


def test_a_loop_for_each_call_is_no_trouble(provider: Provider) -> None:
    with step("plan", max_calls=5) as plan:
        for _ in range(5):
            asyncio.run(acall("acompletion", provider))
        with pytest.raises(BudgetExhausted):
            asyncio.run(acall("acompletion", provider))
        assert plan.usage.calls == provider.count() == 5
        assert_nothing_is_held(plan)


def test_a_loop_that_ends_under_an_open_stream_leaves_nothing_reserved(provider: Provider) -> None:
    provider.hold(after_chunks=3)
    with step("plan", max_usd=1) as plan:

        async def main() -> Any:
            stream = await acall("acompletion", provider, stream=True)
            await anext(stream)
            return stream

        stream = asyncio.run(main())
        del stream
        gc.collect()
        assert_nothing_is_held(plan)
        assert plan.usage.calls == 1


# Hooks


def test_a_broken_hook_breaks_nobodys_call(provider: Provider, caplog: pytest.LogCaptureFixture) -> None:
    hooks.on(hooks.CallSettled, lambda _event: 1 / 0)
    hooks.on(hooks.CallAdmitted, lambda _event: 1 / 0)
    with step("plan", max_usd=1) as plan:
        call("completion", provider)
        read("completion", provider)
        call("acompletion", provider)
        read("acompletion", provider)
    assert plan.usage.calls == 4
    assert "ZeroDivisionError" in caplog.text


def deny(_event: Any) -> None:
    raise StepDenied("the auditor says no")


@pytest.mark.parametrize("name", ["completion", "acompletion"])
@pytest.mark.parametrize("ask", [call, read])
def test_a_hook_that_denies_an_admitted_call_keeps_it_from_being_sent(
    ask: Any, name: str, provider: Provider
) -> None:
    hooks.on(hooks.CallAdmitted, deny)
    with step("plan", max_usd=1) as plan:
        with pytest.raises(StepDenied) as denied:
            ask(name, provider)
        assert isinstance(denied.value, GuardrailRaisedException)
        assert_nothing_is_held(plan)
    assert provider.count() == plan.usage.calls == 0


@pytest.mark.parametrize("name", ["completion", "acompletion"])
@pytest.mark.parametrize("ask", [call, read])
def test_a_hook_that_denies_what_is_settled_reaches_the_caller_as_litellm_leaves_it_alone(
    ask: Any, name: str, provider: Provider
) -> None:
    hooks.on(hooks.CallSettled, deny)
    with step("plan", max_usd=1) as plan:
        with pytest.raises(StepDenied) as denied:
            ask(name, provider)
        assert isinstance(denied.value, GuardrailRaisedException)
        assert (plan.usage.calls, plan.cost_usd) == (1, CALL_USD)
        assert_nothing_is_held(plan)


def test_a_hook_that_denies_what_is_settled_is_not_retried_by_the_router(provider: Provider) -> None:
    hooks.on(hooks.CallSettled, deny)
    where = {"api_base": provider.url, "api_key": "none"}
    router = Router(
        model_list=[{"model_name": "big", "litellm_params": {"model": "openai/gpt-4o", **where}}],
        num_retries=3,
    )
    with step("plan"), pytest.raises(StepDenied):
        router.completion(model="big", messages=ASK)
    assert provider.count() == 1


def test_a_hook_may_ask_a_model(provider: Provider) -> None:
    asked = []

    def judge(event: hooks.CallSettled) -> None:
        if event.step == "plan" and not asked:
            asked.append(event)
            call("completion", provider, max_tokens=1)

    hooks.on(hooks.CallSettled, judge)
    with step("plan", max_calls=1) as plan:
        call("completion", provider)
    assert provider.count() == 2
    assert plan.usage.calls == 1
