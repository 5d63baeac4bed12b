"""Hooks: functions of your own that see, and may stop, what happens around steps.

Example:
    >>> from steptrack_callbacks.hooks import BudgetThreshold, on
    >>> off = on(BudgetThreshold, lambda event: print(event.path, event.share), step="plan", threshold=0.8)
    >>> off()
"""

from __future__ import annotations

import inspect
import logging
from collections.abc import Callable
from dataclasses import dataclass, field
from decimal import Decimal
from fnmatch import fnmatchcase
from functools import partial
from typing import Any, TypeVar

from .concurrency.lock import LOCK
from .values.arguments import checks_arguments
from .values.definitions import Grant, LimitName
from .values.errors import BudgetExhausted, StepTrackError
from .values.money import decimal_of
from .values.records import CompletedStep
from .values.swaps import SwapReason
from .values.usage import Usage

__all__ = [
    "BudgetThreshold",
    "CallAdmitted",
    "CallDenied",
    "CallSettled",
    "CallSwapped",
    "Escalated",
    "Event",
    "StepEnded",
    "StepStarted",
    "on",
]

logger = logging.getLogger("steptrack_callbacks")


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """What all events have: the step in which it happened.

    Attributes:
        step: The step's name; empty for a call that found no step.
        path: Its path, outermost first, joined with `/`.
        persona: The nearest persona around it, or `None`.
        step_id: The step's id, or `None`.
        run_id: The run it belongs to.
        of_hook: Whether a hook has done it; hooks are not told of that.
    """

    step: str
    path: str
    persona: str | None
    step_id: str | None
    run_id: str
    of_hook: bool = field(default=False, repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class StepStarted(Event):
    """A step is about to start; raise `StepDenied` to keep it from starting."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CallAdmitted(Event):
    """A call has its room reserved and is about to be sent.

    Attributes:
        call_id: The number of the call in this process.
        model: The model that is asked.
    """

    call_id: int
    model: str


@dataclass(frozen=True, slots=True, kw_only=True)
class CallSwapped(Event):
    """A call was admitted with a different model, of those that its step names, than was asked for.

    Attributes:
        call_id: The number of the call in this process.
        asked: The model that was asked for.
        model: The model that it is made with.
        why: `downgrade_at`, or the limit that had no room for the model that was asked for.
    """

    call_id: int
    asked: str
    model: str
    why: SwapReason


@dataclass(frozen=True, slots=True, kw_only=True)
class CallDenied(Event):
    """A call was refused; nothing is sent and nothing charged.

    Attributes:
        model: The model that was asked.
        error: What its caller gets.
    """

    model: str
    error: StepTrackError


@dataclass(frozen=True, slots=True, kw_only=True)
class CallSettled(Event):
    """A call was charged: `usage` says what; an unknown cost counts in its `unpriced_calls`.

    A late settlement fires again with the same `call_id`, and `usage` is then the whole charge, not
    the difference.

    Attributes:
        call_id: The number of the call in this process.
        model: The model that was asked.
        usage: What was charged.
        instead_of: In a late settlement, the estimate that was charged before; else `None`.
        operation: What was asked of the model, such as `chat`, `text_completion` or `embeddings`.
        provider: The provider, if known.
        response_model: The model that answered, if known.
    """

    call_id: int
    model: str
    usage: Usage
    instead_of: Usage | None = None
    operation: str = "chat"
    provider: str | None = None
    response_model: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class BudgetThreshold(Event):
    """Settled spend reached a fraction of a limit; fires once per step, limit and threshold.

    Attributes:
        limit: The limit's name.
        limit_value: The limit.
        consumed: What is settled against it, in its unit.
        threshold: The fraction that was asked for.
        share: The fraction that was reached; above 1 the limit is exceeded.
        budget: The name of the shared budget that set the limit, or `None` for the step itself.
    """

    limit: LimitName
    limit_value: Decimal | float
    consumed: Decimal | float
    threshold: float
    share: float
    budget: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class StepEnded(Event):
    """A step has ended.

    Attributes:
        record: Its record as of its end; a late settlement does not change it.
    """

    record: CompletedStep


@dataclass(frozen=True, slots=True, kw_only=True)
class Escalated(Event):
    """An exhausted step asked for more, and was answered.

    Attributes:
        error: The exhaustion.
        grant: The answer; `None` for no.
    """

    error: BudgetExhausted
    grant: Grant | None


E = TypeVar("E", bound=Event)


@dataclass(frozen=True, slots=True, eq=False)
class _Hook:
    event: type[Event]
    handler: Callable[[Any], None]
    persona: str
    step: str
    threshold: float | None
    is_watch: bool = False

    def matches(self, event: Event) -> bool:
        if not isinstance(event, self.event):
            return False
        if isinstance(event, BudgetThreshold) and event.threshold != self.threshold:
            return False
        name = event.path if "/" in self.step else event.step
        return fnmatchcase(name, self.step) and fnmatchcase(event.persona or "", self.persona)


registered: tuple[_Hook, ...] = ()
"""All hooks; where it is empty, nobody listens. It is replaced as a whole: read it as `hooks.registered`."""
_strict = False
_failures = 0
_isolate: Callable[[str, Callable[[], None]], None] | None = None

DEFAULT_THRESHOLD = 0.8


@checks_arguments
def on(
    event: type[E],
    handler: Callable[[E], None],
    *,
    persona: str = "*",
    step: str = "*",
    threshold: float | None = None,
) -> Callable[[], None]:
    """Call a function at each event of a kind, inline and outside every lock.

    A handler may raise this package's own errors (`StepDenied` on `StepStarted`); anything else that
    it raises is logged and counted, and does not affect the call. Calls that it makes are charged to a
    root step `hook:<its name>`, so that it can still make calls when the step is exhausted.

    Args:
        event: The event's class; `Event` for all.
        handler: Called with the event.
        persona: Glob of the persona's name; a step without persona has the name `""`.
        step: Glob of the step's name, or of its path if the glob has a `/`.
        threshold: For `BudgetThreshold` only: the share of a limit, as a fraction; 0.8 by default.

    Returns:
        A function that removes the hook again.

    Raises:
        ValueError: The event is not an event class, the handler is not callable or is async, a glob is
            not a string, or the threshold is not a fraction above 0, or was given for another event.

    Example:
        >>> off = on(StepEnded, lambda event: print(event.record.status), persona="editor*")
        >>> off()
    """
    __tracebackhide__ = True
    _check(event, handler)
    for glob, name in ((persona, "persona"), (step, "step")):
        if not isinstance(glob, str):
            raise ValueError(f"{name} must be a glob of names, such as 'plan*', not {glob!r}")  # noqa: TRY004
    return _add(_Hook(event, handler, persona, step, _checked_threshold(event, threshold)))


def _add(hook: _Hook) -> Callable[[], None]:
    global registered
    with LOCK:  # or one of two threads that add a hook would lose its own
        registered = (hook, *registered) if hook.is_watch else (*registered, hook)

    def off() -> None:
        global registered
        with LOCK:
            registered = tuple(other for other in registered if other is not hook)

    return off


def watch(
    event: type[E], handler: Callable[[E], None], *, threshold: float | None = None
) -> Callable[[], None]:
    """Tell an integration of each event, in place: it makes no calls, so it needs no step to make them in.

    It hears before all hooks, whatever they raise, and of hooks' own steps as well; `reset` leaves it.

    Args:
        event: As for `on`.
        handler: As for `on`.
        threshold: As for `on`.

    Returns:
        A function that ends it.

    Raises:
        ValueError: As for `on`.
    """
    _check(event, handler)
    return _add(_Hook(event, handler, "*", "*", _checked_threshold(event, threshold), is_watch=True))


def _check(event: object, handler: object) -> None:
    if not (isinstance(event, type) and issubclass(event, Event)):
        raise ValueError(  # noqa: TRY004
            f"event must be a class of steptrack_callbacks.hooks, such as StepEnded, not {event!r}"
        )
    if not callable(handler):
        raise ValueError(f"handler must be a function of the event, not {handler!r}")  # noqa: TRY004
    if _is_async(handler) or _is_async(getattr(handler, "__call__")):  # noqa: B004, B009 - objects with one, too
        raise ValueError(
            f"hooks are called inline, where an async one would never run, and {handler!r} is async;"
            " make it a plain function"
        )


def _is_async(handler: object) -> bool:
    return inspect.iscoroutinefunction(handler) or inspect.isasyncgenfunction(handler)


def _checked_threshold(event: type[Event], threshold: float | None) -> float | None:
    if not issubclass(BudgetThreshold, event):
        if threshold is not None:
            raise ValueError(f"threshold is for BudgetThreshold only, not for {event.__name__}")
        return None
    if threshold is None:
        return DEFAULT_THRESHOLD
    fraction = float(decimal_of(threshold, "threshold"))
    if not 0 < fraction <= 1:
        raise ValueError(
            f"threshold is a fraction above 0 and up to 1, such as 0.8 for 80%, not {threshold!r}"
        )
    return fraction


def wanted(event: type[Event]) -> bool:
    """Tell whether anybody listens, so that events are built only then."""
    return bool(registered) and any(issubclass(event, hook.event) for hook in registered)


def thresholds() -> set[float]:
    """Return the shares of a limit that somebody wants to hear of."""
    return {hook.threshold for hook in registered if hook.threshold is not None} if registered else set()


def emit(event: Event) -> None:
    """Call the matching handlers in the order of registration.

    Raises:
        StepTrackError: A handler raised one.
    """
    __tracebackhide__ = True
    for hook in registered:  # what a hook does is not told to hooks, or they would never end
        if hook.matches(event) and (hook.is_watch or not event.of_hook):
            _call(hook, event)


def _call(hook: _Hook, event: Event) -> None:
    global _failures
    __tracebackhide__ = True
    name = getattr(hook.handler, "__name__", type(hook.handler).__name__)
    try:
        if _isolate is None or hook.is_watch:
            hook.handler(event)
        else:
            _isolate(name, partial(hook.handler, event))
    except StepTrackError:
        raise
    except Exception:
        with LOCK:
            _failures += 1
        if _strict:
            raise
        logger.exception("hook %r failed on %s of step %r", name, type(event).__name__, event.path)


def failures() -> int:
    """Count the handlers that raised something else than this package's errors."""
    return _failures


def set_isolation(isolate: Callable[[str, Callable[[], None]], None]) -> None:
    """Say how a handler is run apart from the step that it is told about."""
    global _isolate
    _isolate = isolate


def set_strict(strict: bool) -> bool:  # noqa: FBT001
    """Let what handlers raise through, for tests; returns what was set before."""
    global _strict
    before, _strict = _strict, strict
    return before


def reset() -> None:
    """Remove all hooks, but no integration's watch, and forget their failures."""
    global registered, _failures, _strict
    with LOCK:
        registered = tuple(hook for hook in registered if hook.is_watch)
    _failures, _strict = 0, False
