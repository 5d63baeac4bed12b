"""The tree of steps as a table: a head for each run, a row for each step, equal steps folded into one."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from decimal import Decimal

from steptrack_callbacks.values.formatting import plural, seconds
from steptrack_callbacks.values.html_parts import amounts, bars, chip, cost, named
from steptrack_callbacks.values.markup import Child, Markup, tag
from steptrack_callbacks.values.records import CompletedStep, shares_of, spent_elsewhere
from steptrack_callbacks.values.usage import Usage

from .bars import part_of_whole, row, table, trouble
from .folding import Fold, Line, folded
from .tree import Tree

COLUMNS = ("Step", "Status", "Used of limit", "Calls", "In", "Out", "Cost")
MOST_IN_A_FOLD = 300
_UNRECORDED = tag(
    "span",
    "no record",
    class_="chip busy",
    title="it has no record here: it still runs, was killed, or its record was pruned",
)


def steps_table(report: Tree, most: int) -> Iterator[Child]:
    """Show the steps of a report, `most` rows of them."""
    rows: list[Child] = []
    shown = 0
    run_id = None
    for branch in report.branches():
        if shown >= most:
            break
        if branch.record.run_id != run_id:
            run_id = branch.record.run_id
            rows.append(_run(branch.record))
        whole = branch.record.here_usage.cost_usd
        for each in folded([branch]):
            if shown < most:
                rows.append(_fold(each, whole) if isinstance(each, Fold) else _step(each, whole))
                shown += _steps_in(each)
    rows += [_sum(str(each.run), each.usage, "unfinished", _UNRECORDED) for each in report.unfinished]
    if report.unattributed.calls:
        rows.append(_sum("(unattributed)", report.unattributed, "unattributed"))
    rows.append(_sum("total", report.total, "total"))
    yield table("What each step spent of what it had, with the steps inside it", COLUMNS, rows, "tree")
    if (rest := len(report.records) - shown) > 0:
        yield tag("p", f"{rest:,} more steps are in the totals, and not shown here.", class_="note")


def _steps_in(each: Line | Fold) -> int:
    return 1 if isinstance(each, Line) else sum(1 for branch in each.branches for _ in branch.lines())


def moment(at: float) -> Markup:
    """Show a time with its zone."""
    local = time.localtime(at)
    zone = time.strftime("%z", local)
    shown = f"{time.strftime('%Y-%m-%d %H:%M:%S', local)} {zone[:3]}:{zone[3:]}"
    return tag("time", shown, datetime=time.strftime("%Y-%m-%dT%H:%M:%S%z", local))


def _run(record: CompletedStep) -> Markup:
    head = ["run ", tag("bdi", record.run_id, class_="id"), ", begun ", moment(record.started_at)]
    cell = tag("td", head, role="cell", colspan=len(COLUMNS))
    return tag("tr", cell, role="row", class_="run", data_run_id=record.run_id)


def _step(line: Line, whole: Decimal) -> Markup:
    record = line.record
    kind = tag("span", record.kind, class_="kind") if record.kind != "step" else None
    level = tag("span", f"level {line.depth + 1}: ", class_="hidden")
    took = tag("span", seconds(record.duration_s), class_="took")
    numbers = _numbers(record.usage, whole, refused=record.denied_calls, notes=spent_elsewhere(record))
    return row(
        [level, named(line.name), " ", kind, " ", took, trouble(record)],
        [
            ("Status", chip(record.status)),
            ("Used of limit", list(bars(shares_of(record)))),
            *numbers,
        ],
        depth=min(line.depth, 12),
        **amounts(record.usage),
        data_step_id=record.id,
        data_path=record.path,
        data_status=record.status,
        data_depth=line.depth,
        data_denied_calls=record.denied_calls,
    )


def _fold(fold: Fold, whole: Decimal) -> Markup:
    level = tag("span", f"level {fold.depth + 1}: ", class_="hidden")
    members = tag("details", tag("summary", level, named(fold.title)), _members(fold), class_="fold")
    refused = sum(record.denied_calls for record in fold.records)
    statuses = {record.status for record in fold.records}
    nearest = [tag("span", "the most that one of them used", class_="words"), *bars(fold.nearest)]
    status: Child = chip(statuses.pop()) if len(statuses) == 1 else fold.statuses
    return row(
        members,
        [
            ("Status", status),
            ("Used of limit", nearest if fold.nearest else ""),
            *_numbers(fold.usage, whole, refused=refused),
        ],
        depth=min(fold.depth, 12),
        class_="folded",
        **amounts(fold.usage),
        data_steps=len(fold.branches),
        data_depth=fold.depth,
    )


def _members(fold: Fold) -> Iterator[Child]:
    lines = [line for branch in fold.branches for line in branch.lines()]
    yield tag("ul", map(_member, lines[:MOST_IN_A_FOLD]), class_="members")
    if (rest := len(lines) - MOST_IN_A_FOLD) > 0:
        yield tag("p", f"{rest:,} more are in the sums.", class_="note")


def _member(line: Line) -> Markup:
    record = line.record
    refused = f", {record.denied_calls:,} refused" if record.denied_calls else ""
    calls = f" {plural(record.usage.calls, 'call')}{refused}, "
    name = [" ", named(record.name)] if line.depth else None
    took = tag("span", f" {seconds(record.duration_s)}", class_="took")
    content = [chip(record.status), name, calls, cost(record.usage), took, trouble(record)]
    indent = f"--depth:{min(line.depth, 12)}" if line.depth else None
    return tag("li", content, style=indent, data_step_id=record.id)


def _sum(name: str, usage: Usage, class_: str, status: Child = "") -> Markup:
    cells: list[tuple[str, Child]] = [("Status", status), ("Used of limit", ""), *_numbers(usage, Decimal(0))]
    return row(name, cells, class_=class_, **amounts(usage))


def _numbers(
    usage: Usage, whole: Decimal, *, refused: int = 0, notes: Iterable[str] = ()
) -> list[tuple[str, Child]]:
    """Show what was used, and which part of a run's whole cost that is."""
    apart = tag("span", f"{refused:,} refused", class_="doubt") if refused else None
    return [
        ("Calls", [f"{usage.calls:,}", apart]),
        ("In", f"{usage.input_tokens:,}"),
        ("Out", f"{usage.output_tokens:,}"),
        (
            "Cost",
            [
                cost(usage),
                part_of_whole(usage, whole),
                doubts(usage),
                (tag("span", note, class_="part") for note in notes),
            ],
        ),
    ]


def doubts(usage: Usage) -> list[Markup]:
    """Show what of a sum is estimated, or of unknown price."""
    counted = (("estimated", usage.estimated_calls), ("unpriced", usage.unpriced_calls))
    return [tag("span", f"{count:,} {word}", class_="doubt") for word, count in counted if count]
