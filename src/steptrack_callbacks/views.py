"""What people look at: the tree of steps, with what each spent of what it had."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from io import StringIO
from typing import Any, NamedTuple

from .activation import ledger, running
from .definitions import LimitName
from .money import format_usd, to_units
from .pinning import unattributed_usage as read_unattributed
from .records import CompletedStep
from .usage import Usage

_COLUMNS = ("step", "status", "calls", "in", "out", "cost", "used of limit")


class Line(NamedTuple):
    """One step in the tree."""

    depth: int
    record: CompletedStep


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """The steps of a process, as a tree; `str()` writes it as text.

    Attributes:
        records: Ended and running steps, parents before their children.
        unattributed: Usage of calls that found no step.
        dropped_records: Records that the ledger let go to stay bounded; they are missing here.
    """

    records: tuple[CompletedStep, ...]
    unattributed: Usage
    dropped_records: int = 0

    @property
    def total(self) -> Usage:
        """All that was seen: the outermost steps and what is unattributed."""
        known = {record.id for record in self.records}
        roots = (record.usage for record in self.records if record.parent_id not in known)
        return sum(roots, Usage()) + self.unattributed

    def lines(self) -> Iterator[Line]:
        """Yield the tree from the top, with depths from 0."""
        known = {record.id for record in self.records}
        inside: dict[str | None, list[CompletedStep]] = {}
        for record in sorted(self.records, key=lambda record: record.started_at):
            parent = record.parent_id if record.parent_id in known else None
            inside.setdefault(parent, []).append(record)
        pending = [Line(0, record) for record in reversed(inside.get(None, []))]
        while pending:
            line = pending.pop()
            yield line
            pending += [Line(line.depth + 1, child) for child in reversed(inside.get(line.record.id, []))]

    def to_dicts(self) -> list[dict[str, Any]]:
        """Return a flat dict per step, in the order of the tree; made for `pandas.DataFrame`."""
        return [line.record.to_dict() | {"depth": line.depth} for line in self.lines()]

    def _remarks(self) -> Iterator[str]:
        """Yield what the table cannot show, once for all steps that share it."""
        refused_inside: Counter[str | None] = Counter()
        for record in self.records:
            refused_inside[record.parent_id] += record.denied_calls
        notes = Counter(
            note
            for line in self.lines()
            for note in _notes(line.record, line.record.denied_calls - refused_inside[line.record.id])
        )
        for note, times in notes.items():
            yield note if times == 1 else f"{note}, in {times} steps each"
        if self.dropped_records:
            yield f"{self.dropped_records} older records were let go and are missing here"

    def __str__(self) -> str:
        rows = [_row(line) for line in self.lines()]
        if self.unattributed.calls:
            rows.append(_row_of_usage("(unattributed)", self.unattributed))
        if not rows:
            return "no steps have run yet"
        text = _table([*rows, _row_of_usage("total", self.total)])
        return "\n".join([text, *self._remarks()])


def report(run_id: str | None = None) -> Report:
    """Collect the steps of this process, running ones included.

    Args:
        run_id: Only the steps of this run, and nothing unattributed; `None` means all.

    Returns:
        The tree; print it.

    Example:
        >>> from steptrack_callbacks import record_usage, report, step
        >>> with step("plan", max_calls=4) as plan:
        ...     record_usage("my-model", input_tokens=10, output_tokens=5, cost_usd=0.02)
        >>> report(plan.run_id).total.cost_usd
        Decimal('0.02')
    """
    unfinished = [step.record() for step in running() if step.kind != "hook"]
    records = [record for record in [*unfinished, *ledger.peek()] if run_id in (None, record.run_id)]
    return Report(
        records=tuple(records),
        unattributed=read_unattributed() if run_id is None else Usage(),
        dropped_records=ledger.dropped,
    )


def _row(line: Line) -> tuple[str, ...]:
    record = line.record
    head = _row_of_usage("  " * line.depth + record.name, record.usage)
    return (head[0], record.status, *head[2:-1], ", ".join(_shares(record)))


def _row_of_usage(name: str, usage: Usage) -> tuple[str, ...]:
    cost = format_usd(to_units(usage.cost_usd, "cost_usd"))
    if usage.unpriced_calls:
        cost = "unknown" if usage.unpriced_calls == usage.calls and not usage.cost_usd else f">={cost}"
    if usage.estimated_calls:
        cost = f"~{cost}"
    return (name, "", f"{usage.calls}", f"{usage.input_tokens:,}", f"{usage.output_tokens:,}", cost, "")


def _shares(record: CompletedStep) -> Iterator[str]:
    for limit, value in record.limits.items():
        consumed = _consumed(record, limit)
        share = _percent(float(consumed) / float(value)) if value else "-"
        shown = (
            format_usd(to_units(value, limit))
            if limit == "max_usd"
            else f"{value:,} {limit.removeprefix('max_')}"
        )
        yield f"{share} of {shown}"


def _percent(share: float) -> str:
    return "<1%" if 0 < share < 0.01 else f"{share:.0%}"  # noqa: PLR2004


def _consumed(record: CompletedStep, limit: LimitName) -> Any:
    return {
        "max_usd": record.usage.cost_usd,
        "max_tokens": record.usage.total_tokens,
        "max_calls": record.usage.calls,
        "max_seconds": record.duration_s,
    }[limit]


def _notes(record: CompletedStep, refused: int) -> Iterator[str]:
    used = record.own_usage
    counted = {
        "estimated": used.estimated_calls,
        "of unknown price": used.unpriced_calls,
        "failed": used.failed_calls,
        "still in flight at the end": record.in_flight_calls,
        "beyond a strict limit": record.strict_breaches,
    }
    parts = [f"{count} {what}" for what, count in counted.items() if count]
    if refused > 0:
        parts.append(f"{refused} refused")
    if parts:
        yield f"  {record.path}: calls {', '.join(parts)}"
    for grant in record.grants:
        yield f"  {record.path}: granted {grant.to_dict()}"


def _table(rows: list[tuple[str, ...]]) -> str:
    try:
        return _rich_table(rows)
    except ImportError:
        return _plain_table(rows)


def _rich_table(rows: list[tuple[str, ...]]) -> str:
    from rich.box import SIMPLE_HEAD  # noqa: PLC0415 - an extra
    from rich.console import Console  # noqa: PLC0415
    from rich.table import Table  # noqa: PLC0415
    from rich.text import Text  # noqa: PLC0415

    table = Table(box=SIMPLE_HEAD, pad_edge=False)
    for index, column in enumerate(_COLUMNS):
        table.add_column(column, justify="right" if 2 <= index <= 5 else "left", no_wrap=index != 6)  # noqa: PLR2004
    for row in rows[:-1]:
        table.add_row(*map(Text, row))
    table.add_row(*map(Text, rows[-1]))
    console = Console(file=StringIO(), width=120, color_system=None)
    with console.capture() as capture:
        console.print(table)
    lines = (line.rstrip() for line in capture.get().splitlines())
    return "\n".join(line for line in lines if line)


def _plain_table(rows: list[tuple[str, ...]]) -> str:
    widths = [max(len(row[index]) for row in [_COLUMNS, *rows]) for index in range(len(_COLUMNS))]
    lines = []
    for row in [_COLUMNS, *rows]:
        cells = [
            cell.rjust(width) if 2 <= index <= 5 else cell.ljust(width)  # noqa: PLR2004
            for index, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        lines.append("  ".join(cells).rstrip())
    return "\n".join(lines)
