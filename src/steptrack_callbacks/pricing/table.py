"""LiteLLM's price table: the one in its wheel, and the living one of a LiteLLM that is imported."""

from __future__ import annotations

import importlib.util
import json
import sys
from collections.abc import Iterable, Iterator, Mapping
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

from steptrack_callbacks.concurrency.guard import Guard

from .names import accepts

Entry = Mapping[str, Any]

_FILE = "model_prices_and_context_window_backup.json"
_lock = Guard()
_loaded: list[Table] = []


class Row(NamedTuple):
    """One model of the table: its key there and what is known about it."""

    key: str
    entry: Entry


class Table:
    """Models and their prices, found by any spelling of a name.

    Args:
        entries: Keys such as `"azure/gpt-4o"` and what LiteLLM knows about each.
    """

    def __init__(self, entries: Mapping[str, Entry]) -> None:
        self.entries = entries

    @cached_property
    def _keys_by_lower(self) -> dict[str, str]:
        return {key.lower(): key for key in list(self.entries)}  # another thread may add a model meanwhile

    def row(self, key: str) -> Row | None:
        """Return the model of that key, in whatever case it is written; another name leads to its model."""
        row = self._row(key)
        if row is not None and isinstance(model := row.entry.get("alias_of"), str):
            return self._row(model)
        return row

    def _row(self, key: str) -> Row | None:
        entry = self.entries.get(key)
        if entry is None:
            key = self._keys_by_lower.get(key.lower(), "")
            entry = self.entries.get(key)
        return Row(key, entry) if isinstance(entry, Mapping) else None

    def find(self, keys: Iterable[str], provider: str) -> Row | None:
        """Return the first model of these keys whose price is that provider's."""
        rows = (row for key in keys if (row := self.row(key)))
        return next((row for row in rows if accepts(provider, row.entry.get("litellm_provider"))), None)


def package_folder(package: str) -> Path | None:
    """Find where a package is installed without running a line of it."""
    try:
        spec = importlib.util.find_spec(package)
    except (ImportError, ValueError):  # a stand-in without a spec sits in sys.modules
        return None
    places = spec.submodule_search_locations if spec else None
    return Path(next(iter(places))) if places else None


def installed() -> Table:
    """Return the table of the installed LiteLLM, read once; an empty one if there is none."""
    if not _loaded:
        with _lock:
            if not _loaded:
                _loaded.append(Table(_read()))
    return _loaded[0]


def _read() -> dict[str, Entry]:
    folder = package_folder("litellm")
    if folder is None or not (folder / _FILE).is_file():
        return {}
    raw = json.loads((folder / _FILE).read_bytes())
    entries: dict[str, Entry] = {key: entry for key, entry in raw.items() if isinstance(entry, Mapping)}
    entries.pop("sample_spec", None)
    entries.pop("fallback_generalizations", None)
    aliases = {alias: entry for entry in entries.values() for alias in entry.get("aliases") or ()}
    return aliases | entries


def live_entries() -> dict[str, Entry] | None:
    """Return `litellm.model_cost` if LiteLLM is imported: it has what the user registered."""
    entries = getattr(sys.modules.get("litellm"), "model_cost", None)
    return entries if isinstance(entries, dict) else None


def tables() -> Iterator[Table]:
    """Yield the tables that may know a model, in the order in which they are asked."""
    live = live_entries()
    if live is not None:
        yield Table(live)
    yield installed()
