"""What goes to a store: questions, asked by functions and coroutines alike, and charges that it is owed."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from steptrack_callbacks.concurrency.lock import LOCK
from steptrack_callbacks.values.formatting import plural
from steptrack_callbacks.values.money import format_usd

from .protocol import COST, Entry, ReservationRequest, Totals, from_pico


class PendingCharge(Protocol):
    """A charge that the ledger has to be told."""

    @property
    def entry(self) -> Entry:
        """The charge."""

    def count(self, *, here: bool) -> None:
        """Count it in this process, where it is not told yet, or leave it to the ledger."""

    def paid(self, totals: Mapping[str, Totals]) -> None:
        """Hear what the ledger says of the accounts once it was told, by key."""


@dataclass(frozen=True, slots=True)
class _Returned:
    """The room of a call that is not sent."""

    entry: Entry

    def count(self, *, here: bool) -> None:
        """Do nothing: nothing was charged."""

    def paid(self, totals: Mapping[str, Totals]) -> None:
        """Do nothing: nothing was charged."""


def name_of(pending: PendingCharge) -> tuple[str, int]:
    """Return what no other charge is called."""
    return pending.entry.id, pending.entry.revision


def is_about_content(error: BaseException) -> bool:
    """Tell an error about what is to be kept, which will not pass, from one of the store."""
    return isinstance(error, ValueError | TypeError) or isinstance(error.__cause__, OverflowError)


def what_is_lost(owed: Iterable[PendingCharge], records: int) -> str:
    """Say what a ledger lacks that cannot be told what it is owed; empty if nothing."""
    lost = [pending.entry.amounts for pending in owed if pending.entry.amounts]
    lacking = []
    if lost:
        usd = format_usd(from_pico(sum(amounts.get(COST, 0) for amounts in lost)))
        lacking.append(f"{plural(len(lost), 'charge')} of {usd} in all")
    if records:
        lacking.append(plural(records, "record"))
    return " and ".join(lacking)


def returning(reservation: ReservationRequest) -> PendingCharge:
    """Return what gives back the room of a call that is not sent."""
    keys = tuple(ask.key for ask in reservation.asks)
    return _Returned(Entry(id=reservation.id, keys=keys, at=time.time()))


class _Here(threading.local):
    """What this thread is doing.

    Attributes:
        asking: Whether it is in the middle of a question to a store.
    """

    asking = False


_here = _Here()


def must_not_ask() -> bool:
    """Tell whether this is a finaliser that a garbage collection has run in the middle of something.

    It would ask the store inside another question to it, or while all others wait for the accounts.
    """
    return _here.asking or LOCK._is_owned()  # type: ignore[attr-defined]  # noqa: SLF001 - as Condition does


def ask_at_once(store: Any, verb: str, question: Any) -> Any:
    """Ask a store that can tell that nobody is in the way; `None` if somebody is, or it cannot tell."""
    ask = vars(type(store)).get(f"try_{verb}")  # which one that is made from another may not have inherited
    if ask is None:
        return None
    _here.asking = True
    try:
        return ask(store, question)
    finally:
        _here.asking = False


class StoreCall:
    """A question to the store: blocking, or awaited where the store has something to wait for."""

    def __init__(self, store: Any, verb: str, question: Any) -> None:
        self._store = store
        self._verb = verb
        self._question = question

    def block(self) -> Any:
        """Ask in a plain function."""
        _here.asking = True
        try:
            return getattr(self._store, self._verb)(self._question)
        finally:
            _here.asking = False

    async def wait(self) -> Any:
        """Ask in a coroutine."""
        ask = getattr(self._store, f"{self._verb}_async", None)
        return self.block() if ask is None else await ask(self._question)
