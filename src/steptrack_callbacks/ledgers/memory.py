"""The default ledger: the newest records of this process, and accounts that live as long as it does."""

from __future__ import annotations

import time
from collections import OrderedDict, deque
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

from steptrack_callbacks.concurrency.lock import LOCK
from steptrack_callbacks.values.errors import LedgerError
from steptrack_callbacks.values.records import CompletedStep

from . import rules
from .fork_safe_lock import Turn, watch_forks
from .memory_shelf import MemoryShelf
from .protocol import Entry, ReservationRequest, Totals, Verdict
from .validation import check_entries, check_reservation

KEPT_RECORDS = 10_000
Q = TypeVar("Q")
T = TypeVar("T")


class MemoryLedger:
    """Keeps the newest records and says how many it let go.

    It is kept under the one lock, so that a record that is taken down under it is in its place by then.

    Attributes:
        dropped: Records that were let go to make room, since the last `clear`.
    """

    def __init__(self, *, kept: int = KEPT_RECORDS) -> None:
        self.dropped = 0
        self._most = kept
        self._kept: dict[str, _Kept] = {}

    def put(self, step_id: str, record: Callable[[], CompletedStep], revision: int = 0) -> None:
        """Keep what makes the record of a step, in place of an earlier revision."""
        with LOCK:
            earlier = self._kept.get(step_id)
            if earlier is not None and earlier.revision > revision:
                return  # a garbage collection has charged a call since this one was taken down
            self._kept[step_id] = _Kept(step_id, record, revision)
            while len(self._kept) > self._most:
                del self._kept[next(iter(self._kept))]
                self.dropped += 1

    def peek(self, run_id: str | None = None) -> list[CompletedStep]:
        """Return the records in the order in which steps ended; `None` means those of all runs."""
        return [each.record() for each in self._of(run_id)]

    def drain(self, run_id: str | None = None) -> list[CompletedStep]:
        """Return the records and forget them; one that is revised meanwhile is left for the next time."""
        return [each.record() for each in self._of(run_id) if self._forget(each)]

    def clear(self) -> None:
        """Forget everything."""
        with LOCK:
            self._kept.clear()
            self.dropped = 0

    def _of(self, run_id: str | None) -> list[_Kept]:
        with LOCK:
            kept = list(self._kept.values())
        return kept if run_id is None else [each for each in kept if each.record().run_id == run_id]

    def _forget(self, kept: _Kept) -> bool:
        """Forget a record, unless somebody else has, or another is in its place; tells whether it did."""
        with LOCK:
            is_there = self._kept.get(kept.step_id) is kept
            if is_there:
                del self._kept[kept.step_id]
        return is_there


class _Kept:
    """A record, made when it is first read: that takes its time, so it is done outside of the lock."""

    __slots__ = ("_record", "revision", "step_id")

    def __init__(self, step_id: str, record: Callable[[], CompletedStep], revision: int) -> None:
        self.step_id = step_id
        self.revision = revision
        self._record: CompletedStep | Callable[[], CompletedStep] = record

    def record(self) -> CompletedStep:
        """Return it."""
        made = self._record
        if not isinstance(made, CompletedStep):
            made = self._record = made()
        return made


