"""One at a time at the accounts of a process: nobody twice, and nobody across a fork."""

from __future__ import annotations

import os
import threading
import weakref
from typing import Protocol


class Forking(Protocol):
    """Who has something that must not be carried into a child process."""

    def before_fork(self) -> None:
        """Let go of it."""

    def after_fork(self, *, child: bool) -> None:
        """Take it up again."""


class Turn:
    """A lock that knows whose it is.

    A garbage collection may close a stream, and so charge, while its thread is at the accounts already. It
    must neither wait for itself nor go between two steps of its own work.
    """

    __slots__ = ("_lock", "_owner")

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._owner = 0

    @property
    def mine(self) -> bool:
        """Whether this thread is at the accounts."""
        return self._owner == threading.get_ident()

    def take(self, wait_s: float = -1) -> bool:
        """Wait for the turn at most so many seconds; a negative number waits as long as it takes.

        Returns:
            Whether it is this thread's now; not if it was already.
        """
        if self._owner == threading.get_ident():
            return False
        if not self._lock.acquire(timeout=wait_s) if wait_s else not self._lock.acquire(blocking=False):
            return False
        self._owner = threading.get_ident()
        return True

    def give(self) -> None:
        """Let the next one in."""
        self._owner = 0
        self._lock.release()


_forking: weakref.WeakSet[Forking] = weakref.WeakSet()
_held: list[Forking] = []


def watch_forks(thing: Forking) -> None:
    """Tell a store of every fork of this process, as long as it lives."""
    _forking.add(thing)


def _before() -> None:
    _held[:] = list(_forking)
    for thing in _held:
        thing.before_fork()


def _after(*, child: bool) -> None:
    for thing in _held:
        thing.after_fork(child=child)
    _held.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(
        before=_before,
        after_in_parent=lambda: _after(child=False),
        after_in_child=lambda: _after(child=True),
    )
