"""What a SQLite ledger looks like, and how an older one becomes a newer one."""

from __future__ import annotations

import sqlite3

APPLICATION_ID = int.from_bytes(b"stpk", "big")

UPGRADES: list[tuple[str, ...]] = [
    (
        """CREATE TABLE accounts (
            key TEXT PRIMARY KEY, seq INTEGER NOT NULL, settled TEXT NOT NULL,
            held_cost INTEGER NOT NULL, held_tokens INTEGER NOT NULL, held_calls INTEGER NOT NULL,
            lapsed_calls INTEGER NOT NULL, lapse_at REAL, closed INTEGER NOT NULL,
            account_group TEXT NOT NULL, opened_at REAL NOT NULL, expires_at REAL
        ) WITHOUT ROWID""",
        "CREATE INDEX accounts_of_group ON accounts (account_group, opened_at) WHERE account_group <> ''",
        """CREATE TABLE holds (
            call TEXT, key TEXT, cost INTEGER NOT NULL, tokens INTEGER NOT NULL, until REAL NOT NULL,
            PRIMARY KEY (call, key)
        ) WITHOUT ROWID""",
        "CREATE INDEX holds_on_account ON holds (key, until)",
        """CREATE TABLE charges (
            call TEXT, revision INTEGER, at REAL NOT NULL, keys TEXT NOT NULL, amounts TEXT NOT NULL,
            detail TEXT NOT NULL, PRIMARY KEY (call, revision)
        ) WITHOUT ROWID""",
        "CREATE INDEX charges_by_time ON charges (at)",
        """CREATE TABLE records (
            id TEXT PRIMARY KEY, run_id TEXT, revision INTEGER NOT NULL, ended_at REAL NOT NULL,
            record TEXT NOT NULL
        ) WITHOUT ROWID""",
        "CREATE INDEX records_by_time ON records (ended_at)",
        "CREATE INDEX records_of_run ON records (run_id, ended_at)",
    ),
]
"""What each schema version adds to the one before; the first makes an empty file version 1."""


class NotOurs(sqlite3.DatabaseError):
    """The file cannot be used as a ledger."""


def check(db: sqlite3.Connection) -> bool:
    """Say whether a file has the newest schema.

    Raises:
        NotOurs: It is not a ledger of this package, or one of a newer version.
    """
    application = db.execute("PRAGMA application_id").fetchone()[0]
    version = db.execute("PRAGMA user_version").fetchone()[0]
    if application != APPLICATION_ID:
        if application or version or db.execute("SELECT 1 FROM sqlite_master LIMIT 1").fetchone():
            raise NotOurs("it is not a steptrack ledger; name another file")
        return False
    if version > len(UPGRADES):
        raise NotOurs(
            f"it has schema version {version}, made by a newer steptrack-callbacks; this one knows up to"
            f" {len(UPGRADES)}: upgrade the package, or name another file"
        )
    return bool(version == len(UPGRADES))


def upgrade(db: sqlite3.Connection) -> None:
    """Bring a file to the newest schema: all of the way, or not at all.

    Raises:
        NotOurs: See `check`.
    """
    db.execute("BEGIN IMMEDIATE")
    try:
        if not check(db):  # another process may have done it meanwhile
            version = db.execute("PRAGMA user_version").fetchone()[0]
            for statement in [each for step in UPGRADES[version:] for each in step]:
                db.execute(statement)
            db.execute(f"PRAGMA application_id = {APPLICATION_ID}")
            db.execute(f"PRAGMA user_version = {len(UPGRADES)}")
        db.execute("COMMIT")
    except BaseException:
        if db.in_transaction:
            db.execute("ROLLBACK")
        raise
