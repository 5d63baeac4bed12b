"""What an answer says that it cost, and whose word that is.

A provider's own statement is its bill. A package's sum is worked out from a price table, and is worth as
much as that: LiteLLM puts its own into the very field of a stream's usage in which others find the bill.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from decimal import Decimal, InvalidOperation
from typing import Any, NamedTuple

from steptrack_callbacks.values.untrusted import fields_of, whole_number
from steptrack_callbacks.values.usage import LEAST_USD, MOST_USD

STATING = frozenset({"aiml", "deepinfra", "edenai", "openrouter", "perplexity", "vercel_ai_gateway", "xai"})
"""Providers whose answers state what they cost."""

FIELDS = frozenset(
    {"cost", "cost_details", "cost_in_usd_ticks", "estimated_cost", "is_byok", "market_cost", "total_cost"}
)
"""Where a usage, or what stands beside one, has it."""

_TICKS_PER_USD = 10**10


class StatedCost(NamedTuple):
    """What an answer says that it cost.

    Attributes:
        usd: In US dollars.
        is_bill: Whether it is the provider's own word, and not a sum of LiteLLM's.
    """

    usd: Decimal
    is_bill: bool


def usd_in(value: Any) -> Decimal | None:
    """Read a cost; 0 is not a statement, since packages say it of what they cannot price.

    Nor is what no call costs. Beyond the fifteenth digit a float says nothing but how it was added up.
    """
    if value is None:
        return None
    if isinstance(value, str):
        return _usd_in_text(value)
    if isinstance(value, bool) or not isinstance(value, int | float | Decimal):
        return None
    try:
        return Decimal(f"{value:.15g}") if LEAST_USD <= value <= MOST_USD else None
    except ArithmeticError:
        return None


def _usd_in_text(text: str) -> Decimal | None:
    """Read a cost that is written as text, as some gateways do to keep its digits."""
    with suppress(InvalidOperation):  # no number, or one that cannot be compared
        value = Decimal(text)
        return value if LEAST_USD <= value <= MOST_USD else None
    return None


def stated_cost(said: Mapping[Any, Any], *, is_from_provider: bool) -> StatedCost | None:
    """Find what an answer says that it cost; `None` if it says nothing.

    Args:
        said: The fields of its usage, or what stands beside it.
        is_from_provider: Whether they are known to be as the provider sent them; some fields tell it.
    """
    ticks = whole_number(said.get("cost_in_usd_ticks"))
    if ticks and (usd := usd_in(Decimal(ticks) / _TICKS_PER_USD)) is not None:
        return StatedCost(usd, is_bill=True)
    usd = usd_in(_total(said.get("cost"))) or usd_in(said.get("estimated_cost"))
    details = fields_of(said.get("cost_details"))
    if said.get("is_byok") is True:  # the rest of the bill comes from the owner of the key used
        upstream = usd_in(details.get("upstream_inference_cost"))
        usd = None if upstream is None else upstream + (usd or 0)
    shows_bill = bool(details) or "is_byok" in said
    if usd is None and shows_bill and said.get("is_byok") is not True and _is_nothing(said.get("cost")):
        return StatedCost(Decimal(0), is_bill=True)
    is_bill = is_from_provider or shows_bill or isinstance(said.get("cost"), dict)
    return None if usd is None else StatedCost(usd, is_bill)


def _is_nothing(cost: Any) -> bool:
    """Tell a bill of nothing, for a model that is free, from none at all."""
    return isinstance(cost, int | float) and not isinstance(cost, bool) and cost == 0


def _total(cost: Any) -> Any:
    """Return the sum of a cost that is told in parts."""
    fields = fields_of(cost)
    return fields.get("total_cost") if fields else cost
