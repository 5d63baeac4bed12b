"""The ledger in force, the trips to it, and what has still to reach it."""

from __future__ import annotations

import atexit
import logging
import os
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, NamedTuple, cast, get_args

from .books import BOOKS
from .errors import LedgerError
from .ledgers import open_ledger
from .ledgers.contract import Entry, Reservation, Store, Totals, Verdict
from .money import decimal_of
from .options import check_choice
from .waiting import Decision, drive

logger = logging.getLogger("steptrack_callbacks")

OnStoreError = Literal["refuse", "allow"]

LEASE_S = 900.0
RETRY_AFTER_S = 1.0
MOST_OWED_RECORDS = 10_000
MOST_AT_ONCE = 200
"""Charges in one trip, which has to end in the time that a trip may take."""


class Debt(NamedTuple):
    """A charge that the ledger has to be told.

    Attributes:
        entry: The charge.
        paid: Called with what the ledger then says of the accounts, by key.
    """

    entry: Entry
    paid: Callable[[Mapping[str, Totals]], None]


class _Here(threading.local):
    """What this thread is doing.

    Attributes:
        asking: Whether it is in the middle of a question to a store.
    """

    asking = False


_here = _Here()


def _must_not_ask() -> bool:
    """Tell whether this is a finaliser that a garbage collection has run in the middle of something.

    It would ask the store inside another question to it, or while all others wait for the books.
    """
    return _here.asking or BOOKS._is_owned()  # type: ignore[attr-defined]  # noqa: SLF001 - as Condition does


class _Trip:
    """A question to the store: blocking, or awaited where the store has something to wait for."""

    def __init__(self, store: Store, verb: str, question: Any) -> None:
        self._store = store
        self._verb = verb
        self._question = question

    def block(self) -> Any:
        _here.asking = True
        try:
            return getattr(self._store, self._verb)(self._question)
        finally:
            _here.asking = False

    async def wait(self) -> Any:
        ask = getattr(self._store, f"{self._verb}_async", None)
        return self.block() if ask is None else await ask(self._question)


class Keeper:
    """A store, and what is done when it cannot be reached.

    What could not be told it is owed, and is told before anything else is asked. Charges are never
    refused: a store that is away when an answer arrives is told later.

    Attributes:
        store: The store.
        on_error: `refuse` raises `LedgerError` before a call is sent; `allow` judges it by what is
            known here.
        lease_s: Seconds after which the reservations of a dead process come back.
        unkept: Charges and records that no ledger can keep, such as of sums beyond its books.

    Raises:
        ValueError: `on_error` is neither, or `lease_s` is no number above 0.
    """

    def __init__(self, store: Store, *, on_error: OnStoreError = "refuse", lease_s: float = LEASE_S) -> None:
        check_choice(on_error, OnStoreError, "on_store_error")
        if not decimal_of(lease_s, "lease_s"):
            raise ValueError("lease_s must be more than 0 seconds: reservations would lapse at once")
        self.store = store
        self.on_error = on_error
        self.lease_s = float(lease_s)
        self.unkept = 0
        self._owed: dict[tuple[str, int], Debt] = {}
        self._owed_records: deque[Mapping[str, Any]] = deque(maxlen=MOST_OWED_RECORDS)
        self._lock = threading.RLock()  # a garbage collection may charge a call at any time
        self._away_until = 0.0

    @property
    def is_durable(self) -> bool:
        """Whether what it keeps outlives the process."""
        return not self.store.url.startswith("memory:")

    @property
    def owed(self) -> int:
        """How many charges the store has not been told."""
        return len(self._owed)

    def reserve(self, reservation: Reservation) -> Decision[Verdict | None]:
        """Ask for room; `None` says that the store is away and the call may go all the same.

        Raises:
            LedgerError: The store is away, and `on_error` refuses.
        """
        if self._is_resting():
            return None
        try:
            yield from self._catch_up()
            verdict = yield _Trip(self.store, "reserve", reservation)
        except LedgerError as error:
            self._note_absence(error)
            if self.on_error == "allow":
                return None
            self._give_back(reservation)
            raise
        except BaseException:  # cancelled on the way: nobody knows whether it was granted
            self._give_back(reservation)
            raise
        self._note_presence()
        return cast(Verdict, verdict)

    def settle(self, debts: Sequence[Debt]) -> Decision[None]:
        """Tell the store of charges; if it is away, they are owed."""
        if self._is_resting() or _must_not_ask():
            self._owe(debts)
            return
        try:
            yield from self._catch_up()
            yield from self._tell(debts)
        except LedgerError as error:
            self._owe(debts)
            self._note_absence(error)
        except BaseException:  # cancelled on the way
            self._owe(debts)
            raise
        else:
            self._note_presence()

    def look(self, keys: Sequence[str]) -> Decision[tuple[Totals, ...]]:
        """Ask for accounts as they are now; nothing if the store is away and `on_error` allows.

        Raises:
            LedgerError: The store is away, and `on_error` refuses.
        """
        if self._is_resting():
            return ()
        try:
            yield from self._catch_up()
            totals = yield _Trip(self.store, "look", keys)
        except LedgerError as error:
            self._note_absence(error)
            if self.on_error == "allow":
                return ()
            raise
        self._note_presence()
        return cast("tuple[Totals, ...]", totals)

    def put_record(self, record: Mapping[str, Any]) -> None:
        """Keep the record of a step; if the store is away, later."""
        self._owed_records.append(record)
        if not (self._is_resting() or _must_not_ask()):
            drive(self._try_to(self._send_records()))

    def flush(self) -> None:
        """Tell the store all that it is owed, if it can be reached."""
        if (self._owed or self._owed_records) and not _must_not_ask():
            drive(self._try_to(self._catch_up()))

    def _try_to(self, decision: Decision[None]) -> Decision[None]:
        try:
            yield from decision
        except LedgerError as error:
            self._note_absence(error)
        else:
            self._note_presence()

    def _catch_up(self) -> Decision[None]:
        """Tell what is owed; who else does so at the same time does no harm, as each charge counts once."""
        with self._lock:
            owed = list(self._owed.values())
        for start in range(0, len(owed), MOST_AT_ONCE):
            yield from self._tell(owed[start : start + MOST_AT_ONCE], owed=True)
        if self._owed_records:
            yield from self._send_records()

    def _tell(self, debts: Sequence[Debt], *, owed: bool = False) -> Decision[None]:
        """Tell charges; one that no ledger can keep does not hold up the others."""
        try:
            totals = yield _Trip(self.store, "settle", [debt.entry for debt in debts])
        except Exception as error:
            if not _is_about_content(error):
                raise
            if len(debts) > 1:
                for debt in debts:
                    yield from self._tell([debt], owed=owed)
            else:
                self._set_aside(debts[0].entry, error)
            return
        by_key = {each.key: each for each in totals}
        for debt in debts:
            with self._lock:  # another thread may have told it at the same time
                pays = not owed or self._owed.pop(_name(debt.entry), None) is not None
            if pays:
                debt.paid(by_key)

    def _set_aside(self, entry: Entry, error: Exception) -> None:
        """Leave a charge that cannot be kept to this process, where it still counts."""
        with self._lock:
            self._owed.pop(_name(entry), None)
            self.unkept += 1
        amounts = dict(entry.amounts)
        logger.error("a charge of %s counts in this process only, as it cannot be kept: %s", amounts, error)

    def _send_records(self) -> Decision[None]:
        while self._owed_records:
            record = self._owed_records[0]
            try:
                yield _Trip(self.store, "put_record", record)
            except Exception as error:
                if not _is_about_content(error):
                    raise
                self.unkept += 1
                logger.exception("the record of a step cannot be kept in the ledger")
            with self._lock:
                if self._owed_records and self._owed_records[0] is record:
                    self._owed_records.popleft()

    def _owe(self, debts: Sequence[Debt]) -> None:
        with self._lock:
            self._owed.update({_name(debt.entry): debt for debt in debts})

    def _give_back(self, reservation: Reservation) -> None:
        keys = tuple(ask.key for ask in reservation.asks)
        self._owe([Debt(Entry(id=reservation.id, keys=keys, at=time.time()), lambda _: None)])

    def _is_resting(self) -> bool:
        """Whether an absent store is left alone for a moment, so that it does not slow every call down."""
        return self.on_error == "allow" and time.monotonic() < self._away_until

    def _note_absence(self, error: LedgerError) -> None:
        if not self._away_until:
            logger.warning("%s; %s", error, _CONSEQUENCE[self.on_error])
        self._away_until = time.monotonic() + RETRY_AFTER_S

    def _note_presence(self) -> None:
        if self._away_until:
            logger.warning("ledger %s is back; it has been told what it was owed", self.store.url)
        self._away_until = 0.0


