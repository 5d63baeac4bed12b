"""Room on accounts that others charge too: here first, then on the ledger, and again if it refuses."""

from __future__ import annotations

import time

from steptrack_callbacks.concurrency.flow import Flow
from steptrack_callbacks.ledgers.protocol import Reason

from . import lease
from .decisions import ADMITTED, Outcome
from .lease import Lease
from .lookout import looking
from .queue import QUEUE, Waiter, making_room
from .reservation import Reservation

MOST_ROUNDS = 100
"""How often a call asks again after a no; what the ledger says with it mostly settles the matter here."""


class SharedReservation:
    """One call's way to room on shared accounts."""

    __slots__ = ("_began", "_lease", "_patient", "_reservation")

    def __init__(self, reservation: Reservation, lease: Lease, *, patient: bool) -> None:
        self._reservation = reservation
        self._lease = lease
        self._patient = patient
        self._began = time.monotonic()

    def decide(self) -> Flow[Outcome]:
        """Ask here and on the ledger until both agree, or there is no room.

        What is known here may be old, so nobody is refused by it: the ledger is looked at first.

        Raises:
            LedgerError: The ledger is away, and may not be done without; nothing is held then.
            StepDenied: Too many accounts of a group are open.
        """
        for _ in range(MOST_ROUNDS):
            outcome = self._reservation.ask(patient=self._patient)
            while isinstance(outcome, Waiter):
                outcome = yield from self._wait(outcome)
            if outcome is ADMITTED:
                reason = yield from self._reserve()
                if reason == "room":
                    return outcome
                if reason == "closed":
                    return self._reservation.refuse_closed()
            elif all(account.heard_at >= self._began for account in self._reservation.shared):
                return outcome
            else:
                yield from lease.look(self._reservation.shared, patience_s=self._patience_s())
        return self._reservation.refuse_busy()

    def give_back(self) -> Flow[None]:
        """Return to the ledger what it has lent: nothing was sent."""
        yield from self._lease.charge((), (), {})

    def _patience_s(self) -> float:
        """Return for how long a ledger that is merely slow is asked again."""
        if not self._patient:
            return 0.0
        longest = min(account.definition.wait_s for account in self._reservation.shared)
        return max(0.0, longest - self._reservation.waited_s())

    def _reserve(self) -> Flow[Reason]:
        granted = False
        try:
            reason = yield from self._lease.reserve(self._reservation.shares(), patience_s=self._patience_s())
            granted = reason == "room"
        finally:
            if not granted:
                with making_room:
                    self._reservation.release()
        return reason

    def _wait(self, waiter: Waiter) -> Flow[Outcome | Waiter]:
        """Wait for a turn, or until it is time to look at the ledger again, if nobody else has."""
        outcome: Outcome | None = yield waiter
        if outcome is not None:
            return outcome
        try:
            with looking(self._reservation.shared) as due:
                if due:
                    with making_room:
                        yield from lease.look(due, patience_s=self._patience_s())
        except BaseException:
            QUEUE.drop(waiter)
            raise
        return waiter
