"""Concurrent calls that would fit once others settle wait, where anything can wait."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from asking import CALL_USD, INPUT_USD, OUTPUT_USD, chat
from langchain_core.rate_limiters import BaseRateLimiter
from langchain_core.runnables import RunnableLambda

from provider import Provider
from steptrack_callbacks import BudgetExhausted, Grant, bind, step
from steptrack_callbacks.langchain import admission, budgeted

TEN_CALLS = 10 * CALL_USD
TEN_SHORT_CALLS = 10 * (8 * INPUT_USD + 200 * OUTPUT_USD)


def outcomes(answers: list[Any]) -> tuple[int, int]:
    """Count those who got an answer and those who were refused."""
    refused = sum(isinstance(answer, BudgetExhausted) for answer in answers)
    return len(answers) - refused, refused


async def gathered(model: Any, n: int = 50) -> list[Any]:
    return await asyncio.gather(*(model.ainvoke("hello") for _ in range(n)), return_exceptions=True)


async def in_one_abatch(model: Any, n: int = 50) -> list[Any]:
    return await model.abatch(["hello"] * n, return_exceptions=True)


@pytest.mark.parametrize("at_once", [gathered, in_one_abatch])
def test_of_50_calls_that_say_their_output_10_reach_the_provider(
    at_once: Callable[..., Any], provider: Provider
) -> None:
    provider.behave(input_tokens=8)  # as many as they are
    provider.hold()

    async def main() -> None:
        with step("plan", max_usd=TEN_SHORT_CALLS, error_boundary="continue") as plan:
            asking = asyncio.create_task(at_once(chat(provider, max_tokens=200)))
            await asyncio.to_thread(provider.wait_for, 10)
            provider.release()
            assert outcomes(await asking) == (10, 40)
            assert plan.usage.calls == 10

    asyncio.run(main())
    assert provider.count() == 10


def test_of_50_calls_in_threads_that_say_their_output_10_reach_the_provider(provider: Provider) -> None:
    provider.behave(input_tokens=8)
    model = chat(provider, max_tokens=200)
    with (
        step("plan", max_usd=TEN_SHORT_CALLS, error_boundary="continue") as plan,
        ThreadPoolExecutor(50) as pool,
    ):
        asking = [pool.submit(bind(model.invoke), "hello") for _ in range(50)]
        answers = [future.exception() or future.result() for future in asking]
    assert outcomes(answers) == (10, 40)
    assert provider.count() == plan.usage.calls == 10


@pytest.mark.parametrize("at_once", [gathered, in_one_abatch])
def test_with_the_limiter_calls_of_unknown_output_wait_for_what_the_first_teaches(
    at_once: Callable[..., Any], provider: Provider
) -> None:
    async def main() -> None:
        with step("plan", max_usd=TEN_CALLS) as plan:
            succeeded, _ = outcomes(await at_once(chat(provider, rate_limiter=admission)))
            assert succeeded >= 9
            assert plan.usage.calls == succeeded

    asyncio.run(main())
    assert 9 <= provider.count() <= 11


def test_calls_of_unknown_output_in_threads_wait_for_what_the_first_teaches(provider: Provider) -> None:
    model = chat(provider)
    with step("plan", max_usd=TEN_CALLS), ThreadPoolExecutor(50) as pool:
        asking = [pool.submit(bind(model.invoke), "hello") for _ in range(50)]
        answers = [future.exception() or future.result() for future in asking]
    assert outcomes(answers)[0] >= 9
    assert 9 <= provider.count() <= 11


def test_budgeted_waits_without_a_limiter(provider: Provider) -> None:
    async def main() -> None:
        with step("plan", max_usd=TEN_CALLS):
            answers = await gathered(budgeted(chat(provider), step="ask"))
            assert outcomes(answers)[0] >= 9

    asyncio.run(main())
    assert 9 <= provider.count() <= 11


def test_budgeted_waits_for_models_deep_inside_a_chain(provider: Provider) -> None:
    model = chat(provider)

    async def ask(question: str) -> Any:
        return await model.ainvoke(question)

    async def main() -> None:
        with step("plan", max_usd=TEN_CALLS):
            answers = await gathered(
                budgeted(RunnableLambda(ask) | RunnableLambda(lambda m: m.text), step="ask")
            )
            assert outcomes(answers)[0] >= 9

    asyncio.run(main())
    assert 9 <= provider.count() <= 11


def test_sync_functions_inside_budgeted_wait_in_their_threads(provider: Provider) -> None:
    model = chat(provider)

    async def main() -> None:
        with step("plan", max_usd=TEN_CALLS):
            answers = await gathered(budgeted(RunnableLambda(model.invoke), step="ask"), 20)
            assert outcomes(answers)[0] >= 9

    asyncio.run(main())
    assert 9 <= provider.count() <= 11


def test_a_sync_call_on_an_event_loop_never_blocks_it(provider: Provider) -> None:
    async def main() -> None:
        with step("plan", max_calls=1):
            model = chat(provider, rate_limiter=admission)
            stream = model.astream("hello")
            await anext(stream)
            with pytest.raises(BudgetExhausted):
                model.invoke("hello")
            await stream.aclose()

    asyncio.run(main())
    assert provider.count() == 1


@pytest.mark.parametrize("mode", ["ainvoke", "astream"])
def test_a_call_that_the_limiter_refuses_leaves_nothing_behind(mode: str, provider: Provider) -> None:
    async def main() -> None:
        model = chat(provider, rate_limiter=admission)
        with pytest.raises(BudgetExhausted), step("plan", max_usd=0):
            if mode == "ainvoke":
                await model.ainvoke("hello")
            else:
                await anext(model.astream("hello"))

    asyncio.run(main())
    assert provider.count() == 0


def test_a_limiter_of_the_users_may_build_on_ours(provider: Provider) -> None:
    class Counting(type(admission)):  # type: ignore[misc]
        seen = 0

        async def aacquire(self, *, blocking: bool = True) -> bool:
            self.seen += 1
            return await super().aacquire(blocking=blocking)

    limiter = Counting()
    assert isinstance(limiter, BaseRateLimiter)

    async def main() -> None:
        with step("plan", max_usd=TEN_CALLS):
            assert outcomes(await gathered(chat(provider, rate_limiter=limiter), 20))[0] >= 9

    asyncio.run(main())
    assert limiter.seen == 20


def test_a_thread_waits_for_a_call_of_the_event_loop(provider: Provider) -> None:
    provider.hold()
    model = chat(provider, max_tokens=200)

    async def main() -> None:
        with step("plan", max_usd=CALL_USD * 2, wait_s=30):
            first = [asyncio.create_task(model.ainvoke("hello")) for _ in range(2)]
            await asyncio.to_thread(provider.wait_for, 2)
            third = asyncio.create_task(asyncio.to_thread(model.invoke, "hello"))
            provider.release()
            assert outcomes(await asyncio.gather(*first, third, return_exceptions=True)) == (2, 1)

    asyncio.run(main())
    assert provider.count() == 2


@pytest.mark.parametrize("way", ["plain", "admission", "budgeted"])
def test_an_async_escalation_is_asked_where_somebody_can_await_it(way: str, provider: Provider) -> None:
    async def grant(_: BudgetExhausted) -> Grant:
        return Grant(max_calls=1)

    model = chat(provider, rate_limiter=admission if way == "admission" else None)
    ask = budgeted(model, step="ask") if way == "budgeted" else model

    async def main() -> None:
        async with step("plan", max_calls=0, error_boundary="escalate", escalation=grant):
            await ask.ainvoke("hello")

    asyncio.run(main())
    assert provider.count() == 1


def test_a_sync_call_on_an_event_loop_cannot_ask_an_async_escalation(provider: Provider) -> None:
    async def grant(_: BudgetExhausted) -> Grant:
        return Grant(max_calls=1)

    async def main() -> None:
        async with step("plan", max_calls=0, error_boundary="escalate", escalation=grant):
            chat(provider).invoke("hello")

    with pytest.raises(TypeError, match=r"can only answer async calls; make it a plain function$"):
        asyncio.run(main())
    assert provider.count() == 0
