"""Calls that would fit once others settle wait; nobody waits for what cannot come."""

import threading
import time

import pytest

from fake_framework import CALL_TOKENS, Asking, FakeFramework, ask_and_wait, open_elsewhere, until
from internals import assert_nothing_left
from steptrack_callbacks import BudgetExhausted, Grant, Usage, bind, drain_completed_steps, step
from steptrack_callbacks.engine.call import Call
from steptrack_callbacks.engine.outcomes import ADMITTED
from steptrack_callbacks.engine.queue import LOOK_EVERY_S, QUEUE, making_room
from steptrack_callbacks.steps.attribution import new_call

TWO_CALLS = 2 * CALL_TOKENS


@pytest.fixture
def framework() -> FakeFramework:
    return FakeFramework()


def test_a_call_waits_and_is_let_through_when_others_settle_for_less(framework):
    with step("plan", max_tokens=TWO_CALLS - 1) as plan:
        first = open_elsewhere(framework)
        asking = ask_and_wait(framework, plan)
        assert framework.sent == 1
        framework.answer(first, output_tokens=50)
        assert asking.end().call is not None
        framework.answer(asking.call, output_tokens=50)
        assert_nothing_left(plan)
    assert plan.usage.calls == 2


@pytest.mark.parametrize("end", [Call.fail, Call.withdraw, Call.settle_free, lambda call: call.abandon(0)])
def test_room_comes_free_however_a_call_ends(framework, end):
    with step("plan", max_tokens=TWO_CALLS - 1):
        first = open_elsewhere(framework)
        asking = Asking(framework)
        end(first)
        assert asking.end().call is not None


def test_calls_go_in_the_order_in_which_they_came(framework):
    with step("plan", max_tokens=800, enforce="strict") as plan:
        framework.ask(max_output_tokens=1)  # the model is known now, and 699 tokens are left
        first = open_elsewhere(framework)
        big = ask_and_wait(framework, plan, max_output_tokens=350)
        small = ask_and_wait(framework, plan, max_output_tokens=1)  # though it would fit at once
        assert framework.sent == 2
        framework.answer(first, output_tokens=0)
        framework.answer(big.end().call, output_tokens=0)
        framework.answer(small.end().call, output_tokens=0)
        assert_nothing_left(plan)


def test_room_too_small_for_the_first_in_line_is_not_given_to_those_behind(framework):
    with step("plan", max_tokens=1000, enforce="strict") as plan:
        framework.ask(max_output_tokens=1)  # the model is known now, and 899 tokens are left
        first, second = open_elsewhere(framework), open_elsewhere(framework)
        big = ask_and_wait(framework, plan, max_output_tokens=500)
        small = ask_and_wait(framework, plan, max_output_tokens=100)
        framework.answer(second, output_tokens=0)  # leaves 499 tokens: enough for the small one only
        assert plan.account.waiting == 2
        framework.answer(first, output_tokens=0)
        framework.answer(big.end().call, output_tokens=0)
        framework.answer(small.end().call, output_tokens=0)


def test_whoever_gives_up_is_in_nobodys_way(framework):
    with step("plan", max_tokens=800, enforce="strict") as plan:
        framework.ask(max_output_tokens=1)
        open_elsewhere(framework)
        big = new_call(framework.request(350))
        waiter = big._admission(patient=True).send(None)
        small = ask_and_wait(framework, plan, max_output_tokens=1)
        assert QUEUE.leave(waiter).phase == "busy"  # as when wait_s is over
        until(lambda: framework.sent == 3)
        assert small.end().call is not None


def test_a_call_is_refused_at_once_if_only_its_own_threads_call_is_in_the_way(framework):
    with step("plan", max_tokens=TWO_CALLS - 1):
        framework.open()
        with pytest.raises(BudgetExhausted) as refusal:
            framework.open()
    assert (refusal.value.phase, refusal.value.hint) == ("busy", "")


def test_a_call_waits_if_others_could_make_room_beside_its_own_threads_call(framework):
    with step("plan", max_tokens=3 * CALL_TOKENS - 1) as plan:
        other = open_elsewhere(framework)
        framework.open()
        until_settled = threading.Thread(
            target=lambda: (until(lambda: plan.account.waiting), framework.answer(other, output_tokens=0))
        )
        until_settled.start()
        framework.open()
        until_settled.join()
    assert framework.sent == 3


