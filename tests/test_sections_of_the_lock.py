"""How often a call takes the lock of the process: each time is a moment in which nobody else is admitted."""

import sys

import pytest

from steptrack_callbacks import Usage, step
from steptrack_callbacks.concurrency.lock import LOCK
from steptrack_callbacks.engine import fast_path, output_stats
from steptrack_callbacks.engine.request import Request
from steptrack_callbacks.steps.attribution import new_call
from steptrack_callbacks.tokens import InputCount


class CountingLock:
    """The lock, and how often it was taken by who did not hold it."""

    def __init__(self):
        self.sections = self.depth = 0

    def __enter__(self):
        LOCK.acquire()
        self.sections += not self.depth
        self.depth += 1

    def __exit__(self, *_):
        self.depth -= 1
        LOCK.release()


@pytest.fixture
def lock(monkeypatch):
    counting = CountingLock()
    for name, module in list(sys.modules.items()):
        if name.startswith("steptrack_callbacks.") and getattr(module, "LOCK", None) is LOCK:
            monkeypatch.setattr(module, "LOCK", counting)
    return counting


@pytest.mark.parametrize("is_far", [True, False])
def test_a_call_is_admitted_in_one_section_of_the_lock_and_settled_in_another(monkeypatch, lock, is_far):
    output_stats.learn("gpt-4o", output_tokens=5, counted_input=10, input_tokens=10)
    monkeypatch.setattr(fast_path, "enabled", is_far)
    with step("outer", max_tokens=100_000, max_calls=50), step("plan", max_usd=9):
        call = new_call(
            Request(
                model="gpt-4o",
                count_input=lambda: InputCount(tokens=10, upper_bound=12),
                bound_input=lambda: 60,
                max_output_tokens=20,
            )
        )
        before = lock.sections
        call.admit()
        assert (lock.sections - before, call.bound is not None) == (1, is_far)
        call.settle(Usage(input_tokens=10, output_tokens=5))
        assert lock.sections - before == 2


@pytest.mark.parametrize("limit", ["max_usd", "max_tokens", None])
def test_whoever_asks_what_is_left_has_calls_counted_outside_the_lock(lock, limit):
    depths = []

    def count():
        depths.append(lock.depth)
        return InputCount(tokens=10, upper_bound=12)

    output_stats.learn("gpt-4o", output_tokens=5, counted_input=10, input_tokens=10)
    with step("plan", max_usd=9, max_tokens=100_000) as plan:
        call = new_call(Request(model="gpt-4o", count_input=count, bound_input=lambda: 60))
        call.admit()
        assert depths == []
        assert plan.remaining(limit)
        assert depths == [0]
        call.withdraw()
