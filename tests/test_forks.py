"""A process forks while other threads are in the middle of something: they do not come along."""

import os

import pytest

from fake_framework import CALL_TOKENS, FakeFramework, open_elsewhere
from forking import another_thread, in_child, needs_fork
from internals import assert_nothing_left
from looking import in_thread
from steptrack_callbacks import Budget, Grant, bind, peek_completed_steps, step
from steptrack_callbacks.concurrency.guard import Guard
from steptrack_callbacks.ledgers import current
from steptrack_callbacks.steps import recording

TEAM = Budget("team", max_tokens=100 * CALL_TOKENS)

pytestmark = [
    needs_fork,
    pytest.mark.filterwarnings("ignore:This process .* is multi-threaded, use of fork:DeprecationWarning"),
]


def test_a_guard_that_another_thread_is_inside_of_is_free_in_a_child():
    guard = Guard()

    def stay_inside(stay):
        with guard:
            stay()

    def enter():
        with guard:
            pass

    with another_thread(stay_inside):
        assert in_child(enter) == 0


def test_a_guard_that_the_forking_thread_is_inside_of_is_its_own_in_the_child_as_well():
    guard = Guard()

    def is_free():
        return in_thread(lambda: guard._lock.acquire(blocking=False))

    def child():
        assert not is_free()
        guard.__exit__()
        assert is_free()

    with guard:
        assert in_child(child) == 0
        assert not is_free()


def test_a_step_ends_in_a_child_that_was_forked_while_another_thread_read_the_records():
    with step("read") as read:
        pass

    def read_records(stay):
        recording.ledger.put(read.id, lambda: stay() or read.record())
        peek_completed_steps()

    def end_a_step():
        with step("child") as child:
            pass
        assert child.status == "completed"

    with another_thread(read_records):
        assert in_child(end_a_step) == 0


@pytest.fixture
def framework() -> FakeFramework:
    return FakeFramework()


@pytest.fixture
def on_disk(tmp_path):
    current.use(f"sqlite:///{tmp_path}/steps.db?timeout_s=20")


def charged() -> list[tuple[int, int]]:
    """The tokens that calls have produced by what the ledger says, and how many of them are estimated."""
    amounts = [charge["amounts"] for charge in current.ledger().store.charges()]
    return [(each.get("output_tokens", 0), each.get("estimated_calls", 0)) for each in amounts]


@pytest.mark.parametrize(
    "opened", [open_elsewhere, FakeFramework.open], ids=["another thread", "this thread"]
)
def test_a_step_that_ends_in_a_child_too_takes_nothing_from_what_the_parent_is_charged(
    framework, on_disk, opened
):
    with step("plan", budgets=[TEAM]) as plan:
        call = opened(framework)

        def end_it():
            plan.__exit__(None, None, None)
            framework.answer(call, output_tokens=1)
            assert (call.state, plan.usage.calls) == ("withdrawn", 0)
            assert peek_completed_steps()[-1].in_flight_calls == 0

        assert in_child(end_it) == 0
        framework.answer(call, output_tokens=150)
    assert charged() == [(150, 0)]
    assert plan.usage.output_tokens == 150


def test_a_call_whose_step_has_ended_is_not_reported_by_a_child(framework, on_disk):
    with step("plan", budgets=[TEAM]):
        call = framework.open()
    assert in_child(lambda: framework.answer(call, output_tokens=1)) == 0
    framework.answer(call, output_tokens=150)
    assert sum(output for output, _ in charged()) == 150


@pytest.mark.parametrize(
    "limits", [{}, {"max_calls": 9}, {"budgets": [TEAM]}, {"max_usd": 9, "budgets": [TEAM]}]
)
def test_a_child_has_none_of_its_parents_calls_in_flight(framework, limits):
    with step("plan", **limits) as plan:
        calls = [open_elsewhere(framework), framework.open()]

        def look():
            assert_nothing_left(plan)
            framework.ask()
            assert [account.held_calls for account in plan.accounts] == [0] * len(plan.accounts)

        assert in_child(look) == 0
        for call in calls:
            framework.answer(call)
    assert_nothing_left(plan)
    assert plan.usage.calls == 2


def test_what_a_parent_holds_on_a_ledger_is_held_elsewhere_for_its_child(framework, on_disk):
    two = Budget("two", max_calls=2)
    with step("plan", budgets=[two], wait_s=0) as plan:
        call = framework.open()

        def ask_for_two():
            framework.ask()
            assert framework.refusal().phase == "busy"

        assert in_child(ask_for_two) == 0
        framework.answer(call)
        assert plan.budgets[0].held_calls == 0


def test_a_child_asks_for_itself_what_a_thread_of_its_parent_is_asking(framework):
    parent, asked = os.getpid(), []

    def ask(_error):
        asked.append(os.getpid())
        if os.getpid() == parent:
            stay()
        return Grant(max_calls=5)

    def be_refused(at_that_point):
        nonlocal stay
        stay = at_that_point
        call_in_step()

    def ask_too():
        framework.ask()
        assert asked[-1] == os.getpid() != parent

    stay = None
    with step("plan", max_calls=1, error_boundary="escalate", escalation=ask) as plan:
        framework.ask()
        call_in_step = bind(framework.ask)
        with another_thread(be_refused):
            assert in_child(ask_too) == 0
    assert (asked, plan.usage.calls) == ([parent], 2)
