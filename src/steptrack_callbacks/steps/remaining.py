"""What is left for a call under all the limits around it."""

from __future__ import annotations

from decimal import Decimal
from typing import Any, get_args

from steptrack_callbacks.concurrency.contexts import Stack
from steptrack_callbacks.concurrency.flow import Flow
from steptrack_callbacks.concurrency.lock import LOCK
from steptrack_callbacks.engine import room
from steptrack_callbacks.engine.account import Account
from steptrack_callbacks.engine.lease import look
from steptrack_callbacks.values.definitions import LimitName


def of(step: Any, limit: LimitName | None, wrapping: Stack[Account]) -> Flow[Any]:
    """Ask the ledgers, and return the rest under a limit, or under all that are set.

    Raises:
        ValueError: There is no limit of that name.
        LedgerError: The ledger of a budget cannot be asked.
    """
    if limit is not None and limit not in get_args(LimitName):
        raise ValueError(f"there is no limit {limit!r}; use {', '.join(get_args(LimitName))}")
    if shared := step.accounts.shared:
        yield from look(shared)
    if limit is not None:
        return _least(step, limit, wrapping)
    found = {name: _least(step, name, wrapping) for name in get_args(LimitName)}
    return {name: rest for name, rest in found.items() if rest is not None}


def _least(step: Any, limit: LimitName, wrapping: Stack[Account]) -> Decimal | float | None:
    if step.placement is None:
        rest: Decimal | float | None = step.definition.limits.get(limit)
        return rest
    for account in step.accounts:
        if {"max_usd": account.limits.cost, "max_tokens": account.limits.tokens}.get(limit) is not None:
            account.in_flight.count_all()  # outside the lock, as it may take its time
    with LOCK:
        wrapped_up = wrapping.entries()
        rests = [room.remaining(each, limit, wrapping=each in wrapped_up) for each in step.accounts]
    return min((rest for rest in rests if rest is not None), default=None)
