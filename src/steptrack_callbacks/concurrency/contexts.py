"""The contextvars under everything: stacks that survive generators, threads and foreign contexts."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from contextvars import ContextVar, copy_context
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
        """Note that an entry is gone, whether it is the innermost or not."""

    def lent(self, entries: tuple[Any, ...]) -> Callable[[], None]:
        """Note that a thread begins with these entries; returns what puts back what was there."""


class Carried(Protocol):
    """A variable of ours that new threads and jobs of thread pools take along."""

    def taken(self) -> Any:
        """Return what is to be taken along from the current context; `None` for nothing."""

    def put(self, taken: Any, *, for_good: bool) -> Callable[[], None]:
        """Put what was taken into the current context; returns what puts back what was there.

        Args:
            taken: What `taken` returned elsewhere.
            for_good: Whether it is for all that a thread does, and not for one job of a pool.
        """


carried: list[Carried] = []
"""All of them; whoever makes one adds it."""


class CarriedVariable:
    """A variable that is taken along as it is, see `Carried`."""

    def __init__(self, variable: ContextVar[Any]) -> None:
        self._variable = variable

    def taken(self) -> Any:
        """Return its value, `None` for nothing."""
        return self._variable.get()

    def put(self, taken: Any, *, for_good: bool) -> Callable[[], None]:  # noqa: ARG002 - of others
        """Set it."""
        before = self._variable.get()
        self._variable.set(taken)

        def undo() -> None:
            self._variable.set(before)

        return undo


class Stack(Generic[T]):
    """A stack of entries in the current context: one variable that holds an immutable tuple.

    Leaving takes the entry, wherever it stands, out of the tuple of the context that is current
    then. No token is ever reset, since a generator or a task may well be closed in another context.

    Attributes:
        entries: Returns the entries, outermost first.
        follower: Told of each change, in the context that it is made in; `None` for nobody.
    """

    def __init__(self, name: str) -> None:
        self._entries: ContextVar[tuple[T, ...]] = ContextVar(name, default=())
        self._started_in: ContextVar[T | None] = ContextVar(f"{name}_started_in", default=None)
        self.follower: Follower | None = None
        self.entries: Callable[[], tuple[T, ...]] = self._entries.get  # asked often, so without a detour
        carried.append(self)

    def push(self, *entries: T) -> None:
        """Add entries to the current context."""
        self._entries.set((*self._entries.get(), *entries))
        if self.follower is not None:
            for entry in entries:
                self.follower.entered(entry)

    def remove(self, entry: T) -> bool:
        """Take an entry out of the current context, and say whether it was there."""
        entries = self._entries.get()
        if entries and entries[-1] is entry:  # nearly always
            index: int | None = len(entries) - 1
        else:
            index = self._index(entry)
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

    def is_started_in(self, entry: T) -> bool:
        """Tell whether an entry is the innermost one that this thread was started in."""
        return self._started_in.get() is entry

    def taken(self) -> tuple[tuple[T, ...], T | None] | None:
        """Return what new threads and jobs take along, see `Carried`."""
        entries = self._entries.get()
        return (entries, self._started_in.get()) if entries else None

    def put(self, taken: tuple[tuple[T, ...], T | None] | None, *, for_good: bool) -> Callable[[], None]:
        """Begin a thread or a job with what was taken along, see `Carried`."""
        before = self._entries.get(), self._started_in.get()
        entries, started_in = taken or ((), None)
        self._entries.set(entries)
        self._started_in.set(entries[-1] if for_good and entries else started_in)
        put_back = None if self.follower is None else self.follower.lent(entries)

        def undo() -> None:
            if put_back is not None:
                put_back()
            self._entries.set(before[0])
            self._started_in.set(before[1])

        return undo

    def _index(self, entry: T) -> int | None:
        entries = self._entries.get()
        for index in reversed(range(len(entries))):
            if entries[index] is entry:
                return index
        return None

    def replace(self, entries: tuple[T, ...]) -> None:
        """Set all entries at once."""
        self._entries.set(entries)


def run_finalizer(function: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
    """Run what a garbage collection calls, and leave the context that it interrupts as it is.

    Python 3.11 collects in the middle of setting a variable as well. What is set in the same context
    then is lost, or frees what Python is just reading, which ends the process with a segmentation fault.
    """
    return copy_context().run(function, *args, **kwargs)


def bind(function: Callable[P, R]) -> Callable[P, R]:
    """Carry the current context, and with it the active steps, into a function run elsewhere.

    Plain threads, executors and callbacks of foreign event loops start with an empty context. What
    is bound here may run there many times and at once: each run has a copy of its own.

    Args:
        function: A function or coroutine function.

    Returns:
        The same, to be called in any thread or task.

    Raises:
        TypeError: It is not a function.

    Example:
        >>> from concurrent.futures import ThreadPoolExecutor
        >>> from steptrack_callbacks import bind, current_step, step
        >>> with step("outer"), ThreadPoolExecutor() as pool:
        ...     pool.submit(bind(lambda: current_step().path)).result()
        'outer'
    """
    if not callable(function):
        raise TypeError(f"bind() needs a function, not {function!r}")
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
