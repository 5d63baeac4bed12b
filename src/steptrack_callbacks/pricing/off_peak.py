"""When a model is cheaper: windows of hours, every day or on some weekdays, as LiteLLM lists them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, time, tzinfo
from typing import Any, Self

_DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
_EVERY_DAY = frozenset(range(1, 8))


@dataclass(frozen=True, slots=True)
class Window:
    """Hours of a day, in UTC, from `start` up to but without `end`; the same twice is all day.

    Attributes:
        start: The first minute inside.
        end: The first minute outside; before `start` if midnight lies between.
        days: ISO weekdays, 1 is Monday, on which the window opens.
    """

    start: time
    end: time
    days: frozenset[int]

    def holds(self, clock: time, day: int) -> bool:
        """Tell whether the window is open at that time of that weekday."""
        if day not in self.days:
            return False
        if self.start < self.end:
            return self.start <= clock < self.end
        return clock >= self.start or clock < self.end


@dataclass(frozen=True, slots=True)
class Schedule:
    """All windows of a model and the calendar by which their weekdays are meant."""

    windows: tuple[Window, ...]
    calendar: tzinfo

    @classmethod
    def of(cls, block: Mapping[str, Any]) -> Self:
        """Read LiteLLM's `off_peak_pricing`; what is malformed opens no window."""
        rules = [{"hours_utc": block.get("hours_utc")}, *_mappings(block.get("windows"))]
        return cls(tuple(window for rule in rules for window in _windows(rule)), _calendar(block))

    def is_open(self, moment: datetime | None = None) -> bool:
        """Tell whether the lower price holds, now or at an aware moment."""
        now = moment or datetime.now(UTC)
        clock, day = now.astimezone(UTC).time(), now.astimezone(self.calendar).isoweekday()
        return any(window.holds(clock, day) for window in self.windows)


def _mappings(rules: object) -> list[Mapping[str, Any]]:
    return [rule for rule in rules if isinstance(rule, Mapping)] if isinstance(rules, list) else []


def _windows(rule: Mapping[str, Any]) -> Iterable[Window]:
    days = rule.get("weekdays")
    allowed = _EVERY_DAY if days is None else frozenset(map(_day, days if isinstance(days, list) else ()))
    hours = rule.get("hours_utc")
    for text in (hours,) if isinstance(hours, str) else hours or ():
        start, _, end = str(text).partition("-")
        try:
            yield Window(_time(start), _time(end), allowed)
        except ValueError:
            continue


def _time(text: str) -> time:
    hour, minute = text.strip().split(":")
    return time(int(hour), int(minute))


def _day(value: object) -> int:
    if isinstance(value, str) and value.strip().lower()[:3] in _DAYS:
        return _DAYS.index(value.strip().lower()[:3]) + 1
    return value if isinstance(value, int) else 0


def _calendar(block: Mapping[str, Any]) -> tzinfo:
    from zoneinfo import ZoneInfo  # noqa: PLC0415  # two models of four thousand need it

    name = block.get("weekday_timezone")
    try:
        return ZoneInfo(name.strip()) if isinstance(name, str) and name.strip() else UTC
    except (ValueError, OSError, KeyError):  # KeyError: no such zone, or no time zone database
        return UTC
