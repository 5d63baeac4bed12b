"""Limits, what is settled against them, what is reserved, and whether there is room for more."""

from __future__ import annotations

import os
import time
from decimal import Decimal
from typing import Any

from steptrack_callbacks.values.definitions import Grant, LimitName, StepDefinition
from steptrack_callbacks.values.limits import Enforce
from steptrack_callbacks.values.money import to_units, to_usd

from .amounts import Sums, Tally
from .forecasts import Flight
from .holds import Estimate, Hold, Holding, Uncounted
from .in_flight import MONEY, TOKENS, InFlight

NONE_IN_FLIGHT = InFlight()
"""Of an account without limits, on which nothing is ever held."""


class Balance:
    """The numbers of an account; every method that changes or compares them runs under `BOOKS`.

    Attributes:
        settled: What calls have been charged, in the account and in those inside it.
        in_flight: Calls that are held at what is expected of them.
        fixed_cost, fixed_tokens: What others have reserved: under `strict`, or elsewhere.
        held_calls: How many calls have reserved room.
        uncounted: Those of them that hold a bound of what they can come to; see `far`.
        bound_cost, bound_tokens: What these hold.
        held_tools: How many of them are uses of tools, which do not count as calls.
        running_cost, running_tokens: What streams in flight have produced so far.
        cost_limit, kept_back: `max_usd` and the part of it for wrapping up, in money units.
        kept_calls: The part of `max_calls` for wrapping up.
        cold: Models of which a call with nothing to go by is in flight.
        breached: Times that a strict limit was passed.
        closed: Whether the step has ended.
        ended: When it did, by the monotonic clock.
    """

    __slots__ = (
        "bound_cost",
        "bound_tokens",
        "breached",
        "closed",
        "cold",
        "cost_limit",
        "cut_streams",
        "ended",
        "enforce",
        "fixed_cost",
        "fixed_tokens",
        "held_calls",
        "held_tools",
        "in_flight",
        "kept_back",
        "kept_calls",
        "limited",
        "max_calls",
        "max_seconds",
        "max_tokens",
        "running_cost",
        "running_tokens",
        "settled",
        "started",
        "uncounted",
    )

    def __init__(self, definition: StepDefinition) -> None:
        self.settled = Tally()
        self.fixed_cost = self.fixed_tokens = self.held_calls = self.held_tools = 0
        self.limited = _has_limits(definition)
        self.in_flight = InFlight() if self.limited else NONE_IN_FLIGHT
        self.uncounted: dict[Uncounted, None] = {}
        self.bound_cost = self.bound_tokens = 0
        self.running_cost = self.running_tokens = 0
        self.cost_limit = None if definition.max_usd is None else to_units(definition.max_usd, "max_usd")
        kept_back = definition.wrap_up_usd
        self.kept_back = 0 if kept_back is None else to_units(kept_back, "wrap_up_usd")
        self.kept_calls = definition.wrap_up_calls or 0
        self.max_tokens = definition.max_tokens
        self.max_calls = definition.max_calls
        self.max_seconds = definition.max_seconds
        self.enforce: Enforce = _enforce_of(definition)
        self.cut_streams = definition.cut_streams
        self.cold: dict[str, int] = {}
        self.breached = 0
        self.started = time.monotonic()
        self.closed = False
        self.ended: float | None = None

    @property
    def held_cost(self) -> int:
        """Money units that calls in flight have reserved."""
        self.count_all()
        return self.fixed_cost + self.in_flight.mean(MONEY)

    @property
    def held_tokens(self) -> int:
        """Tokens that calls in flight have reserved."""
        self.count_all()
        return self.fixed_tokens + self.in_flight.mean(TOKENS)

    def count_all(self) -> None:
        """Count the calls in flight that are not: somebody wants to know what they will come to."""
        if self.uncounted:
            for call in list(self.uncounted):
                call.count()

    def lacks_call_or_time(self, now: float) -> bool:
        """Tell whether there is no room for one call more, or no time left."""
        if self.max_seconds is not None and now - self.started >= self.max_seconds:
            return True
        most = self.call_room(wrapping=False)
        return most is not None and self.settled.calls + self.held_calls >= most

    def limits(self) -> dict[LimitName, Any]:
        """Return the limits that are set, grants included."""
        values: dict[LimitName, Any] = {
            "max_usd": None if self.cost_limit is None else to_usd(self.cost_limit),
            "max_tokens": self.max_tokens,
            "max_calls": self.max_calls,
            "max_seconds": self.max_seconds,
        }
        return {name: value for name, value in values.items() if value is not None}

    def cost_room(self, *, wrapping: bool) -> int | None:
        """Money units that the limit allows in all; the wrap-up part only while wrapping up."""
        if self.cost_limit is None or wrapping:
            return self.cost_limit
        return self.cost_limit - self.kept_back

    def call_room(self, *, wrapping: bool) -> int | None:
        """Calls that the limit allows in all; the wrap-up part only while wrapping up."""
        if self.max_calls is None or wrapping:
            return self.max_calls
        return max(0, self.max_calls - self.kept_calls)

    def seconds_left(self) -> float | None:
        """Seconds until `max_seconds`; negative once it has passed."""
        return None if self.max_seconds is None else self.max_seconds - self._seconds()

    def _seconds(self) -> float:
        return (time.monotonic() if self.ended is None else self.ended) - self.started

    def remaining(self, limit: LimitName, *, wrapping: bool) -> Decimal | float | None:
        """Return what is neither settled nor reserved under a limit, at least 0; `None` if it is not set."""
        cost_room, seconds = self.cost_room(wrapping=wrapping), self.seconds_left()
        if limit == "max_usd":
            return (
                None if cost_room is None else to_usd(max(0, cost_room - self.settled.cost - self.held_cost))
            )
        if limit == "max_seconds":
            return None if seconds is None else max(0.0, seconds)
        most = self.max_tokens if limit == "max_tokens" else self.call_room(wrapping=wrapping)
        held = self.held_tokens if limit == "max_tokens" else self.held_calls - self.held_tools
        settled = self.settled.tokens if limit == "max_tokens" else self.settled.calls
        return None if most is None else max(0, most - settled - held)

    def full_limits(self, *, wrapping: bool = False) -> list[LimitName]:
        """Name the limits that what is settled has reached."""
        cost_room, left = self.cost_room(wrapping=wrapping), self.seconds_left()
        call_room = self.call_room(wrapping=wrapping)
        names: list[LimitName] = []
        if cost_room is not None and self.settled.cost >= cost_room:
            names.append("max_usd")
        if self.max_tokens is not None and self.settled.tokens >= self.max_tokens:
            names.append("max_tokens")
        if call_room is not None and self.settled.calls >= call_room:
            names.append("max_calls")
        if left is not None and left <= 0:
            names.append("max_seconds")
        return names

    def passed_limits(self) -> list[LimitName]:
        """Name the limits that what is settled has passed: strictly more than they allow."""
        names: list[LimitName] = []
        if self.cost_limit is not None and self.settled.cost > self.cost_limit:
            names.append("max_usd")
        if self.max_tokens is not None and self.settled.tokens > self.max_tokens:
            names.append("max_tokens")
        if self.max_calls is not None and self.settled.calls > self.max_calls:
            names.append("max_calls")
        return names

    def lacking(
        self,
        asked: tuple[int, int],
        held: Hold | tuple[int, int],
        *,
        wrapping: bool,
        calls: int | None = None,
        counts: bool = True,
    ) -> list[LimitName]:
        """Name the limits without room for an amount beside what others hold.

        Exactly at a limit is within it, and admits no further call. Calls in flight count toward
        `max_calls` whatever becomes of them: `calls`, or all.
        """
        names: list[LimitName] = []
        for name, unit, used, most in self._amounts(wrapping=wrapping):
            if used >= most or used + held[unit] + asked[unit] > most:
                names.append(name)
        return self._with_others(names, calls, wrapping=wrapping, counts=counts)

    def lacking_now(self, estimate: Estimate, *, wrapping: bool) -> list[LimitName]:
        """Name the limits without room for a call beside all that is in flight."""
        if self.enforce == "strict":
            held = (self.held_cost, self.held_tokens)
            return self.lacking(estimate.worst, held, wrapping=wrapping, counts=estimate.counts)
        if self.held_calls == 0:
            return self.lacking(estimate.alone, (0, 0), wrapping=wrapping, counts=estimate.counts)
        names: list[LimitName] = []
        for name, unit, used, most in self._amounts(wrapping=wrapping):
            if used >= most or not self._fits_beside(estimate, unit, used, most):
                names.append(name)
        return self._with_others(names, None, wrapping=wrapping, counts=estimate.counts)

    def _amounts(self, *, wrapping: bool) -> list[tuple[LimitName, int, int, int]]:
        """List the limits of amounts that are set: the unit, what is settled, and the limit."""
        found: list[tuple[LimitName, int, int, int]] = []
        if self.cost_limit is not None:
            room = self.cost_limit if wrapping else self.cost_limit - self.kept_back
            found.append(("max_usd", MONEY, self.settled.cost, room))
        if self.max_tokens is not None:
            found.append(("max_tokens", TOKENS, self.settled.tokens, self.max_tokens))
        return found

    def _fits_beside(self, estimate: Estimate, unit: int, used: int, most: int) -> bool:
        left = most - used - (self.fixed_tokens if unit else self.fixed_cost)
        if self.in_flight.is_far(estimate.outlook, unit, left):
            return True
        self.in_flight.refresh(time.monotonic())
        return self.in_flight.fits(estimate.outlook, unit, left, most)

    def _with_others(
        self, names: list[LimitName], calls: int | None, *, wrapping: bool, counts: bool
    ) -> list[LimitName]:
        """Add the limits of calls and time; of several, those that are reached already are named first."""
        counted = (self.held_calls if calls is None else calls) - self.held_tools
        most = self.call_room(wrapping=wrapping)
        if counts and most is not None and self.settled.calls + counted >= most:
            names.append("max_calls")
        if self.max_seconds is not None and self._seconds() >= self.max_seconds:
            names.append("max_seconds")
        return list(dict.fromkeys((*self.full_limits(wrapping=wrapping), *names))) if names else []

    def output_left(self, estimate: Estimate, *, wrapping: bool) -> int | None:
        """Count the output tokens that are left to a call; `None` if no limit counts any.

        Beside others these are never fewer than anybody reckons with.
        """
        rooms = [
            self.in_flight.left_for(estimate.outlook, unit, most - used)
            for _, unit, used, most in self._amounts(wrapping=wrapping)
        ]
        least = min(rooms, default=None)
        return least if least is None or not self.held_calls else max(least, estimate.outlook.reckoned)

    def could_have_room(self, estimate: Estimate, own: Hold, *, wrapping: bool) -> bool:
        """Tell whether a call would fit if all calls in flight but the caller's own came to nothing."""
        asked = self._asked(estimate, alone=own.calls == 0)
        return not self.lacking(asked, own, wrapping=wrapping, counts=estimate.counts)

    def may_come_to_have_room(self, estimate: Estimate, *, wrapping: bool) -> bool:
        """Tell whether a call would fit if all that can come back of what is reserved did."""
        asked = self._asked(estimate, alone=True)
        lasting = self._lasting_calls()
        return not self.lacking(asked, Hold(), wrapping=wrapping, calls=lasting, counts=estimate.counts)

    def _lasting_calls(self) -> int:
        """Return how many calls in flight are known to count in the end: nearly all do."""
        return self.held_calls

    def is_cold(self, estimate: Estimate) -> bool:
        """Tell whether there is nothing to reserve a call by; `strict` trusts no bound untried."""
        return estimate.unseen if self.enforce == "strict" else estimate.unbounded

    def _asked(self, estimate: Estimate, *, alone: bool) -> tuple[int, int]:
        if self.enforce == "strict":
            return estimate.least if alone else estimate.worst
        return estimate.alone if alone else estimate.expected

    @property
    def held(self) -> Hold:
        """All that is reserved by calls in flight."""
        return Hold(self.held_cost, self.held_tokens, self.held_calls)

    def hold(self, estimate: Estimate, flight: Flight) -> Holding:
        """Reserve what a call asks, and say what that was."""
        cold = (estimate.unseen or estimate.unbounded) and self.is_cold(estimate)
        if self.enforce == "strict":
            holding = Holding(estimate.worst, None, cold=cold, counts=estimate.counts)
            self.fixed_cost += estimate.worst[MONEY]
            self.fixed_tokens += estimate.worst[TOKENS]
        else:
            expected = self.in_flight.add(estimate.outlook, flight, (self.cost_limit, self.max_tokens))
            holding = Holding((0, 0), expected, cold=cold, counts=estimate.counts)
        self.held_calls += 1
        self.held_tools += not estimate.counts
        if cold:
            self.cold[estimate.model] = self.cold.get(estimate.model, 0) + 1
        return holding

    def release(self, holding: Holding, model: str) -> None:
        """Give a reservation back."""
        if holding.expected is not None:
            self.in_flight.remove(holding.expected)
        self.fixed_cost -= holding.fixed[MONEY]
        self.fixed_tokens -= holding.fixed[TOKENS]
        self.held_calls -= 1
        self.held_tools -= not holding.counts
        if holding.cold:
            self.cold[model] -= 1
            if not self.cold[model]:
                del self.cold[model]

    def run_on(self, cost: int, tokens: int) -> None:
        """Count what a stream in flight has produced; negative amounts take it back."""
        self.running_cost += cost
        self.running_tokens += tokens

    def overrun_limits(self, *, wrapping: bool) -> list[LimitName]:
        """Name the limits that streams in flight have passed, for which they must be cut."""
        if not self.cut_streams:
            return []
        cost_room, left = self.cost_room(wrapping=wrapping), self.seconds_left()
        names: list[LimitName] = []
        if cost_room is not None and self.settled.cost + self.running_cost > cost_room:
            names.append("max_usd")
        if self.max_tokens is not None and self.settled.tokens + self.running_tokens > self.max_tokens:
            names.append("max_tokens")
        if left is not None and left <= 0:
            names.append("max_seconds")
        return names

    def charge(self, amounts: Sums, instead_of: Sums = ()) -> None:
        """Add to what is settled, and count a strict limit that is passed by it."""
        within = self.enforce == "strict" and not self.passed_limits()
        self.settled.add(amounts, instead_of)
        if within and self.passed_limits():
            self.breached += 1

    def close(self) -> None:
        """Admit no more calls, and stop the clock; what is in flight may still be charged."""
        if not self.closed:
            self.closed, self.ended = True, time.monotonic()

    def cap_calls(self, most: int) -> None:
        """Lower `max_calls` to a stage's; the smaller of both holds."""
        self.max_calls = most if self.max_calls is None else min(self.max_calls, most)
        if not self.limited:
            self.limited, self.in_flight = True, InFlight()

    def raise_limits(self, grant: Grant) -> None:
        """Add a grant to the limits that are set; a limit that is not set stays unlimited."""
        if self.cost_limit is not None and grant.max_usd is not None:
            self.cost_limit += to_units(grant.max_usd, "max_usd")
        for name in ("max_tokens", "max_calls", "max_seconds"):
            limit, more = getattr(self, name), getattr(grant, name)
            if limit is not None and more is not None:
                setattr(self, name, limit + more)


def _has_limits(definition: StepDefinition) -> bool:
    limits = (definition.max_usd, definition.max_tokens, definition.max_calls, definition.max_seconds)
    return limits.count(None) < len(limits)


def _enforce_of(definition: StepDefinition) -> Enforce:
    override = os.environ.get("STEPTRACK_ENFORCE")
    if not override:
        return definition.enforce
    if override != "observe":
        raise ValueError(f"STEPTRACK_ENFORCE can only be 'observe' or unset, not {override!r}")
    return "observe"
