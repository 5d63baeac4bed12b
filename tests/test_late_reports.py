"""Calls that are still open when their step ends, and those that a step leaves running."""

import asyncio
import time
from decimal import Decimal
from functools import partial

import pytest

from fake_framework import CALL_TOKENS, CALL_USD, FakeFramework, run_all
from internals import assert_nothing_left
from looking import in_thread, record_of
from steptrack_callbacks import Budget, BudgetExhausted, StepDenied, Usage, hooks, step
from steptrack_callbacks.concurrency.lock import LOCK
from steptrack_callbacks.engine import budget_binding
from steptrack_callbacks.engine.open_call import State
from steptrack_callbacks.ledgers.memory import MemoryStore
from steptrack_callbacks.steps import recording
from steptrack_callbacks.steps.recording import Recording
from steptrack_callbacks.steps.step import open_steps
from steptrack_callbacks.testing import recorder


@pytest.fixture
def framework() -> FakeFramework:
    return FakeFramework()


def test_a_call_still_open_at_the_end_is_charged_its_estimate_and_marked(framework):
    with step("outer", max_usd=1) as outer, step("inner", max_usd=1) as inner:
        framework.open()
    for record in (record_of("inner"), record_of("outer")):
        assert record.usage.to_dict() | {"estimated_calls": 1} == record.usage.to_dict()
        assert (record.usage.total_tokens, record.in_flight_calls) == (CALL_TOKENS, 1)
    assert_nothing_left(inner, outer)


def test_a_call_still_open_at_the_end_of_a_strict_step_is_charged_the_most_that_it_can_come_to(framework):
    framework.ask()
    with step("plan", max_usd=1, enforce="strict") as plan:
        call = framework.open(max_output_tokens=900, upper_bound=150)
    assert (plan.usage.input_tokens, plan.usage.output_tokens) == (150, 900)
    framework.answer(call)
    assert (plan.usage.total_tokens, plan.usage.estimated_calls) == (CALL_TOKENS, 0)


def test_a_late_report_replaces_the_estimate_once_and_revises_every_record(framework):
    with step("outer", max_usd=1) as outer, step("inner", max_usd=1) as inner:
        call = framework.open()
    framework.answer(call, output_tokens=10)
    framework.answer(call, output_tokens=90)
    cost = Decimal("0.00035")
    for record in (record_of("inner"), record_of("outer")):
        assert record.usage == Usage(input_tokens=100, output_tokens=10, cost_usd=cost, calls=1)
        assert (record.in_flight_calls, record.revision) == (0, 1)
    assert record_of("inner").models == {"fake-model": record_of("inner").usage}
    assert (inner.own_usage.calls, outer.own_usage.calls) == (1, 0)
    assert_nothing_left(inner, outer)


@pytest.mark.parametrize(
    ("report", "state", "left"),
    [
        (lambda call: call.fail(), "failed", Usage(calls=1, failed_calls=1)),
        (lambda call: call.withdraw(), "withdrawn", Usage()),
        (lambda call: call.settle_free(), "settled", Usage()),
        (
            lambda call: call.abandon(0),
            "abandoned",
            Usage(input_tokens=100, cost_usd=Decimal("0.00025"), calls=1, estimated_calls=1),
        ),
    ],
)
def test_whatever_is_reported_late_replaces_the_estimate(framework, report, state: State, left):
    with step("plan", max_usd=1) as plan:
        call = framework.open()
    report(call)
    assert (call.state, plan.usage, record_of("plan").usage) == (state, left, left)


def test_a_late_report_is_announced_with_the_whole_charge(framework):
    with recorder() as seen:
        with step("plan"):
            call = framework.open()
        assert [event.usage.estimated_calls for event in seen.calls] == [1]
        framework.answer(call)
    (event,) = seen.calls
    assert event.usage == Usage(input_tokens=100, output_tokens=200, cost_usd=CALL_USD, calls=1)


def test_a_hook_that_refuses_an_estimate_does_not_keep_the_step_from_ending(framework):
    def refuse(_event):
        raise StepDenied("too late")

    with step("plan", max_usd=1) as plan:
        framework.open()
        framework.open()
        off = hooks.on(hooks.CallSettled, refuse)
    off()
    assert (record_of("plan").status, plan.usage.calls) == ("completed", 2)
    assert_nothing_left(plan)


def test_calls_still_open_when_an_outer_step_ends_are_charged_on_all_steps_around_them(framework):
    outer = step("outer", max_usd=1)
    inner = step("inner", max_usd=1)
    outer.__enter__()
    inner.__enter__()
    call = framework.open()
    outer.__exit__(None, None, None)
    assert (inner.usage.estimated_calls, outer.usage.estimated_calls) == (1, 1)
    assert_nothing_left(inner, outer)
    framework.answer(call)
    inner.__exit__(None, None, None)
    assert [record_of(name).usage.estimated_calls for name in ("inner", "outer")] == [0, 0]
    assert record_of("inner").in_flight_calls == 0


def test_what_an_exhausted_step_left_running_is_refused_as_closed(framework):
    async def main():
        ended = asyncio.Event()

        async def left_running():
            await ended.wait()
            with pytest.raises(BudgetExhausted) as refusal:
                await framework.open_async()
            return refusal.value

        with step("outer") as outer:
            with step("plan", max_calls=1) as plan:
                framework.ask()
                task = asyncio.ensure_future(left_running())
                await asyncio.sleep(0)
            ended.set()
            error = await task
        assert (error.phase, error.step, error.limit) == ("closed", "plan", "max_calls")
        assert (plan.usage.calls, outer.usage.calls) == (1, 1)
        assert (record_of("plan").denied_calls, record_of("outer").denied_calls) == (1, 1)

    asyncio.run(main())


