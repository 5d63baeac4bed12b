"""Many calls at once in a step that has room for ten: none is sent that has no room."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import litellm
import pytest
from calling import CALL_USD, HUNDRED_TOKENS, acall, call, run

from provider import Provider
from steptrack_callbacks import BudgetExhausted, bind, step

MANY = 50
TEN_CALLS = 10 * CALL_USD


def ask_in_tasks(provider: Provider, many: int = MANY, **options: Any) -> list[Any]:
    async def main() -> list[Any]:
        asked = [acall("acompletion", provider, messages=HUNDRED_TOKENS, **options) for _ in range(many)]
        return await asyncio.gather(*asked, return_exceptions=True)

    return run(main())


def ask_in_threads(provider: Provider, many: int = MANY, **options: Any) -> list[Any]:
    def ask() -> Any:
        try:
            return call("completion", provider, messages=HUNDRED_TOKENS, **options)
        except Exception as error:
            return error

    with ThreadPoolExecutor(many) as pool:
        jobs = [pool.submit(bind(ask)) for _ in range(many)]
        return [job.result() for job in jobs]


in_both_worlds = pytest.mark.parametrize("ask_many", [ask_in_tasks, ask_in_threads])


def sorted_out(results: list[Any], many: int = MANY) -> tuple[int, int]:
    """Count answers and refusals; there must be nothing else."""
    answers = [result for result in results if isinstance(result, litellm.ModelResponse)]
    refusals = [result for result in results if isinstance(result, BudgetExhausted)]
    assert len(answers) + len(refusals) == len(results) == many, results
    return len(answers), len(refusals)


def assert_books_are_right(plan: Any, provider: Provider, answered: int) -> None:
    assert plan.usage.calls == provider.count() == answered
    assert plan.usage.output_tokens == 200 * answered
    assert plan.account.held_cost == plan.account.held_tokens == plan.account.held_calls == 0
    assert plan.account.waiting == 0


@in_both_worlds
def test_with_max_tokens_ten_of_fifty_are_sent(ask_many: Any, provider: Provider) -> None:
    with step("plan", max_usd=TEN_CALLS, error_boundary="continue") as plan:
        answered, refused = sorted_out(ask_many(provider, max_tokens=200))
        assert 9 <= answered <= 10
        assert refused >= MANY - 10
        assert_books_are_right(plan, provider, answered)


@in_both_worlds
def test_without_max_tokens_ten_of_a_cold_model_are_sent(ask_many: Any, provider: Provider) -> None:
    with step("plan", max_usd=TEN_CALLS, error_boundary="continue") as plan:
        answered, _ = sorted_out(ask_many(provider))
        assert 9 <= answered <= 10
        assert_books_are_right(plan, provider, answered)


@in_both_worlds
def test_without_max_tokens_ten_of_a_warm_model_are_sent(ask_many: Any, provider: Provider) -> None:
    call("completion", provider, messages=HUNDRED_TOKENS)
    provider.requests.clear()
    with step("plan", max_usd=TEN_CALLS, error_boundary="continue") as plan:
        answered, _ = sorted_out(ask_many(provider))
        assert 9 <= answered <= 10
        assert_books_are_right(plan, provider, answered)


@in_both_worlds
@pytest.mark.parametrize("history", ["cold", "warm"])
@pytest.mark.parametrize("options", [{"max_tokens": 200}, {}], ids=["max_tokens", "no-max_tokens"])
def test_20_calls_that_all_fit_are_all_answered(
    ask_many: Any, history: str, options: dict[str, int], provider: Provider
) -> None:
    if history == "warm":
        call("completion", provider, messages=HUNDRED_TOKENS)
        provider.requests.clear()
    with step("plan", max_usd=75 * CALL_USD) as plan:
        answered, refused = sorted_out(ask_many(provider, many=20, **options), many=20)
        assert (answered, refused) == (20, 0)
        assert_books_are_right(plan, provider, 20)


@in_both_worlds
@pytest.mark.parametrize("options", [{"max_tokens": 200}, {}], ids=["max_tokens", "no-max_tokens"])
@pytest.mark.parametrize("limit", [{"max_usd": TEN_CALLS}, {"max_tokens": 3000}], ids=["usd", "tokens"])
def test_a_strict_limit_is_never_passed(
    ask_many: Any, options: dict[str, int], limit: dict[str, Any], provider: Provider
) -> None:
    with step("plan", **limit, enforce="strict", error_boundary="continue") as plan:
        results = ask_many(provider, **options)
        answered, _ = sorted_out(results)
        assert plan.cost_usd <= TEN_CALLS
        assert plan.usage.total_tokens <= 3000
        assert plan.record().strict_breaches == 0
        assert provider.count() == plan.usage.calls == answered >= 5
        assert plan.account.held_calls == 0


@in_both_worlds
def test_max_calls_is_exact(ask_many: Any, provider: Provider) -> None:
    with step("plan", max_calls=10, error_boundary="continue") as plan:
        answered, _ = sorted_out(ask_many(provider))
        assert answered == 10
        assert_books_are_right(plan, provider, 10)


@in_both_worlds
def test_retries_of_litellm_find_no_room_either(ask_many: Any, provider: Provider) -> None:
    for limit in ({"max_calls": 10}, {"max_usd": TEN_CALLS}):
        provider.requests.clear()
        with step("plan", **limit, error_boundary="continue") as plan:
            answered, _ = sorted_out(ask_many(provider, num_retries=3, max_tokens=200))
            assert 9 <= answered <= 10
            assert_books_are_right(plan, provider, answered)


def test_children_at_once_share_what_their_parent_has(provider: Provider) -> None:
    async def child(number: int) -> int:
        answered = 0
        async with step(f"child-{number}", error_boundary="continue") as inner:
            for _ in range(4):
                await acall("acompletion", provider, messages=HUNDRED_TOKENS, max_tokens=200)
                answered += 1
        assert inner.usage.calls == answered
        return answered

    async def main() -> None:
        async with step("parent", max_usd=TEN_CALLS, error_boundary="continue") as parent:
            results = await asyncio.gather(*(child(n) for n in range(5)), return_exceptions=True)
            refusals = [result for result in results if isinstance(result, BudgetExhausted)]
            assert {refusal.step for refusal in refusals} == {"parent"}
            assert parent.usage.calls == provider.count()
            assert 9 <= provider.count() <= 11
            assert parent.own_usage.calls == 0

    run(main())


def test_streams_at_once_are_admitted_like_calls(provider: Provider) -> None:
    async def read() -> int:
        stream = await acall("acompletion", provider, messages=HUNDRED_TOKENS, max_tokens=200, stream=True)
        return len([chunk async for chunk in stream])

    async def main() -> None:
        async with step("plan", max_usd=TEN_CALLS, error_boundary="continue") as plan:
            results = await asyncio.gather(*(read() for _ in range(MANY)), return_exceptions=True)
            read_to_the_end = [result for result in results if isinstance(result, int)]
            assert 9 <= len(read_to_the_end) <= 11
            assert plan.usage.calls == provider.count() == len(read_to_the_end)
            assert plan.cost_usd <= 11 * CALL_USD

    run(main())
