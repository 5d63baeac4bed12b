"""Forked children of a test, for tests of what comes along and what does not."""

import os
import signal
import threading
from collections.abc import Callable, Generator
from contextlib import contextmanager

import pytest

needs_fork = pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
LONGEST_S = 60
"""A child that is stuck is killed after that."""


def in_child(work: Callable[[], object]) -> int:
    """Run a function in a fork; returns 0 if it returned, 99 if it raised, and less than 0 if it was stuck."""
    child = os.fork()
    if child == 0:
        status = 99
        try:
            signal.signal(signal.SIGALRM, signal.SIG_DFL)  # which a limit of time of the test has taken
            signal.alarm(LONGEST_S)
            work()
            status = 0
        finally:
            os._exit(status)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


@contextmanager
def another_thread(work: Callable[[Callable[[], None]], object]) -> Generator[None]:
    """Let a thread come to a certain point, where it stays as long as the block runs.

    Args:
        work: What it does; it is given what is to be called at that point.
    """
    there, go_on = threading.Event(), threading.Event()

    def stay() -> None:
        there.set()
        assert go_on.wait(LONGEST_S)

    thread = threading.Thread(target=work, args=(stay,))
    thread.start()
    try:
        assert there.wait(LONGEST_S)
        yield
    finally:
        go_on.set()
        thread.join(LONGEST_S)
    assert not thread.is_alive()
