"""Many callers of every kind at once on one budget: nothing leaks, nobody starves, nothing stalls."""

from __future__ import annotations

import asyncio
import random
from typing import Any

import pytest

from fake_framework import FakeFramework, run_all
from internals import assert_nothing_left
from steptrack_callbacks import Budget, BudgetExhausted, Usage, bind, step
from steptrack_callbacks.engine.call import Call

MODELS = ("quick", "slow", "rare")
MANY, ROUNDS, LIMIT = 50, 8, 60_000


def request(draw: random.Random) -> dict[str, Any]:
    most = draw.choice((None, None, 100, 400, 2000))
    return {
        "model": draw.choice(MODELS),
        "streams": draw.random() < 0.3,
        # Of a model that nobody knows, strict can only bound an answer that may be given a max_tokens.
        "can_clamp": most is None or draw.random() < 0.5,
        "max_output_tokens": most,
    }


def end(framework: FakeFramework, call: Call, draw: random.Random) -> None:
    """End a call in one of the ways in which calls end."""
    caps = [cap for cap in (call.request.max_output_tokens, call.max_output_tokens) if cap is not None]
    length = min([draw.choice((5, 50, 200, 200, 200, 900, 3000)), *caps])
    match draw.randrange(7):
        case 0:
            call.fail()
        case 1:
            call.abandon()
        case 2:
            call.withdraw()
        case 3:
            call.settle_free()
        case 4:
            for produced in range(0, length, 100):
                call.progress(produced)
            call.abandon(length)
        case _:
            framework.answer(call, length)


def a_step_inside(draw: random.Random) -> Any:
    return draw.choice(
        (
            lambda: step("plain"),
            lambda: step("own", max_tokens=3000, error_boundary="continue"),
            lambda: step("strict", max_tokens=4000, enforce="strict", error_boundary="continue"),
            lambda: step("brief", max_calls=2, error_boundary="continue"),
        )
    )()


def work(framework: FakeFramework, seed: int) -> None:
    draw = random.Random(seed)
    for _ in range(ROUNDS):
        with a_step_inside(draw) as inner:
            for _ in range(draw.randrange(1, 4)):
                _ask_and_end(framework, draw)
        assert inner.record().strict_breaches == 0
        assert_nothing_held_by(inner)


def _ask_and_end(framework: FakeFramework, draw: random.Random) -> None:
    try:
        call = framework.open(**request(draw))
    except BudgetExhausted:
        return
    try:
        end(framework, call, draw)
    except BudgetExhausted as cut:
        assert cut.phase == "stream"
        call.abandon(100)


def assert_nothing_held_by(inner: Any) -> None:
    account = inner.account
    assert (account.held_calls, account.held_tokens, account.in_flight.running, account.waiting) == (
        0,
        0,
        [0, 0],
        0,
    )


@pytest.mark.parametrize("seed", range(3))
def test_fifty_threads_of_mixed_calls_leave_nothing_and_stall_nobody(seed):
    framework = FakeFramework()
    with step("outer", max_tokens=LIMIT, error_boundary="continue") as outer:
        run_all([bind(lambda number=number: work(framework, 1000 * seed + number)) for number in range(MANY)])
        assert_nothing_left(outer)
    assert outer.usage.total_tokens <= LIMIT * 1.35
    assert framework.sent > MANY


def test_fifty_threads_on_a_budget_that_strict_steps_share_leave_nothing(tmp_path):
    framework, seed = FakeFramework(), 7
    shared = Budget("shared", max_tokens=LIMIT, enforce="strict")

    def job(number: int) -> None:
        draw = random.Random(seed * 100 + number)
        for _ in range(3):
            with step("worker", budgets=[shared], error_boundary="continue"):
                _ask_and_end(framework, draw)

    run_all([bind(lambda number=number: job(number)) for number in range(MANY)])
    assert_nothing_left()
    assert framework.sent > MANY


@pytest.mark.parametrize("seed", range(5))
def test_tasks_that_are_cancelled_anywhere_leave_nothing_and_let_the_others_through(seed):
    framework, draw = FakeFramework(), random.Random(seed)

    async def ask(number: int) -> None:
        call = await framework.open_async(None)
        try:
            for _ in range(number % 7):
                await asyncio.sleep(0)
            framework.answer(call, 200)
        except asyncio.CancelledError:
            call.abandon()
            raise

    async def main() -> None:
        async with step("outer", max_tokens=30 * 300, error_boundary="continue") as outer:
            tasks = [asyncio.create_task(ask(number)) for number in range(MANY)]
            for task in draw.sample(tasks, 25):
                await asyncio.sleep(0)
                task.cancel()
            async with asyncio.timeout(60):
                ends = await asyncio.gather(*tasks, return_exceptions=True)
            assert_nothing_left(outer)
            unexpected = [
                each for each in ends if not isinstance(each, BudgetExhausted | asyncio.CancelledError | None)
            ]
            assert unexpected == []
            assert ends.count(None) >= 15

    asyncio.run(main())


def test_a_call_that_fits_is_not_starved_by_those_that_wait_for_more():
    framework = FakeFramework()
    framework.ask(None)
    with step("outer", max_tokens=100_000, error_boundary="continue") as outer:
        run_all([bind(lambda: framework.open(200).settle(Usage(input_tokens=100, output_tokens=200)))] * MANY)
        assert_nothing_left(outer)
    assert outer.usage.calls == MANY
