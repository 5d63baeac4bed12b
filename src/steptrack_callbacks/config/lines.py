"""On which line a key stands, found with the reader itself: by reading beginnings of the file."""

from __future__ import annotations

import tomllib
from typing import Any

from .problems import Path

_LONGEST_FILE = 100_000
_MOST_READS = 400


class _TooMuchWork(Exception):
    """A file so odd that to find a line in it is not worth the time."""


class Lines:
    """The lines of one file.

    Args:
        text: The file, which can be read.
    """

    def __init__(self, text: str) -> None:
        self._lines = [f"{line}\n" for line in text.split("\n")] if len(text) <= _LONGEST_FILE else []
        self._read: dict[int, dict[str, Any] | None] = {}

    def line_of(self, path: Path) -> int | None:
        """Return the line, from 1, on which a key is given; `None` if that cannot be said."""
        try:
            return self._search(path) if path else None
        except _TooMuchWork:
            return None

    def _search(self, path: Path) -> int | None:
        """Halve what is between a beginning that has not the key, and one that has."""
        without, having = 0, len(self._lines)
        if not self._has(having, path):
            return None
        while (middle := self._readable_between(without, having)) is not None:
            without, having = (without, middle) if self._has(middle, path) else (middle, having)
        return self._first_statement(without)

    def _readable_between(self, low: int, high: int) -> int | None:
        """Return a beginning between two others that does not end inside a value, near the middle."""
        middle = (low + high) // 2
        nearest = [*range(middle, low, -1), *range(middle + 1, high)]
        return next((line for line in nearest if self._beginning(line) is not None), None)

    def _has(self, line: int, path: Path) -> bool:
        table: Any = self._beginning(line)
        for key in path:
            if not isinstance(table, dict) or key not in table:
                return False
            table = table[key]
        return True

    def _beginning(self, count: int) -> dict[str, Any] | None:
        """Read the first lines, if they can be read by themselves."""
        if count not in self._read:
            if len(self._read) >= _MOST_READS:
                raise _TooMuchWork
            try:
                self._read[count] = tomllib.loads("".join(self._lines[:count]))
            except (ValueError, RecursionError):
                self._read[count] = None
        return self._read[count]

    def _first_statement(self, after: int) -> int:
        """Skip the empty lines and comments before a statement."""
        for number, line in enumerate(self._lines[after:], after + 1):
            if line.strip() and not line.lstrip().startswith("#"):
                return number
        return after + 1
