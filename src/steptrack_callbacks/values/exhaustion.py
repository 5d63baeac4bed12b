"""A budget that is exhausted: the error that says whose it is, and of what there was too little."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any, Literal

from .base_error import StepTrackError
from .definitions import ErrorBoundary, Grant, LimitName
from .formatting import Share, all_granted, amount_of
from .money import format_usd, plain, to_units
from .usage import Usage

Phase = Literal["denied", "busy", "stream", "settled", "closed"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Breach:
    """One limit that left no room.

    Attributes:
        path: The step's path, outermost first.
        step_id: The step's id, or `None` for an account that belongs to no step.
        limit: The limit's name, as it was passed to `step()`.
        limit_value: The limit, in US dollars, tokens, calls or seconds.
        consumed: What was settled, in the same unit; in phase `stream` with what runs.
        projected: What would have been settled had the refused call been let through, at the
            least; `None` where there is no such call.
        budget: The name of the shared budget that set the limit, or `None` for the step itself.
        reserved: What calls in flight held beside it, in the same unit; 0 in phase `stream`.
        kept_back: The part of the limit for which alone the call had no room: it is kept for wrapping up.
    """

    path: str
    step_id: str | None
    limit: LimitName
    limit_value: Decimal | float
    consumed: Decimal | float
    projected: Decimal | float | None = None
    budget: str | None = None
    reserved: Decimal | float = 0
    kept_back: Decimal | float = 0

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON values; money becomes a float."""
        return {
            "path": self.path,
            "budget": self.budget,
            "limit": self.limit,
            "limit_value": plain(self.limit_value),
            "consumed": plain(self.consumed),
            "reserved": plain(self.reserved),
            "kept_back": plain(self.kept_back),
        }


_BUSY_CURE = "raise wait_s, make fewer calls at once, or give them a max_tokens"