@pytest.mark.parametrize(
    "limits", [{"max_calls": 2}, {"max_calls": 1, "enforce": "observe"}, {"max_seconds": 3600}]
)
def test_what_a_step_with_room_or_one_that_only_observes_left_running_goes_to_the_step_around_it(
    framework, limits
):
    async def main():
        ended = asyncio.Event()

        async def left_running():
            await ended.wait()
            framework.ask()

        with step("outer") as outer:
            with step("plan", **limits) as plan:
                framework.ask()
                task = asyncio.ensure_future(left_running())
                await asyncio.sleep(0)
            ended.set()
            await task
        assert (plan.usage.calls, outer.usage.calls) == (1, 2)

    asyncio.run(main())


def test_a_record_is_taken_down_and_put_in_its_place_while_nobody_else_can_be_charged(framework, monkeypatch):
    put, was_free = recording.ledger.put, []

    def put_and_look(step_id, record, revision):
        was_free.append(in_thread(lambda: LOCK.acquire(blocking=False) and (LOCK.release() or True)))
        put(step_id, record, revision)

    monkeypatch.setattr(recording.ledger, "put", put_and_look)
    with step("plan"):
        call = framework.open()
    framework.answer(call)
    assert was_free == [False, False]


def test_reports_that_come_late_in_many_threads_at_once_are_all_in_the_record(framework):
    with step("plan") as plan:
        calls = [framework.open() for _ in range(16)]
    run_all([partial(framework.answer, call) for call in calls])
    record = record_of("plan")
    assert (record.usage, record.late_calls, record.revision) == (plan.usage, 16, 16)
    assert record.usage.estimated_calls == 0


def test_a_record_that_is_taken_down_as_a_collected_stream_is_charged_does_not_replace_the_newer_one(
    framework, monkeypatch
):
    build = Recording.build

    def build_and_collect(self, account):
        made = build(self, account)
        if framework.answered == 0:
            framework.answer(second, output_tokens=20)
        return made

    with step("plan") as plan:
        first, second = framework.open(), framework.open()
    monkeypatch.setattr(Recording, "build", build_and_collect)
    framework.answer(first, output_tokens=10)
    record = record_of("plan")
    assert (record.usage, record.late_calls, record.revision) == (plan.usage, 2, 2)
    assert record.usage.output_tokens == 30


def test_an_interrupt_while_open_calls_are_charged_ends_the_step_when_all_of_them_are(framework, monkeypatch):
    settle, interrupts = MemoryStore.settle, [KeyboardInterrupt(), SystemExit()]

    def interrupted(store, entries):
        if interrupts:
            raise interrupts.pop(0)
        return settle(store, entries)

    with pytest.raises(KeyboardInterrupt), step("outer") as outer:
        with step("plan", budgets=[Budget("team", max_usd=9)]) as plan:
            calls = [framework.open() for _ in range(3)]
            monkeypatch.setattr(MemoryStore, "settle", interrupted)
        pytest.fail("the interrupt was lost")
    assert [call.state for call in calls] == ["swept"] * 3
    assert (plan.status, record_of("plan").status, outer.status) == ("cancelled",) * 3
    assert record_of("plan").usage.estimated_calls == plan.budgets[0].settled.calls == 3
    assert open_steps() == []
    assert_nothing_left(plan, outer)


async def _read_a_little(framework):
    """Yield twice inside a step that has room for one call."""
    async with step("answer", max_calls=1):
        framework.ask()
        yield 1
        yield 2


async def _break_off(framework):
    async for _ in _read_a_little(framework):
        break
    while len(open_steps()) > 1:  # its event loop closes the generator, in a task of its own
        await asyncio.sleep(0)


async def _read_on_in_another_task(framework):
    reading = _read_a_little(framework)
    await anext(reading)

    async def read_on():
        async for _ in reading:
            pass

    await asyncio.create_task(read_on())


@pytest.mark.parametrize("read", [_break_off, _read_on_in_another_task])
def test_who_reads_a_generator_that_another_task_ends_may_go_on_afterwards(framework, read):
    async def main():
        with step("outer", max_calls=3) as outer:
            await read(framework)
            framework.ask()
            await asyncio.gather(asyncio.to_thread(framework.ask))  # with the same stack
        return outer

    outer = asyncio.run(main())
    assert (outer.usage.calls, outer.status, framework.refused) == (3, "completed", [])


def test_a_step_that_is_left_in_another_thread_keeps_nobody_from_calling(framework):
    plan = step("plan", max_calls=1)
    plan.__enter__()
    framework.ask()
    in_thread(lambda: plan.__exit__(None, None, None))
    framework.ask()
    assert (plan.usage.calls, plan.status, framework.sent) == (1, "completed", 2)


def test_a_window_that_is_over_in_another_thread_changes_nothing_about_who_has_entered_a_step(monkeypatch):
    with step("plan", budgets=[Budget("team", max_calls=9, window="1d")]) as plan:
        entered_by, chain = plan.entered_by, plan.accounts
        monkeypatch.setattr(budget_binding, "clock", lambda: time.time() + 2 * 86_400)
        assert in_thread(lambda: plan.accounts) is not chain
        assert plan.entered_by == entered_by
    assert not plan.left_elsewhere
