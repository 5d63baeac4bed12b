"""The pool of threads of an event loop, in which calls may wait for what the loop has to do there.

A sync call in `asyncio.to_thread` waits for room in a thread of that pool, and so do the sync models that
LangChain puts there. Who holds the room may be a coroutine that needs a thread of the same pool to go on. If
all threads waited, nobody would move until they gave up.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Generator
from contextlib import contextmanager
from types import FrameType
from typing import Any

from .lock import LOCK

MOST_SPARE = 64
"""So many threads more a process has at most for that; what waits beyond them may have to give up."""

_NAMED = "asyncio_"
_spare = 0


@contextmanager
def spare_thread() -> Generator[None]:
    """Give the pool of an event loop one more thread while one of its waits in this block.

    Of pools that a user has made it changes nothing: how large they are may be meant as a limit. Nor does it
    where Python has other names for these things: then a call may wait in vain for as long as `wait_s` says.
    """
    pool = _pool_here()
    if pool is None or not _enlarge(pool, 1):
        yield
        return
    try:
        pool.submit(_do_nothing)  # which starts the thread
        yield
    finally:
        _enlarge(pool, -1)


def _enlarge(pool: Any, more: int) -> bool:
    global _spare
    with LOCK:
        if _spare + more > MOST_SPARE or not isinstance(getattr(pool, "_max_workers", None), int):
            return False
        _spare += more
        pool._max_workers += more  # noqa: SLF001 - there is no public way
        return True


def _pool_here() -> Any:
    """Find the `ThreadPoolExecutor` that this thread works for, if it is an event loop's own."""
    if not threading.current_thread().name.startswith(_NAMED):
        return None
    worker = getattr(sys.modules.get("concurrent.futures.thread"), "_worker", None)
    frame: FrameType | None = sys._getframe()  # noqa: SLF001 - nothing else knows it
    while frame is not None and frame.f_code is not getattr(worker, "__code__", None):
        frame = frame.f_back
    pool = None if frame is None else frame.f_locals.get("executor_reference")
    return pool() if callable(pool) else None


def _do_nothing() -> None:
    """Be something to do for a new thread."""
