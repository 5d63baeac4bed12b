"""What can be charged: limits, what is settled against them, what is reserved, and what was said of it."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterable
from decimal import Decimal
from typing import Any

from steptrack_callbacks.concurrency.flow import Waitable
from steptrack_callbacks.concurrency.lock import LOCK
from steptrack_callbacks.values.definitions import Grant, LimitName, StepDefinition
from steptrack_callbacks.values.errors import Breach, BudgetExhausted, Phase
from steptrack_callbacks.values.money import to_usd
from steptrack_callbacks.values.swaps import ModelSwap, SwapReason
from steptrack_callbacks.values.usage import Usage

from .amounts import Sums, Tally, total
from .holds import MONEY, TOKENS, Amount, Estimate, Hold
from .in_flight import InFlight
from .limits import Limits, enforce_of
from .step_ref import StepRef

_NOTHING = Usage()
_NONE_IN_FLIGHT = InFlight()  # of an account without limits, on which nothing is ever held


class Account:
    """A step's, a persona's or nobody's account. Whatever changes or compares numbers holds `LOCK`.

    Attributes:
        ref: Whose account it is.
        definition: What was declared for it.
        enforce: How its limits are kept; the environment may have overruled its definition.
        limits: The limits in force.
        limited: Whether it has any.
        judges: Whether it looks at what it is charged, and does not only add it up.
        settled: What calls have been charged, in the account and in those inside it.
        models: The part of that which was charged to this very account, by model.
        resumed: The part of what is settled that it began with: somebody had spent it before.
        in_flight: What calls in flight hold.
        open_calls: Calls that are neither settled nor swept.
        in_flight_calls: Calls that were still open when the step ended.
        late_calls: Those of them whose usage has come since.
        denied: Calls refused in the account's step and inside it.
        busy: Those of them that would have fit, had others not held the room.
        cut: Answers that were cut short because the call was given what was left as its `max_tokens`.
        capped: Calls in flight that were given the last of this very account: one at most.
        last_is_taken: Whether the answer of such a one was cut short.
        breached: Times that a strict limit was passed.
        started, ended: When the step began and ended, by the monotonic clock.
        closed: Whether it has ended.
        model: The model last used.
        model_list: Models that the step names for its calls; `None` if it names none.
        response: The last answer, for the error that a step raises at its close.
        raised: The last exhaustion of it that was raised to a caller; `busy` is none.
        fired: Thresholds that were announced, by limit.
        grants: What escalations added to the limits.
        question, declined: What is being asked, and what the no was, if there was one.
        warned: Whether it was said that an `observe` limit is passed.
        on_late_charge: Called with it after a charge to it once it was closed.
        forgets: Whether it keeps neither answers nor errors, as it outlives those who ask.
    """

    forgets = False
    __slots__ = (
        "__weakref__",
        "_swaps",
        "breached",
        "busy",
        "capped",
        "closed",
        "cut",
        "declined",
        "definition",
        "denied",
        "ended",
        "enforce",
        "fired",
        "grants",
        "in_flight",
        "in_flight_calls",
        "judges",
        "last_is_taken",
        "late_calls",
        "limited",
        "limits",
        "model",
        "model_list",
        "models",
        "on_late_charge",
        "open_calls",
        "question",
        "raised",
        "ref",
        "response",
        "resumed",
        "settled",
        "started",
        "warned",
    )

    def __init__(self, ref: StepRef, definition: StepDefinition) -> None:
        self.ref = ref
        self.definition = definition
        self.enforce = enforce_of(definition)
        self.limits = Limits(definition)
        self.limited = bool(self.limits)
        self.judges = self.enforce == "strict" or type(self).charge is not Account.charge
        self.settled = Tally()
        self.models: dict[str, Tally] = {}
        self.resumed = _NOTHING
        self.in_flight = InFlight() if self.limited else _NONE_IN_FLIGHT
        self.open_calls = self.in_flight_calls = self.late_calls = 0
        self.denied = self.busy = self.capped = self.cut = self.breached = 0
        self.last_is_taken = self.closed = self.warned = False
        self.started = time.monotonic()
        self.ended: float | None = None
        self.model = definition.model
        self.model_list = definition.model_list if definition.models else None
        self._swaps: dict[tuple[str, str, SwapReason], list[float]] = {}
        self.response: Any = None
        self.raised: BudgetExhausted | None = None
        self.fired: set[tuple[LimitName, float]] = set()
        self.grants: tuple[Grant, ...] = ()
        self.question: Waitable | None = None
        self.declined = ""
        self.on_late_charge: Callable[[Account], None] | None = None

    # What is reserved

    @property
    def held_cost(self) -> int:
        """Money units that calls in flight have reserved."""
        return self.in_flight.held(MONEY)

    @property
    def held_tokens(self) -> int:
        """Tokens that calls in flight have reserved."""
        return self.in_flight.held(TOKENS)

    @property
    def held_calls(self) -> int:
        """How many calls have reserved room."""
        return self.in_flight.calls

    @property
    def waiting(self) -> int:
        """How many calls wait for room here."""
        return self.in_flight.waiting

    @property
    def lasting_calls(self) -> int:
        """How many calls in flight are known to count in the end: nearly all do."""
        return self.in_flight.calls

    def hold(self, estimate: Estimate, since: float) -> Hold:
        """Reserve what a call asks that is sent then, and say what that was."""
        cold = (estimate.unseen or estimate.unbounded) and self.is_cold(estimate)
        hold = Hold(estimate, since, is_fixed=self.enforce == "strict", cold=cold)
        self.in_flight.add(hold, self.limits.cost, self.limits.tokens)
        return hold

    @property
    def gave_its_last(self) -> bool:
        """Whether a call has its last, or had it and was cut: no other is given any of it."""
        return bool(self.capped) or self.last_is_taken

    def is_cold(self, estimate: Estimate) -> bool:
        """Tell whether there is nothing to reserve a call by; `strict` trusts no bound untried."""
        return estimate.unseen if self.enforce == "strict" else estimate.unbounded

    # What its limits say

    def whole(self, estimate: Estimate) -> Estimate:
        """Return what a call asks in the units in which this account compares."""
        return estimate

    def amounts(self, *, wrapping: bool) -> list[tuple[LimitName, int, int, int]]:
        """List the limits of amounts that are set: the unit, what is settled, and the limit."""
        found: list[tuple[LimitName, int, int, int]] = []
        cost = self.limits.cost_room(wrapping=wrapping)
        if cost is not None:
            found.append(("max_usd", MONEY, self.settled.cost, cost))
        if self.limits.tokens is not None:
            found.append(("max_tokens", TOKENS, self.settled.tokens, self.limits.tokens))
        return found

    def lacking_elsewhere(
        self,
        estimate: Estimate,  # noqa: ARG002 - of interest to accounts that others charge too
        names: list[LimitName],  # noqa: ARG002
        *,
        wrapping: bool,  # noqa: ARG002
    ) -> list[LimitName]:
        """Name limits without room by what is known elsewhere, beside those that are named already."""
        return []

    def seconds_left(self) -> float | None:
        """Seconds until `max_seconds`; negative once it has passed."""
        return None if self.limits.seconds is None else self.limits.seconds - self._seconds()

    def _seconds(self) -> float:
        return (time.monotonic() if self.ended is None else self.ended) - self.started

    def full_limits(self, *, wrapping: bool = False) -> list[LimitName]:
        """Name the limits that what is settled has reached."""
        return self.limits.reached(self.settled, self.seconds_left(), wrapping=wrapping)

    def passed_limits(self) -> list[LimitName]:
        """Name the limits that what is settled has passed: strictly more than they allow."""
        return self.limits.passed(self.settled)

    def overrun_limits(self, *, wrapping: bool, unused: Amount = (0, 0)) -> list[LimitName]:
        """Name the limits that streams have passed, for which they must be cut.

        Args:
            wrapping: Whether what is kept back for wrapping up may be spent.
            unused: What is charged for a stream, and not used by it so far.
        """
        if not self.definition.cut_streams:
            return []
        running = self.in_flight.running
        names = [
            name
            for name, unit, used, most in self.amounts(wrapping=wrapping)
            if used + running[unit] - unused[unit] > most
        ]
        left = self.seconds_left()
        return [*names, "max_seconds"] if left is not None and left <= 0 else names

    def consumed(self, limit: LimitName, *, running: bool = False) -> Decimal | float:
        """Return what is settled against a limit, in its unit; `running` adds what streams have produced."""
        if limit == "max_usd":
            return to_usd(self.settled.cost + running * self.in_flight.running[MONEY])
        if limit == "max_seconds":
            return self._seconds()
        if limit == "max_calls":
            return self.settled.calls
        return self.settled.tokens + running * self.in_flight.running[TOKENS]

    def reserved(self, limit: LimitName) -> Decimal | float:
        """Return what calls in flight hold of a limit, in its unit."""
        if limit == "max_usd":
            return to_usd(self.held_cost)
        amounts = {"max_tokens": self.held_tokens, "max_calls": self.held_calls}
        return amounts.get(limit, 0)

    def cap_calls(self, most: int) -> None:
        """Lower `max_calls` to a stage's; the smaller of both holds."""
        self.limits.cap_calls(most)
        self.limited = True
        if self.in_flight is _NONE_IN_FLIGHT:
            self.in_flight = InFlight()
        for allowance in self.in_flight.allowances:
            allowance.calls_left = 0

    def grant(self, grant: Grant) -> None:
        """Raise the limits, and remember by what."""
        with LOCK:
            self.limits.add(grant)
            self.last_is_taken = False
            self.grants = (*self.grants, grant)

    # What is charged

    def charge(self, amounts: Sums, instead_of: Sums = ()) -> None:
        """Add to what is settled, and count a strict limit that is passed by it."""
        within = self.enforce == "strict" and not self.passed_limits()
        self.settled.add(amounts, instead_of)
        if within and self.passed_limits():
            self.breached += 1

    @property
    def own(self) -> Tally:
        """The part of what is settled that was charged to this very account."""
        with LOCK:
            return total(self.models.values())

    def here_of(self, settled: Usage) -> Usage:
        """Return the part of what is settled that was charged from here: not before, and not by others."""
        return settled if self.resumed is _NOTHING else settled - self.resumed

    def close(self) -> None:
        """Admit no more calls, and stop the clock; what is in flight may still be charged."""
        if not self.closed:
            self.closed, self.ended = True, time.monotonic()

    # What is said of it

    def note_swap(self, swap: tuple[str, str, SwapReason], now: float) -> None:
        """Note that a call was made with another model than was asked for, under the list of this account."""
        seen = self._swaps.setdefault(swap, [0, now, now])
        seen[0] += 1
        seen[2] = now

    def swaps(self) -> tuple[ModelSwap, ...]:
        """Return the calls that were made with another model under the list of this account."""
        if not self._swaps:
            return ()
        return tuple(
            ModelSwap(asked=asked, used=used, why=why, calls=int(calls), first_at=first, last_at=last)
            for (asked, used, why), (calls, first, last) in list(self._swaps.items())
        )

    def blame(self, error: BudgetExhausted) -> None:
        """Note that an exhaustion of this account was raised to a caller."""
        self.raised = error

    def exhaustion_fields(self) -> dict[str, Any]:
        """Return what an error says of the account beside whose it is."""
        return {}

    def hint_if_busy(self, names: Collection[LimitName]) -> str:  # noqa: ARG002 - as `lacking_elsewhere`
        """Return what to know of what others hold under these limits here, or an empty string."""
        return ""

    def breaches(
        self, names: Iterable[LimitName], asked: tuple[int, int] | None = None, *, running: bool = False
    ) -> tuple[Breach, ...]:
        """Describe limits without room; given what a call asked, what it would have brought them to."""
        limits, projected = self.limits.as_dict(), {} if asked is None else self._projected(asked)
        return tuple(
            Breach(
                path=self.ref.path,
                step_id=self.ref.step_id,
                limit=name,
                limit_value=limits[name],
                consumed=self.consumed(name, running=running),
                projected=projected.get(name),
                budget=self.exhaustion_fields().get("budget"),
                reserved=0 if running else self.reserved(name),
                kept_back=self._kept_back(name, projected.get(name)),
            )
            for name in names
        )

    def _kept_back(self, name: LimitName, projected: Decimal | int | None) -> Decimal | int:
        """Return what is kept back of a limit, if a call that is refused would have had room with it."""
        limits = self.limits
        kept: dict[LimitName, Decimal | int] = {
            "max_usd": to_usd(limits.kept_cost),
            "max_calls": limits.kept_calls,
        }
        if projected is None or not kept.get(name):
            return 0
        return kept[name] if projected + self.reserved(name) <= limits.as_dict()[name] else 0  # type: ignore[operator]

    def _projected(self, asked: tuple[int, int]) -> dict[LimitName, Decimal | int]:
        settled = self.settled
        return {
            "max_usd": to_usd(settled.cost + asked[MONEY]),
            "max_tokens": settled.tokens + asked[TOKENS],
            "max_calls": settled.calls + 1,
        }

    def exhaustion(self, phase: Phase, breaches: tuple[Breach, ...], *, hint: str = "") -> BudgetExhausted:
        """Build the error that this account owns."""
        # A step without limits of its own may have ended too: it then names one around it.
        beside = self.exhaustion_fields()
        mine = (self.ref.step_id, beside.get("budget"))
        own = next((breach for breach in breaches if (breach.step_id, breach.budget) == mine), breaches[-1])
        projected = own.projected if own.limit == "max_usd" else None
        running = self.in_flight.running if phase == "stream" else (0, 0)
        return BudgetExhausted(
            step=self.ref.name,
            step_id=self.ref.step_id,
            path=self.ref.path,
            function=self.ref.function,
            persona=self.ref.persona,
            phase=phase,
            limit=own.limit,
            limit_value=own.limit_value,
            consumed_tokens=self.settled.tokens + running[TOKENS],
            consumed_cost_usd=to_usd(self.settled.cost + running[MONEY]),
            projected_cost_usd=projected if isinstance(projected, Decimal) else None,
            breaches=breaches,
            error_boundary=self.ref.error_boundary,
            grants=self.grants,
            hint=hint,
            **beside,
        )
