"""Accounts that others may charge too: a ledger keeps them, and has the last word."""

from __future__ import annotations

import time
from collections.abc import Collection, Sequence
from typing import Any

from steptrack_callbacks.ledgers.client import LedgerClient
from steptrack_callbacks.ledgers.protocol import (
    UNITS_PER_PICO,
    AccountRequest,
    Asked,
    Totals,
)
from steptrack_callbacks.values.budgets import BudgetDefinition, Window
from steptrack_callbacks.values.definitions import LimitName, StepDefinition
from steptrack_callbacks.values.errors import BudgetExhausted
from steptrack_callbacks.values.money import plain, to_usd
from steptrack_callbacks.values.usage import Usage

from .account import Account
from .amounts import Sums, Tally
from .holds import Amount, Estimate, Hold
from .ledger_amounts import rounded, rounded_down, rounded_up, share_of, to_asked
from .replica import replica_of
from .step_ref import StepRef

RUN_KEPT_S = 30 * 86400.0
WINDOW_KEPT_S = 7 * 86400.0


class BudgetAccount(Account):
    """An account in a ledger, as it is around one step: limits, grants and records are of this step.

    What is settled and in flight, all steps of this process share. Money is in whole pico-dollars, as in the
    ledger, so that both judge alike.

    Attributes:
        replica: What is known of it here.
        budget: The budget that it is, or `None` for a run.
        window: The window that it counts in, or `None`.
        step_account: The step's own account, if it is a budget's.
        group, most_open: The accounts that it is listed with, and how many of them may be open at once.
        lives_in_ledger: Whether the ledger also says when the step began, and whether it has ended.
        expires_at: When the ledger may forget it, in seconds since the epoch; `None` keeps it. A run is kept
            for some time after its last call.
    """

    lives_in_ledger = False

    __slots__ = (
        "_asked_last",
        "_here",
        "budget",
        "expires_at",
        "forgets",
        "group",
        "most_open",
        "replica",
        "step_account",
        "window",
    )

    def __init__(
        self,
        ref: StepRef,
        definition: StepDefinition,
        key: str,
        ledger: LedgerClient,
        *,
        budget: BudgetDefinition | None = None,
        window: Window | None = None,
        step_account: Account | None = None,
        group: str = "",
        most_open: int | None = None,
        forgets: bool = False,
    ) -> None:
        super().__init__(ref, definition)
        self.replica = replica_of(key, ledger)
        self.settled, self.in_flight = self.replica.settled, self.replica.in_flight
        self.budget = budget
        self.window = window
        self.step_account = step_account
        self.group = group
        self.most_open = most_open
        self.forgets = forgets
        self.expires_at: float | None = None
        if window is not None:
            self.expires_at = window.ends_at.timestamp() + WINDOW_KEPT_S
        elif budget is None:
            self.expires_at = time.time() + RUN_KEPT_S
        self._here = Tally()
        self._asked_last: tuple[Estimate, Estimate] | None = None
        if self.limits.cost is not None:
            self.limits.cost = rounded_down(self.limits.cost)

    def follow(self, totals: Totals | None) -> None:
        """Take over what the ledger says of the step itself, if that lives there."""

    # What is asked of it

    def lacking_elsewhere(
        self, estimate: Estimate, names: list[LimitName], *, wrapping: bool
    ) -> list[LimitName]:
        """Name limits without room beside what the ledger was told, and says that others hold."""
        told = self.replica.counted_there()
        found: list[LimitName] = []
        for name, unit, used, most in self.amounts(wrapping=wrapping) if told.calls else ():
            beside, _ = share_of(estimate, unit, most)
            if name not in names and used + told[unit] + beside > most:
                found.append(name)
        return found

    def whole(self, estimate: Estimate) -> Estimate:
        """Round what a call asks up to whole pico-dollars, once for all questions about it."""
        if self._asked_last is None or self._asked_last[0] is not estimate:
            self._asked_last = estimate, rounded_up(estimate)
        return self._asked_last[1]

    @property
    def lasting_calls(self) -> int:
        """How many calls in flight are known to count in the end: others may have died."""
        return self.in_flight.calls - self.replica.elsewhere.calls

    def hint_if_busy(self, names: Collection[LimitName]) -> str:
        """Say when what others hold comes back, if they hold anything; a call that ends still counts."""
        if not self.replica.elsewhere.calls:
            return ""
        lease = f"{self.replica.ledger.lease_s:g} s after they began"
        if set(names) <= {"max_calls"}:
            return f"calls of others count; those of a process that has died come back {lease}"
        return f"what others hold comes back when their calls end, or {lease} if their process has died"

    def hold(self, estimate: Estimate, since: float) -> Hold:
        """Reserve what a call asks that is sent then, and say what that was."""
        return super().hold(self.whole(estimate), since)

    def amounts(self, *, wrapping: bool) -> list[tuple[LimitName, int, int, int]]:
        """List the limits of amounts that are set; money in whole pico-dollars."""
        found = super().amounts(wrapping=wrapping)
        return [(name, unit, used, most if unit else rounded_down(most)) for name, unit, used, most in found]

    def ask(self, estimate: Estimate, *, wrapping: bool) -> AccountRequest:
        """Put a call's need in the ledger's words.

        The ledger adds up what calls hold, of this process and of others, and knows no spread. So it is
        told more than the call is held at here.
        """
        told = self._told(self.whole(estimate), wrapping=wrapping)
        return self.ask_for(*map(to_asked, told), counts=estimate.counts, wrapping=wrapping)

    def ask_for(
        self, alone: Asked, beside: Asked, held: Asked, *, counts: bool, wrapping: bool = False
    ) -> AccountRequest:
        """Ask for room, in the words of `AccountRequest`."""
        if self.budget is None and not self.lives_in_ledger:
            self.expires_at = time.time() + RUN_KEPT_S
        limits = self.limits
        most = None if limits.cost is None else limits.cost - (0 if wrapping else limits.kept_cost)
        return AccountRequest(
            key=self.replica.key,
            max_cost=None if most is None else most // UNITS_PER_PICO,
            max_tokens=limits.tokens,
            max_calls=limits.call_room(wrapping=wrapping) if counts and limits.calls is not None else None,
            alone=alone,
            beside=beside,
            held=held,
            expires_at=self.expires_at,
            group=self.group,
            most_open=self.most_open,
        )

    def _told(self, estimate: Estimate, *, wrapping: bool) -> tuple[Amount, Amount, Amount]:
        """Return what must fit if nobody else holds room, what must fit beside others, and what is held."""
        if self.enforce == "strict":
            return estimate.worst, estimate.worst, estimate.worst
        beside, held = list(estimate.expected), list(estimate.expected)
        for _, unit, _, most in self.amounts(wrapping=wrapping):
            beside[unit], held[unit] = share_of(estimate, unit, most)
        return estimate.alone, (beside[0], beside[1]), (held[0], held[1])

    # What is charged to it

    def charge(self, amounts: Sums, instead_of: Sums = ()) -> None:
        """Note it for the step, in whole pico-dollars; it is settled once the ledger says so: see `Lease`."""
        amounts, instead_of = rounded(amounts), instead_of and rounded(instead_of)
        self._here.add(amounts, instead_of)
        if self.enforce == "strict":
            super().charge(amounts, instead_of)
            self.settled.add(instead_of, amounts)

    @property
    def charged_here(self) -> bool:
        """Whether a call of the step was charged to it."""
        return any(self._here.sums)

    def here_of(self, settled: Usage) -> Usage:  # noqa: ARG002 - of a sum nobody can tell who charged it
        """Return what the step has charged to it; others may have charged it at the same time."""
        return self._here.usage()

    # What is said of it

    def blame(self, error: BudgetExhausted) -> None:
        """Note that an exhaustion was raised to a caller: the step that it hangs on has been told."""
        if self.forgets:
            return
        super().blame(error)
        if self.step_account is not None:
            self.step_account.blame(error)

    def to_dict(self) -> dict[str, Any]:
        """Return what is spent of which limits, as plain JSON values."""
        limits = {name: plain(value) for name, value in self.limits.as_dict().items()}
        spent = {
            "max_usd": float(to_usd(self.settled.cost)),
            "max_tokens": self.settled.tokens,
            "max_calls": self.settled.calls,
        }
        return {
            "limits": limits,
            "spent": {name: spent[name] for name in limits},
            "window": self.budget.window if self.budget else None,
            "resets_at": self.window.ends_at.isoformat() if self.window else None,
        }

    def exhaustion_fields(self) -> dict[str, Any]:
        """Name the budget, and when it resets."""
        if self.budget is None:
            return {}
        return {"budget": self.budget.name, "resets_at": self.window.ends_at if self.window else None}


def by_ledger(accounts: Sequence[BudgetAccount]) -> list[tuple[LedgerClient, Sequence[BudgetAccount]]]:
    """Sort accounts by their ledgers: one, unless another was installed in an open step."""
    ledgers = dict.fromkeys([account.replica.ledger for account in accounts])
    if len(ledgers) == 1:
        return [(accounts[0].replica.ledger, accounts)]
    return [(ledger, [each for each in accounts if each.replica.ledger is ledger]) for ledger in ledgers]
