"""Amounts in a ledger's words: money in whole pico-dollars, and what was charged by its names.

Replica and ledger judge alike only if both round in the same way: a charge to the nearest, a limit down, and
what a call asks up.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from steptrack_callbacks.ledgers.protocol import COST, UNITS_PER_PICO, Asked, from_pico, to_pico
from steptrack_callbacks.ledgers.validation import MOST
from steptrack_callbacks.values.usage import count_names

from .amounts import Sums
from .holds import Amount, Estimate

_NAMES = (*count_names(), COST)
_INDEX = {name: index for index, name in enumerate(_NAMES)}
_COST_INDEX = _INDEX[COST]
_AMOUNTS = ("certain", "alone", "expected", "worst", "least", "inputs", "rates")


def to_sums(amounts: Mapping[str, int]) -> Sums:
    """Put a ledger's amounts in the form in which tallies take them; names of newer versions are left out."""
    return [
        (_INDEX[name], value * UNITS_PER_PICO if name == COST else value)
        for name, value in amounts.items()
        if name in _INDEX
    ]


def to_amounts(sums: Sums, instead_of: Sums = ()) -> dict[str, int]:
    """Put a charge, less what it takes the place of, in the ledger's words."""
    amounts: dict[str, int] = {}
    for sign, pairs in ((1, sums), (-1, instead_of)):
        for index, value in pairs:
            name = _NAMES[index]
            amounts[name] = amounts.get(name, 0) + sign * (to_pico(value) if name == COST else value)
    return {name: value for name, value in amounts.items() if value}


def rounded(sums: Sums) -> Sums:
    """Round the money in a charge to whole pico-dollars."""
    if not [value for index, value in sums if index == _COST_INDEX and value % UNITS_PER_PICO]:
        return sums
    return [(index, from_pico(to_pico(value)) if index == _COST_INDEX else value) for index, value in sums]


def rounded_down(units: int) -> int:
    """Round money down to whole pico-dollars."""
    whole = to_pico(units)
    return from_pico(whole - 1 if from_pico(whole) > units else whole)


def _ceil(units: int) -> int:
    return -(-units // UNITS_PER_PICO) * UNITS_PER_PICO


def rounded_up(estimate: Estimate) -> Estimate:
    """Round the money in an estimate up to whole pico-dollars."""
    amounts: dict[str, Any] = {}
    for name in _AMOUNTS:
        cost, tokens = getattr(estimate, name)
        amounts[name] = (_ceil(cost), tokens)
    return estimate._replace(**amounts)


def share_of(estimate: Estimate, unit: int, most: int) -> tuple[int, int]:
    """Return what must fit beside the shares of others, and the share of a call, in whole pico-dollars."""
    share, slack = estimate.share(unit, most)
    beside = max(estimate.alone[unit], share - slack)
    return (beside, share) if unit else (_ceil(beside), share)


def to_asked(amount: Amount) -> Asked:
    """Put an amount in the ledger's words; at most the largest that it can store."""
    return Asked(min(-(-amount[0] // UNITS_PER_PICO), MOST), min(amount[1], MOST))