def test_who_holds_room_does_not_stand_behind_those_who_wait_for_it(framework):
    """Else the first in line waited for the stream, and the stream's reader for the first in line."""
    with step("plan", max_tokens=1000, enforce="strict") as plan:
        framework.ask(max_output_tokens=1)  # 899 tokens are left
        other = open_elsewhere(framework, max_output_tokens=200)
        reading = threading.Event()

        def read_a_stream():
            framework.open(max_output_tokens=300)
            reading.set()
            until(lambda: plan.account.waiting == 1)
            framework.open(max_output_tokens=150)  # waits for the other

        reader = threading.Thread(target=bind(read_a_stream))
        reader.start()
        reading.wait(20)
        first = ask_and_wait(framework, plan, max_output_tokens=690)  # waits for both
        until(lambda: plan.account.waiting == 2)
        framework.answer(other, output_tokens=0)
        reader.join(20)
        assert not reader.is_alive()
        assert (framework.sent, first.is_waiting) == (4, True)
    first.end()


def test_waiters_are_refused_as_soon_as_nothing_in_flight_could_make_room(framework):
    with step("plan", max_tokens=2000, error_boundary="continue") as plan:
        first, second = open_elsewhere(framework, 450), open_elsewhere(framework, 450)
        asking = ask_and_wait(framework, plan, max_output_tokens=1000)
        first.settle(Usage(input_tokens=100, output_tokens=1850))  # while the second is still in flight
        refusal = asking.end().refusal
        assert refusal is not None
        assert refusal.phase == "denied"
        framework.answer(second)
        assert_nothing_left(plan)


def test_wait_s_is_the_longest_that_a_call_waits(framework):
    with step("plan", max_tokens=TWO_CALLS - 1, wait_s=0.01) as plan:
        first = open_elsewhere(framework)
        asking = Asking(framework).end()
        assert asking.refusal is not None
        assert (asking.refusal.phase, "wait_s" in asking.refusal.hint) == ("busy", True)
        framework.answer(first, output_tokens=0)
        assert_nothing_left(plan)


def test_nobody_waits_for_longer_than_is_left_of_wait_s(framework, monkeypatch):
    now, waits = [0.0], []
    monkeypatch.setattr(time, "monotonic", lambda: now[0])

    class Gate:
        def acquire(self, timeout):
            waits.append(timeout)

    with step("plan", max_tokens=TWO_CALLS - 1, wait_s=30):
        open_elsewhere(framework)
        waiter = new_call(framework.request())._admission(patient=True).send(None)
        waiter._gate, waiter.looks_elsewhere = Gate(), True
        for now[0] in (0.0, 29.99):
            waiter.block()
        now[0] = 31.0
        assert waiter.block().phase == "busy"
    assert waits == [LOOK_EVERY_S, pytest.approx(0.01), 0.0]


