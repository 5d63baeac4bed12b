"""Named limits that outlive a step and a process, and the windows in which they count."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any, ClassVar, Self

from .limits import (
    Declared,
    Enforce,
    check_choice,
    check_kept,
    check_limits,
    check_name,
    checks_fields,
    from_mapping,
)

_WINDOW = re.compile(r"([1-9][0-9]{0,3})(m|h|d|w|mo)")
_SECONDS = {"m": 60, "h": 3600, "d": 86400, "w": 7 * 86400}
_FIRST_MONDAY_S = 4 * 86400
MOST_USD = Decimal(9_000_000)
"""The largest dollar limit that the integers of all stores hold."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Window:
    """A stretch of time in which a budget counts, in UTC.

    Attributes:
        starts_at: Its beginning.
        ends_at: When the next one begins.
    """

    starts_at: datetime
    ends_at: datetime


@checks_fields
@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class BudgetDefinition(Declared):
    """A limit with a name, which steps, runs, processes and machines can share through a ledger.

    Attach it with `step(..., budgets=[...])`, `persona(..., budgets=[...])` or in `steptrack.toml`. Every
    call inside is then charged to it as well, and is sent only if it has room. Everyone using the same name
    on the same ledger shares what is spent; each caller sets its own limits.

    Attributes:
        name: Its name in the ledger.
        max_usd: Maximum spend in US dollars per window; `None` sets no limit.
        max_tokens: Maximum number of input and output tokens together.
        max_calls: Maximum number of requests.
        window: How often it resets, in UTC, as a number and `m`, `h`, `d`, `w` or `mo`: `"1h"`,
            `"1d"` and `"1mo"` start with the calendar's hour, day and month; weeks start on Monday.
            `None` never resets. It is stored in its shortest form, `"24h"` as `"1d"`; the same name with
            another window is another account.
        enforce: As for `step`.

    Raises:
        ValueError: A field is malformed, or no limit is set; the message names it and the fix.

    Example:
        >>> from steptrack_callbacks import Budget, step
        >>> with step("nightly", budgets=[Budget("team-a", max_usd=50, window="1d")]) as nightly:
        ...     nightly.path
        'nightly'
    """

    _instead: ClassVar[Mapping[str, str]] = {
        "max_seconds": "; limit the time of a step, or give the budget a window, such as '1h'"
    }

    name: str = field(kw_only=False)
    max_usd: Decimal | float | None = None
    max_tokens: int | None = None
    max_calls: int | None = None
    window: str | None = None
    enforce: Enforce = "estimate"

    def __post_init__(self) -> None:
        check_name(self.name, "budget")
        check_kept(self.name, "budget name")
        where = f"budget {self.name!r}: "
        check_limits(self, where)
        if self.max_usd is None and self.max_tokens is None and self.max_calls is None:
            raise ValueError(f"{where}set at least one of max_usd, max_tokens and max_calls")
        if self.max_usd is not None and self.max_usd > MOST_USD:
            raise ValueError(f"{where}max_usd must be at most {MOST_USD}, not {self.max_usd}")
        check_choice(self.enforce, Enforce, f"{where}enforce")
        if self.window is not None:
            object.__setattr__(self, "window", _shortest(self.window, where))

    def __eq__(self, other: object) -> bool:
        """Tell whether it is the same limits under the same name, whoever has read them."""
        return isinstance(other, BudgetDefinition) and self._values() == other._values()

    def __hash__(self) -> int:
        return hash(self._values())

    def _values(self) -> tuple[Any, ...]:
        return tuple(getattr(self, each.name) for each in fields(self))

    def window_at(self, seconds: float) -> Window | None:
        """Return the window that a time is in, or `None` for a budget without one.

        Args:
            seconds: Since the epoch.

        Example:
            >>> str(BudgetDefinition("team-a", max_calls=9, window="1mo").window_at(1_700_000_000).ends_at)
            '2023-12-01 00:00:00+00:00'
        """
        if self.window is None:
            return None
        match = _WINDOW.fullmatch(self.window)
        assert match is not None  # checked above
        number, unit = int(match[1]), match[2]
        return _months_at(seconds, number) if unit == "mo" else _stretch_at(seconds, number, unit)

    @classmethod
    def from_dict(cls, data: Any) -> Self:
        """Read a budget from plain data.

        Raises:
            ValueError: A field is unknown, missing or malformed; the message names it and the fix.
        """
        return from_mapping(cls, data, "budget")


def _shortest(window: object, where: str) -> str:
    """Return a window in the largest unit that it is whole in, so that one stretch of time has one name.

    Seven days are not a week: days are counted from the epoch, and weeks begin on Monday.
    """
    match = _WINDOW.fullmatch(window) if isinstance(window, str) else None
    if match is None:
        raise ValueError(
            f"{where}window must be a number and m, h, d, w or mo, such as '1h', '1d' or '1mo',"
            f" not {window!r}"
        )
    number, unit = int(match[1]), match[2]
    for smaller, most, larger in (("m", 60, "h"), ("h", 24, "d")):
        if unit == smaller and number % most == 0:
            number, unit = number // most, larger
    return f"{number}{unit}"


def _stretch_at(seconds: float, number: int, unit: str) -> Window:
    length = number * _SECONDS[unit]
    first = _FIRST_MONDAY_S if unit == "w" else 0
    start = first + (int(seconds) - first) // length * length
    starts_at = datetime.fromtimestamp(start, UTC)
    return Window(starts_at=starts_at, ends_at=starts_at + timedelta(seconds=length))


def _months_at(seconds: float, number: int) -> Window:
    now = datetime.fromtimestamp(seconds, UTC)
    start = (now.year * 12 + now.month - 1) // number * number
    return Window(starts_at=_first_of(start), ends_at=_first_of(start + number))


def _first_of(month: int) -> datetime:
    return datetime(month // 12, month % 12 + 1, 1, tzinfo=UTC)


def checked_budgets(budgets: Any, where: str) -> tuple[BudgetDefinition | str, ...]:
    """Return what was given as budgets, each name once; a name alone is one of a file's.

    Raises:
        ValueError: Something in it is neither a budget nor a name, or two have one name.
    """
    if isinstance(budgets, BudgetDefinition | str):
        raise ValueError(f"{where}budgets must be a list: write budgets=[{budgets!r}]")  # noqa: TRY004
    if not isinstance(budgets, list | tuple) or not all(
        isinstance(each, BudgetDefinition | str) for each in budgets
    ):
        raise ValueError(
            f"{where}budgets must be a list of Budget(...), or of names from the file, not {budgets!r}"
        )
    names = [each if isinstance(each, str) else each.name for each in budgets]
    for name in names:
        check_name(name, "budget")
        if names.count(name) > 1:
            raise ValueError(f"{where}budget {name!r} is attached twice; keep one")
    return tuple(budgets)