class BudgetExhausted(StepTrackError):
    """A step has no budget left: a call was refused, a stream cut, or a limit exceeded.

    Attributes:
        step: Name of the step that owns the exhaustion: the outermost one without room.
        step_id: Its id; `None` if what is exhausted belongs to no step.
        path: Its path, outermost first, joined with `/`.
        function: The decorated function's name, or `None`.
        persona: The nearest persona around that step, or `None`.
        phase: `denied` (would not fit even if all reservations were released), `busy` (room was merely
            reserved), `stream` (cut while running), `settled` (spending exceeded the limit), `closed` (the
            step has ended).
        limit: The limit's name, as it was passed to `step()`.
        limit_value: The limit, in US dollars, tokens, calls or seconds.
        consumed_tokens: Tokens settled in the step and the steps inside it; in phase `stream` with
            what streams in flight have come to.
        consumed_cost_usd: US dollars, likewise.
        projected_cost_usd: What it would have been with the refused call, at least; `None`
            if no call was refused or its price is unknown.
        breaches: Every limit without room, outermost first.
        error_boundary: What the step does about it.
        grants: What an escalation had granted before.
        escalated: Whether it was escalated and nobody granted more.
        hint: What to do about it, or an empty string.
        budget: The name of the shared budget that is attached to that step and has no room, or `None` if it
            is the step's own limit. What is consumed is then the budget's.
        resets_at: When that budget resets, in UTC; `None` if it never does.
        is_of_run: Whether it is the limit of one run of an agent, and not of its thread (`run_limit` of
            `StepBudgetMiddleware`).
        response: The last answer of a call that was paid for, or the partial text of a cut stream.
        result: The return value of a decorated function that finished over its limit.
    """

    category = "budget_exceeded"
    kind = "budget_exhausted"
    reason = "step_budget_exhausted"
    escalated = False
    is_of_run = False
    _fields = (
        "step",
        "step_id",
        "path",
        "function",
        "persona",
        "phase",
        "limit",
        "limit_value",
        "consumed_tokens",
        "consumed_cost_usd",
        "projected_cost_usd",
        "breaches",
        "error_boundary",
        "grants",
        "hint",
        "budget",
        "resets_at",
    )

    def __init__(
        self,
        *,
        step: str,
        limit: LimitName,
        limit_value: Decimal | float,
        consumed_tokens: int = 0,
        consumed_cost_usd: Decimal = Decimal(0),
        step_id: str | None = None,
        path: str | None = None,
        function: str | None = None,
        persona: str | None = None,
        phase: Phase = "denied",
        projected_cost_usd: Decimal | None = None,
        breaches: tuple[Breach, ...] = (),
        error_boundary: ErrorBoundary = "fail",
        grants: tuple[Grant, ...] = (),
        hint: str = "",
        budget: str | None = None,
        resets_at: datetime | None = None,
    ) -> None:
        self.step = step
        self.step_id = step_id
        self.path = step if path is None else path
        self.function = function
        self.persona = persona
        self.phase: Phase = phase
        self.limit: LimitName = limit
        self.limit_value = limit_value
        self.consumed_tokens = consumed_tokens
        self.consumed_cost_usd = consumed_cost_usd
        self.projected_cost_usd = projected_cost_usd
        self.breaches = breaches
        self.error_boundary: ErrorBoundary = error_boundary
        self.grants = grants
        self.hint = hint
        self.budget = budget
        self.resets_at = resets_at
        self.response: Any = None
        self.result: Any = None
        super().__init__(self._message())

    @property
    def consumed(self) -> Decimal | float:
        """What was settled against the limit, in its unit; in phase `stream` with what runs."""
        if self.limit == "max_usd":
            return self.consumed_cost_usd
        if self.limit == "max_tokens":
            return self.consumed_tokens
        own = next(filter(self._owns, self.breaches), None)
        return own.consumed if own else 0

    @property
    def remaining(self) -> Decimal | float:
        """What is left under the limit beside what is settled, reserved and kept back; at least 0."""
        own = next(filter(self._owns, self.breaches), None)
        used = self.consumed + (own.reserved + own.kept_back if own else 0)  # type: ignore[operator]
        left: Decimal | float = self.limit_value - used  # type: ignore[operator]
        return max(left, type(left)(0))

    @property
    def retry_after_s(self) -> float | None:
        """Seconds until a budget with a window resets, at least 0.

        `None` if waiting does not help, as for a step's own limit or a call that needs more than all of it,
        and if nobody knows how long: of what is merely reserved (phase `busy`) others give room back when
        they are done.
        """
        if self.resets_at is None or self.phase == "busy" or self._needed() > self.limit_value:
            return None
        return max(0.0, (self.resets_at - datetime.now(UTC)).total_seconds())

    def _message(self) -> str:
        spent, reserved, allowed = self._amounts()
        limit = self.limit if self.budget is None else f"{self.limit} of budget {self.budget!r}"
        text = {
            "denied": f"has no room under {limit}: {spent} spent{reserved} of {allowed}{self._projection()}",
            "busy": f"has no room under {limit} beside calls in flight: {spent} spent{reserved} of {allowed}",
            "stream": f"exceeded {limit} in a running stream, which was cut: {spent} spent of {allowed}",
            "settled": f"exceeded {limit}: {spent} spent of {allowed}",
            "closed": f"has ended, and admits no more calls: {spent} spent of {allowed}",
        }[self.phase]
        anew = f"; it resets at {self.resets_at.isoformat()}" if self.resets_at else ""
        cure = self.hint or (_BUSY_CURE if self.phase == "busy" else "")
        return f"step {self.path!r} {text}{anew}" + (f"; {cure}" if cure else "")

    def _amounts(self) -> tuple[str, str, str]:
        """Put in words what is spent, what is reserved or kept back beside it, and the limit."""
        own = next((breach for breach in self.breaches if self._owns(breach)), None)
        held = {"reserved": own.reserved, "kept back": own.kept_back} if own else {}
        if self.limit == "max_usd":
            beside = "".join(f" and {_usd(Decimal(part))} {why}" for why, part in held.items() if part)
            return _usd(self.consumed_cost_usd), beside, _usd(Decimal(str(self.limit_value)))
        consumed = self.consumed_tokens if self.limit == "max_tokens" else own.consumed if own else 0
        one, many = _UNITS[self.limit]
        if self.limit == "max_seconds":
            consumed, form = _rounded_s(float(consumed)), "g"
        else:
            form = ".15g"
        beside = "".join(f" and {part:{form}} {why}" for why, part in held.items() if part)
        return f"{consumed:{form}} {one if consumed == 1 else many}", beside, f"{self.limit_value:{form}}"

    def _owns(self, breach: Breach) -> bool:
        mine = (self.limit, self.step_id, self.budget)
        return (breach.limit, breach.step_id, breach.budget) == mine

    def _needed(self) -> Decimal | int:
        """Return what the refused call needs at least of money or tokens, as far as that is known."""
        own = next(filter(self._owns, self.breaches), None)
        if self.limit == "max_tokens" and own and own.projected is not None:
            return int(own.projected) - self.consumed_tokens
        if self.limit != "max_usd" or self.projected_cost_usd is None:
            return 0
        return self.projected_cost_usd - self.consumed_cost_usd

    def _projection(self) -> str:
        needed = self._needed()
        if needed <= 0:
            return ""
        said = _usd(needed) if isinstance(needed, Decimal) else needed
        return f", and the next call needs at least {said}"

    def _repr_html_(self) -> str:
        from .cards import Card  # noqa: PLC0415 - only once somebody wants HTML

        limit = f"{self.limit} {amount_of(self.limit, self.limit_value)}"
        before = [("Before", ", ".join(all_granted(self.grants)))] if self.grants else []
        return Card(
            name=self.path,
            trouble=self.phase,
            error=str(self),
            shares=[Share(one.limit, one.limit_value, one.consumed, one.budget) for one in self.breaches],
            facts=[
                ("Limit", limit),
                ("Spent", Usage(cost_usd=self.consumed_cost_usd)),
                ("Tokens", f"{self.consumed_tokens:,}"),
                ("Boundary", self.error_boundary),
                *before,
            ],
        ).to_html()

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON values, in the shape that logs and other processes can rely on."""
        return {
            "category": self.category,
            "kind": self.kind,
            "reason": self.reason,
            "step": self.step,
            "step_id": self.step_id,
            "path": self.path,
            "function": self.function,
            "persona": self.persona,
            "phase": self.phase,
            "limit": self.limit,
            "limit_value": plain(self.limit_value),
            "consumed_tokens": self.consumed_tokens,
            "consumed_cost_usd": float(self.consumed_cost_usd),
            "breaches": [breach.to_dict() for breach in self.breaches],
            "error_boundary": self.error_boundary,
            "budget": self.budget,
            "resets_at": self.resets_at.isoformat() if self.resets_at else None,
            "message": str(self),
        }


class BudgetEscalated(BudgetExhausted):
    """A step with `error_boundary="escalate"` is out of budget, and nobody granted more."""

    escalated = True

    def to_dict(self) -> dict[str, Any]:
        """Return what `BudgetExhausted.to_dict` does, with the hand-over beside the category."""
        return super().to_dict() | {"escalated": True, "handoff": "handoff_escalation"}


_UNITS = {"max_tokens": ("token", "tokens"), "max_calls": ("call", "calls"), "max_seconds": ("s", "s")}


def _rounded_s(seconds: float) -> float:
    """Round to hundredths of a second, or below one to two digits."""
    return round(seconds, 2) if seconds >= 1 else float(f"{seconds:.2g}")


def _usd(amount: Decimal) -> str:
    return format_usd(to_units(max(amount, Decimal(0)), "amount"))
