"""What can be charged, and whose it is: a room, what was charged to it itself, and what was said of it."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from steptrack_callbacks.concurrency.lock import LOCK
from steptrack_callbacks.values.definitions import ErrorBoundary, Grant, LimitName, StepDefinition
from steptrack_callbacks.values.errors import Breach, BudgetExhausted, Phase
from steptrack_callbacks.values.money import to_usd
from steptrack_callbacks.values.swaps import ModelSwap, SwapReason
from steptrack_callbacks.values.usage import Usage

from .amounts import Sums, Tally
from .balance import Balance
from .holds import Estimate

_NOTHING = Usage()


@dataclass(frozen=True, slots=True, kw_only=True)
class StepRef:
    """Whose account it is, for errors, events and records."""

    name: str
    path: str
    step_id: str | None = None
    run_id: str = ""
    function: str | None = None
    persona: str | None = None
    error_boundary: ErrorBoundary = "fail"

    def event_fields(self) -> dict[str, Any]:
        """Return what every event says of the step that it happened in."""
        return {
            "step": self.name,
            "path": self.path,
            "persona": self.persona,
            "step_id": self.step_id,
            "run_id": self.run_id,
        }


class Account(Balance):
    """A step's, a persona's or nobody's account.

    Attributes:
        label: Whose account it is.
        judges: Whether it looks at what it is charged, and does not only add it up.
        own: The part of what is settled that was charged to this very account.
        resumed: The part of what is settled that it began with: somebody had spent it before.
        models: That part by model.
        model: The model last used.
        model_list: Models that the step names for its calls; `None` if it names none.
        response: The last answer, for the error that a step raises at its close.
        open_calls: Calls that are neither settled nor swept.
        in_flight_calls: Calls that were still open when the step ended.
        late_calls: Those of them whose usage has come since.
        waiting: Calls that wait for room here.
        denied: Calls refused in the account's step and inside it.
        busy: Those of them that would have fit, had others not held the room.
        cut: Answers that were cut short because the call was given what was left as its `max_tokens`.
        last_is_taken: Whether one of them took the last of this very account.
        raised: The last exhaustion of this account that was raised to a caller; that room was
            merely reserved is none.
        fired: Thresholds that were announced, by limit.
        grants: What escalations added to the limits.
        escalation, question, declined: Whom to ask for more, what is being asked, and why not to ask
            again: what the no was, or an empty string.
        warned: Whether it was said that an `observe` limit is passed.
        on_late_charge: Called after a charge to a closed account.
    """

    __slots__ = (
        "_swaps",
        "busy",
        "clamp",
        "cut",
        "declined",
        "denied",
        "escalation",
        "fired",
        "grants",
        "in_flight_calls",
        "judges",
        "last_is_taken",
        "late_calls",
        "model",
        "model_list",
        "models",
        "on_late_charge",
        "open_calls",
        "own",
        "question",
        "raised",
        "ref",
        "response",
        "resumed",
        "unpriced",
        "wait_s",
        "waiting",
        "warned",
    )

    def __init__(self, ref: StepRef, definition: StepDefinition) -> None:
        super().__init__(definition)
        self.ref = ref
        self.judges = self.enforce == "strict" or type(self).charge is not Account.charge
        self.own = Tally()
        self.resumed = _NOTHING
        self.models: dict[str, Tally] = {}
        self.model = definition.model
        self.model_list = definition.model_list
        self._swaps: dict[tuple[str, str, SwapReason], list[float]] = {}
        self.response: Any = None
        self.open_calls = 0
        self.in_flight_calls = 0
        self.late_calls = 0
        self.unpriced = definition.unpriced
        self.wait_s = float(definition.wait_s)
        self.clamp = definition.clamp
        self.waiting = 0
        self.denied = self.busy = self.cut = 0
        self.last_is_taken = False
        self.raised: BudgetExhausted | None = None
        self.fired: set[tuple[LimitName, float]] = set()
        self.grants: tuple[Grant, ...] = ()
        self.escalation = definition.escalation
        self.question: Any = None
        self.declined = ""
        self.warned = False
        self.on_late_charge: Callable[[], None] | None = None

    def here_of(self, settled: Usage) -> Usage:
        """Return the part of what is settled that was charged from here: not before, and not by others."""
        return settled if self.resumed is _NOTHING else settled - self.resumed

    def charge_own(self, amounts: Sums, model: str, instead_of: Sums = ()) -> None:
        """Add to what was charged to this very account, and not to one inside it."""
        if (by_model := self.models.get(model)) is None:
            by_model = self.models[model] = Tally()
        for sums in (self.own.sums, by_model.sums):
            for index, value in instead_of:
                sums[index] -= value
            for index, value in amounts:
                sums[index] += value

    def note_swap(self, swap: tuple[str, str, SwapReason], now: float) -> None:
        """Note that a call was made with another model than was asked for, under the list of this account."""
        seen = self._swaps.setdefault(swap, [0, now, now])
        seen[0] += 1
        seen[2] = now

    def swaps(self) -> tuple[ModelSwap, ...]:
        """Return the calls that were made with another model under the list of this account."""
        return tuple(
            ModelSwap(asked=asked, used=used, why=why, calls=int(calls), first_at=first, last_at=last)
            for (asked, used, why), (calls, first, last) in list(self._swaps.items())
        )

    def grant(self, grant: Grant) -> None:
        """Raise the limits, and remember by what."""
        with LOCK:
            self.raise_limits(grant)
            self.last_is_taken = False
            self.grants = (*self.grants, grant)

    def blame(self, error: BudgetExhausted) -> None:
        """Note that an exhaustion of this account was raised to a caller."""
        self.raised = error

    def exhaustion_fields(self) -> dict[str, Any]:
        """Return what an error says of the account beside whose it is."""
        return {}

    def consumed(self, limit: LimitName, *, running: bool = False) -> Decimal | float:
        """Return what is settled against a limit, in its unit; `running` adds what streams have produced."""
        if limit == "max_usd":
            return to_usd(self.settled.cost + running * self.running_cost)
        if limit == "max_seconds":
            return self._seconds()
        if limit == "max_calls":
            return self.settled.calls
        return self.settled.tokens + running * self.running_tokens

    def reserved(self, limit: LimitName) -> Decimal | float:
        """Return what calls in flight hold of a limit, in its unit."""
        if limit == "max_usd":
            return to_usd(self.held_cost)
        amounts = {"max_tokens": self.held_tokens, "max_calls": self.held_calls}
        return amounts.get(limit, 0)

    def hint_if_busy(self) -> str:
        """Return what to know of the room that others hold here, or an empty string."""
        return ""

    def breaches(
        self, names: Iterable[LimitName], projected: Estimate | None = None, *, running: bool = False
    ) -> tuple[Breach, ...]:
        """Describe limits without room; with a call's need, what it would have brought them to."""
        limits = self.limits()
        return tuple(
            Breach(
                path=self.ref.path,
                step_id=self.ref.step_id,
                limit=name,
                limit_value=limits[name],
                consumed=self.consumed(name, running=running),
                projected=self._projected(name, projected),
                budget=self.exhaustion_fields().get("budget"),
                reserved=0 if running else self.reserved(name),
            )
            for name in names
        )

    def _projected(self, limit: LimitName, estimate: Estimate | None) -> Decimal | float | None:
        if estimate is None or limit == "max_seconds":
            return None
        alone = self.held_calls == 0
        cost, tokens = self._asked(estimate, alone=alone)
        if alone and self.enforce != "strict" and self.lacking(estimate.certain, (0, 0), wrapping=False):
            cost, tokens = estimate.certain  # the input alone is too much
        if limit == "max_usd":
            return to_usd(self.settled.cost + cost)
        return self.settled.tokens + tokens if limit == "max_tokens" else self.settled.calls + 1

    def exhaustion(self, phase: Phase, breaches: tuple[Breach, ...], *, hint: str = "") -> BudgetExhausted:
        """Build the error that this account owns."""
        # A step without limits of its own may have ended too: it then names one around it.
        beside = self.exhaustion_fields()
        mine = (self.ref.step_id, beside.get("budget"))
        own = next((breach for breach in breaches if (breach.step_id, breach.budget) == mine), breaches[-1])
        projected = own.projected if own.limit == "max_usd" else None
        running = phase == "stream"
        return BudgetExhausted(
            step=self.ref.name,
            step_id=self.ref.step_id,
            path=self.ref.path,
            function=self.ref.function,
            persona=self.ref.persona,
            phase=phase,
            limit=own.limit,
            limit_value=own.limit_value,
            consumed_tokens=self.settled.tokens + running * self.running_tokens,
            consumed_cost_usd=to_usd(self.settled.cost + running * self.running_cost),
            projected_cost_usd=projected if isinstance(projected, Decimal) else None,
            breaches=breaches,
            error_boundary=self.ref.error_boundary,
            grants=self.grants,
            hint=hint,
            **beside,
        )
