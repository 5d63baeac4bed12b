"""Many at once: limits hold, sums are exact, nothing is left behind and nothing gets stuck."""

import asyncio
import random
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal
from functools import partial

import pytest

from fake_framework import CALL_USD, TEN_CALLS_TOKENS, TEN_CALLS_USD, FakeFramework, run_all, until_async
from internals import assert_nothing_left
from steptrack_callbacks import BudgetExhausted, Step, Usage, bind, install, step, uninstall
from steptrack_callbacks.engine import output_stats
from steptrack_callbacks.steps.attribution import new_call
from steptrack_callbacks.values.money import to_units

MANY = 50
WORTH_TEN = pytest.mark.parametrize("limit", [{"max_usd": TEN_CALLS_USD}, {"max_tokens": TEN_CALLS_TOKENS}])


@pytest.fixture
def framework() -> FakeFramework:
    return FakeFramework()


def fifty_coroutines(framework: FakeFramework, running: Step, max_output_tokens: int | None) -> None:
    async def main():
        framework.gather(running.account, MANY)
        await asyncio.gather(*(framework.try_to_ask_async(max_output_tokens) for _ in range(MANY)))

    asyncio.run(main())


def fifty_threads(framework: FakeFramework, running: Step, max_output_tokens: int | None) -> None:
    framework.gather(running.account, MANY)
    run_all([bind(partial(framework.try_to_ask, max_output_tokens))] * MANY)


@pytest.mark.parametrize("fifty", [fifty_coroutines, fifty_threads])
@WORTH_TEN
@pytest.mark.parametrize(
    ("max_output_tokens", "warm", "most"),
    [(200, False, 11), (200, True, 11), (None, False, 12), (None, True, 11)],
)
def test_fifty_calls_at_once_spend_a_budget_of_ten_and_little_more(
    framework, fifty, limit, max_output_tokens, warm, most
):
    if warm:
        output_stats.learn("fake-model", output_tokens=200, counted_input=100, input_tokens=100)
    with step("plan", **limit, error_boundary="continue") as plan:
        fifty(framework, plan, max_output_tokens)
        assert_nothing_left(plan)
    assert 9 <= framework.answered == framework.sent <= most
    assert framework.sent + len(framework.refused) == MANY
    assert plan.usage.calls == framework.sent


@pytest.mark.parametrize("fifty", [fifty_coroutines, fifty_threads])
@WORTH_TEN
@pytest.mark.parametrize("max_output_tokens", [200, None])
def test_strict_never_passes_the_limit_and_lets_through_what_fits(framework, fifty, limit, max_output_tokens):
    with step("plan", **limit, enforce="strict") as plan:
        fifty(framework, plan, max_output_tokens)
        assert_nothing_left(plan)
    assert plan.record().strict_breaches == 0
    assert framework.sent == 10
    assert plan.usage.total_tokens <= TEN_CALLS_TOKENS
    assert plan.cost_usd <= TEN_CALLS_USD


# One budget over parallel children


def spend_ten_in_a_child(framework: FakeFramework, children: dict[int, Step], number: int) -> None:
    with step(f"child-{number}") as child:
        children[number] = child
        for _ in range(10):
            framework.try_to_ask()


async def spend_ten_in_a_child_async(
    framework: FakeFramework, children: dict[int, Step], number: int
) -> None:
    with step(f"child-{number}") as child:
        children[number] = child
        for _ in range(10):
            await framework.try_to_ask_async()


def check_family(framework: FakeFramework, parent: Step, children: dict[int, Step]) -> None:
    """Ten calls in all, each in the books of the child that made it."""
    assert framework.sent == 10
    assert len(children) == 5
    assert sum(child.usage.calls for child in children.values()) == 10
    assert (
        sum((child.cost_usd for child in children.values()), Decimal(0)) == parent.cost_usd == TEN_CALLS_USD
    )
    for child in children.values():
        assert child.usage.calls + child.account.denied == 10
        assert child.own_usage == child.usage
    assert parent.own_usage == Usage()
    assert_nothing_left(parent, *children.values())


def test_five_children_in_tasks_spend_a_parents_ten_calls_together(framework):
    async def main(parent):
        children: dict[int, Step] = {}
        await asyncio.gather(
            *(spend_ten_in_a_child_async(framework, children, number) for number in range(5))
        )
        check_family(framework, parent, children)

    with step("parent", max_usd=TEN_CALLS_USD, error_boundary="continue") as parent:
        asyncio.run(main(parent))


@pytest.mark.parametrize("carrying", ["bind", "install", "parent", "pool"])
def test_five_children_in_threads_spend_a_parents_ten_calls_together(framework, carrying):
    children: dict[int, Step] = {}
    with step("parent", max_usd=TEN_CALLS_USD, error_boundary="continue") as parent:
        jobs = [partial(spend_ten_in_a_child, framework, children, number) for number in range(5)]
        if carrying == "bind":
            run_all([bind(job) for job in jobs])
        elif carrying == "parent":
            run_all([partial(spend_under, parent, framework, children, number) for number in range(5)])
        else:
            install(threads=True)
            try:
                if carrying == "install":
                    run_all(jobs)
                else:
                    with ThreadPoolExecutor(5) as pool:
                        for done in [pool.submit(job) for job in jobs]:
                            done.result()
            finally:
                uninstall()
        check_family(framework, parent, children)


