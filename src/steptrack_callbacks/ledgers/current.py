"""The ledger in force, and the others that this process has used."""

from __future__ import annotations

import atexit
import os
import threading
from typing import Any, NamedTuple

from . import open_ledger
from .client import LEASE_S, LedgerClient, OnStoreError, check_options
from .protocol import Store


class _Said(NamedTuple):
    """What was said of the ledger so far; `None` where nothing was."""

    ledger: str | Store | None = None
    on_store_error: OnStoreError | None = None
    lease_s: float | None = None
    timeout_s: float | None = None

    def options(self) -> tuple[OnStoreError, float]:
        return self.on_store_error or "refuse", LEASE_S if self.lease_s is None else self.lease_s


_said = _Said()
_in_force: LedgerClient | None = None
_used: dict[str | int, LedgerClient] = {}
"""All ledgers used so far: who comes back to one finds its books, and what it is owed is not forgotten."""
_choosing = threading.RLock()


def ledger() -> LedgerClient:
    """Return the ledger in force: the one installed, else that of `STEPTRACK_LEDGER`, else memory.

    Raises:
        ValueError: `STEPTRACK_LEDGER` is no URL of a ledger.
        LedgerError: The store is not ours, or newer than this package.
    """
    if (chosen := _in_force) is not None:
        return chosen
    with _choosing:  # two in memory would be two books
        if _in_force is None:
            _put_in_force(_said._replace(ledger=os.environ.get("STEPTRACK_LEDGER") or "memory:"))
        assert _in_force is not None
        return _in_force


def use(
    ledger: str | Store | None = None,
    *,
    on_store_error: OnStoreError | None = None,
    lease_s: float | None = None,
    timeout_s: float | None = None,
) -> None:
    """Put a ledger in force; steps that are open stay with the one that they began with.

    Args:
        ledger: A URL, or a store; `None` leaves it at the one in force.
        on_store_error: `refuse` (the default) or `allow`; `None` leaves it at what was said before.
        lease_s: Seconds; `None` likewise.
        timeout_s: Seconds that a trip may take if the URL does not say it; `None` likewise.

    Raises:
        ValueError: The URL or an option is malformed; nothing is changed then.
        LedgerError: The store is not ours, or newer than this package.
    """
    global _said
    given: dict[str, Any] = {
        "ledger": ledger,
        "on_store_error": on_store_error,
        "lease_s": lease_s,
        "timeout_s": timeout_s,
    }
    with _choosing:
        said = _said._replace(**{name: value for name, value in given.items() if value is not None})
        check_options(*said.options())
        if said.ledger is None:
            _said = said  # it is opened when it is first needed, wherever the environment says it is
            return
        before = _in_force
        _put_in_force(said)
    if before is not None and before is not _in_force:
        before.flush()


def release() -> None:
    """Put no ledger in force; steps that are open stay with the one that they began with."""
    global _said, _in_force
    with _choosing:
        before, _said, _in_force = _in_force, _Said(), None
    if before is not None:
        before.flush()


def _put_in_force(said: _Said) -> None:
    global _said, _in_force
    assert said.ledger is not None
    chosen = _client_of(said.ledger, said.timeout_s)
    chosen.set_options(*said.options())
    _said, _in_force = said, chosen


def _client_of(ledger: str | Store, timeout_s: float | None) -> LedgerClient:
    """Return the keeper of a ledger: the same one for the same URL or store."""
    if isinstance(ledger, str):
        url = _timed(ledger, timeout_s)
        if url not in _used:
            _used[url] = LedgerClient(open_ledger(url))
        return _used[url]
    if not hasattr(ledger, "reserve"):
        raise ValueError(f"ledger must be a URL such as 'sqlite:///steps.db', or a store, not {ledger!r}")
    for used in _used.values():
        if used.store is ledger:
            return used
    return _used.setdefault(id(ledger), LedgerClient(ledger))


def _timed(url: str, timeout_s: float | None) -> str:
    if timeout_s is None or "timeout_s=" in url or url.startswith("memory:"):
        return url
    return f"{url}{'&' if '?' in url else '?'}timeout_s={timeout_s}"


def is_chosen() -> bool:
    """Tell whether somebody has asked for a ledger."""
    return _in_force is not None or bool(os.environ.get("STEPTRACK_LEDGER"))


def flush_others() -> None:
    """Tell ledgers that are no longer in force what they are owed, unless they were away a moment ago."""
    if len(_used) > 1:
        for used in list(_used.values()):
            if used is not _in_force and not used.was_away:
                used.flush()


def reset() -> None:
    """Forget all ledgers, for tests."""
    global _said, _in_force
    for used in _used.values():
        used.store.close_connections()
    _used.clear()
    _said, _in_force = _Said(), None


@atexit.register
def _flush_at_exit() -> None:
    for used in list(_used.values()):
        used.flush_for_good()
