"""Locks around what is done once, or by one at a time: unlike the one lock they may be held for long."""

from __future__ import annotations

import os
import threading
import weakref


class Guard:
    """A re-entrant lock that is free in a forked child if another thread of the parent held it.

    That thread does not come along, and would never let go of it. A fork does not wait for it, since it may
    wait for something itself: so what is guarded has to be of use though somebody was in the middle of it.
    """

    __slots__ = ("__weakref__", "_lock")

    def __init__(self) -> None:
        self._lock = threading.RLock()
        _guards.add(self)

    def __enter__(self) -> None:
        """Wait until no other thread is inside."""
        self._lock.acquire()

    def __exit__(self, *_: object) -> None:
        """Let the next one in."""
        self._lock.release()

    def leave_others_behind(self) -> None:
        """Be free for a process in which no thread but this one is left."""
        if not self._lock._is_owned():  # type: ignore[attr-defined]  # noqa: SLF001 - as Condition asks
            self._lock = threading.RLock()


_guards: weakref.WeakSet[Guard] = weakref.WeakSet()


def _leave_others_behind() -> None:
    for guard in list(_guards):
        guard.leave_others_behind()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_leave_others_behind)
