"""A ledger in one SQLite file, for all processes of a machine."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from steptrack_callbacks.values.errors import LedgerError

from . import rules
from .protocol import TIMEOUT_S, Entry, ReservationRequest, Totals, Verdict
from .sqlite_file import Q, SqliteFile, T, Work
from .sqlite_schema import UPGRADES
from .sqlite_shelf import LookedAt, SqliteShelf
from .validation import check_entries, check_reservation, read_json, read_table

logger = logging.getLogger("steptrack_callbacks")


class SqliteStore:
    """Shared accounts and records in a SQLite file, which is made when it is first used.

    It is in WAL mode with `synchronous=NORMAL`: what was settled survives the death of every process, at any
    moment; a power cut may take the last moments. It needs a local disk, as SQLite does. Every method raises
    `LedgerError` if the file cannot be used, or not in time.

    Args:
        path: The file.
        timeout_s: Most seconds that a trip waits for others who write.
        read_only: Refuse to write, and never make a file.
        clock: What time it is, in seconds since the epoch.

    Attributes:
        url: Where it is: `sqlite:///` and the path.
        timeout_s: As given.

    Example:
        >>> import tempfile
        >>> from steptrack_callbacks.ledgers.protocol import AccountRequest, Entry, ReservationRequest
        >>> folder = tempfile.TemporaryDirectory()
        >>> store = SqliteStore(folder.name + "/steps.db")
        >>> asks = (AccountRequest(key="team-a", max_calls=1),)
        >>> store.reserve(ReservationRequest(id="call-1", asks=asks, lease_s=60)).reason
        'room'
        >>> store.settle([Entry(id="call-1", keys=("team-a",), amounts={"calls": 1})])[0].settled
        {'calls': 1}
        >>> store.close_connections()
        >>> folder.cleanup()
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        timeout_s: float = TIMEOUT_S,
        read_only: bool = False,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.timeout_s = timeout_s
        self._file = SqliteFile(Path(path).absolute(), timeout_s=timeout_s, read_only=read_only)
        self.url = self._file.url
        self._clock = clock
        self._later: deque[Entry] = deque()

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.url!r})"

    def reserve(self, reservation: ReservationRequest) -> Verdict:
        """Reserve room on all accounts or on none. Sent again while it holds room, its lease starts again.

        Raises:
            ValueError: The reservation is malformed; the message names what and the fix.
            LedgerError: The file cannot be used, or not in time; nothing was reserved.
        """
        check_reservation(reservation)
        return self._write(rules.reserve, reservation)

    def settle(self, entries: Sequence[Entry]) -> tuple[Totals, ...]:
        """Charge, durably; returns the accounts that were touched, each once.

        Called from a garbage collection inside this ledger it is charged as soon as that is done, and
        returns nothing.

        Raises:
            ValueError: An amount or a revision is not a whole number, or too large to be kept.
            LedgerError: The file cannot be used, or not in time; nothing was charged.
        """
        check_entries(entries)
        if self._file.turn.mine:
            self._later.extend(entries)
            return ()
        return self._write(rules.settle, entries)

    def look(self, keys: Sequence[str]) -> tuple[Totals, ...]:
        """Return accounts as they are now, in the order of the keys; an unknown one is all zeros.

        Raises:
            LedgerError: The file cannot be used, or not in time.
        """
        found = {account.key: account for account in self._shown(_IN_KEYS, json.dumps(list(keys)))}
        return tuple(found.get(key, rules.StoredAccount(key)).totals() for key in keys)

    def try_reserve(self, reservation: ReservationRequest) -> Verdict | None:
        """Do as `reserve`, but wait for nobody: `None` if others are writing."""
        check_reservation(reservation)
        return self._finish(rules.reserve, reservation) if self._file.begin(0) else None

    def try_settle(self, entries: Sequence[Entry]) -> tuple[Totals, ...] | None:
        """Do as `settle`, but wait for nobody: `None` if others are writing."""
        check_entries(entries)
        if self._file.begin(0):
            return self._finish(rules.settle, entries)
        return self.settle(entries) if self._file.turn.mine else None

    async def reserve_async(self, reservation: ReservationRequest) -> Verdict:
        """Do as `reserve`, and wait for others in a thread."""
        check_reservation(reservation)
        return await self._write_async(rules.reserve, reservation)

    async def settle_async(self, entries: Sequence[Entry]) -> tuple[Totals, ...]:
        """Do as `settle`, and wait for others in a thread."""
        check_entries(entries)
        return await self._write_async(rules.settle, entries)

    async def look_async(self, keys: Sequence[str]) -> tuple[Totals, ...]:
        """Do as `look`, and wait for others in a thread."""
        return await asyncio.to_thread(self.look, keys)

    def members(self, group: str) -> tuple[Totals, ...]:
        """Return the accounts of a group, the oldest first."""
        found = self._shown("account_group = ? AND account_group <> ''", group)
        return tuple(account.totals() for account in found)

    def close(self, keys: Sequence[str]) -> None:
        """Let accounts admit no more calls, for good; unknown ones are remembered for 30 days."""
        self._write(rules.close, keys)

    def put_record(self, record: Mapping[str, Any]) -> None:
        """Keep a record, in place of an earlier revision of the same step."""
        self._write(_put_record, _row_of(record))

    async def put_record_async(self, record: Mapping[str, Any]) -> None:
        """Do as `put_record`, and wait for others in a thread."""
        await self._write_async(_put_record, _row_of(record))

    def records(self, *, run_id: str | None = None, since: float | None = None) -> list[dict[str, Any]]:
        """Return records in the order of ending; `since` is in seconds since the epoch."""
        values = {"run_id": run_id, "since": since}
        return self._read(lambda shelf: [read_table(row[0]) for row in shelf.db.execute(_RECORDS, values)])

    def charges(self, *, since: float | None = None) -> list[dict[str, Any]]:
        """Return the charges that are kept, in the order of `at`; `since` is in seconds since the epoch."""
        return self._read(
            lambda shelf: [_charge_of(row) for row in shelf.db.execute(_CHARGES, {"since": since})]
        )

    def info(self) -> dict[str, Any]:
        """Return kind, place, schema version, size, and how much of each thing is kept."""
        counts = self._read(lambda shelf: shelf.db.execute(_COUNTS, (self._clock(),)).fetchone())
        names = ("accounts", "closed_accounts", "reservations", "charges", "records")
        return {
            "kind": "sqlite",
            "url": self.url,
            "schema_version": len(UPGRADES),
            "size_bytes": self._file.size(),
            **dict(zip(names, counts, strict=True)),
        }

    def accounts(self) -> list[Totals]:
        """Return all accounts, by name."""
        found = self._shown("1")
        return sorted((account.totals() for account in found), key=lambda totals: totals.key)

    def prune(self, before: float) -> int:
        """Forget what has ended or expired before a time; returns how many rows that was.

        Charges are kept for a day at least, so that one that is sent again is still known. The file does
        not shrink by it; what comes free is used again.
        """
        return self._write(_prune, before)

    def close_connections(self) -> None:
        """Let go of the file; the next use opens it again."""
        self._file.close()

    def _write(self, work: Work[Q, T], question: Q) -> T:
        if not self._file.begin(self.timeout_s):
            raise self._file.kept()
        return self._finish(work, question)

    def _finish(self, work: Work[Q, T], question: Q) -> T:
        try:
            return self._file.finish(work, question, self._clock())
        finally:
            if self._later:
                self._charge_later()

    async def _write_async(self, work: Work[Q, T], question: Q) -> T:
        if self._file.begin(0):
            return self._finish(work, question)
        if self._file.turn.mine:
            raise self._file.kept()
        return await asyncio.to_thread(self._write, work, question)

    def _read(self, work: Callable[[SqliteShelf], T]) -> T:
        try:
            result = self._file.read(lambda shelf: (work(shelf),), self.timeout_s)
        finally:
            self._charge_later()
        if result is None:
            raise self._file.kept()
        return result[0]

    def _charge_later(self) -> None:
        """Charge what came from a garbage collection meanwhile; what cannot be charged now stays."""
        while self._later:
            entry = self._later.popleft()
            try:
                self.settle([entry])
            except LedgerError:
                self._later.appendleft(entry)
                logger.exception("a charge of an abandoned call waits for the next use of the ledger")
                return

    def _shown(self, where: str, *values: object) -> list[rules.StoredAccount]:
        """Return accounts without what is over; books that may be written are put in order by it."""
        found = self._read(lambda shelf: shelf.accounts(where, *values))
        now = self._clock()
        found = [each for each in found if each.expires_at is None or each.expires_at > now]
        due = {each.key for each in found if each.lapse_at <= now}
        if not due:
            return found

        if self._file.read_only:
            fresh = self._read(lambda shelf: _in_order(LookedAt(shelf.db), due, now))
        else:
            fresh = self._write(_in_order, due)
        return [fresh.get(each.key, each) for each in found]


