"""What an account allows: its limits, with what grants have added to them and stages have taken off."""

from __future__ import annotations

import os
from typing import Any

from steptrack_callbacks.values.definitions import Grant, LimitName, StepDefinition
from steptrack_callbacks.values.limits import Enforce
from steptrack_callbacks.values.money import to_units, to_usd

from .amounts import Tally


class Limits:
    """How much an account may be charged; `None` where it sets no limit.

    Attributes:
        cost: `max_usd`, in money units.
        tokens, calls, seconds: `max_tokens`, `max_calls` and `max_seconds`.
        kept_cost, kept_calls: The parts of them that are kept back for wrapping up.
    """

    __slots__ = ("calls", "cost", "kept_calls", "kept_cost", "seconds", "tokens")

    def __init__(self, definition: StepDefinition) -> None:
        self.cost = None if definition.max_usd is None else to_units(definition.max_usd, "max_usd")
        self.tokens = definition.max_tokens
        self.calls = definition.max_calls
        self.seconds = definition.max_seconds
        kept = definition.wrap_up_usd
        self.kept_cost = 0 if kept is None else to_units(kept, "wrap_up_usd")
        self.kept_calls = definition.wrap_up_calls or 0

    def __bool__(self) -> bool:
        return (self.cost, self.tokens, self.calls, self.seconds).count(None) < 4  # noqa: PLR2004 - any at all

    def as_dict(self) -> dict[LimitName, Any]:
        """Return those that are set, by name and in their units."""
        values: dict[LimitName, Any] = {
            "max_usd": None if self.cost is None else to_usd(self.cost),
            "max_tokens": self.tokens,
            "max_calls": self.calls,
            "max_seconds": self.seconds,
        }
        return {name: value for name, value in values.items() if value is not None}

    def cost_room(self, *, wrapping: bool) -> int | None:
        """Return the money units that are allowed in all; the part kept back only while wrapping up."""
        return self.cost if self.cost is None or wrapping else self.cost - self.kept_cost

    def call_room(self, *, wrapping: bool) -> int | None:
        """Return the calls that are allowed in all; the part kept back only while wrapping up."""
        return self.calls if self.calls is None or wrapping else max(0, self.calls - self.kept_calls)

    def reached(self, settled: Tally, seconds_left: float | None, *, wrapping: bool) -> list[LimitName]:
        """Name those that are reached by what is settled and by the time that has passed."""
        cost, calls = self.cost_room(wrapping=wrapping), self.call_room(wrapping=wrapping)
        names: list[LimitName] = []
        if cost is not None and settled.cost >= cost:
            names.append("max_usd")
        if self.tokens is not None and settled.tokens >= self.tokens:
            names.append("max_tokens")
        if calls is not None and settled.calls >= calls:
            names.append("max_calls")
        if seconds_left is not None and seconds_left <= 0:
            names.append("max_seconds")
        return names

    def passed(self, settled: Tally) -> list[LimitName]:
        """Name those that what is settled has passed: strictly more than they allow."""
        names: list[LimitName] = []
        if self.cost is not None and settled.cost > self.cost:
            names.append("max_usd")
        if self.tokens is not None and settled.tokens > self.tokens:
            names.append("max_tokens")
        if self.calls is not None and settled.calls > self.calls:
            names.append("max_calls")
        return names

    def cap_calls(self, most: int) -> None:
        """Lower the calls to a stage's; the smaller of both holds."""
        self.calls = most if self.calls is None else min(self.calls, most)

    def add(self, grant: Grant) -> None:
        """Add a grant to those that are set; what is not limited stays so."""
        if self.cost is not None and grant.max_usd is not None:
            self.cost += to_units(grant.max_usd, "max_usd")
        if self.tokens is not None:
            self.tokens += grant.max_tokens or 0
        if self.calls is not None:
            self.calls += grant.max_calls or 0
        if self.seconds is not None:
            self.seconds += grant.max_seconds or 0


def enforce_of(definition: StepDefinition) -> Enforce:
    """Return how limits are kept: as declared, unless the environment says that they are only watched.

    Raises:
        ValueError: The environment says something else.
    """
    override = os.environ.get("STEPTRACK_ENFORCE")
    if not override:
        return definition.enforce
    if override != "observe":
        raise ValueError(f"STEPTRACK_ENFORCE can only be 'observe' or unset, not {override!r}")
    return "observe"
