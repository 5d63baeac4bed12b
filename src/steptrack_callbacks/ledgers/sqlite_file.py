"""One SQLite file as one process uses it: a connection, a turn, and what can go wrong."""

from __future__ import annotations

import os
import sqlite3
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import TypeVar
from urllib.parse import quote

from steptrack_callbacks.values.errors import LedgerError

from . import sqlite_schema
from .fork_safe_lock import Turn, watch_forks
from .sqlite_shelf import SqliteShelf
from .validation import Damaged

Q = TypeVar("Q")
T = TypeVar("T")
Work = Callable[[SqliteShelf, Q, float], T]
"""What is done in a transaction, about something and at a time."""

_BUSY = {sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED}
_KEEPS = _BUSY | {sqlite3.SQLITE_FULL, sqlite3.SQLITE_CONSTRAINT}
_WHY = {
    sqlite3.SQLITE_FULL: "the disk is full; nothing was changed: make room, then try again",
    sqlite3.SQLITE_READONLY: "the file or its folder may not be written to: allow it, or name another file",
    sqlite3.SQLITE_CANTOPEN: "the file cannot be opened: see that its folder exists and may be written to",
    sqlite3.SQLITE_NOTADB: "it is not a steptrack ledger; name another file",
    sqlite3.SQLITE_CORRUPT: "the file is damaged: put a copy of it back, or name another file",
    sqlite3.SQLITE_IOERR: "the disk failed; nothing was changed: see to it, then try again",
}


