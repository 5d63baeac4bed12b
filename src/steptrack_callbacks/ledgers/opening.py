"""From a URL to a ledger."""

from __future__ import annotations

import re

from .protocol import TIMEOUT_S, Store

FORMS = (
    "memory:, sqlite:///relative.db, sqlite:////absolute/path.db, redis://host:6379/0 or rediss://host:6379/0"
)

_FILE_NAME = re.compile(r"[\w./\\ -]*\w[\w./\\ -]*")
"""What may be repeated in a message: it has no place for a password."""


def open_ledger(url: str) -> Store:
    """Open the ledger that a URL names; nothing is read or written before it is first used.

    Args:
        url: `memory:`; `sqlite:///steps.db`, relative to the working directory; `sqlite:////var/steps.db`;
            `redis://[user:password@]host:6379/0`, or `rediss://` with TLS. Options stand behind a `?`:
            `timeout_s`, the most seconds that a trip may take (2); for SQLite `mode=ro`, which only reads
            and never makes a file; for Redis `prefix`, which keeps deployments apart (`steptrack`),
            `cluster=true` for a Redis Cluster, and redis-py's own `ssl_*` and `health_check_interval`.

    Raises:
        ValueError: It is not a URL of a ledger, or has an option that its kind does not know. The message
            never contains a password.
        LedgerError: It names a Redis, and redis-py is not installed.

    Example:
        >>> open_ledger("memory:").url
        'memory:'
        >>> open_ledger("mysql://host/steps")
        Traceback (most recent call last):
        ...
        ValueError: 'mysql://host/steps' is not a ledger: ...
        >>> open_ledger("steps.db")
        Traceback (most recent call last):
        ...
        ValueError: 'steps.db' is not a ledger: did you mean 'sqlite:///steps.db'? ...
    """
    if not isinstance(url, str):
        raise ValueError(f"a ledger is named by a URL, {FORMS}, not {url!r}")  # noqa: TRY004
    kind = url.partition(":")[0].lower()
    if kind == "memory":
        return _open_memory(url)
    if kind == "sqlite":
        return _open_sqlite(url)
    if kind in ("redis", "rediss"):
        return _open_redis(url)
    from .urls import redacted  # noqa: PLC0415 - it costs milliseconds, which `memory:` saves

    hint = f"did you mean 'sqlite:///{url}'? Otherwise " if _FILE_NAME.fullmatch(url) else ""
    raise ValueError(f"{redacted(url)!r} is not a ledger: {hint}use {FORMS}")


def _open_memory(url: str) -> Store:
    from .memory import MemoryStore  # noqa: PLC0415 - each kind is imported when it is first opened

    if url != "memory:":
        from .urls import redacted  # noqa: PLC0415 - as above

        raise ValueError(f"{redacted(url)!r} has more than a memory ledger can have: say 'memory:'")
    return MemoryStore()


def _open_sqlite(url: str) -> Store:
    from .sqlite import SqliteStore  # noqa: PLC0415
    from .urls import file_of, options_of, redacted, seconds  # noqa: PLC0415

    path = file_of(url)
    options = options_of(url, known={"timeout_s", "mode"})
    mode = options.get("mode", "rw")
    if mode not in ("ro", "rw"):
        raise ValueError(f"mode of {redacted(url)!r} must be ro or rw, not {mode!r}")
    timeout_s = seconds(options.get("timeout_s", str(TIMEOUT_S)), url)
    return SqliteStore(path, timeout_s=timeout_s, read_only=mode == "ro")


def _open_redis(url: str) -> Store:
    from .redis import RedisStore  # noqa: PLC0415
    from .urls import check_address, options_of, redacted, seconds, with_options  # noqa: PLC0415

    check_address(url)
    options = options_of(
        url, known={"timeout_s", "prefix", "cluster", "db", "health_check_interval"}, prefixes=("ssl_",)
    )
    timeout_s = seconds(options.pop("timeout_s", str(TIMEOUT_S)), url)
    prefix, cluster = options.pop("prefix", "steptrack"), options.pop("cluster", "false")
    if cluster not in ("true", "false"):
        raise ValueError(f"cluster of {redacted(url)!r} must be true or false, not {cluster!r}")
    bare = with_options(url, options)
    return RedisStore(bare, timeout_s=timeout_s, prefix=prefix, cluster=cluster == "true")
