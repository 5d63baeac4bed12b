"""Whether an event loop runs here, asked without importing asyncio, which takes as long as all else."""

from __future__ import annotations

import sys
import threading
import weakref
from collections.abc import Hashable
from contextlib import suppress
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import asyncio


def running_loop() -> Any:
    """Return the event loop that runs in this thread, or `None`; nothing may block while one does."""
    asyncio = sys.modules.get("asyncio")
    return asyncio._get_running_loop() if asyncio else None  # noqa: SLF001 - the public one raises, which is slow


def current_owner() -> Hashable:
    """Return the task that runs here, else the thread: whoever would have to let go of what it holds."""
    asyncio = sys.modules.get("asyncio")
    loop = asyncio._get_running_loop() if asyncio else None  # noqa: SLF001 - as above
    if asyncio and loop and (task := asyncio.current_task(loop)):
        return _known_by(task)
    if _here.owner is None:
        _here.owner = _known_by(threading.current_thread())
    return _here.owner


def wake(future: asyncio.Future[None]) -> None:
    """Let whoever awaits a future go on, from any thread."""
    with suppress(RuntimeError):  # its loop has closed, and nobody awaits it any more
        future.get_loop().call_soon_threadsafe(_finish, future)


def _finish(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)


class _Here(threading.local):
    owner: Hashable | None = None


_here = _Here()


def _known_by(owner: Any) -> Hashable:
    # A task holds on to its result, which may be the very stream that holds the room.
    known = weakref.ref(owner)
    hash(known)  # which it remembers, and could not tell any more once the task has ended
    return known
