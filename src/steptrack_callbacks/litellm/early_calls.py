"""Calls of functions that somebody took from LiteLLM by name before `install()`, past the entry points.

LiteLLM sets each call up in one function of its own, whoever holds the entry point, and that is the gate
for them. A sync call asks for room there. An async one asks a moment later, in the hook that LiteLLM
awaits before it sends anything, where it may also wait. What they used is told by LiteLLM's events,
after they have returned; their streams are metered where LiteLLM makes them (`early_streams`).
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import litellm

from steptrack_callbacks.engine.call import Call
from steptrack_callbacks.integrations.seams_litellm import SET_UP
from steptrack_callbacks.integrations.stated_cost import usd_in
from steptrack_callbacks.steps.active import innermost
from steptrack_callbacks.steps.attribution import refuse_if_exhausted
from steptrack_callbacks.values import user_warnings
from steptrack_callbacks.values.errors import EarlyImportWarning
from steptrack_callbacks.values.untrusted import is_late_answer

from . import charging
from .call_types import ASYNC_NAMES, Kind, gated_kind
from .context_propagation import replace
from .entry_points import (
    active_call,
    begin,
    early_call,
    gates,
    is_gated,
    is_shell,
    parameters_of,
    within,
)
from .refusals import RefusalsAsLiteLLMErrors

EARLY = "steptrack_early"
"""Where LiteLLM's account of a call says of what kind it is, if it came past the entry points."""

_asking: ContextVar[Call | None] = ContextVar("steptrack_litellm_asking", default=None)
_warned: list[str] = []


def gate_set_up(ticket: str) -> Callable[[], None]:
    """Put the gate up, and return what takes it down again.

    Args:
        ticket: Where LiteLLM's account of a call shall say which call of ours it is.
    """
    _warned.clear()

    def gated(set_up: Callable[..., Any]) -> Callable[..., Any]:
        def gated_set_up(name: Any, rules: Any, start_time: Any, *args: Any, **kwargs: Any) -> Any:
            __tracebackhide__ = True
            kind = gated_kind(name)
            if kind is None or not gates.active or active_call() is not None or is_shell(kind, kwargs):
                return set_up(name, rules, start_time, *args, **kwargs)
            with RefusalsAsLiteLLMErrors():
                call = _begin(str(name), kind, args, kwargs)
            with _charging(call):
                logged, options = set_up(name, rules, start_time, *args, **kwargs)
            if call is not None:
                logged.model_call_details.update({ticket: call, EARLY: kind})
            return logged, options

        return gated_set_up

    return replace(SET_UP, gated)


def _begin(name: str, kind: Kind, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Call | None:
    """Begin a call; a sync one is admitted, or refused."""
    if kind == "job":
        refuse_if_exhausted(kwargs.get("model"))
        return None
    entry = getattr(litellm, name, None)
    call = begin(kind, dict(zip(parameters_of(entry), args, strict=False)) | kwargs)
    if is_gated(entry):
        _warn_of(name)
    early_call.set(call)
    if name in ASYNC_NAMES:
        _asking.set(call)
    elif not call.admitted:
        call.admit()
    return call


@contextmanager
def _charging(call: Call | None) -> Generator[None]:
    """Let LiteLLM set the call up, which may fail; our own rule in there leaves it alone."""
    if call is None:
        yield
        return
    try:
        with within(call):
            yield
    except BaseException:
        call.withdraw()
        raise


async def admit(details: dict[str, Any] | None, ticket: str) -> bool:
    """Admit an async call that came past the entry points, and tell whether there was one.

    Args:
        details: LiteLLM's account of the call, where it has one by now.
        ticket: Where the call stands there.

    Raises:
        StepTrackError: There is no room.
    """
    asking = _asking.get()
    call = asking if details is None else details.get(ticket)
    if call is None:
        return False
    _asking.set(None)
    if not call.admitted and call.state == "new":
        with RefusalsAsLiteLLMErrors():
            await call.admit_async()
    return True


def settle(call: Call, kind: Kind, answer: Any, details: dict[str, Any]) -> None:
    """Charge such a call with what LiteLLM reports of its answer."""
    if details.get("cache_hit"):
        call.settle_free()
    else:
        charging.settle(call, kind, answer, cost=usd_in(details.get("response_cost")))


def fail(call: Call, details: dict[str, Any]) -> None:
    """Charge such a call that has come to nothing."""
    error = details.get("exception")
    if call.attempts and isinstance(error, Exception) and is_late_answer(error):
        call.abandon()
    elif call.attempts:
        call.fail()
    else:
        call.withdraw()


def _warn_of(name: str) -> None:
    """Warn once that a function was taken before it had a gate, where that matters."""
    if _warned or innermost() is None:
        return
    _warned.append(name)
    user_warnings.warn(
        f"litellm.{name} was imported before install(), by `from litellm import {name}` or by a Router"
        " that was created earlier. Such calls are refused where there is no room, but charged only when"
        " LiteLLM reports them, after they return; streams of messages and of Google's contents are not cut."
        f" Call steptrack_callbacks.install() first, or write litellm.{name}(...)",
        EarlyImportWarning,
    )
