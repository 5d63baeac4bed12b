"""Tools whose use costs money: reserved before they run, and charged when they have."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractAsyncContextManager, nullcontext
from typing import Any, NamedTuple
from uuid import UUID

from steptrack_callbacks import settings
from steptrack_callbacks.engine.call import Call
from steptrack_callbacks.engine.request import Fee, Request
from steptrack_callbacks.integrations.stated_cost import usd_in
from steptrack_callbacks.steps.attribution import new_call
from steptrack_callbacks.steps.step import current_step
from steptrack_callbacks.steps.tool_policy import take_back_use
from steptrack_callbacks.steps.verbs import count_use
from steptrack_callbacks.tokens import InputCount
from steptrack_callbacks.values.errors import StepTrackError
from steptrack_callbacks.values.money import to_units
from steptrack_callbacks.values.tools import checked_cost, cost_in
from steptrack_callbacks.values.untrusted import field
from steptrack_callbacks.values.usage import Usage

from .refusals import langchain_error
from .run_tree import Place

SAYS = "cost_usd"
"""Where a tool's result, its artifact or its metadata says what its use has cost."""
TEXT = "input"
"""The argument that a tool's price is told of if the tool is given a plain string."""

_NO_INPUT = InputCount(tokens=0, upper_bound=0)
_HOLDERS = ("artifact", "response_metadata", "additional_kwargs")
_MOST = 1_000
_running: dict[int, Call] = {}


def begin(run_id: UUID, serialized: Mapping[str, Any] | None, text: str, place: Place, **said: Any) -> None:
    """Count a tool's use, and reserve what it costs, if it costs anything.

    Args:
        run_id: The tool's run.
        serialized: What LangChain says of the tool.
        text: What the tool is given.
        place: Where the run is among others.
        said: What else LangChain says of the run.

    Raises:
        ToolDenied: The stage in force does not allow it, or a `max_tool_calls` is reached.
        BudgetExhausted: There is no room for it.
        ValueError: What it is said to cost is not an amount.
    """
    __tracebackhide__ = True
    asked = _asked(serialized, text, **said)
    try:
        with _Counted(asked, place):
            use = _use_of(asked, place)
            if use is not None:
                use.admit()
                _remember(run_id, use)
    except StepTrackError as error:
        raise langchain_error(error) from None


async def begin_async(
    run_id: UUID, serialized: Mapping[str, Any] | None, text: str, place: Place, **said: Any
) -> None:
    """Do as `begin`, waiting on the event loop for room that others hold."""
    __tracebackhide__ = True
    asked = _asked(serialized, text, **said)
    try:
        with _Counted(asked, place):
            use = _use_of(asked, place)
            if use is not None:
                await use.admit_async()
                _remember(run_id, use)
    except StepTrackError as error:
        raise langchain_error(error) from None


class _Asked(NamedTuple):
    """A tool that is about to run, what it declares of itself, and what it is given."""

    tool: str
    declared: Mapping[str, Any]
    arguments: Mapping[str, Any]


def _asked(
    serialized: Mapping[str, Any] | None,
    text: str,
    *,
    name: str | None = None,
    metadata: Mapping[str, Any] | None = None,
    inputs: Mapping[str, Any] | None = None,
    **_: Any,
) -> _Asked:
    tool = name or str((serialized or {}).get("name"))
    # LangChain tells nobody which argument a plain string is.
    return _Asked(tool, metadata or {}, {TEXT: text} if inputs is None else inputs)


class _Counted:
    """Counts the use of a tool, unless the block is left by an error: then the tool does not run."""

    def __init__(self, asked: _Asked, place: Place) -> None:
        self._asked = asked
        # A step that is only promised begins with a call, and not with a tool.
        self._within = place.step if type(place) is Place else None
        self._step = current_step() or self._within

    def __enter__(self) -> None:
        __tracebackhide__ = True
        count_use(self._step, self._asked.tool, self._asked.declared.get("side_effect_level"), self._within)

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is not None and self._step is not None:
            take_back_use(self._step, self._asked.tool, self._within)


def _use_of(asked: _Asked, place: Place) -> Call | None:
    """Return what has to be admitted; `None` if it costs nothing."""
    usd = asked.declared.get("usd", settings.now.tool_usd.get(asked.tool))
    if usd is None:
        return None
    where = f"tool {asked.tool!r}: usd"
    cost = to_units(cost_in(checked_cost(usd, where), asked.arguments, where), where)
    return new_call(
        Request(
            model=f"tool:{asked.tool}",
            operation="execute_tool",
            count_input=lambda: _NO_INPUT,
            max_output_tokens=0,
            fee=Fee(sent=cost, likely=cost, most=cost),
            counts=False,
        ),
        within=place.step,
    )


def _remember(run_id: UUID, use: Call) -> None:
    if len(_running) >= _MOST:  # those that were cancelled are reported by nobody
        _forget_ended()
    _running[run_id.int] = use


def telling_ledger(run_id: UUID) -> AbstractAsyncContextManager[object]:
    """Await at the end of this block what a ledger is to be told of a use, if one has to be."""
    use = _running.get(run_id.int)
    return nullcontext() if use is None else use.telling_ledger()


def end(run_id: UUID, result: Any) -> None:
    """Charge a use: what its result says that it has cost, else what was reserved."""
    call = _running.pop(run_id.int, None)
    if call is not None:
        call.settle(Usage(), cost_usd=_stated(result), estimated=True)


def fail(run_id: UUID, error: BaseException) -> None:
    """Charge nothing for a tool that has raised an error, and all that was reserved for one broken off."""
    call = _running.pop(run_id.int, None)
    if call is None:
        return
    if isinstance(error, Exception):
        call.fail()
    else:
        call.abandon(0)


def _stated(result: Any) -> Any:
    holders = (result, *(field(result, name) for name in _HOLDERS))
    return next((usd for holder in holders if (usd := usd_in(field(holder, SAYS))) is not None), None)


def _forget_ended() -> None:
    for key, call in list(_running.items()):
        if not call.is_open:
            _running.pop(key, None)
