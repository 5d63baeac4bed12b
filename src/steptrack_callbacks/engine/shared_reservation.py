"""Room on accounts that others charge too: here first, then on the ledger, and again if it refuses.

Processes do not notify each other, so whoever waits for a shared account has to ask again. But what one is
told, all are told: so only the first in line asks, and the others ask if it has not.
"""

from __future__ import annotations

import time
from collections.abc import Generator, Sequence
from contextlib import contextmanager

from steptrack_callbacks.concurrency.flow import Flow
from steptrack_callbacks.concurrency.lock import LOCK
from steptrack_callbacks.ledgers.protocol import Reason

from .budget_account import BudgetAccount
from .lease import Lease, look
from .outcomes import ADMITTED, Outcome
from .queue import LOOK_EVERY_S, QUEUE, Waiter, making_room
from .reservation import Reservation

MOST_ROUNDS = 100
"""How often a call asks again after a no; what the ledger says with it mostly settles the matter here."""
LONGEST_LOOK_S = 1.0
"""After how long another one looks, if who has begun to look has not come back."""
ROUNDING_S = 0.01
"""A timer may ring so much early."""


def reserve_everywhere(reservation: Reservation, lease: Lease, *, patient: bool) -> Flow[Outcome]:
    """Ask here and on the ledger until both agree, or there is no room.

    What is known here may be old, so nobody is refused by it: the ledger is looked at first.

    Raises:
        LedgerError: The ledger is away, and may not be done without; nothing is held then.
        StepDenied: Too many accounts of a group are open.
    """
    began = time.monotonic()
    for _ in range(MOST_ROUNDS):
        reservation.prepare(patient=patient)
        outcome = reservation.ask()
        while isinstance(outcome, Waiter):
            outcome = yield from _wait(reservation, outcome)
        if outcome is ADMITTED:
            reason = yield from _reserve_on_ledgers(reservation, lease, patient=patient)
            if reason == "room":
                return outcome
            if reason == "closed":
                return reservation.refuse_closed()
        elif all(account.replica.heard_at >= began for account in reservation.shared):
            return outcome
        else:
            yield from look(reservation.shared, patience_s=_patience_s(reservation, patient=patient))
    return reservation.refuse_busy()


def _reserve_on_ledgers(reservation: Reservation, lease: Lease, *, patient: bool) -> Flow[Reason]:
    """Ask the ledgers for what is held here, which is given back if one refuses."""
    granted = False
    try:
        patience_s = _patience_s(reservation, patient=patient)
        reason = yield from lease.reserve(reservation.asks(), patience_s=patience_s)
        granted = reason == "room"
    finally:
        if not granted:
            with making_room:
                reservation.release()
    return reason


def _wait(reservation: Reservation, waiter: Waiter) -> Flow[Outcome | Waiter]:
    """Wait for a turn, or until it is time to look at the ledger again, if nobody else has."""
    outcome: Outcome | None = yield waiter
    if outcome is not None:
        return outcome
    try:
        with looking(reservation.shared) as due:
            if due:
                with making_room:
                    yield from look(due, patience_s=_patience_s(reservation, patient=True))
    except BaseException:
        QUEUE.drop(waiter)
        raise
    return waiter


def _patience_s(reservation: Reservation, *, patient: bool) -> float:
    """Return for how long a ledger that is merely slow is asked again."""
    if not patient:
        return 0.0
    longest = min(account.definition.wait_s for account in reservation.shared)
    return max(0.0, longest - reservation.waited_s())


@contextmanager
def looking(accounts: Sequence[BudgetAccount]) -> Generator[list[BudgetAccount]]:
    """Take it upon oneself to look at those accounts that nobody has looked at just now."""
    with LOCK:
        now = time.monotonic() + ROUNDING_S
        due = [account for account in accounts if account.replica.look_at <= now]
        _look_again_in(LONGEST_LOOK_S, due)
    try:
        yield due
    finally:
        _look_again_in(LOOK_EVERY_S, due)


def _look_again_in(seconds: float, accounts: Sequence[BudgetAccount]) -> None:
    at = time.monotonic() + seconds
    for account in accounts:
        account.replica.look_at = at
