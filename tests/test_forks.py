"""A process forks while other threads are in the middle of something: they do not come along."""

import pytest

from forking import another_thread, in_child, needs_fork
from looking import in_thread
from steptrack_callbacks import peek_completed_steps, step
from steptrack_callbacks.concurrency.guard import Guard
from steptrack_callbacks.steps import recording

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
