"""Sums of what was charged."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from operator import attrgetter
from typing import NamedTuple

from steptrack_callbacks.concurrency.lock import LOCK
from steptrack_callbacks.values.money import to_usd
from steptrack_callbacks.values.usage import Usage, count_names

_NAMES = count_names()
COST = len(_NAMES)
INPUT, OUTPUT = _NAMES.index("input_tokens"), _NAMES.index("output_tokens")
CALLS, _FAILED = _NAMES.index("calls"), _NAMES.index("failed_calls")
_ESTIMATED, _UNPRICED = _NAMES.index("estimated_calls"), _NAMES.index("unpriced_calls")
_UNGATED = _NAMES.index("ungated_calls")
_tokens_of = attrgetter(*_NAMES[:CALLS])  # the counts of tokens come first, totals before their parts

Sums = Sequence[tuple[int, int]]
"""Amounts to add up: pairs of a sum's index and what to add to it."""


class Charge(NamedTuple):
    """What one call is charged.

    Attributes:
        usage: Its tokens, and whether it was ungated; what else it says is not looked at.
        cost: Money units; `None` if the price is unknown.
        calls: Requests that were sent for it; 0 if none was.
        failed: Those that the provider answered with an error.
        estimated: Those whose tokens were counted by us.
    """

    usage: Usage = Usage()
    cost: int | None = 0
    calls: int = 1
    failed: int = 0
    estimated: int = 0

    def sums(self) -> Sums:
        """Return it in the form in which tallies take it."""
        usage = self.usage
        if usage.is_text:
            pairs = [(INPUT, usage.input_tokens), (OUTPUT, usage.output_tokens)]
        else:
            pairs = [(index, value) for index, value in enumerate(_tokens_of(usage)) if value]
            if usage.ungated_calls:
                pairs.append((_UNGATED, usage.ungated_calls))
        if self.calls:
            pairs.append((CALLS, self.calls))
        if self.failed:
            pairs.append((_FAILED, self.failed))
        if self.estimated:
            pairs.append((_ESTIMATED, self.estimated))
        if self.cost is None:
            pairs.append((_UNPRICED, self.calls))
        elif self.cost:
            pairs.append((COST, self.cost))
        return pairs

    def as_usage(self) -> Usage:
        """Return it in the form in which people take it."""
        return self.usage.replace(
            cost_usd=to_usd(self.cost or 0),
            calls=self.calls,
            failed_calls=self.failed,
            estimated_calls=self.estimated,
            unpriced_calls=self.calls if self.cost is None else 0,
        )


NOTHING = Charge(calls=0)
_NOTHING_USED = Usage()


class Tally:
    """Sums of what was charged, exact.

    Attributes:
        sums: One total for each index of `Sums`.
    """

    __slots__ = ("sums",)

    def __init__(self) -> None:
        self.sums = [0] * (COST + 1)

    def add(self, amounts: Sums, instead_of: Sums = ()) -> None:
        """Add amounts, in place of others that were added before."""
        sums = self.sums
        for index, value in instead_of:
            sums[index] -= value
        for index, value in amounts:
            sums[index] += value

    @property
    def cost(self) -> int:
        """Money, in units."""
        return self.sums[COST]

    @property
    def tokens(self) -> int:
        """Input and output together."""
        return self.sums[INPUT] + self.sums[OUTPUT]

    @property
    def calls(self) -> int:
        """Requests sent."""
        return self.sums[CALLS]

    def usage(self) -> Usage:
        """Return the sums as a value."""
        with LOCK:
            sums = list(self.sums)
        if not any(sums):
            return _NOTHING_USED
        return Usage(**dict(zip(_NAMES, sums, strict=False)), cost_usd=to_usd(sums[COST]))


def total(tallies: Iterable[Tally]) -> Tally:
    """Return the sums over some tallies."""
    whole = Tally()
    whole.sums = [sum(sums) for sums in zip(whole.sums, *[tally.sums for tally in tallies], strict=True)]
    return whole
