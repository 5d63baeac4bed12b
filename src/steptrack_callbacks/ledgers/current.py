"""The ledger in force, and the others that this process has used."""

from __future__ import annotations

import atexit
import os
from dataclasses import replace
from typing import Any, NamedTuple, cast

from steptrack_callbacks import settings
from steptrack_callbacks.concurrency.flow import Flow
from steptrack_callbacks.concurrency.guard import Guard
from steptrack_callbacks.settings import LedgerSettings, OnStoreError

from . import open_ledger
from .client import LEASE_S, LedgerClient, check_options
from .protocol import Store


class Choice(NamedTuple):
    """A ledger that is ready to be put in force, and what was said of it.

    Attributes:
        said: What was said of it so far.
        client: The ledger; `None` leaves it at the one in force.
    """

    said: LedgerSettings
    client: LedgerClient | None


_in_force: LedgerClient | None = None
_used: dict[str | int, LedgerClient] = {}
"""All ledgers used so far: who comes back to one finds its books, and what it is owed is not forgotten."""
_choosing = Guard()


def ledger() -> LedgerClient:
    """Return the ledger in force: the one installed, else that of `STEPTRACK_LEDGER`, else memory.

    Raises:
        ValueError: `STEPTRACK_LEDGER` is not a URL of a ledger.
        LedgerError: The store is not ours, or newer than this package.
    """
    if (chosen := _in_force) is not None:
        return chosen
    with _choosing:  # two in memory would be two books
        if _in_force is None:
            put_in_force(choose(os.environ.get("STEPTRACK_LEDGER") or "memory:"))
        assert _in_force is not None
        return _in_force


def choose(
    ledger: str | Store | None = None,
    *,
    on_store_error: OnStoreError | None = None,
    lease_s: float | None = None,
    timeout_s: float | None = None,
) -> Choice:
    """Check what is said of the ledger, and open it if it is named; it is not in force yet.

    Args:
        ledger: A URL, or a store; `None` leaves it at the one in force.
        on_store_error: `refuse` (the default) or `allow`; `None` leaves it at what was said before.
        lease_s: Seconds; `None` likewise.
        timeout_s: Seconds that a trip may take if the URL does not say it; `None` likewise.

    Raises:
        ValueError: The URL or an option is malformed.
        LedgerError: The store is not ours, or newer than this package.
    """
    given: dict[str, Any] = {
        "ledger": ledger,
        "on_store_error": on_store_error,
        "lease_s": lease_s,
        "timeout_s": timeout_s,
    }
    said = replace(settings.now.ledger, **{name: value for name, value in given.items() if value is not None})
    check_options(*_options(said))
    with _choosing:  # one that nobody names is opened when it is first needed, wherever the environment says
        return Choice(said, None if said.ledger is None else _client_of(said.ledger, said.timeout_s))


def put_in_force(choice: Choice) -> None:
    """Put a ledger in force; steps that are open stay with the one that they began with."""
    global _in_force
    settings.change(ledger=choice.said)
    if choice.client is None:
        return
    with _choosing:
        before, _in_force = _in_force, choice.client
        choice.client.set_options(*_options(choice.said))
    if before is not None and before is not choice.client:
        before.flush()


def use(ledger: str | Store | None = None, **options: Any) -> None:
    """Choose a ledger and put it in force at once, by the options of `choose`, which says what it raises."""
    put_in_force(choose(ledger, **options))


def release() -> None:
    """Put no ledger in force; steps that are open stay with the one that they began with."""
    global _in_force
    settings.change(ledger=LedgerSettings())
    with _choosing:
        before, _in_force = _in_force, None
    if before is not None:
        before.flush()


def _options(said: LedgerSettings) -> tuple[OnStoreError, float]:
    on_store_error: OnStoreError = "refuse" if said.on_store_error is None else said.on_store_error
    return on_store_error, LEASE_S if said.lease_s is None else said.lease_s


def _client_of(ledger: object, timeout_s: float | None) -> LedgerClient:
    """Return the client of a ledger: the same one for the same URL or store."""
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
    return _used.setdefault(id(ledger), LedgerClient(cast(Store, ledger)))


def _timed(url: str, timeout_s: float | None) -> str:
    if timeout_s is None or "timeout_s=" in url or url.startswith("memory:"):
        return url
    return f"{url}{'&' if '?' in url else '?'}timeout_s={timeout_s}"


def is_chosen() -> bool:
    """Tell whether somebody has asked for a ledger."""
    return _in_force is not None or bool(os.environ.get("STEPTRACK_LEDGER"))


def catch_up_others() -> Flow[None]:
    """Tell ledgers that are no longer in force what they are owed, unless they were away a moment ago."""
    if len(_used) > 1:
        for used in list(_used.values()):
            if used is not _in_force and not used.was_away:
                yield from used.catch_up()


def reset() -> None:
    """Forget all ledgers, for tests."""
    global _in_force
    settings.change(ledger=LedgerSettings())
    for used in _used.values():
        used.store.close_connections()
    _used.clear()
    _in_force = None


@atexit.register
def _flush_at_exit() -> None:
    for used in list(_used.values()):
        used.flush_for_good()
