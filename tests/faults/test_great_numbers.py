"""Deep, wide and many: books add up whatever the shape of a program."""

from __future__ import annotations

import asyncio
import contextvars
import threading

import pytest

from fake_framework import FakeFramework
from steptrack_callbacks import (
    BudgetExhausted,
    Step,
    drain_completed_steps,
    peek_completed_steps,
    step,
)

framework = FakeFramework()


def test_a_step_may_call_itself_two_hundred_deep() -> None:
    @step("again", max_calls=300)
    def again(depth: int) -> int:
        FakeFramework().ask()
        return 1 + again(depth - 1) if depth > 1 else 1

    with step("outer", max_calls=200) as outer:
        assert again(200) == 200
        with pytest.raises(BudgetExhausted):
            FakeFramework().ask()
    records = {record.path.count("/"): record for record in peek_completed_steps()}
    assert len(records) == 201
    assert outer.usage.calls == records[1].usage.calls == 200
    assert records[200].usage.calls == 1
    assert all(records[depth].own_usage.calls == 1 for depth in range(1, 201))


def test_an_exhaustion_two_hundred_deep_reaches_the_step_that_it_belongs_to() -> None:
    @step("again", error_boundary="continue")
    def again(depth: int) -> None:
        FakeFramework().ask()
        if depth > 1:
            again(depth - 1)

    with step("outer", max_calls=150, error_boundary="continue") as outer:
        again(200)
    assert outer.status == "continued"
    assert outer.usage.calls == 150


def test_ten_thousand_steps_may_be_open_at_once() -> None:
    many, gate = 10_000, asyncio.Event()
    entered: list[Step] = []

    async def one(number: int) -> None:
        async with step(f"step-{number}", max_calls=1) as mine:
            entered.append(mine)
            await gate.wait()
            call = await framework.open_async()
            framework.answer(call)

    async def main() -> None:
        tasks = [asyncio.create_task(one(number)) for number in range(many)]
        while len(entered) < many:
            await asyncio.sleep(0)
        gate.set()
        await asyncio.gather(*tasks)

    with step("outer", max_calls=many) as outer:
        asyncio.run(main())
        assert outer.account.held_calls == outer.account.open_calls == 0
    assert outer.usage.calls == many
    assert all(each.usage.calls == 1 for each in entered)
    drain_completed_steps()


def test_threads_that_run_free_after_their_step_is_exhausted_spend_nothing_more() -> None:
    threads, started = [], threading.Barrier(9)
    stop, refused = threading.Event(), []
    with step("outer", max_calls=1000) as outer:
        with step("plan", max_calls=40, error_boundary="continue") as plan:

            def spin() -> None:
                own = FakeFramework()
                started.wait()
                while not stop.is_set():
                    try:
                        own.ask()
                    except BudgetExhausted as error:
                        refused.append(error.phase)
                        if error.phase == "closed":
                            return

            for _ in range(8):
                context = contextvars.copy_context()
                threads.append(threading.Thread(target=context.run, args=(spin,)))
                threads[-1].start()
            started.wait()
            while plan.usage.calls < 40:
                pass
            framework.ask()  # which ends the step
        for thread in threads:
            thread.join(30)
        stop.set()
        assert plan.usage.calls == outer.usage.calls == 40
        assert plan.account.held_calls == outer.account.held_calls == 0
    assert refused.count("closed") == 8
