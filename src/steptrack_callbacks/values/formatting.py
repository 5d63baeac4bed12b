"""How an amount is written, and how sure of it we are; what is uncertain never looks like what is certain."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from decimal import Decimal
from typing import Any, Literal, NamedTuple, get_args

from .definitions import Grant, LimitName
from .money import format_usd, to_units
from .usage import Usage

Sureness = Literal["exact", "estimated", "lower bound", "unknown"]

_SMALLEST_SHARE = 0.01


class Share(NamedTuple):
    """How much of a limit is used.

    Attributes:
        limit: The limit's name.
        value: The limit.
        consumed: What is used of it, in the same unit.
        budget: The shared budget that sets it, or `None`.
        window: After which that budget resets, such as `1d`; `None` if it never does.
    """

    limit: LimitName
    value: Any
    consumed: Any
    budget: str | None = None
    window: str | None = None

    @property
    def fraction(self) -> float | None:
        """The share as a fraction; `None` of a limit of nothing."""
        return float(self.consumed) / float(self.value) if self.value else None

    @property
    def percent(self) -> str:
        """The share as people read it."""
        return percent(self.fraction)

    @property
    def allowed(self) -> str:
        """The limit with its unit, and whose it is if it is not the step's own."""
        amount = amount_of(self.limit, self.value)
        if self.budget is None:
            return amount
        window = f", {self.window}" if self.window else ""
        return f"{amount} (budget {printable(self.budget)}{window})"

    def __str__(self) -> str:
        return f"{self.percent} of {self.allowed}"


def percent(fraction: float | None) -> str:
    """Write a share; something never looks like nothing."""
    if fraction is None:
        return "-"
    return "<1%" if 0 < fraction < _SMALLEST_SHARE else f"{fraction:.0%}"


def amount_of(limit: LimitName, value: Any) -> str:
    """Write an amount in the unit of a limit."""
    if limit == "max_usd":
        return usd(value)
    number = f"{value:,}" if isinstance(value, int) else f"{value:,.6g}"
    unit = limit.removeprefix("max_")
    return f"{number} {unit.removesuffix('s') if value == 1 else unit}"


def usd(value: Any) -> str:
    """Write US dollars."""
    return format_usd(to_units(value, "amount"))


def sureness_of(usage: Usage) -> Sureness:
    """Say what a sum of costs is worth."""
    if usage.unpriced_calls:
        whole = usage.unpriced_calls >= usage.calls and not usage.cost_usd
        return "unknown" if whole else "lower bound"
    return "estimated" if usage.estimated_calls else "exact"


def cost_of(usage: Usage) -> str:
    """Write a cost: `~` before what is partly estimated, `>=` before what lacks calls of unknown price."""
    cost = usd(usage.cost_usd)
    if usage.unpriced_calls:
        if sureness_of(usage) == "unknown":
            return "unknown"
        cost = f">={cost}"
    return f"~{cost}" if usage.estimated_calls else cost


def doubts_about(usage: Usage) -> list[str]:
    """Name what a sum contains that is not a clean number."""
    counted = {
        "estimated": usage.estimated_calls,
        "of unknown price": usage.unpriced_calls,
        "failed": usage.failed_calls,
        "seen only after they were sent": usage.ungated_calls,
    }
    return [f"{count:,} {what}" for what, count in counted.items() if count]


def of_calls(counts: Sequence[str]) -> str:
    """Say of what calls some counts are.

    Example:
        >>> of_calls(["1 estimated", "2 refused"])
        '1 call estimated, 2 refused'
    """
    number, _, what = counts[0].partition(" ")
    return ", ".join([f"{number} {'call' if number == '1' else 'calls'} {what}", *counts[1:]])


def granted(grant: Grant) -> str:
    """Say what was granted, and by whom.

    Example:
        >>> granted(Grant(max_usd=0.5, max_calls=1, by="ops"))
        'granted $0.5000 and 1 call by ops'
    """
    given = " and ".join(amounts_granted(grant))
    return f"granted {given} by {printable(grant.by)}" if grant.by else f"granted {given}"


def all_granted(grants: Iterable[Grant]) -> Iterator[str]:
    """Say what was granted and by whom, equal grants together.

    Example:
        >>> list(all_granted([Grant(max_calls=1, by="ops")] * 2))
        ['2 grants of 1 call by ops']
    """
    for grant, times in Counter(grants).items():
        said = granted(grant)
        yield said if times == 1 else f"{times} grants of {said.removeprefix('granted ')}"


def amounts_granted(grant: Grant) -> list[str]:
    """Write each amount that was granted, in the unit of its limit."""
    amounts = ((limit, getattr(grant, limit)) for limit in get_args(LimitName))
    return [amount_of(limit, amount) for limit, amount in amounts if amount]


def spent(usage: Usage) -> str:
    """Write what was spent in short."""
    cost = "an unknown cost" if sureness_of(usage) == "unknown" else cost_of(usage)
    return f"{cost} in {plural(usage.calls, 'call')}"


def printable(text: str) -> str:
    """Write control characters as escapes, so that a step's name cannot steer a terminal or a page."""
    if text.isprintable():
        return text
    return "".join(
        char if char.isprintable() else char.encode("unicode_escape").decode("ascii") for char in text
    )


def seconds(value: float) -> str:
    """Write a duration as people read it.

    Example:
        >>> seconds(0.0042), seconds(2.5), seconds(200), seconds(7300)
        ('4 ms', '2.50 s', '3 min 20 s', '2 h 1 min')
    """
    if value < 1:
        return f"{value * 1000:.0f} ms"
    if value < 60:  # noqa: PLR2004
        return f"{value:.3g} s" if value == int(value) else f"{value:.2f} s"
    minutes, rest = divmod(round(value), 60)
    if minutes < 60:  # noqa: PLR2004
        return f"{minutes} min {rest} s" if rest else f"{minutes} min"
    return f"{minutes // 60} h {minutes % 60} min"


def plural(count: int, what: str) -> str:
    """Write a count with its noun."""
    return f"{count:,} {what}{'' if count == 1 else 's'}"


def difference(total: Usage, parts: Usage) -> Usage:
    """Return what is in a total and not in the parts that are known, never less than nothing."""
    names = (
        "input_tokens",
        "output_tokens",
        "calls",
        "failed_calls",
        "estimated_calls",
        "unpriced_calls",
    )
    rest: dict[str, Any] = {name: max(0, getattr(total, name) - getattr(parts, name)) for name in names}
    return Usage(**rest, cost_usd=max(Decimal(0), total.cost_usd - parts.cost_usd))


def shortened(text: str, most: int = 400) -> str:
    """Leave out what goes beyond so many characters."""
    return text if len(text) <= most else f"{text[:most]}…"
