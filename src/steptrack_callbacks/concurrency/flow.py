"""Decisions that may have to wait, written once and driven by functions and coroutines alike.

A decision is a generator: it yields what it has to wait for, is sent what came of it, and returns
what was decided.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Generator
from typing import Any, Protocol, TypeVar

T = TypeVar("T")


class Waitable(Protocol):
    """Something to wait for, in either world."""

    def block(self) -> Any:
        """Wait in a plain function."""

    def wait(self) -> Awaitable[Any]:
        """Wait in a coroutine."""


Flow = Generator[Waitable, Any, T]


def run_sync(decision: Flow[T]) -> T:
    """Run a decision to its end, blocking where it waits."""
    __tracebackhide__ = True
    resume: Callable[[Any], Waitable] = decision.send
    value: Any = None
    while True:
        try:
            waitable = resume(value)
        except StopIteration as end:
            return end.value  # type: ignore[no-any-return]
        try:
            resume, value = decision.send, waitable.block()
        except BaseException as error:  # noqa: BLE001 - the decision sees it, as if it had waited itself
            resume, value = decision.throw, error


async def run_async(decision: Flow[T]) -> T:
    """Run a decision to its end, awaiting where it waits."""
    __tracebackhide__ = True
    resume: Callable[[Any], Waitable] = decision.send
    value: Any = None
    while True:
        try:
            waitable = resume(value)
        except StopIteration as end:
            return end.value  # type: ignore[no-any-return]
        try:
            resume, value = decision.send, await waitable.wait()
        except BaseException as error:  # noqa: BLE001 - as above
            resume, value = decision.throw, error


async def run_leaving(decision: Flow[T], error: BaseException | None) -> T:
    """Run a decision to its end as an error leaves a coroutine; one that is being closed must not await."""
    __tracebackhide__ = True
    return run_sync(decision) if isinstance(error, GeneratorExit) else await run_async(decision)
