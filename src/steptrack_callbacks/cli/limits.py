"""How much of their limits the budgets of a ledger have used, and when they start again.

A ledger keeps what was spent, and whoever uses a budget says its limits: they are read from the newest
record that names it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

from steptrack_callbacks.values.budgets import BudgetDefinition
from steptrack_callbacks.values.formatting import Share

from .output import date

_BUDGET = re.compile(r"budget:(?P<window>[^:]*):(?P<start>\d+):(?P<name>.*)", re.DOTALL)

Row = tuple[str, str, str]


def budget_named(key: str) -> tuple[str, str] | None:
    """Read the key of a budget's account: its name and its window; `None` for any other account."""
    found = _BUDGET.fullmatch(key)
    return None if found is None else (found["name"], found["window"])


def limit_rows(accounts: Iterable[Mapping[str, Any]], steps: Iterable[Mapping[str, Any]]) -> list[Row]:
    """Return a row for each budget whose limits some record tells: its name, its shares, its next start.

    Args:
        accounts: The accounts of the ledger, as flat dicts.
        steps: Records, the newest first.
    """
    limits: dict[str, Mapping[str, Any]] = {}
    for step in steps:
        for name, budget in (step.get("budgets") or {}).items():
            limits.setdefault(name, budget["limits"])
    rows = []
    for account in accounts:
        found = _BUDGET.fullmatch(account["key"])
        if found is not None and (known := limits.get(found["name"])):
            shares = ", ".join(map(str, _shares(account, known)))
            rows.append((found["name"], shares, _next_start(found["window"], int(found["start"]))))
    return rows


def _shares(account: Mapping[str, Any], limits: Mapping[str, Any]) -> Iterable[Share]:
    spent = {
        "max_usd": account["cost_usd"],
        "max_tokens": account.get("input_tokens", 0) + account.get("output_tokens", 0),
        "max_calls": account.get("calls", 0),
    }
    return (Share(limit, value, spent[limit]) for limit, value in limits.items() if limit in spent)  # type: ignore[arg-type]


def _next_start(window: str, start: int) -> str:
    if not window:
        return "never"
    now = BudgetDefinition("any", max_calls=1, window=window).window_at(start)
    return "never" if now is None else date(now.ends_at.timestamp())
