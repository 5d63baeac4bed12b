"""How commands print: tables for people, JSON for programs."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any, TextIO

Row = Sequence[str]


def print_json(value: Any, file: TextIO | None = None, *, indent: int | None = 2) -> None:
    """Print plain values as JSON."""
    print(json.dumps(value, indent=indent, ensure_ascii=False, default=str), file=file or sys.stdout)


def left_stderr() -> TextIO | None:
    """Return where to print what stderr is for; a program may have closed it, or put `None` in its place."""
    for stream in (sys.stderr, sys.__stderr__):
        if stream is not None and not getattr(stream, "closed", False):
            return stream
    return None


def print_report(report: Any, file: TextIO) -> None:
    """Print a report as wide as the terminal is, or as text where there is none."""
    if getattr(file, "isatty", bool)():  # a program's own stderr may only write
        try:
            from rich.console import Console  # noqa: PLC0415 - an extra
        except ImportError:
            pass
        else:
            Console(file=file).print(report)
            return
    print(report, file=file)


def tables_of(report: Any) -> dict[str, Any]:
    """Return a report as plain values."""
    names = ("steps", "models", "budgets", "grants")
    return {"total": report.total.to_dict()} | {name: report.to_dicts(name) for name in names}


def date(seconds: float) -> str:
    """Write a moment in UTC.

    Example:
        >>> date(1700000000.0)
        '2023-11-14 22:13 UTC'
    """
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M UTC")


def table(columns: Row, rows: Sequence[Row], *, numbers: Sequence[int] = ()) -> str:
    """Lay out a table as text, columns of numbers to the right.

    Example:
        >>> print(table(("name", "calls"), [("plan", "7"), ("write", "12")], numbers=[1]))
        name   calls
        plan       7
        write     12
    """
    lines = [columns, *rows]
    widths = [max(len(line[index]) for line in lines) for index in range(len(columns))]
    return "\n".join(
        "  ".join(
            cell.rjust(width) if index in numbers else cell.ljust(width)
            for index, (cell, width) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        for line in lines
    )
