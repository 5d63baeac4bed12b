"""Processes that fork, are spawned, or end in the middle: books are right in each, and shared ones in all."""

from __future__ import annotations

import multiprocessing
import os
import subprocess
import sys
from contextvars import Context
from pathlib import Path
from typing import Any

import pytest

from fake_framework import FakeFramework
from forking import needs_fork
from steptrack_callbacks import Budget, BudgetExhausted, current_step, peek_completed_steps, step
from steptrack_callbacks.ledgers import current

TESTS = Path(__file__).parents[1]
TEAM = Budget("team", max_calls=100)
FORKS = "ignore:This process .* is multi-threaded, use of fork:DeprecationWarning"


def settled(key: str = "budget::0:team") -> tuple[int, int]:
    (totals,) = current.ledger().store.look([key])
    return totals.settled.get("calls", 0), totals.held_calls


def in_child(work: Any) -> int:
    """Run a function in a fork; returns the status that the child ends with, without any clean-up."""
    child = os.fork()
    if child == 0:
        status = 99
        try:
            status = work() or 0
        finally:
            os._exit(status)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


@needs_fork
@pytest.mark.filterwarnings(FORKS)
def test_a_forked_child_goes_on_with_its_copy_of_a_step_and_shares_the_budget(tmp_path: Path) -> None:
    current.use(f"sqlite:///{tmp_path}/steps.db?timeout_s=20")
    framework = FakeFramework()

    def child() -> int:
        framework.ask()
        framework.answer(flying)  # which its parent has sent, and will be charged for
        return 0 if (plan.usage.calls, plan.account.held_calls) == (2, 0) else 1

    with step("plan", max_calls=5, budgets=[TEAM]) as plan:
        framework.ask()
        flying = framework.open()
        assert in_child(child) == 0
        assert plan.usage.calls == 1, "what a child spends is not seen by its parent's step"
        assert settled() == (2, 1), "but by the ledger"
        framework.answer(flying)
    assert settled() == (3, 0)


@needs_fork
@pytest.mark.filterwarnings(FORKS)
def test_a_child_that_ends_in_the_middle_leaves_its_parent_and_the_ledger_in_order(tmp_path: Path) -> None:
    current.use(f"sqlite:///{tmp_path}/steps.db?timeout_s=20", lease_s=900)
    framework = FakeFramework()

    def child() -> int:
        with step("inner", max_calls=1):
            framework.ask()
            framework.open()  # refused: the inner step is exhausted
        return 0

    def in_flight() -> int:
        framework.open()
        return 7

    with step("plan", max_calls=9, budgets=[TEAM]) as plan:
        assert in_child(in_flight) == 7
        assert in_child(child) == 99
        framework.ask()
        assert plan.usage.calls == 1
    assert settled() == (2, 1), "the call that was in flight keeps its room until its lease ends"
    assert [record.name for record in peek_completed_steps()] == ["plan"]


@needs_fork
@pytest.mark.filterwarnings(FORKS)
def test_a_step_that_begins_in_a_forked_child_counts_what_the_parent_holds_as_held_by_others(
    tmp_path: Path,
) -> None:
    current.use(f"sqlite:///{tmp_path}/steps.db?timeout_s=20")
    framework, one = FakeFramework(), Budget("team", max_calls=1)

    def child() -> int:
        with step("other", budgets=[one], wait_s=0):
            refusal = framework.refusal()
        return 0 if (refusal.phase, "of a process that has died" in str(refusal)) == ("busy", True) else 1

    with step("plan", budgets=[one]):
        flying = framework.open()
        assert in_child(lambda: Context().run(child)) == 0
        framework.answer(flying)
    assert settled() == (1, 0)


def spawned(url: str, queue: Any) -> None:
    sys.path.insert(0, str(TESTS))
    current.use(url)
    left = current_step()
    with step("plan", budgets=[TEAM]) as plan:
        for _ in range(5):
            FakeFramework().ask()
    queue.put((left is None, plan.usage.calls))


def test_a_spawned_process_begins_outside_of_every_step_and_shares_the_budget(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/steps.db?timeout_s=20"
    current.use(url)
    context = multiprocessing.get_context("spawn")
    with step("plan", budgets=[TEAM]) as plan:
        queue = context.Queue()
        process = context.Process(target=spawned, args=(url, queue))
        process.start()
        assert queue.get(timeout=60) == (True, 5)
        process.join()
        FakeFramework().ask()
    assert plan.usage.calls == 1
    assert settled() == (6, 0)


DIES = """
import os, sys, threading
sys.path.insert(0, {tests!r})
from fake_framework import FakeFramework
from forking import needs_fork
from steptrack_callbacks import Budget, step
from steptrack_callbacks.ledgers import current
current.use({url!r}, lease_s=0.2)
framework = FakeFramework()
with step("outer", run_id="run-1", budgets=[Budget("team", max_calls=100)]):
    with step("inner"):
        for _ in range(3):
            framework.ask()
        framework.open()
        os._exit(3)
"""


def test_a_process_that_ends_in_the_middle_has_kept_what_it_settled(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/steps.db?timeout_s=20"
    code = DIES.format(tests=str(TESTS), url=url)
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 3
    current.use(url)
    with step("outer", run_id="run-1", budgets=[TEAM]) as outer:
        while settled()[1]:
            pass  # until the dead call's lease has ended
        assert outer.usage.calls == 3
        FakeFramework().ask()
    assert settled() == settled("run:outer:run-1") == (4, 0)
    assert len(current.ledger().store.charges()) == 4


def test_a_clock_that_is_set_back_makes_no_step_longer_and_no_budget_larger(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    import time

    real = time.time
    daily = Budget("daily", max_calls=3, window="1d")
    framework = FakeFramework()
    with step("plan", max_calls=10, budgets=[daily]) as plan:
        framework.ask()
        monkeypatch.setattr(time, "time", lambda: real() - 10 * 86400)
        framework.ask()
        with step("inner", budgets=[]):
            framework.ask()
        with pytest.raises(BudgetExhausted):
            framework.ask()
        assert plan.usage.calls == 3
    (inner, outer) = peek_completed_steps()
    assert 0 <= inner.duration_s <= outer.duration_s < 60
    assert outer.ended_at >= outer.started_at
    assert inner.ended_at >= inner.started_at
