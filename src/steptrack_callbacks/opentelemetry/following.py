"""Keeping OpenTelemetry's current span in step with the steps: the innermost step's is current.

No token is ever detached, since a step may well be left in another context, where that fails and is
logged. What was current before a step is remembered in the context itself, and put back there.
"""

from __future__ import annotations

from collections.abc import Callable
from contextvars import ContextVar
from weakref import WeakKeyDictionary, WeakValueDictionary

from opentelemetry.context import Context, attach, get_current
from opentelemetry.trace import Span, set_span_in_context

from steptrack_callbacks.engine.account import Account
from steptrack_callbacks.steps.active import innermost, running, stack
from steptrack_callbacks.steps.step import Step

from . import attributes


class Traced:
    """The span of a step, kept for as long as anybody can report on the step.

    Attributes:
        span: The span.
        inside: What was current in the body when it was last left, such as at a `yield`.
        calls: When calls of the step were admitted, in nanoseconds, and in which context.
    """

    __slots__ = ("__weakref__", "calls", "inside", "span")

    def __init__(self, span: Span) -> None:
        self.span = span
        self.inside: Context | None = None
        self.calls: dict[int, tuple[int, Context]] = {}


_traced: WeakKeyDictionary[Account, Traced] = WeakKeyDictionary()
"""By the account of the step, which lives as long as anybody can report on it."""
_by_id: WeakValueDictionary[str, Traced] = WeakValueDictionary()
_around: ContextVar[tuple[tuple[Step, Context], ...]] = ContextVar("steptrack_otel_around", default=())


class _Follower:
    def entered(self, entry: Step) -> None:
        traced = _traced.get(entry.account)
        if traced is None:
            return
        before = get_current()
        _around.set((*_around.get(), (entry, before)))
        attach(set_span_in_context(traced.span, before) if traced.inside is None else traced.inside)

    def lent(self, entries: tuple[Step, ...]) -> Callable[[], None]:
        around, before = _around.get(), get_current()
        traced = next((found for entry in reversed(entries) if (found := _traced.get(entry.account))), None)
        if traced is not None:
            attach(set_span_in_context(traced.span, before))
        _around.set(())

        def put_back() -> None:
            _around.set(around)
            if traced is not None:
                attach(before)

        return put_back

    def left(self, entry: Step) -> None:
        places = _around.get()
        index = next((i for i in reversed(range(len(places))) if places[i][0] is entry), None)
        if index is None:
            return
        before, above = places[index][1], places[index + 1 :]
        if above:  # they are left later, and then go back to where this one came from
            _around.set((*places[:index], (above[0][0], before), *above[1:]))
            return
        _around.set(places[:index])
        traced = _traced.get(entry.account)
        if traced is not None:
            traced.inside = get_current()
        attach(before)


def begin() -> None:
    """Follow the steps from now on; those without a span are passed over."""
    if stack.follower is None:
        stack.follower = _Follower()


def trace(step: Step, span: Span) -> None:
    """Remember the span of a step."""
    _traced[step.account] = _by_id[step.id] = Traced(span)


def find(step_id: str | None) -> Traced | None:
    """Return a step's span, also after its end while anybody can report on it."""
    return None if step_id is None else _by_id.get(step_id)


def context_for(step: Step) -> Context:
    """Return the context that a step's span begins in: the current one, unless its parent is elsewhere."""
    parent = None if step.parent is None else _traced.get(step.parent.account)
    if parent is None or innermost() is step.parent:
        return get_current()
    return set_span_in_context(parent.span)


def context_in(step_id: str | None) -> Context:
    """Return the context of what happens in a step: the current one, if the step is the innermost here."""
    active, traced = innermost(), find(step_id)
    if traced is None or (active is not None and active.id == step_id):
        return get_current()
    return set_span_in_context(traced.span)


def end_all() -> None:
    """End the spans of all running steps as they are."""
    for step in running():
        traced = _traced.get(step.account)
        if traced is not None and traced.span.is_recording():
            traced.span.set_attribute(attributes.STATUS, step.status)
            traced.span.end()
