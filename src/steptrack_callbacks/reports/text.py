"""The report as text: with `rich` if it is installed, plain otherwise."""

from __future__ import annotations

from io import StringIO
from typing import Any, NamedTuple

from steptrack_callbacks.values.formatting import cost_of, printable
from steptrack_callbacks.values.records import shares_of
from steptrack_callbacks.values.usage import Usage

from .folding import Fold, Line, folded
from .marks import status_of
from .rich_table import TreeTable
from .tree import Tree

_COLUMNS = ("step", "status", "calls", "in", "out", "cost", "used of limit")
_NUMBERS = range(2, 6)
_WIDTH = 120


class Row(NamedTuple):
    """One line of the table: its cells, and how much of each limit is used."""

    cells: tuple[str, ...]
    shares: tuple[str, ...]


def text_of(report: Tree) -> str:
    """Write a report as people read it in a terminal or a log."""
    rows = _rows(report)
    if not rows:
        return "no steps to show"
    return "\n".join([_table(rows), *(f"  {remark}" for remark in report.remarks())])


def rich_report(report: Tree) -> Any:
    """Return what `rich.print` shows: as wide as the terminal is."""
    from rich.console import Group  # noqa: PLC0415 - whoever calls has it
    from rich.text import Text  # noqa: PLC0415

    rows = _rows(report)
    if not rows:
        return Text(text_of(report))
    return Group(_rich_table(rows), *(Text(f"  {remark}") for remark in report.remarks()))


def _rows(report: Tree) -> list[Row]:
    rows = [_row_of(each) for each in folded(report.branches())]
    rows += [_row_of_usage(str(each.run), each.usage, "no record") for each in report.unfinished]
    if report.unattributed.calls:
        rows.append(_row_of_usage("(unattributed)", report.unattributed))
    return [*rows, _row_of_usage("total", report.total)] if rows else []


def _row_of(each: Line | Fold) -> Row:
    if isinstance(each, Fold):
        name, nearest = (
            f"{'  ' * each.depth}{printable(each.title)}",
            [f"up to {share}" for share in each.nearest],
        )
        return _row_of_usage(name, each.usage, each.statuses, tuple(nearest))
    name = "  " * each.depth + printable(each.name)
    shares = tuple(map(str, shares_of(each.record)))
    return _row_of_usage(name, each.record.usage, status_of(each.record), shares)


def _row_of_usage(name: str, usage: Usage, status: str = "", shares: tuple[str, ...] = ()) -> Row:
    tokens = (f"{usage.input_tokens:,}", f"{usage.output_tokens:,}")
    return Row((name, status, f"{usage.calls:,}", *tokens, cost_of(usage)), shares)


def _table(rows: list[Row]) -> str:
    try:
        return _rich_text(rows)
    except ImportError:
        return _plain_table(rows)


def _rich_table(rows: list[Row]) -> Any:
    return TreeTable(_COLUMNS, _NUMBERS, [row.cells for row in rows], [row.shares for row in rows])


def _rich_text(rows: list[Row]) -> str:
    from rich.console import Console  # noqa: PLC0415 - an extra

    console = Console(file=StringIO(), width=_WIDTH, color_system=None, force_jupyter=False)
    with console.capture() as capture:
        console.print(_rich_table(rows))
    lines = (line.rstrip() for line in capture.get().splitlines())
    return "\n".join(line for line in lines if line)


def _plain_table(rows: list[Row]) -> str:
    table = [_COLUMNS, *((*row.cells, ", ".join(row.shares)) for row in rows)]
    widths = [max(len(cells[index]) for cells in table) for index in range(len(_COLUMNS))]
    lines = []
    for cells in table:
        placed = [
            cell.rjust(width) if index in _NUMBERS else cell.ljust(width)
            for index, (cell, width) in enumerate(zip(cells, widths, strict=True))
        ]
        lines.append("  ".join(placed).rstrip())
    return "\n".join(lines)
