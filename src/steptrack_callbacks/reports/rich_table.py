"""The tree as a table of `rich`, as wide as there is room: names are cut to fit, numbers and limits never."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

NARROWEST_NAME = 8
_NAME, _LIMITS = 0, -1

Cells = tuple[str, ...]


class TreeTable:
    """Lays itself out for the console that it is printed on.

    Args:
        columns: The heads of the columns: the name first, the shares of limits last, numbers between.
        numbers: Which columns are numbers.
        rows: The cells of all columns but the last.
        shares: What stands in the last column of each row, an item a limit.
    """

    def __init__(
        self,
        columns: Sequence[str],
        numbers: Sequence[int],
        rows: Sequence[Cells],
        shares: Sequence[Sequence[str]],
    ) -> None:
        self._columns, self._numbers = columns, numbers
        self._rows, self._shares = rows, shares

    def __rich_console__(self, console: Any, options: Any) -> Iterator[Any]:
        """Yield the table; `rich` calls it."""
        from rich.text import Text  # noqa: PLC0415 - an extra

        names = [row[_NAME] for row in self._rows]
        limits = max([len(", ".join(shares)) for shares in self._shares] + [len(self._columns[_LIMITS])])
        room = options.max_width - self._width(console, names, limits) + limits
        if room < limits:  # first the limits wrap, and then names are cut
            parts = [_parts(share) for shares in self._shares for share in shares]
            limits = max(room, *(len(line) + 1 for line in "\n".join(parts).split("\n")), 0)
        lacking = limits - room
        if lacking > 0:
            longest = max(map(len, names))
            if longest - lacking < NARROWEST_NAME:
                yield Text("\n".join(self._plain()), overflow="fold")
                return
            names = [_cut(name, longest - lacking) for name in names]
        yield self._table(names, limits)

    def _width(self, console: Any, names: Sequence[str], limits: int) -> int:
        from rich.measure import Measurement  # noqa: PLC0415

        table = self._table(names, limits)
        return int(Measurement.get(console, console.options.update(width=10_000), table).maximum)

    def _table(self, names: Sequence[str], limits: int) -> Any:
        from rich.box import SIMPLE_HEAD  # noqa: PLC0415
        from rich.table import Table  # noqa: PLC0415
        from rich.text import Text  # noqa: PLC0415

        table = Table(box=SIMPLE_HEAD, pad_edge=False)
        for index, column in enumerate(self._columns):
            table.add_column(column, justify="right" if index in self._numbers else "left", no_wrap=True)
        for name, row, shares in zip(names, self._rows, self._shares, strict=True):
            table.add_row(Text(name), *map(Text, row[1:]), Text(_wrapped(shares, limits)))
        return table

    def _plain(self) -> Iterator[str]:
        yield "  ".join(self._columns)
        for row, shares in zip(self._rows, self._shares, strict=True):
            yield "  ".join(cell for cell in (*row, ", ".join(shares)) if cell)


def _wrapped(shares: Sequence[str], width: int) -> str:
    """Put as many shares on a line as there is room for, commas included; one that is too long has two."""
    lines = [""]
    for share in shares:
        longer = f"{lines[-1]}, {share}" if lines[-1] else share
        if lines[-1] and len(longer) + (share is not shares[-1]) > width:
            lines[-1] += ","
            lines.append(share)
        else:
            lines[-1] = longer
    return "\n".join(line if len(line) <= width else _parts(line) for line in lines)


def _parts(share: str) -> str:
    """Put the budget whose limit it is on a line of its own."""
    return share.replace(" (", "\n(")


def _cut(name: str, width: int) -> str:
    return name if len(name) <= width else f"{name[: width - 1]}…"
