"""Room on accounts that others charge too: here first, then on the ledger, and again from the top on a no."""

from __future__ import annotations

from steptrack_callbacks.concurrency.flow import Decision
from steptrack_callbacks.ledgers.protocol import Reason

from . import lease
from .lease import Lending
from .queue import LINE, Outcome, Waiter, settle_line
from .reservation import Claim

MOST_ROUNDS = 100
"""How often a call asks again after a no; what the ledger says with it mostly settles the matter here."""


class Borrowing:
    """One call's way to room on shared accounts."""

    __slots__ = ("_claim", "_fresh", "_lending", "_patient")

    def __init__(self, claim: Claim, lending: Lending, *, patient: bool) -> None:
        self._claim = claim
        self._lending = lending
        self._patient = patient
        self._fresh = False

    def decide(self) -> Decision[Outcome]:
        """Ask here and on the ledger until both agree, or there is no room.

        What is known here may be old, so nobody is refused by it: the ledger is looked at first.

        Raises:
            LedgerError: The ledger is away, and may not be done without; nothing is held then.
            StepDenied: Too many accounts of a group are open.
        """
        for _ in range(MOST_ROUNDS):
            outcome = self._claim.ask(patient=self._patient)
            while isinstance(outcome, Waiter):
                outcome = yield from self._wait(outcome)
            if outcome == "admitted":
                reason = yield from self._reserve()
                if reason == "room":
                    return outcome
                if reason == "closed":
                    return self._claim.refuse_closed()
            elif self._fresh:
                return outcome
            else:
                yield from lease.look(self._claim.shared)
            self._fresh = True
        return self._claim.refuse_busy()

    def give_back(self) -> Decision[None]:
        """Return to the ledger what it has lent: nothing was sent."""
        yield from self._lending.charge((), (), {})

    def _reserve(self) -> Decision[Reason]:
        try:
            reason = yield from self._lending.reserve(self._claim.askings())
        except BaseException:
            self._claim.release()
            raise
        if reason != "room":
            self._claim.release()
        return reason

    def _wait(self, waiter: Waiter) -> Decision[Outcome | Waiter]:
        """Wait for a turn, or until it is time to look at the ledger again."""
        outcome: Outcome | None = yield waiter
        if outcome is not None:
            return outcome
        try:
            yield from lease.look(self._claim.shared)
        except BaseException:
            LINE.drop(waiter)
            raise
        self._fresh = True
        settle_line()
        return waiter