class MemoryStore:
    """Shared accounts and records of this process alone; the newest are kept.

    Accounts that may not be forgotten yet are all kept. Of closed accounts, records and charges it keeps
    the newest so many; a charge that is sent again after so many others would be charged again.

    Args:
        clock: What time it is, in seconds since the epoch.
        kept: How many closed accounts, records and charges it keeps of each.

    Attributes:
        url: `"memory:"`.

    Example:
        >>> from steptrack_callbacks.ledgers.protocol import AccountRequest, Entry, ReservationRequest
        >>> store = MemoryStore()
        >>> asks = (AccountRequest(key="team-a", max_calls=1),)
        >>> store.reserve(ReservationRequest(id="call-1", asks=asks, lease_s=60)).reason
        'room'
        >>> store.settle([Entry(id="call-1", keys=("team-a",), amounts={"calls": 1})])[0].settled
        {'calls': 1}
        >>> store.reserve(ReservationRequest(id="call-2", asks=asks, lease_s=60)).reason
        'full'
    """

    url = "memory:"

    def __init__(self, *, clock: Callable[[], float] = time.time, kept: int = KEPT_RECORDS) -> None:
        self._clock = clock
        self._shelf = MemoryShelf(kept)
        self._records: OrderedDict[str, dict[str, Any]] = OrderedDict()
        self._kept = kept
        self._turn = Turn()
        self._later: deque[Entry] = deque()
        watch_forks(self)

    def reserve(self, reservation: ReservationRequest) -> Verdict:
        """Reserve room on all accounts or on none. Sent again while it holds room, its lease starts again.

        Raises:
            ValueError: The reservation is malformed; the message names what and the fix.
            LedgerError: A sum would be too large to be kept, or it is called from within itself.
        """
        check_reservation(reservation)
        return self._at_the_books(rules.reserve, reservation)

    def settle(self, entries: Sequence[Entry]) -> tuple[Totals, ...]:
        """Charge; returns the accounts that were touched, each once.

        Called from a garbage collection inside this ledger it is charged as soon as that is done, and
        returns nothing.

        Raises:
            ValueError: An amount or a revision is not a whole number, or too large to be kept.
            LedgerError: A sum would be too large to be kept.
        """
        check_entries(entries)
        if self._turn.mine:
            self._later.extend(entries)
            return ()
        return self._at_the_books(rules.settle, entries)

    def try_reserve(self, reservation: ReservationRequest) -> Verdict:
        """Do as `reserve`: nobody has to be waited for."""
        return self.reserve(reservation)

    def try_settle(self, entries: Sequence[Entry]) -> tuple[Totals, ...]:
        """Do as `settle`: nobody has to be waited for."""
        return self.settle(entries)

    def look(self, keys: Sequence[str]) -> tuple[Totals, ...]:
        """Return accounts as they are now, in the order of the keys; an unknown one is all zeros."""
        return self._at_the_books(_look, keys)

    def members(self, group: str) -> tuple[Totals, ...]:
        """Return the accounts of a group, the oldest first."""
        found = self._at_the_books(_all, None)
        return tuple(totals for totals in found if group and totals.group == group)

    def close(self, keys: Sequence[str]) -> None:
        """Let accounts admit no more calls, for good; unknown ones are remembered for 30 days."""
        self._at_the_books(rules.close, keys)

    def put_record(self, record: Mapping[str, Any]) -> None:
        """Keep a record, in place of an earlier revision of the same step."""
        self._at_the_books(self._put_record, dict(record))

    def records(self, *, run_id: str | None = None, since: float | None = None) -> list[dict[str, Any]]:
        """Return records in the order of ending; `since` is in seconds since the epoch."""
        found = self._at_the_books(lambda *_: list(self._records.values()), None)
        found = [
            dict(record)
            for record in found
            if run_id in (None, record["run_id"]) and (since is None or record["ended_at"] >= since)
        ]
        return sorted(found, key=lambda record: record["ended_at"])

    def charges(self, *, since: float | None = None) -> list[dict[str, Any]]:
        """Return the newest charges in the order of their time; `since` is in seconds since the epoch."""
        kept = self._at_the_books(lambda shelf, *_: list(shelf.charges.values()), None)
        found = [entry.to_dict() for entry in kept if since is None or entry.at >= since]
        return sorted(found, key=lambda charge: charge["at"])

    def info(self) -> dict[str, Any]:
        """Return kind, place, size, and how much of each thing is kept."""
        return self._at_the_books(self._info, None)

    def accounts(self) -> list[Totals]:
        """Return all accounts, by name."""
        return sorted(self._at_the_books(_all, None), key=lambda totals: totals.key)

    def prune(self, before: float) -> int:
        """Forget what has ended or expired before a time; returns how many rows that was."""
        return self._at_the_books(self._prune, before)

    def close_connections(self) -> None:
        """Do nothing: there is nothing to let go of."""

    def before_fork(self) -> None:
        """Wait until nobody is at the accounts, so that the child finds them whole."""
        if not self._turn.mine:
            self._turn.take()

    def after_fork(self, *, child: bool) -> None:
        """Go on; a child has books of its own from here on."""
        if child:
            self._turn = Turn()
        elif self._turn.mine:
            self._turn.give()

    def _at_the_books(self, work: Callable[[MemoryShelf, Q, float], T], question: Q) -> T:
        turn = self._turn
        if not turn.take():
            raise LedgerError(ledger=self.url, why="it was asked from within itself; ask again")
        try:
            return work(self._shelf, question, self._clock())
        except OverflowError as error:
            raise LedgerError(ledger=self.url, why=str(error)) from error
        finally:
            turn.give()
            if self._later:
                self._charge_later()

    def _charge_later(self) -> None:
        entries = [self._later.popleft() for _ in range(len(self._later))]
        self._at_the_books(rules.settle, entries)

    def _put_record(self, _shelf: MemoryShelf, record: dict[str, Any], _now: float) -> None:
        earlier = self._records.get(record["id"])
        if earlier is not None and earlier.get("revision", 0) > record.get("revision", 0):
            return
        self._records[record["id"]] = record
        while len(self._records) > self._kept:
            self._records.popitem(last=False)

    def _info(self, shelf: MemoryShelf, _: None, now: float) -> dict[str, Any]:
        accounts = _all(shelf, None, now)
        return {
            "kind": "memory",
            "url": self.url,
            "schema_version": None,
            "size_bytes": None,
            "accounts": len(accounts),
            "closed_accounts": sum(account.closed for account in accounts),
            "reservations": sum(account.held_calls for account in accounts),
            "charges": len(shelf.charges),
            "records": len(self._records),
        }

    def _prune(self, shelf: MemoryShelf, before: float, now: float) -> int:
        before = min(before, now)
        ended = [key for key, record in self._records.items() if record["ended_at"] < before]
        for key in ended:
            del self._records[key]
        charged_before = min(before, now - rules.CHARGES_KEPT_S)
        charged = [mark for mark, entry in shelf.charges.items() if entry.at < charged_before]
        for mark in charged:
            del shelf.charges[mark]
        return len(ended) + len(charged) + shelf.forget_expired(before)


def _look(shelf: MemoryShelf, keys: Sequence[str], now: float) -> tuple[Totals, ...]:
    return tuple([rules.current(shelf, key, now).totals() for key in keys])


def _all(shelf: MemoryShelf, _: None, now: float) -> list[Totals]:
    accounts = [rules.current(shelf, key, now) for key in list(shelf.accounts)]
    accounts = [account for account in accounts if account.seq]
    return [account.totals() for account in sorted(accounts, key=lambda account: account.opened_at)]
