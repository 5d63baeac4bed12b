"""A ledger in use: the trips to it, what it has still to be told, and what is done while it is away."""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, cast
from weakref import WeakValueDictionary

from steptrack_callbacks.concurrency.flow import Flow, run_sync
from steptrack_callbacks.concurrency.lock import LOCK
from steptrack_callbacks.settings import OnStoreError
from steptrack_callbacks.values.errors import LedgerError
from steptrack_callbacks.values.limits import check_choice
from steptrack_callbacks.values.money import decimal_of

from .owed_records import OwedRecords
from .protocol import ReservationRequest, Store, Totals, Verdict
from .snapshot import Snapshot, SnapshotStore, without_limits
from .store_calls import (
    PendingCharge,
    StoreCall,
    ask_at_once,
    is_about_content,
    must_not_ask,
    name_of,
    returning,
    what_is_lost,
)

logger = logging.getLogger("steptrack_callbacks")

LEASE_S = 900.0
RETRY_AFTER_S = 1.0
MOST_AT_ONCE = 200
"""Charges in one trip, which has to end in the time that a trip may take."""


class LedgerClient:
    """A store, and what is done when it cannot be reached.

    What could not be told it is owed, and is told before anything else is asked. Charges are never
    refused: a store that is away when an answer arrives is told later.

    Attributes:
        store: The store.
        is_durable: Whether what it keeps outlives the process.
        on_error: `refuse` raises `LedgerError` before a call is sent; `allow` judges it by what this
            process knows, of all its steps.
        lease_s: Seconds after which the reservations of a dead process come back.
        replicas: What stands for its accounts in this process, by process and key, while it is needed.

    Raises:
        ValueError: `on_error` is neither, or `lease_s` is not a number above 0.
    """

    def __init__(self, store: Store, *, on_error: OnStoreError = "refuse", lease_s: float = LEASE_S) -> None:
        self.store = store
        self.is_durable = not store.url.startswith("memory:")
        self.set_options(on_error, lease_s)
        self.replicas: WeakValueDictionary[tuple[str, str], Any] = WeakValueDictionary()
        self._unkept_charges = 0
        self._owed: dict[tuple[str, int], PendingCharge] = {}
        self._uncounted: dict[tuple[str, int], PendingCharge] = {}
        self._records = OwedRecords(store)
        self._snapshot = Snapshot()
        self._untold = (self._owed, self._records.waiting, self._snapshot.lent_here)
        self._snapshot_store: SnapshotStore | None = None
        self._away_until = 0.0

    def set_options(self, on_error: OnStoreError, lease_s: float) -> None:
        """Take over other options.

        Raises:
            ValueError: As above; nothing is changed then.
        """
        check_options(on_error, lease_s)
        self.on_error: OnStoreError = on_error
        self.lease_s = float(lease_s)

    @property
    def owed(self) -> int:
        """How many charges the store has not been told."""
        return len(self._owed)

    @property
    def unkept(self) -> int:
        """How many charges and records no ledger keeps, such as of sums beyond its books."""
        return self._unkept_charges + self._records.unkept

    def connect(self) -> None:
        """Let a store that has to connect begin to, since it will be asked."""
        connect = getattr(self.store, "connect", None)
        if connect is not None:
            connect()

    def reserve(self, reservation: ReservationRequest, *, patience_s: float = 0.0) -> Flow[Verdict]:
        """Ask for room: the store, or what this process knows if it is away and `on_error` allows.

        Args:
            reservation: What is asked for.
            patience_s: For how long to ask again if the store is merely slow.

        Raises:
            LedgerError: The store is away, and `on_error` refuses.
        """
        if self._away_until and self._is_resting():
            return self._reserve_here(reservation)
        try:
            verdict = cast(Verdict, (yield from self._ask("reserve", reservation, patience_s)))
        except LedgerError as error:
            self._note_absence(error)
            self.owe_back(reservation)
            if not self._allows:
                raise
            return self._reserve_here(reservation)
        except BaseException:  # cancelled on the way: nobody knows whether it was granted
            self.owe_back(reservation)
            raise
        if self.is_durable:
            with LOCK:
                self._snapshot.note(verdict.totals, reservation if verdict.reason == "room" else None)
        if self._away_until:
            self._note_presence()
        return verdict

    def grow(self, reservation: ReservationRequest) -> Flow[tuple[Totals, ...]]:
        """Let a call in flight hold more; a store that is away hears of it with the charge.

        Returns:
            Its accounts as they are then; nothing if the store is away.
        """
        if self._is_resting() or must_not_ask():
            return ()
        try:
            verdict = cast(Verdict, (yield from self._ask("reserve", reservation, 0.0)))
        except LedgerError as error:
            self._note_absence(error)
            return ()
        if self.is_durable:
            with LOCK:
                in_flight = self._snapshot.is_in_flight(reservation.id)
                self._snapshot.note(verdict.totals, replace(reservation, grows=False) if in_flight else None)
        self._note_presence()
        return verdict.totals

    def settle(self, charges: Sequence[PendingCharge]) -> Flow[None]:
        """Tell the store of charges; if it is away, they are owed."""
        if must_not_ask() or (self._away_until and self._is_resting()):
            self.owe(charges)
            return
        try:
            if any(self._untold):
                yield from self._catch_up()
            yield from self._tell(charges)
        except LedgerError as error:
            self.owe(charges)
            self._note_absence(error)
        except BaseException:  # cancelled on the way
            self.owe(charges)
            raise
        else:
            self._note_presence()

    def look(self, keys: Sequence[str], *, patience_s: float = 0.0) -> Flow[tuple[Totals, ...]]:
        """Ask for accounts as they are now; as this process knows them if the store is away.

        Args:
            keys: Their names.
            patience_s: For how long to ask again if the store is merely slow.

        Raises:
            LedgerError: The store is away, and `on_error` refuses.
        """
        if self._is_resting():
            return cast("tuple[Totals, ...]", self._ask_here("look", keys))
        try:
            totals = cast("tuple[Totals, ...]", (yield from self._ask("look", keys, patience_s)))
        except LedgerError as error:
            self._note_absence(error)
            if not self._allows:
                raise
            return cast("tuple[Totals, ...]", self._ask_here("look", keys))
        if self.is_durable:
            with LOCK:
                self._snapshot.note(totals)
        self._note_presence()
        return totals

    def _ask(self, verb: str, question: Any, patience_s: float) -> Flow[Any]:
        """Ask the store once it has been told all; one that was late again, since nothing counts twice."""
        until = time.monotonic() + patience_s
        while True:
            try:
                if any(self._untold):
                    yield from self._catch_up()
                answer = ask_at_once(self.store, verb, question)
                return answer if answer is not None else (yield StoreCall(self.store, verb, question))
            except LedgerError as error:
                if not error.is_late or self._allows or time.monotonic() >= until:
                    raise

    def put_record(self, record: Mapping[str, Any]) -> Flow[None]:
        """Keep the record of a step; if the store is away, later."""
        if must_not_ask():
            self._records.owe(record)
            return
        try:
            if any(self._untold):
                yield from self._catch_up()
            yield from self._records.send(record)
        except LedgerError as error:
            self._records.owe(record)
            self._note_absence(error)
        except BaseException:  # cancelled on the way
            self._records.owe(record)
            raise
        else:
            self._note_presence()

    def catch_up(self) -> Flow[None]:
        """Tell the store all that it is owed, if it can be reached."""
        if not any(self._untold) or must_not_ask():
            return
        try:
            yield from self._catch_up()
        except LedgerError as error:
            self._note_absence(error)
        else:
            self._note_presence()

    def flush(self) -> None:
        """Do so in a plain function."""
        run_sync(self.catch_up())

    def flush_for_good(self) -> None:
        """Tell the store all that it is owed; if it cannot be reached, say what is lost with the process."""
        self.flush()
        lost = what_is_lost(list(self._owed.values()), self._records.let_go + len(self._records.waiting))
        if lost:
            url = self.store.url
            logger.error("ledger %s could not be told all before the process ended; it lacks %s", url, lost)

    def _catch_up(self) -> Flow[None]:
        """Tell what is owed; who else does so at the same time does no harm, as each charge counts once."""
        owed: list[PendingCharge] = []
        if self._owed:
            with LOCK:
                owed = list(self._owed.values())
        for start in range(0, len(owed), MOST_AT_ONCE):
            yield from self._tell(owed[start : start + MOST_AT_ONCE], owed=True)
        if self._snapshot.lent_here:
            yield from self._tell_what_was_lent_here()
        if self._records.waiting:
            yield from self._records.send_all()

    def _tell(self, charges: Sequence[PendingCharge], *, owed: bool = False) -> Flow[None]:
        """Tell charges; one that no ledger can keep does not hold up the others."""
        entries = [pending.entry for pending in charges]
        if owed:  # it is counted here, and what others hear from now on may contain it
            for pending in charges:
                pending.count(here=False)
        try:
            totals = ask_at_once(self.store, "settle", entries)
            if totals is None:
                totals = yield StoreCall(self.store, "settle", entries)
        except BaseException as error:
            for pending in charges:
                pending.count(here=True)
            if not is_about_content(error):
                raise
            if len(charges) > 1:
                for pending in charges:
                    yield from self._tell([pending], owed=owed)
            else:
                self._set_aside(charges[0], error)
            return
        by_key = {each.key: each for each in totals}
        if self.is_durable:
            with LOCK:
                self._snapshot.note(totals, settled=[entry.id for entry in entries])
        for pending in charges:
            pays = not owed
            with LOCK:  # another thread may have told it at the same time, or the snapshot may know it
                if self._owed or self._uncounted:
                    self._owed.pop(name_of(pending), None)
                    pays = self._uncounted.pop(name_of(pending), None) is not None or pays
            if pays:
                pending.paid(by_key)

    def _set_aside(self, pending: PendingCharge, error: BaseException) -> None:
        """Leave a charge that cannot be kept to this process, where it still counts."""
        with LOCK:
            self._owed.pop(name_of(pending), None)
            self._uncounted.pop(name_of(pending), None)
            self._snapshot.note((), settled=[pending.entry.id])
            self._unkept_charges += 1
        amounts = dict(pending.entry.amounts)
        logger.error("a charge of %s counts in this process only, as it cannot be kept: %s", amounts, error)

    def owe(self, charges: Sequence[PendingCharge]) -> None:
        """Tell the store later."""
        named = {name_of(pending): pending for pending in charges}
        with LOCK:
            self._owed.update(named)
            self._uncounted.update(named)
            for pending in charges:
                pending.count(here=True)

    def owe_back(self, reservation: ReservationRequest) -> None:
        """Give back later what the store has lent, if it has."""
        self.owe([returning(reservation)])

    def give_back(self, reservation: ReservationRequest) -> Flow[None]:
        """Give back what the store has lent."""
        yield from self.settle([returning(reservation)])

    def _reserve_here(self, reservation: ReservationRequest) -> Verdict:
        with LOCK:
            verdict = cast(Verdict, self._ask_here("reserve", reservation))
            if verdict.granted:
                self._snapshot.note_lent(reservation, here=True)
                self._owed.pop((reservation.id, 0), None)  # it will be charged, or given back then
            return verdict

    def _ask_here(self, verb: str, question: Any) -> Any:
        """Ask what stands in for the store, once it has counted all that is owed."""
        with LOCK:
            if self._snapshot_store is None:  # what an earlier one has counted is owed still
                counted = [
                    pending.entry for name, pending in self._owed.items() if name not in self._uncounted
                ]
                self._snapshot_store = SnapshotStore(self._snapshot, counted)
            uncounted = list(self._uncounted.values())
            self._uncounted.clear()
            for pending in uncounted:
                with contextlib.suppress(LedgerError, ValueError, TypeError):  # its step alone counts it then
                    totals = self._snapshot_store.settle([pending.entry])
                    pending.paid({each.key: each for each in totals})
            return getattr(self._snapshot_store, verb)(question)

    def _tell_what_was_lent_here(self) -> Flow[None]:
        """Reserve room for the calls that the snapshot has let go, so that others leave it to them."""
        while True:
            with LOCK:
                reservation = self._snapshot.take_lent_here()
            if reservation is None:
                return
            try:
                yield StoreCall(self.store, "reserve", without_limits(reservation))
            except BaseException:
                with LOCK:
                    if self._snapshot.is_in_flight(reservation.id):
                        self._snapshot.note_lent(reservation, here=True)
                raise
            with LOCK:
                if not self._snapshot.is_in_flight(reservation.id):  # its charge was told meanwhile
                    self.owe_back(reservation)

    @property
    def _allows(self) -> bool:
        """Whether calls go on while the store is away, which memory cannot be."""
        return self.on_error == "allow" and self.is_durable

    @property
    def was_away(self) -> bool:
        """Whether it was away a moment ago."""
        return time.monotonic() < self._away_until

    def _is_resting(self) -> bool:
        """Whether an absent store is left alone for a moment, so that it does not slow every call down."""
        return self._away_until > 0 and self._allows and self.was_away

    def _note_absence(self, error: LedgerError) -> None:
        if not self._away_until:
            logger.warning("%s; %s", error, _CONSEQUENCE[self.on_error])
        self._away_until = time.monotonic() + RETRY_AFTER_S

    def _note_presence(self) -> None:
        """Note that the store has answered."""
        if self._away_until:
            logger.warning("ledger %s is back; it has been told what it was owed", self.store.url)
            with LOCK:
                self._away_until, self._snapshot_store = 0.0, None


def check_options(on_error: OnStoreError, lease_s: float) -> None:
    """Raise `ValueError` unless a client can have these options."""
    check_choice(on_error, OnStoreError, "on_store_error")
    if not decimal_of(lease_s, "lease_s"):
        raise ValueError("lease_s must be more than 0 seconds: reservations would lapse at once")


_CONSEQUENCE = {
    "refuse": "calls under its budgets are refused until it is back, and it is then told what it missed",
    "allow": "calls under its budgets are judged by what is known here until it is back",
}
