"""The report as text: with `rich` if it is installed, plain otherwise."""

from __future__ import annotations

from io import StringIO
from typing import TYPE_CHECKING, Any

from steptrack_callbacks.values.records import CompletedStep
from steptrack_callbacks.values.usage import Usage

from .marks import cost_of, printable, shares_of

if TYPE_CHECKING:
    from .tree import Report

_COLUMNS = ("step", "status", "calls", "in", "out", "cost", "used of limit")
_NUMBERS = range(2, 6)
_WRAPPING = 6
_WIDTH = 120

Row = tuple[str, ...]


def text_of(report: Report) -> str:
    """Write a report as people read it in a terminal or a log."""
    rows = _rows(report)
    if not rows:
        return "no steps to show"
    return "\n".join([_table(rows), *(f"  {remark}" for remark in report.remarks())])


def rich_report(report: Report) -> Any:
    """Return what `rich.print` shows: as wide as the terminal is."""
    from rich.console import Group  # noqa: PLC0415 - whoever calls has it
    from rich.text import Text  # noqa: PLC0415

    rows = _rows(report)
    if not rows:
        return Text(text_of(report))
    return Group(_rich_table(rows), *(Text(f"  {remark}") for remark in report.remarks()))


def _rows(report: Report) -> list[Row]:
    rows = [_row(line.depth, line.record) for line in report.lines()]
    if report.unattributed.calls:
        rows.append(_row_of_usage("(unattributed)", report.unattributed))
    return [*rows, _row_of_usage("total", report.total)] if rows else []


def _row(depth: int, record: CompletedStep) -> Row:
    head = _row_of_usage("  " * depth + printable(record.name), record.usage)
    return (head[0], record.status, *head[2:-1], ", ".join(map(str, shares_of(record))))


def _row_of_usage(name: str, usage: Usage) -> Row:
    tokens = (f"{usage.input_tokens:,}", f"{usage.output_tokens:,}")
    return (name, "", f"{usage.calls:,}", *tokens, cost_of(usage), "")


def _table(rows: list[Row]) -> str:
    try:
        return _rich_text(rows)
    except ImportError:
        return _plain_table(rows)


def _rich_table(rows: list[Row]) -> Any:
    from rich.box import SIMPLE_HEAD  # noqa: PLC0415 - an extra
    from rich.table import Table  # noqa: PLC0415
    from rich.text import Text  # noqa: PLC0415

    table = Table(box=SIMPLE_HEAD, pad_edge=False)
    for index, column in enumerate(_COLUMNS):
        table.add_column(column, justify="right" if index in _NUMBERS else "left", no_wrap=index != _WRAPPING)
    for row in rows:
        table.add_row(*map(Text, row))
    return table


def _rich_text(rows: list[Row]) -> str:
    from rich.console import Console  # noqa: PLC0415 - an extra

    console = Console(file=StringIO(), width=_WIDTH, color_system=None, force_jupyter=False)
    with console.capture() as capture:
        console.print(_rich_table(rows))
    lines = (line.rstrip() for line in capture.get().splitlines())
    return "\n".join(line for line in lines if line)


def _plain_table(rows: list[Row]) -> str:
    widths = [max(len(row[index]) for row in [_COLUMNS, *rows]) for index in range(len(_COLUMNS))]
    lines = []
    for row in [_COLUMNS, *rows]:
        cells = [
            cell.rjust(width) if index in _NUMBERS else cell.ljust(width)
            for index, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        lines.append("  ".join(cells).rstrip())
    return "\n".join(lines)