def _is_about_content(error: Exception) -> bool:
    """Tell an error about what is to be kept, which will not pass, from one of the store."""
    return isinstance(error, ValueError | TypeError) or isinstance(error.__cause__, OverflowError)


def _name(entry: Entry) -> tuple[str, int]:
    return entry.id, entry.revision


_CONSEQUENCE = {
    "refuse": "calls under its budgets are refused until it is back, and it is then told what it missed",
    "allow": "calls under its budgets are judged by what is known here until it is back",
}

_in_force: Keeper | None = None
_choosing = threading.RLock()


def keeper() -> Keeper:
    """Return the ledger in force: the one installed, else that of `STEPTRACK_LEDGER`, else memory.

    Raises:
        ValueError: `STEPTRACK_LEDGER` is no URL of a ledger.
        LedgerError: The store is not ours, or newer than this package.
    """
    global _in_force
    if (chosen := _in_force) is not None:
        return chosen
    with _choosing:  # two in memory would be two books
        if _in_force is None:
            _in_force = Keeper(open_ledger(os.environ.get("STEPTRACK_LEDGER") or "memory:"))
        return _in_force


def keep_in(
    ledger: str | Store, *, on_store_error: OnStoreError = "refuse", lease_s: float = LEASE_S
) -> None:
    """Put a ledger in force; steps that are open stay with the one that they began with.

    Raises:
        ValueError: The URL or an option is malformed.
        LedgerError: The store is not ours, or newer than this package.
    """
    global _in_force
    before = _in_force
    _in_force = Keeper(
        open_ledger(ledger) if isinstance(ledger, str) else ledger, on_error=on_store_error, lease_s=lease_s
    )
    if before is not None:
        before.flush()


def is_chosen() -> bool:
    """Tell whether somebody has asked for a ledger."""
    return _in_force is not None or bool(os.environ.get("STEPTRACK_LEDGER"))


def reset() -> None:
    """Forget the ledger in force, for tests."""
    global _in_force
    if _in_force is not None:
        _in_force.store.close_connections()
    _in_force = None


@atexit.register
def _flush_at_exit() -> None:
    if _in_force is not None:
        _in_force.flush()


assert set(_CONSEQUENCE) == set(get_args(OnStoreError))
