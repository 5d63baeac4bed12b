"""What goes to a store: questions, asked by functions and coroutines alike, and charges that it is owed."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from steptrack_callbacks.concurrency.flow import Flow
from steptrack_callbacks.concurrency.lock import LOCK

from .protocol import Entry, ReservationRequest, Totals


class PendingCharge(NamedTuple):
    """A charge that the ledger has to be told.

    Attributes:
        entry: The charge.
        paid: Called with what the ledger then says of the accounts, by key.
    """

    entry: Entry
    paid: Callable[[Mapping[str, Totals]], None]

    @property
    def name(self) -> tuple[str, int]:
        """What no other charge is called."""
        return self.entry.id, self.entry.revision


def returning(reservation: ReservationRequest) -> PendingCharge:
    """Return what gives back the room of a call that is not sent."""
    keys = tuple(ask.key for ask in reservation.asks)
    return PendingCharge(Entry(id=reservation.id, keys=keys, at=time.time()), lambda _: None)


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


def asking(store: Any, verb: str, question: Any) -> Flow[Any]:
    """Ask a store: at once if it can tell that nobody is in the way, else as whoever runs this can wait."""
    ask = vars(type(store)).get(f"try_{verb}")  # which one that is made from another may not have inherited
    if ask is not None:
        _here.asking = True
        try:
            answer = ask(store, question)
        finally:
            _here.asking = False
        if answer is not None:
            return answer
    return (yield StoreCall(store, verb, question))


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