class SqliteFile:
    """A connection that is opened when it is needed, belongs to no other process, and is used in turns."""

    def __init__(self, path: Path, *, timeout_s: float, read_only: bool) -> None:
        self.path = path
        self.url = f"sqlite:///{path}"
        self.read_only = read_only
        self.turn = Turn()
        self._timeout_s = timeout_s
        self._patience_s = timeout_s
        self._shelf: SqliteShelf | None = None
        self._paused = False
        self._busy: BaseException | None = None
        self._opened: os.stat_result
        watch_forks(self)

    def __del__(self) -> None:
        self._let_go()  # Python 3.13 warns of a connection that is merely dropped

    def begin(self, wait_s: float) -> bool:
        """Take the turn and begin to write; `False` if others keep it from that for so long.

        So it is at once if this thread is at the file already.

        Raises:
            LedgerError: The file cannot be used.
        """
        until = time.monotonic() + wait_s
        if self.read_only:
            raise LedgerError(ledger=self.url, why="it was opened with mode=ro, only to be read")
        if not self.turn.take(wait_s):
            return False
        try:
            shelf = self._shelf
            if shelf is None or not os.path.samestat(self._opened, os.stat(self.path)):  # noqa: PTH116 - see `_open`
                shelf = self._open()
            db = shelf.db
            left_s = max(0.0, until - time.monotonic())
            if abs(left_s - self._patience_s) > self._timeout_s / 10:  # setting it costs as much as a query
                self._wait_for(db, left_s)
            db.execute("BEGIN IMMEDIATE")
        except BaseException as error:
            self._undo(error)
            self.turn.give()
            if _code(error) in _BUSY:
                self._busy = error
                return False
            raise self._explained(error) from error
        self._busy = None
        return True

    def finish(self, work: Work[Q, T], question: Q, now: float) -> T:
        """Write, once it was begun: all of it is kept, or none.

        Raises:
            LedgerError: The file cannot be used; nothing was changed.
        """
        assert self._shelf is not None
        try:
            result = work(self._shelf, question, now)
            self._shelf.db.execute("COMMIT")
        except BaseException as error:
            self._undo(error)
            raise self._explained(error) from error
        else:
            return result
        finally:
            self.turn.give()

    def read(self, work: Callable[[SqliteShelf], T], wait_s: float) -> T | None:
        """Read; `None` if another thread keeps the connection for so long.

        Raises:
            LedgerError: The file cannot be used.
        """
        if not self.turn.take(wait_s):
            return None
        try:
            return work(self._open())
        except BaseException as error:
            self._undo(error)
            raise self._explained(error) from error
        finally:
            self.turn.give()

    def kept(self) -> LedgerError:
        """Say who keeps the file from being used: this thread, which is at it already, or others."""
        if self.turn.mine:
            return LedgerError(ledger=self.url, why="it was asked from within itself; ask again")
        return self.locked()

    def locked(self) -> LedgerError:
        """Say that others have kept the file for too long."""
        error = LedgerError(
            ledger=self.url,
            why=f"it was locked by others for {self._timeout_s:g} s; nothing was changed: try again, or"
            " raise timeout_s",
        )
        error.__cause__, error.is_late = self._busy, True
        return error

    def size(self) -> int:
        """Return the bytes on disk, those of the write-ahead log included."""
        files = [self.path, self.path.with_name(self.path.name + "-wal")]
        return sum(file.stat().st_size for file in files if file.exists())

    def close(self) -> None:
        """Let go of the file."""
        self.turn.take()
        try:
            self._let_go()
        finally:
            self.turn.give()

    def before_fork(self) -> None:
        """Close the connection: SQLite's own locks do not survive a fork."""
        self._paused = not self.turn.mine and self.turn.take(self._timeout_s)
        if self._paused:
            self._let_go()

    def after_fork(self, *, child: bool) -> None:
        """Go on with a new connection."""
        if child:
            if self._shelf is not None:
                _ORPHANS.append(self._shelf)  # a child must not even close what its parent is using
            self._shelf, self.turn = None, Turn()
        elif self._paused:
            self.turn.give()

    def _open(self) -> SqliteShelf:
        if self._shelf is not None:
            found = os.stat(self.path)  # noqa: PTH116 - half as long as Path.stat, and on every trip
            if os.path.samestat(self._opened, found):
                return self._shelf
            self._let_go()  # another file was put in its place
        mode = "ro" if self.read_only else "rwc"
        db = sqlite3.connect(
            f"file:{quote(str(self.path))}?mode={mode}",
            uri=True,
            timeout=self._timeout_s,
            isolation_level=None,
            check_same_thread=False,
        )
        try:
            self._prepare(db)
            self._opened = self.path.stat()
        except BaseException:
            db.close()
            raise
        self._patience_s = self._timeout_s
        self._shelf = SqliteShelf(db)
        return self._shelf

    def _prepare(self, db: sqlite3.Connection) -> None:
        db.execute("BEGIN")  # all is of one moment, though another process may be making the file
        newest = sqlite_schema.check(db)  # before anything is changed in what may be another's
        db.execute("COMMIT")
        if self.read_only:
            if not newest:
                raise sqlite_schema.NotOurs(
                    "it has no ledger yet, or an older one; open it without mode=ro once"
                )
            return
        _use_wal(db, self._timeout_s)
        db.execute("PRAGMA synchronous = NORMAL")
        if not newest:
            sqlite_schema.upgrade(db)

    def _wait_for(self, db: sqlite3.Connection, wait_s: float) -> None:
        db.execute(f"PRAGMA busy_timeout = {wait_s * 1000:.0f}")
        self._patience_s = wait_s

    def _undo(self, error: BaseException) -> None:
        if self._shelf is None:
            return
        if self._shelf.db.in_transaction:
            with suppress(sqlite3.Error):  # the first error is the one to tell
                self._shelf.db.execute("ROLLBACK")
        if isinstance(error, sqlite3.Error | UnicodeDecodeError) and _code(error) not in _KEEPS:
            self._let_go()

    def _let_go(self) -> None:
        shelf, self._shelf = self._shelf, None
        if shelf is not None:
            shelf.db.close()

    def _explained(self, error: BaseException) -> BaseException:
        if isinstance(error, sqlite_schema.NotOurs | Damaged | OverflowError):
            return LedgerError(ledger=self.url, why=str(error))
        if isinstance(error, FileNotFoundError):
            return LedgerError(ledger=self.url, why="the file was taken away: put it back")
        if isinstance(error, sqlite3.Error):
            if _code(error) in _BUSY:
                return self.locked()
            return LedgerError(ledger=self.url, why=_WHY.get(_code(error), f"SQLite says: {error}"))
        if isinstance(error, UnicodeDecodeError):  # the message quotes the file
            return LedgerError(ledger=self.url, why=_WHY[sqlite3.SQLITE_CORRUPT])
        return error


_ORPHANS: list[SqliteShelf] = []


def _use_wal(db: sqlite3.Connection, wait_s: float) -> None:
    """Turn the write-ahead log on; SQLite does not wait here while another process does the same."""
    until = time.monotonic() + wait_s
    while db.execute("PRAGMA journal_mode").fetchone()[0] != "wal":
        try:
            db.execute("PRAGMA journal_mode = WAL")
        except sqlite3.OperationalError as error:
            if _code(error) not in _BUSY or time.monotonic() > until:
                raise
            time.sleep(0.002)


def _code(error: BaseException) -> int:
    return getattr(error, "sqlite_errorcode", 0) & 0xFF
