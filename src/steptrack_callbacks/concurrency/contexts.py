"""The contextvars under everything: stacks that survive generators, threads and foreign contexts."""

from __future__ import annotations

import inspect
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextvars import Context, ContextVar, copy_context
from functools import wraps
from typing import Any, Generic, ParamSpec, Protocol, TypeVar, cast

P = ParamSpec("P")
R = TypeVar("R")
T = TypeVar("T")


class Follower(Protocol):
    """Keeps something else in the current context in step with a stack."""

    def entered(self, entry: Any) -> None:
        """Note that an entry is now the innermost."""

    def left(self, entry: Any) -> None:
        """Note that an entry is gone, be it the innermost or not."""


class Stack(Generic[T]):
    """A stack of entries in the current context: one variable that holds an immutable tuple.

    Leaving takes the entry, wherever it stands, out of the tuple of the context that is current
    then. No token is ever reset, since a generator or a task may well be closed in another context.

    Attributes:
        follower: Told of each change, in the context that it is made in; `None` for nobody.
    """

    def __init__(self, name: str) -> None:
        self._entries: ContextVar[tuple[T, ...]] = ContextVar(name, default=())
        self.follower: Follower | None = None

    def entries(self) -> tuple[T, ...]:
        """Return the entries, outermost first."""
        return self._entries.get()

    def push(self, *entries: T) -> None:
        """Add entries to the current context."""
        self._entries.set((*self._entries.get(), *entries))
        if self.follower is not None:
            for entry in entries:
                self.follower.entered(entry)

    def remove(self, entry: T) -> bool:
        """Take an entry out of the current context, and say whether it was there."""
        entries, index = self._entries.get(), self._index(entry)
        if index is not None:
            self._entries.set(entries[:index] + entries[index + 1 :])
            if self.follower is not None:
                self.follower.left(entry)
        return index is not None

    def cut(self, entry: T) -> tuple[T, ...]:
        """Take an entry and all above it out of the current context; returns those above."""
        entries, index = self._entries.get(), self._index(entry)
        if index is None:
            return ()
        self._entries.set(entries[:index])
        if self.follower is not None:
            for gone in reversed(entries[index:]):
                self.follower.left(gone)
        return entries[index + 1 :]

    def _index(self, entry: T) -> int | None:
        entries = self._entries.get()
        return next((index for index in reversed(range(len(entries))) if entries[index] is entry), None)

    def replace(self, entries: tuple[T, ...]) -> None:
        """Set all entries at once."""
        self._entries.set(entries)


def bind(function: Callable[P, R]) -> Callable[P, R]:
    """Carry the current context, and with it the active steps, into a function run elsewhere.

    Plain threads, executors and callbacks of foreign event loops start with an empty context. What
    is bound here may run there many times and at once: each run has a copy of its own.

    Args:
        function: A function or coroutine function.

    Returns:
        The same, to be called in any thread or task.

    Example:
        >>> from concurrent.futures import ThreadPoolExecutor
        >>> from steptrack_callbacks import bind, current_step, step
        >>> with step("outer"), ThreadPoolExecutor() as pool:
        ...     pool.submit(bind(lambda: current_step().path)).result()
        'outer'
    """
    context = copy_context()
    if inspect.iscoroutinefunction(function):

        @wraps(function)
        async def bound_coroutine(*args: Any, **kwargs: Any) -> Any:
            import asyncio  # noqa: PLC0415 - whoever runs a coroutine has it, and nobody else waits for it

            loop = asyncio.get_running_loop()
            return await loop.create_task(function(*args, **kwargs), context=context.copy())

        return cast(Callable[P, R], bound_coroutine)

    @wraps(function)
    def bound(*args: P.args, **kwargs: P.kwargs) -> R:
        return context.copy().run(function, *args, **kwargs)

    return bound


_thread_start: Any = threading.Thread.start
_executor_submit: Any = ThreadPoolExecutor.submit


def carry_into_threads() -> None:
    """Let every new thread and every job of a thread pool begin with its starter's context."""
    global _thread_start, _executor_submit
    if threading.Thread.start is not _start_with_context:
        _thread_start = threading.Thread.start
        threading.Thread.start = _start_with_context  # type: ignore[method-assign,assignment]
    if ThreadPoolExecutor.submit is not _submit_with_context:
        _executor_submit = ThreadPoolExecutor.submit
        ThreadPoolExecutor.submit = _submit_with_context  # type: ignore[method-assign,assignment]


def leave_threads_alone() -> None:
    """Undo `carry_into_threads`; jobs that were submitted meanwhile keep their context."""
    if threading.Thread.start is _start_with_context:
        threading.Thread.start = _thread_start  # type: ignore[method-assign]
    if ThreadPoolExecutor.submit is _submit_with_context:
        ThreadPoolExecutor.submit = _executor_submit  # type: ignore[method-assign]


def _start_with_context(thread: threading.Thread) -> None:
    context, run = copy_context(), thread.run
    thread.run = lambda: context.run(run)  # type: ignore[method-assign]
    _thread_start(thread)


def _submit_with_context(
    executor: ThreadPoolExecutor, function: Callable[..., Any], /, *args: Any, **kwargs: Any
) -> Any:
    # A pool's worker is a thread as well, started by whichever job came first: it must begin empty.
    context = copy_context()
    return Context().run(_executor_submit, executor, context.run, function, *args, **kwargs)
