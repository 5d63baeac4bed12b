"""Accounts in the tables of a SQLite file."""

from __future__ import annotations

import json
import math
import sqlite3
from typing import Any

from .protocol import Asked, Entry
from .rules import StoredAccount
from .validation import check_counts, check_times, read_table

_ACCOUNT = (
    "key, seq, settled, held_cost, held_tokens, held_calls, lapsed_calls, lapse_at, closed, account_group,"
    " opened_at, expires_at"
)
_READ = f"SELECT {_ACCOUNT} FROM accounts WHERE key = ?"  # noqa: S608 - no value of a caller's
_SAVE = f"REPLACE INTO accounts ({_ACCOUNT}) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"  # noqa: S608
MOST_SAVED = 1_000
"""Of how many accounts it is remembered how they were written last."""
_dump = json.JSONEncoder(separators=(",", ":")).encode


class SqliteShelf:
    """A `Shelf` over one connection, inside a transaction of its store."""

    def __init__(self, db: sqlite3.Connection) -> None:
        self.db = db
        self._saved: dict[str, tuple[tuple[object, ...], dict[str, int], float, bool]] = {}

    def account(self, key: str) -> StoredAccount | None:
        """See `Shelf`."""
        row = self.db.execute(_READ, (key,)).fetchone()
        saved = self._saved.get(key)
        if saved is not None and saved[0] == row:  # nobody has written it since, so there is nothing to check
            account = StoredAccount(*row)
            account.settled, account.lapse_at, account.closed = saved[1:]
            return account
        return None if row is None else account_of(row)

    def accounts(self, where: str = "1", *values: object) -> list[StoredAccount]:
        """Return accounts, the oldest first."""
        query = f"SELECT {_ACCOUNT} FROM accounts WHERE {where} ORDER BY opened_at, key"  # noqa: S608
        return [account_of(row) for row in self.db.execute(query, values)]

    def save(self, account: StoredAccount) -> None:
        """See `Shelf`."""
        row = (
            account.key,
            account.seq,
            _dump(account.settled),
            account.held_cost,
            account.held_tokens,
            account.held_calls,
            account.lapsed_calls,
            None if account.lapse_at == math.inf else account.lapse_at,
            account.closed,
            account.group,
            account.opened_at,
            account.expires_at,
        )
        self.db.execute(_SAVE, row)
        if len(self._saved) >= MOST_SAVED:
            self._saved.clear()
        self._saved[account.key] = row, account.settled, account.lapse_at, account.closed

    def forget(self, key: str) -> None:
        """See `Shelf`."""
        self.db.execute("DELETE FROM accounts WHERE key = ?", (key,))
        self.db.execute("DELETE FROM holds WHERE key = ?", (key,))

    def open_in(self, group: str, now: float) -> int:
        """See `Shelf`."""
        query = """SELECT count(*) FROM accounts WHERE account_group = ? AND account_group <> ''
            AND NOT closed AND (expires_at IS NULL OR expires_at > ?)"""
        return int(self.db.execute(query, (group, now)).fetchone()[0])

    def holds(self, call: str) -> dict[str, Asked]:
        """See `Shelf`."""
        rows = self.db.execute("SELECT key, cost, tokens FROM holds WHERE call = ?", (call,))
        return {key: Asked(cost, tokens) for key, cost, tokens in rows}

    def put_hold(self, call: str, key: str, asked: Asked, until: float) -> None:
        """See `Shelf`."""
        self.db.execute("REPLACE INTO holds VALUES (?, ?, ?, ?, ?)", (call, key, *asked, until))

    def drop_holds(self, call: str) -> None:
        """See `Shelf`."""
        self.db.execute("DELETE FROM holds WHERE call = ?", (call,))

    def take_lapsed(self, key: str, now: float) -> tuple[list[Asked], float]:
        """See `Shelf`."""
        taken = self._lapsed(key, now)
        self.db.execute("DELETE FROM holds WHERE key = ? AND until <= ?", (key, now))
        (first,) = self.db.execute("SELECT min(until) FROM holds WHERE key = ?", (key,)).fetchone()
        return taken, math.inf if first is None else first

    def _lapsed(self, key: str, now: float) -> list[Asked]:
        lapsed = self.db.execute("SELECT cost, tokens FROM holds WHERE key = ? AND until <= ?", (key, now))
        return [Asked(*row) for row in lapsed]

    def is_charged(self, call: str, revision: int) -> bool:
        """See `Shelf`."""
        found = self.db.execute("SELECT 1 FROM charges WHERE call = ? AND revision = ?", (call, revision))
        return found.fetchone() is not None

    def put_charge(self, entry: Entry) -> None:
        """See `Shelf`."""
        kept = (_dump(entry.keys), _dump(dict(entry.amounts)), _dump(dict(entry.detail)))
        self.db.execute(
            "INSERT INTO charges VALUES (?, ?, ?, ?, ?, ?)", (entry.id, entry.revision, entry.at, *kept)
        )


class LookedAt(SqliteShelf):
    """A shelf for those who only look: what is over is left out, and left where it is."""

    def save(self, account: StoredAccount) -> None:
        """Write nothing."""

    def forget(self, key: str) -> None:
        """Write nothing."""

    def take_lapsed(self, key: str, now: float) -> tuple[list[Asked], float]:
        """Tell what has lapsed."""
        return self._lapsed(key, now), math.inf


def account_of(row: tuple[Any, ...]) -> StoredAccount:
    """Return the account that a row keeps.

    Raises:
        Damaged: The row keeps none.
    """
    _key, seq, settled, cost, tokens, calls, lapsed, lapse_at, closed, _group, opened_at, expires_at = row
    table = read_table(settled)
    check_counts((seq, cost, tokens, calls, lapsed, *table.values()))
    check_times((lapse_at, opened_at, expires_at))
    account = StoredAccount(*row)
    account.settled = table
    account.lapse_at = math.inf if lapse_at is None else lapse_at
    account.closed = bool(closed)
    return account
