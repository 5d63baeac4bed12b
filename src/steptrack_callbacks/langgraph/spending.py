"""What a thread of an agent has spent, as plain values that a checkpoint can keep.

```
{"id": "…", "runs": {"<step id>": {"n": 3, "usage": {"calls": 2, "cost_usd": "0.0004", …}, "grants": [{…}]}}}
```

Each run of the agent writes its own sums again, numbered by `n`. So parallel tasks, tasks that are run
again and late reports all merge to the same sums, in whatever order they arrive.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from typing import Any, NotRequired, TypedDict

from steptrack_callbacks.engine.amounts import Charge, Sums
from steptrack_callbacks.values.definitions import Grant
from steptrack_callbacks.values.money import to_units, to_usd
from steptrack_callbacks.values.usage import Usage, count_names

_KEPT = 16
_EARLIER = "earlier"


class Entry(TypedDict):
    """What one run has spent, and was granted."""

    n: int
    usage: dict[str, Any]
    grants: list[dict[str, Any]]
    run_grants: NotRequired[list[dict[str, Any]]]
    turn: NotRequired[str]


Spending = dict[str, Any]


def merged(before: Spending, after: Spending) -> Spending:
    """Merge what two tasks know; of each run, the newer counts."""
    runs: dict[str, Entry] = dict(before.get("runs", {}))
    for run, entry in after.get("runs", {}).items():
        if run not in runs or entry["n"] > runs[run]["n"]:
            runs[run] = entry
    return {"id": before.get("id") or after.get("id"), "runs": _short(runs)}


def _short(runs: dict[str, Entry]) -> dict[str, Entry]:
    """Sum the oldest runs up: no task writes them any more."""
    if len(runs) <= _KEPT:
        return runs
    earlier = [run for run in runs if run != _EARLIER][: len(runs) - _KEPT]
    summed = [runs[run] for run in (_EARLIER, *earlier) if run in runs]
    folded: Entry = {
        "n": sum(entry["n"] for entry in summed),
        "usage": written(sum((read(entry["usage"]) for entry in summed), Usage())),
        "grants": [grant for entry in summed for grant in entry["grants"]],
    }
    return {_EARLIER: folded} | {run: entry for run, entry in runs.items() if run not in (_EARLIER, *earlier)}


def total(spending: Spending) -> Usage:
    """Return what all runs have spent."""
    return sum((read(entry["usage"]) for entry in spending.get("runs", {}).values()), Usage())


def grants(spending: Spending) -> list[Grant]:
    """Return what was granted in all runs, in order."""
    entries: list[Entry] = list(spending.get("runs", {}).values())
    return [Grant(**_amounts(grant)) for entry in entries for grant in entry["grants"]]


def grants_of_run(spending: Spending, turn: str) -> list[Grant]:
    """Return what was granted to the runs of one turn alone, in order."""
    entries: list[Entry] = list(spending.get("runs", {}).values())
    mine = [entry for entry in entries if entry.get("turn") == turn]
    return [Grant(**_amounts(grant)) for entry in mine for grant in entry.get("run_grants", ())]


def _amounts(grant: Mapping[str, Any]) -> dict[str, Any]:
    money = {"max_usd": to_usd(to_units(grant["max_usd"], "max_usd"))} if "max_usd" in grant else {}
    return {**grant, **money}


def written_grant(grant: Grant) -> dict[str, Any]:
    """Write a grant as plain values; money stays exact."""
    values = {field.name: getattr(grant, field.name) for field in fields(grant)}
    given = {name: value for name, value in values.items() if value is not None}
    return given | ({"max_usd": str(grant.max_usd)} if grant.max_usd is not None else {})


def written(usage: Usage) -> dict[str, Any]:
    """Write a usage as plain values; money stays exact."""
    counts = {name: getattr(usage, name) for name in count_names() if getattr(usage, name)}
    return counts | ({"cost_usd": str(usage.cost_usd)} if usage.cost_usd else {})


def read(usage: Mapping[str, Any]) -> Usage:
    """Read what was written; counts of newer versions are left out."""
    counts = {name: usage[name] for name in count_names() if name in usage}
    return Usage(**counts, cost_usd=to_usd(to_units(usage.get("cost_usd", 0), "cost_usd")))


def sums_of(usage: Usage) -> list[Sums]:
    """Return a usage in the form in which accounts take it."""
    blind = usage.unpriced_calls
    priced = Charge(
        usage,
        to_units(usage.cost_usd, "cost_usd"),
        calls=usage.calls - blind,
        failed=usage.failed_calls,
        estimated=usage.estimated_calls,
    )
    return [priced.sums(), Charge(Usage(), None, calls=blind).sums() if blind else ()]


def newest(_before: Any, after: Any) -> Any:
    """Keep what was written last: of several in one step of the graph, any."""
    return after
