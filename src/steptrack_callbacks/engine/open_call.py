"""A call, as the parts of the engine see it that it is made of; the call itself is in `call`."""

from __future__ import annotations

from typing import Any, Literal, Protocol

from .chain import AccountChain, Wrapping
from .holds import Bound
from .lease import Lease
from .request import Request
from .reservation import Reservation
from .swapping import Swapping

State = Literal["new", "in flight", "swept", "settled", "failed", "abandoned", "denied", "withdrawn"]

open_calls: dict[Any, None] = {}
"""Calls that are neither settled nor swept, in the order in which they began."""


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
    bound: Bound | None
    reservation: Reservation | None
    lease: Lease | None
    swapping: Swapping | None

    @property
    def max_output_tokens(self) -> int | None:
        """The `max_tokens` that was set on its request."""

    def count(self) -> None:
        """Hold what is expected of it instead of a bound, if it is still in flight."""

    def note(self) -> None:
        """Begin."""

    def announce(self) -> None:
        """Let hooks see that it is admitted."""
