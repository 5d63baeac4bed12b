"""Tools whose use costs money: reserved before they run, and charged when they have."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from uuid import UUID

from steptrack_callbacks import settings
from steptrack_callbacks.engine.call import Call
from steptrack_callbacks.engine.request import Fee, Request
from steptrack_callbacks.integrations.stated_cost import usd_in
from steptrack_callbacks.steps.attribution import new_call
from steptrack_callbacks.tokens import InputCount
from steptrack_callbacks.values.money import to_units
from steptrack_callbacks.values.tools import checked_cost, cost_in
from steptrack_callbacks.values.untrusted import field
from steptrack_callbacks.values.usage import Usage

SAYS = "cost_usd"
"""Where a tool's result, its artifact or its metadata says what its use has cost."""

_NO_INPUT = InputCount(tokens=0, upper_bound=0)
_HOLDERS = ("artifact", "response_metadata", "additional_kwargs")
_MOST = 1_000
_running: dict[int, Call] = {}


def begin(run_id: UUID, tool: str, arguments: Mapping[str, Any], metadata: Mapping[str, Any]) -> None:
    """Reserve what a use costs, if it costs anything.

    Raises:
        BudgetExhausted: There is no room for it.
        ValueError: What it is said to cost is not an amount.
    """
    said = metadata.get("usd", settings.now.tool_usd.get(tool))
    if said is None:
        return
    where = f"tool {tool!r}: usd"
    cost = to_units(cost_in(checked_cost(said, where), arguments, where), where)
    call = new_call(
        Request(
            model=f"tool:{tool}",
            operation="execute_tool",
            count_input=lambda: _NO_INPUT,
            max_output_tokens=0,
            fee=Fee(sent=cost, likely=cost, most=cost),
            counts=False,
        )
    )
    call.admit()
    if len(_running) >= _MOST:  # those that were cancelled are reported by nobody
        _forget_ended()
    _running[run_id.int] = call


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
