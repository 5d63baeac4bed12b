"""`Budget`: limits with a name, and what the ledger says of them."""

from __future__ import annotations

import time
from collections.abc import Mapping
from decimal import Decimal
from typing import Any

from steptrack_callbacks.concurrency.flow import Flow, run_async, run_sync
from steptrack_callbacks.values.arguments import checks_arguments
from steptrack_callbacks.values.budgets import BudgetDefinition, Window
from steptrack_callbacks.values.money import to_units
from steptrack_callbacks.values.usage import Usage, count_names

from . import current
from .protocol import COST, Totals, pico_to_usd, to_pico

clock = time.time
_LIMITS = ("max_usd", "max_tokens", "max_calls")


class Budget(BudgetDefinition):  # noqa: D101 - it has one
    __doc__ = BudgetDefinition.__doc__  # the same words, with the questions beside them
    __slots__ = ()

    def spent(self) -> Usage:
        """Return what has been spent in the current window, by everyone sharing it.

        Returns:
            The usage; zero if nobody has used it yet.

        Raises:
            LedgerError: The ledger cannot be reached.

        Example:
            >>> from steptrack_callbacks import Budget, record_usage, step
            >>> team = Budget("team-b", max_calls=5)
            >>> with step("plan", budgets=[team]):
            ...     record_usage("my-model", input_tokens=10, output_tokens=5)
            >>> team.spent().calls, team.remaining("max_calls")
            (1, 4)
        """
        return _usage_of(run_sync(self._totals()))

    async def aspent(self) -> Usage:
        """Do as `spent`, and await the ledger.

        Raises:
            LedgerError: The ledger cannot be reached.
        """
        return _usage_of(await run_async(self._totals()))

    @checks_arguments
    def remaining(self, limit: str | None = None) -> Any:
        """Return what is left of it, after what is spent and what calls in flight have reserved.

        Args:
            limit: `max_usd`, `max_tokens` or `max_calls`; `None` returns all that are set.

        Returns:
            The remaining amount in the limit's unit, at least 0; `None` if the limit is not set. Without a
            name, the remaining amounts of all limits that are set, by name.

        Raises:
            ValueError: There is no limit of that name.
            LedgerError: The ledger cannot be reached.
        """
        self._check(limit)
        return self._left(run_sync(self._totals()), limit)

    async def aremaining(self, limit: str | None = None) -> Any:
        """Do as `remaining`, and await the ledger.

        Args:
            limit: As for `remaining`.

        Raises:
            ValueError: There is no limit of that name.
            LedgerError: The ledger cannot be reached.

        Example:
            >>> import asyncio
            >>> from steptrack_callbacks import Budget
            >>> asyncio.run(Budget("team-c", max_calls=5).aremaining("max_calls"))
            5
        """
        self._check(limit)
        return self._left(await run_async(self._totals()), limit)

    def _totals(self) -> Flow[Totals]:
        [totals] = yield from current.ledger().look([budget_key(self, self.window_at(clock()))])
        return totals

    @staticmethod
    def _check(limit: str | None) -> None:
        if limit is not None and limit not in _LIMITS:
            raise ValueError(f"there is no limit {limit!r} of a budget; use {', '.join(_LIMITS)}")

    def _left(self, totals: Totals, limit: str | None) -> Any:
        left = _remaining(self, totals)
        return left if limit is None else left.get(limit)


def budget_key(budget: BudgetDefinition, window: Window | None) -> str:
    """Name the account of a budget in a ledger: each window is an account of its own."""
    start = 0 if window is None else int(window.starts_at.timestamp())
    return f"budget:{budget.window or ''}:{start}:{budget.name}"


def _remaining(budget: BudgetDefinition, totals: Totals) -> dict[str, Decimal | int]:
    settled: Mapping[str, int] = totals.settled
    left: dict[str, Decimal | int] = {}
    if budget.max_usd is not None:
        most = to_pico(to_units(budget.max_usd, "max_usd"))
        left["max_usd"] = pico_to_usd(max(0, most - settled.get(COST, 0) - totals.held.cost))
    if budget.max_tokens is not None:
        used = settled.get("input_tokens", 0) + settled.get("output_tokens", 0)
        left["max_tokens"] = max(0, budget.max_tokens - used - totals.held.tokens)
    if budget.max_calls is not None:
        left["max_calls"] = max(0, budget.max_calls - settled.get("calls", 0) - totals.held_calls)
    return left


def _usage_of(totals: Totals) -> Usage:
    counts: dict[str, Any] = {name: totals.settled.get(name, 0) for name in count_names()}
    return Usage(**counts, cost_usd=pico_to_usd(totals.settled.get(COST, 0)))
