"""A call, as the parts of the engine see it that it is made of; the call itself is in `call`.

And those that are open, with what becomes of them when their step ends.
"""

from __future__ import annotations

from typing import Literal, Protocol

from steptrack_callbacks.concurrency.lock import LOCK

from .account import Account
from .amounts import Charge
from .chain import AccountChain, Wrapping
from .holds import Bound
from .lease import Lease
from .queue import QUEUE
from .request import Request
from .reservation import Reservation
from .swapping import Swapping

State = Literal["new", "in flight", "swept", "settled", "failed", "abandoned", "denied", "withdrawn"]


class OpenCall(Protocol):
    """A call that is being admitted, or is under way; see `Call` for what each of these is."""

    number: int
    accounts: AccountChain
    request: Request
    wrapping: Wrapping
    state: State
    admitted: bool
    started_at: float
    sent_at: float | None
    produced: int
    answered_by: str | None
    attempts: int
    charge: Charge
    bound: Bound | None
    reservation: Reservation | None
    lease: Lease | None
    swapping: Swapping | None

    @property
    def max_output_tokens(self) -> int | None:
        """The most that all its answers may come to because of a limit; `None` if none says so."""

    def count(self) -> None:
        """Hold what is expected of it instead of a bound, if it is still in flight."""

    def begin(self) -> None:
        """Put it in flight."""

    def announce(self) -> None:
        """Let hooks see that it is admitted."""

    def sweep(self) -> None:
        """Charge its estimate now."""

    def release(self) -> None:
        """Be open no longer, and hold nothing."""


open_calls: dict[OpenCall, None] = {}
"""Calls that are neither settled nor swept, in the order in which they began."""


def open_calls_of(account: Account) -> list[OpenCall]:
    """Find the calls of an account that are neither settled nor swept."""
    if not account.open_calls:
        return []
    return [call for call in list(open_calls) if account in call.accounts]


def close_and_sweep(account: Account) -> None:
    """Close the account of a step that ends, and charge what is still open in it.

    Whatever is raised meanwhile, such as an interrupt, is raised when all of it is charged.
    """
    try:
        with LOCK:
            account.close()
        if account.open_calls:
            _sweep(open_calls_of(account))
        if account.in_flight.allowances:
            account.in_flight.release()
    finally:  # written out, as each step comes here: see `making_room`
        if QUEUE.waiters:
            QUEUE.move_on()


def _sweep(calls: list[OpenCall]) -> None:
    raised: BaseException | None = None
    for call in calls:
        try:
            call.sweep()
        except BaseException as error:  # noqa: BLE001 - it is raised when the others have been swept
            raised = raised or error
    if raised is not None:
        raise raised