def _in_order(shelf: SqliteShelf, due: Iterable[str], now: float) -> dict[str, rules.StoredAccount]:
    return {key: rules.current(shelf, key, now) for key in due}


def _row_of(record: Mapping[str, Any]) -> tuple[Any, ...]:
    head = (record["id"], record["run_id"], record.get("revision", 0), record["ended_at"])
    return (*head, json.dumps(record))


def _put_record(shelf: SqliteShelf, row: tuple[Any, ...], _now: float) -> None:
    shelf.db.execute(_PUT_RECORD, row)


def _prune(shelf: SqliteShelf, before: float, now: float) -> int:
    ended = min(before, now)
    times = {"ended": ended, "charged": min(ended, now - rules.CHARGES_KEPT_S)}
    return sum(shelf.db.execute(statement, times).rowcount for statement in _PRUNE)


_IN_KEYS = "key IN (SELECT value FROM json_each(?))"
_PUT_RECORD = """INSERT INTO records (id, run_id, revision, ended_at, record) VALUES (?, ?, ?, ?, ?)
    ON CONFLICT (id) DO UPDATE SET run_id = excluded.run_id, revision = excluded.revision,
    ended_at = excluded.ended_at, record = excluded.record WHERE excluded.revision >= revision"""
_RECORDS = """SELECT record FROM records WHERE (:run_id IS NULL OR run_id = :run_id)
    AND (:since IS NULL OR ended_at >= :since) ORDER BY ended_at, id"""
_CHARGES = """SELECT call, revision, at, keys, amounts, detail FROM charges
    WHERE :since IS NULL OR at >= :since ORDER BY at, call, revision"""
_COUNTS = """SELECT (SELECT count(*) FROM accounts), (SELECT count(*) FROM accounts WHERE closed),
    (SELECT count(*) FROM holds WHERE until > ?), (SELECT count(*) FROM charges),
    (SELECT count(*) FROM records)"""
_PRUNE = (
    "DELETE FROM records WHERE ended_at < :ended",
    "DELETE FROM charges WHERE at < :charged",
    "DELETE FROM accounts WHERE expires_at <= :ended",
    "DELETE FROM holds WHERE key NOT IN (SELECT key FROM accounts)",
)


def _charge_of(row: Sequence[Any]) -> dict[str, Any]:
    call, revision, at, keys, amounts, detail = row
    return {
        "id": call,
        "revision": revision,
        "at": at,
        "keys": read_json(keys),
        "amounts": read_table(amounts),
        "detail": read_table(detail),
    }
