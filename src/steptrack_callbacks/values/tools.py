"""What is said of tools: what their use costs, and how often each may be used."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from decimal import Decimal
from typing import Any

from .limits import check_key
from .money import count_of, decimal_of

ToolCost = Decimal | float | Callable[[Mapping[str, Any]], Decimal | float]
"""US dollars for one use of a tool, or a function of its arguments (`{"input": ...}` for a plain string)."""
ToolLimit = int | Mapping[str, int]
"""How often tools may be used: all together, or by name."""


def checked_cost(usd: object, where: str) -> ToolCost:
    """Return what a use costs.

    Raises:
        ValueError: It is neither an amount of US dollars nor a function.
    """
    if callable(usd):
        return usd
    if isinstance(usd, str):
        raise ValueError(  # noqa: TRY004
            f"{where} must be a number of US dollars or a function of the arguments, not {usd!r}"
        )
    return decimal_of(usd, where)


def cost_in(usd: ToolCost, arguments: Mapping[str, Any], where: str) -> Decimal:
    """Return what one use costs, with these arguments.

    Raises:
        ValueError: The function has returned no amount.
    """
    return decimal_of(usd(arguments) if callable(usd) else usd, where)


def checked_limit(limit: object, where: str) -> ToolLimit | None:
    """Return how often tools may be used.

    Raises:
        ValueError: It is neither a count nor counts by names of tools.
    """
    if limit is None:
        return None
    if not isinstance(limit, Mapping):
        return count_of(limit, f"{where}max_tool_calls")
    for tool, count in limit.items():
        check_key(tool, f"{where}max_tool_calls: a tool", "search")
        count_of(count, f"{where}max_tool_calls of {tool!r}")
    return dict(limit)
