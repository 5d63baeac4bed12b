"""The ledger that a command is about: a SQLite file, or a URL."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote, unquote

from .errors import CommandError

if TYPE_CHECKING:
    from steptrack_callbacks.ledgers.protocol import Store

_URL = re.compile(r"[a-z][a-z0-9+]+:", re.IGNORECASE)
_SQLITE = "sqlite:///"


@contextmanager
def opened(place: str, *, writing: bool = False) -> Iterator[Store]:
    """Open a ledger that exists, and let go of it again.

    Raises:
        CommandError: It is not a ledger, or not there.
        LedgerError: It cannot be read.
    """
    from steptrack_callbacks.ledgers import open_ledger  # noqa: PLC0415

    try:
        store = open_ledger(url_of(place, writing=writing))
    except ValueError as error:
        raise CommandError(str(error)) from None
    try:
        yield store
    finally:
        store.close_connections()


def url_of(place: str, *, writing: bool = False) -> str:
    """Return the URL of a place, which must exist already: looking must not make an empty ledger.

    Raises:
        CommandError: It is not there, or can have nothing in it.
    """
    if place.startswith("memory:"):
        raise CommandError(
            f"{place!r} is a process's own memory, so there is nothing in it: name a file or URL"
        )
    if place.startswith(_SQLITE):
        _must_exist(unquote(place.removeprefix(_SQLITE).partition("?")[0]))
        return place
    if _URL.match(place):
        return place
    _must_exist(place)
    return f"{_SQLITE}{quote(place)}{'' if writing else '?mode=ro'}"


def url_to_write(place: str) -> str:
    """Return the URL of a place that need not exist yet."""
    return place if _URL.match(place) else f"{_SQLITE}{quote(place)}"


def _must_exist(file: str) -> None:
    try:
        path = Path(file)
        if path.is_file():
            return
        what = "is a directory: name the file in it" if path.is_dir() else "is not there"
    except ValueError as error:  # a NUL in the name
        what = f"is not a file name: {error}"
    raise CommandError(f"{file!r} {what}; a ledger is made by install(ledger='sqlite:///steps.db')")