def spend_under(parent: Step, framework: FakeFramework, children: dict[int, Step], number: int) -> None:
    with step(f"child-{number}", parent=parent) as child:
        children[number] = child
        for _ in range(10):
            framework.try_to_ask()


def test_a_parents_books_are_right_while_its_children_run(framework):
    with step("parent") as parent:
        barrier = threading.Barrier(6)

        def child():
            with step("child"):
                framework.ask()
                barrier.wait(20)  # everybody has spent
                barrier.wait(20)  # and was looked at

        threads = [threading.Thread(target=bind(child)) for _ in range(5)]
        for thread in threads:
            thread.start()
        barrier.wait(20)
        assert (parent.usage.calls, parent.cost_usd) == (5, 5 * CALL_USD)
        barrier.wait(20)
        for thread in threads:
            thread.join()


# Exact


def test_eight_threads_charge_a_hundred_thousand_times_each_and_lose_nothing(framework):
    each, threads = 100_000, 8
    tiny = Decimal("0.000000000000000000000001")
    amounts = [Decimal(7 + number) / 1000 + tiny for number in range(threads)]

    def charge(number):
        request = framework.request(price=lambda _usage: cost)
        cost = to_units(amounts[number], "amount")
        usage = Usage(input_tokens=number + 1, output_tokens=3)
        for _ in range(each):
            call = new_call(request, sent=True)
            call.begin()
            call.settle(usage)

    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    try:
        with step("outer") as outer, step("middle") as middle, step("inner") as inner:
            run_all([bind(partial(charge, number)) for number in range(threads)])
    finally:
        sys.setswitchinterval(interval)
    expected = Usage(
        calls=each * threads,
        input_tokens=each * sum(range(1, threads + 1)),
        output_tokens=each * threads * 3,
        cost_usd=each * sum(amounts),
    )
    assert outer.usage == middle.usage == inner.usage == inner.own_usage == expected
    assert middle.own_usage == outer.own_usage == Usage()
    assert_nothing_left(outer, middle, inner)


# Nothing left behind


def test_hundreds_of_cancelled_tasks_leave_no_reservation(framework):
    chance = random.Random(20)

    async def ask(plan):
        call = await framework.open_async()
        try:
            for _ in range(chance.randrange(20)):
                await asyncio.sleep(0)
            framework.answer(call)
        except asyncio.CancelledError:
            call.abandon(chance.randrange(200))
            raise

    async def main(plan):
        tasks = [asyncio.ensure_future(ask(plan)) for _ in range(400)]
        while not all(task.done() for task in tasks):
            await asyncio.sleep(0)
            chance.choice(tasks).cancel()
        for task in tasks:
            if not task.cancelled():
                assert isinstance(task.exception(), BudgetExhausted | None)
        assert any(task.cancelled() for task in tasks)
        assert_nothing_left(plan)

    with step("plan", max_usd=5 * TEN_CALLS_USD, error_boundary="continue") as plan:
        asyncio.run(main(plan))
    assert plan.usage.calls == framework.sent


# Late reports from other threads


def test_reports_that_race_with_the_end_of_their_step_are_charged_once(framework):
    for _ in range(200):
        barrier = threading.Barrier(4)

        def report(call, barrier=barrier):
            barrier.wait(20)
            framework.answer(call)

        with step("outer", max_usd=1) as outer:
            with step("plan", max_usd=1) as plan:
                threads = [threading.Thread(target=report, args=(framework.open(),)) for _ in range(3)]
                for thread in threads:
                    thread.start()
                barrier.wait(20)
            for thread in threads:
                thread.join()
            expected = Usage(input_tokens=300, output_tokens=600, cost_usd=3 * CALL_USD, calls=3)
            assert plan.usage == outer.usage == plan.record().usage == expected
            assert_nothing_left(plan, outer)


def test_a_step_that_ends_while_many_ask_leaves_no_reservation(framework):
    async def main():
        with step("outer", max_usd=1) as outer:
            with step("plan", max_usd=4 * CALL_USD) as plan:
                tasks = [asyncio.ensure_future(framework.try_to_ask_async()) for _ in range(20)]
                framework.gathered = lambda: plan.status != "open"
                await until_async(lambda: plan.account.waiting)
            await asyncio.gather(*tasks)
            assert_nothing_left(plan, outer)
            assert {error.phase for error in framework.refused} == {"closed"}
            assert plan.usage.calls == outer.usage.calls == framework.sent == 4
            assert plan.usage.estimated_calls == 0

    asyncio.run(main())