def test_who_stands_in_line_again_has_waited_already(framework, monkeypatch):
    now = [0.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    with step("plan", max_tokens=TWO_CALLS - 1, wait_s=30):
        open_elsewhere(framework)
        waiter = new_call(framework.request())._admission(patient=True).send(None)
        now[0] = 20.0
        again = waiter.reservation.ask()  # as when a ledger has said no to what would fit here
        assert again._seconds() == 10.0
        QUEUE.drop(waiter)
        QUEUE.drop(again)


def test_a_wait_s_of_zero_never_waits(framework):
    with step("plan", max_tokens=TWO_CALLS - 1, wait_s=0):
        open_elsewhere(framework)
        with pytest.raises(BudgetExhausted) as refusal:
            framework.open()
    assert (refusal.value.phase, refusal.value.hint) == ("busy", "")


def test_a_wait_s_longer_than_any_clock_is_no_error(framework):
    with step("plan", max_tokens=TWO_CALLS - 1, wait_s=1e15) as plan:
        first = open_elsewhere(framework)
        asking = ask_and_wait(framework, plan)
        framework.answer(first, output_tokens=0)
        assert asking.end().call is not None


def test_max_seconds_ends_the_waiting_too(framework):
    with step("plan", max_tokens=TWO_CALLS - 1, max_seconds=0.05) as plan:
        open_elsewhere(framework)
        refusal = Asking(framework).end().refusal
        assert refusal is not None
        assert "max_seconds" in [breach.limit for breach in refusal.breaches]
    assert plan.exhausted


def test_calls_that_wait_when_their_step_ends_are_refused_as_closed(framework):
    with step("plan", max_tokens=TWO_CALLS - 1) as plan:
        open_elsewhere(framework)
        asking = ask_and_wait(framework, plan)
    refusal = asking.end().refusal
    assert refusal is not None
    assert (refusal.phase, refusal.step, refusal.step_id) == ("closed", "plan", plan.id)
    until(lambda: plan.record().denied_calls == 1)
    assert plan.status == "completed"
    assert_nothing_left(plan)


def test_a_step_without_limits_that_ends_refuses_those_who_wait_in_it_for_an_outer_one(framework):
    with step("outer", max_tokens=TWO_CALLS - 1) as outer:
        open_elsewhere(framework)
        with step("inner") as inner:
            asking = ask_and_wait(framework, outer)
        refusal = asking.end().refusal
        assert refusal is not None
        assert (refusal.phase, refusal.step_id, refusal.limit) == ("closed", inner.id, "max_tokens")
        (record,) = drain_completed_steps()
        assert (record.name, record.denied_calls) == ("inner", 1)


def test_a_step_that_ends_just_as_its_call_is_let_through_refuses_it(framework):
    with step("plan", max_tokens=TWO_CALLS) as plan:
        call = new_call(framework.request())
        admission = call._admission(patient=True)
        first = open_elsewhere(framework, max_output_tokens=500)
        waiter = admission.send(None)
        framework.answer(first, output_tokens=0)
        assert waiter.outcome is ADMITTED
        plan.account.close()
        with pytest.raises(BudgetExhausted) as refusal:
            admission.send(waiter.outcome)
        assert refusal.value.phase == "closed"
        assert plan.account.raised is None  # the body was told of no exhaustion
        assert_nothing_left(plan)


def test_a_thread_that_is_interrupted_while_it_waits_leaves_no_trace(framework):
    with step("plan", max_tokens=TWO_CALLS) as plan:
        first = open_elsewhere(framework, max_output_tokens=500)
        call = new_call(framework.request())
        admission = call._admission(patient=True)
        waiter = admission.send(None)

        class Interrupted:
            def acquire(self, timeout):
                framework.answer(first, output_tokens=0)  # the room comes free at this very moment
                raise KeyboardInterrupt

            def release(self):
                pass

        waiter._gate = Interrupted()
        with pytest.raises(KeyboardInterrupt):
            waiter.block()
        assert_nothing_left(plan)


def test_a_grant_wakes_those_who_wait(framework):
    with step(
        "plan", max_tokens=TWO_CALLS - 1, error_boundary="escalate", escalation=lambda _error: grant
    ) as plan:
        grant = Grant(max_tokens=10_000)
        open_elsewhere(framework)
        asking = ask_and_wait(framework, plan)
        assert framework.sent == 1
        big = FakeFramework(input_tokens=5000)  # would not fit with nothing in flight: it asks for more
        big.ask()
        assert asking.end().call is not None


def test_a_release_in_one_step_wakes_those_who_wait_in_another_below_the_same_parent(framework):
    with step("outer", max_tokens=TWO_CALLS - 1) as outer, step("first"):
        first = open_elsewhere(framework)
        with step("second"):
            asking = ask_and_wait(framework, outer)
            framework.answer(first, output_tokens=0)
            assert asking.end().call is not None


def test_room_that_is_made_is_given_on_though_something_is_raised(framework):
    with step("plan", max_tokens=TWO_CALLS) as plan:
        first = open_elsewhere(framework, max_output_tokens=500)
        asking = ask_and_wait(framework, plan)
        with pytest.raises(RuntimeError, match="the store is gone"), making_room:
            first.reservation.release()
            raise RuntimeError("the store is gone")
        assert asking.end().call is not None
        framework.answer(asking.call)
        first.withdraw()
