"""Which steps are running: in this context, as a stack, and in this process."""

from __future__ import annotations

import weakref
from collections.abc import Generator
from contextlib import contextmanager
from typing import Any

from steptrack_callbacks.concurrency.contexts import Stack
from steptrack_callbacks.concurrency.tasks import current_owner

stack: Stack[Any] = Stack("steptrack_steps")
"""The steps of this context; typed as `Step` where that is known."""
by_id: weakref.WeakValueDictionary[str | None, Any] = weakref.WeakValueDictionary()
"""The steps of this process that are running, in the order in which they began."""


def innermost() -> Any:
    """Return the innermost step that is running in this context, or `None`."""
    for step in reversed(stack.entries()):
        if step.status == "open":
            return step
        if stack.is_started_in(step):
            return None  # the thread has outlived the step that it was started in
    return None


def leave(step: Any) -> None:
    """Take a step off the stack; and note if that is another task's or thread's than it was entered in.

    Then it stays on the stack where it was entered, as with whoever reads a generator that is closed by its
    event loop: who goes on there was not left behind by it.
    """
    is_on_stack, by = stack.remove(step), step.entered_by
    step.left_elsewhere = not is_on_stack or (by is not None and by != current_owner())


def running() -> list[Any]:
    """Return the steps of this process that are running, in the order in which they began."""
    found = [reference() for reference in by_id.valuerefs()]  # a copy: other threads begin steps
    return [step for step in found if step is not None and step.status == "open"]


def find(step_id: str) -> Any:
    """Return the step of that id, if it is running in this process."""
    return by_id.get(step_id)


def note_failure(error: BaseException) -> None:
    """Let the steps that are active here know what a call in them has failed with.

    Whoever tries one model after another mostly raises the first error in the end. If a call of the step was
    refused after that failure, the refusal has kept the step from its answer, and its boundary acts on it.
    """
    step = innermost()
    while step is not None:
        # A step that raises what it fails with anyway need not know.
        if step.status == "open" and step.definition.error_boundary != "fail":
            step.failures.append((error, step.account.raised))
        step = step.parent


def hidden_exhaustion(step: Any, error: BaseException | None) -> Any:
    """Return the exhaustion of a step that an error hides which was there before it, or `None`."""
    last = step.account.raised
    for failure, refused_by_then in step.failures:
        if failure is error:
            return None if last is refused_by_then else last
    return None


@contextmanager
def aside(step: Any) -> Generator[None]:
    """Let a step leave the stack while its body reads what was made outside of it."""
    if not any(entry is step for entry in stack.entries()):
        yield
        return
    above = stack.cut(step)
    try:
        yield
    finally:
        stack.push(step, *above)


def reset() -> None:
    """Forget all running steps, for tests."""
    stack.replace(())
    by_id.clear()
