"""The timeline of calls: a lane for each step, a bar for each call, and the same as a table."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator

from steptrack_callbacks.engine.call_log import SeenCall
from steptrack_callbacks.values.formatting import plural, seconds
from steptrack_callbacks.values.html_parts import amounts, cost, named
from steptrack_callbacks.values.markup import Child, Markup, tag
from steptrack_callbacks.values.records import CompletedStep

from .bars import row, table
from .folding import Fold, folded
from .tree import Tree

MOST_CALLS = 500
MOST_LANES = 40
MOST_CHARTS = 10
_MOST_ROWS = 8
_SMALLEST = 0.004
_SHORTEST_S = 0.004
"""What took less has no axis: its moments would all be called 0 ms."""

_MARKS = ("settled", "estimated", "unpriced", "failed", "cached", "denied", "running")
_WORDS = {
    "denied": "refused",
    "cached": "from a cache",
    "unpriced": "of unknown price",
    "running": "in flight",
}
"""What a mark is called, where that is not its name."""


def timeline_of(report: Tree) -> Markup | None:
    """Show when the calls of a report ran; nothing if there are none."""
    calls = report.calls[-MOST_CALLS:]
    if not calls:
        return _unknown(report.total.calls)
    begin = min(call.started_at for call in calls)
    end = max(call.started_at if call.ended_at is None else call.ended_at for call in calls)
    summary = f"{plural(len(calls), 'call')} over {seconds(end - begin)}; the table below has each of them"
    return tag(
        "section",
        tag("h2", "Timeline of calls"),
        tag("div", _charts(report, calls), role="img", aria_label=summary),
        _keys(calls),
        _left_out(report, len(calls)),
        tag("details", tag("summary", f"The {plural(len(calls), 'call')} as a table"), _table(calls, begin)),
        class_="timeline",
    )


def _charts(report: Tree, calls: Iterable[SeenCall]) -> Iterator[Markup]:
    """Show each run by itself, on an axis of its own: between runs there may be days."""
    runs: dict[str, list[SeenCall]] = {}
    for call in calls:
        runs.setdefault(call.run_id, []).append(call)
    room = MOST_LANES
    for run_id, made in list(runs.items())[-MOST_CHARTS:]:
        axis = _Axis((record for record in report.records if record.run_id == run_id), made)
        lanes = list(_lanes(report, run_id, made, axis))[: max(room, 1)]
        room -= len(lanes)
        name = tag("p", "run ", tag("bdi", run_id), class_="lanerun") if run_id and len(runs) > 1 else None
        yield tag("div", name, lanes, axis.ticks(), class_="chart")


def _unknown(calls: int) -> Markup | None:
    """Say that nobody here knows when calls ran: the report is of a ledger, or they were long ago."""
    if not calls:
        return None
    when = f"When {plural(calls, 'call')} ran is not kept: only the process that makes calls knows it."
    return tag("section", tag("h2", "Timeline of calls"), tag("p", when, class_="note"), class_="timeline")


class _Axis:
    """Turns moments into places between 0 and 1."""

    def __init__(self, records: Iterable[CompletedStep], calls: Iterable[SeenCall]) -> None:
        calls = list(calls)
        shown = list(records)
        ends = [call.started_at if call.ended_at is None else call.ended_at for call in calls]
        self.begin = min([*(call.started_at for call in calls), *(record.started_at for record in shown)])
        self.now = max([*ends, *(record.ended_at for record in shown)])
        self.span = max(self.now - self.begin, 1e-6)

    def place(self, moment: float) -> float:
        return min(max((moment - self.begin) / self.span, 0.0), 1.0)

    def stretch(self, begin: float, end: float | None) -> tuple[float, float]:
        """Return where something begins, and how wide it is; wide enough to be seen."""
        width = max(self.place(self.now if end is None else end) - self.place(begin), _SMALLEST)
        return min(self.place(begin), 1 - width), width

    def ticks(self) -> Markup:
        """Show four or five round moments; where all is at one, that one."""
        if self.span < _SHORTEST_S:
            return tag("div", tag("span"), tag("div", tag("span", "0 s"), class_="ticks"), class_="lane axis")
        rough = self.span / 4
        power = 10.0 ** math.floor(math.log10(rough))
        width = next(power * factor for factor in (1, 2, 2.5, 5, 10) if power * factor >= rough)
        count = int(self.span / width)
        marks = (
            tag(
                "span",
                seconds(number * width) if number else "0 s",
                style=f"left:{number * width / self.span:.2%}",
            )
            for number in range(count + 1)
            if number * width / self.span < 0.96  # noqa: PLR2004 - a label there would stick out
        )
        return tag("div", tag("span"), tag("div", marks, class_="ticks"), class_="lane axis")


def _mark_of(call: SeenCall) -> str:
    if call.outcome in ("denied", "failed"):
        return call.outcome
    if call.outcome == "in flight":
        return "running"
    if not call.usage.calls:
        return "cached"
    if call.usage.unpriced_calls:
        return "unpriced"
    return "estimated" if call.usage.estimated_calls else "settled"


def _lanes(report: Tree, run_id: str, calls: Iterable[SeenCall], axis: _Axis) -> Iterator[Markup]:
    """Yield a lane for each step of a run that made calls, and for those around them."""
    inside: dict[str | None, list[SeenCall]] = {}
    for call in calls:
        inside.setdefault(call.step_id, []).append(call)
    shown = _with_those_around(report, inside)
    for each in folded(branch for branch in report.branches() if branch.record.run_id == run_id):
        if isinstance(each, Fold):
            ids = [line.record.id for branch in each.branches for line in branch.lines()]
            made = [call for step_id in ids for call in inside.get(step_id, ())]
            if made:
                made.sort(key=lambda call: call.started_at)
                yield _lane(named(each.title), made, axis, depth=each.depth)
        elif each.record.id in shown:
            made = inside.get(each.record.id, [])
            yield _lane(named(each.record.name), made, axis, depth=each.depth, record=each.record)
    if None in inside:
        yield _lane("(unattributed)", inside[None], axis)


def _with_those_around(report: Tree, ids: Iterable[str | None]) -> set[str]:
    parents = {record.id: record.parent_id for record in report.records}
    shown: set[str] = set()
    for step_id in ids:
        while step_id in parents and step_id not in shown:
            shown.add(step_id)
            step_id = parents[step_id]  # noqa: PLW2901 - on the way up
    return shown


def _lane(
    name: Child, calls: list[SeenCall], axis: _Axis, *, depth: int = 0, record: CompletedStep | None = None
) -> Markup:
    placed, rows = _stacked(calls, axis)
    span = None
    if record is not None:
        left, width = axis.stretch(record.started_at, record.ended_at)
        span = tag("span", class_="span", style=f"left:{left:.2%};width:{width:.2%}")
    return tag(
        "div",
        tag("span", name, class_="label", style=f"--depth:{min(depth, 12)}"),
        tag("div", span, placed, class_="lanetrack", style=f"--rows:{rows}"),
        class_="lane",
    )


def _stacked(calls: list[SeenCall], axis: _Axis) -> tuple[list[Markup], int]:
    """Put calls that overlap below each other, in the first row that is free."""
    free: list[float] = []
    placed = []
    for call in calls:
        left, width = axis.stretch(call.started_at, call.ended_at)
        at = next((index for index, end in enumerate(free) if end <= left), len(free))
        at = min(at, _MOST_ROWS - 1)
        free[at : at + 1] = [left + width]
        mark = f"call {_mark_of(call)}{' late' if call.late else ''}"
        where = f"left:{left:.2%};width:{width:.2%};--row:{at}"
        placed.append(tag("span", class_=mark, style=where, title=_title(call)))
    return placed, max(len(free), 1)


def _title(call: SeenCall) -> str:
    took = "" if call.ended_at is None else f", {seconds(max(0.0, call.ended_at - call.started_at))}"
    return f"call {call.number}: {call.model}, {' '.join(_words(call))}{took}"


def _words(call: SeenCall) -> Iterator[str]:
    mark = _mark_of(call)
    yield _WORDS.get(mark, mark)
    if call.late:
        yield "(late)"


def _keys(calls: Iterable[SeenCall]) -> Markup:
    seen = {_mark_of(call) for call in calls}
    keys = [
        tag("li", tag("span", class_=f"call {mark}"), _WORDS.get(mark, mark))
        for mark in _MARKS
        if mark in seen
    ]
    if any(call.late for call in calls):
        keys.append(tag("li", tag("span", class_="call settled late"), "settled late"))
    return tag("ul", keys, class_="keys")


def _left_out(report: Tree, shown: int) -> Markup | None:
    known = sum(call.usage.calls for call in report.calls[-shown:])
    if (missing := report.total.calls - known) <= 0:
        return None
    return tag(
        "p", f"{plural(missing, 'earlier call')} in the totals, and no longer in the timeline.", class_="note"
    )


def _table(calls: Iterable[SeenCall], begin: float) -> Markup:
    columns = ("Call", "Step", "Model", "Outcome", "Began", "Took", "In", "Out", "Cost")
    return table(
        "Each call, in the order in which they began", columns, (_row(call, begin) for call in calls), "calls"
    )


def _row(call: SeenCall, begin: float) -> Markup:
    took = "" if call.ended_at is None else seconds(max(0.0, call.ended_at - call.started_at))
    cells: list[tuple[str, Child]] = [
        ("Step", named(call.path) if call.path else "(unattributed)"),
        ("Model", named(call.model)),
        ("Outcome", [" ".join(_words(call)), tag("div", call.error, class_="error") if call.error else None]),
        ("Began", f"+{seconds(max(0.0, call.started_at - begin))}"),
        ("Took", took),
        ("In", f"{call.usage.input_tokens:,}"),
        ("Out", f"{call.usage.output_tokens:,}"),
        ("Cost", cost(call.usage) if call.usage.calls else ""),
    ]
    return row(call.number, cells, **amounts(call.usage), data_call=call.number)
