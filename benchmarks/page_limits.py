"""The tables of how well limits hold."""

from __future__ import annotations

import statistics
from collections.abc import Iterator

from limits import PROCESSES
from tables import NONE, OURS, Results, can, label, number, table

DOORS = {"langchain": "LangChain", "litellm": "LiteLLM", "openai": "the OpenAI client"}
STATES = ("cold, max", "cold", "warm, max", "warm")


def at_once(rows: list[Results], door: str) -> str:
    return table(["", *_columns()], (_row(row) for row in rows if row["door"] == door))


def _columns() -> Iterator[str]:
    yield from (f"{mode}, {state}" for mode in ("tasks", "threads") for state in STATES)
    yield "one by one"
    yield from (f"{PROCESSES} processes, {state}" for state in STATES)


def _row(row: Results) -> Iterator[str]:
    yield label(row["name"])
    for column in _columns():
        title = column.replace(", max", ", max_tokens")
        if "max_tokens" not in title and title != "one by one":
            title += ", none"
        yield _sent({key: cell for key, cell in row["trials"].items() if key.startswith(title)})


def _sent(cells: dict[str, Results]) -> str:
    """Tell one figure, or one for each place where processes can share a budget."""
    told = {key.rpartition(" ")[2]: _sent_of(cell) for key, cell in cells.items() if can(cell)}
    if not told:
        return NONE
    if len(cells) == 1 or (len(told) == len(cells) and len(set(told.values())) == 1):
        return next(iter(told.values()))
    return ", ".join(f"{text} ({kind})" for kind, text in told.items())


def _sent_of(cell: Results) -> str:
    if cell["answered"] < cell["sent"]:
        return f"{cell['sent']}, {cell['answered']} answered"
    strange = [
        end for end in cell["ends"] if not any(word in end for word in ("Budget", "Exceed", "Exhaust"))
    ]
    return ", ".join([str(cell["sent"]), *(f"{cell['ends'][end]} {end}" for end in strange)])


def varied(rows: list[Results]) -> str:
    keys = [
        f"varied, {first} one first, {cap}" for first in ("usual", "short") for cap in ("max_tokens", "none")
    ]
    lines = []
    for row in rows:
        cells = [_spent(row["trials"].get(key)) for key in keys]
        if set(cells) != {NONE}:
            lines.append([f"{DOORS[row['door']]}: {label(row['name'])}", *cells])
    return table(["", "usual first, max", "usual first", "short first, max", "short first"], lines)


def _spent(cell: Results | None) -> str:
    return f"{cell['spent of the limit']:.0%} ({cell['sent']})" if cell and can(cell) else NONE


def in_a_row(found: list[Results]) -> str:
    """Tell how many calls were sent in each of many runs, and how the others ended."""
    heads = ["", "sent, run by run", "the others", "seconds, median", "longest"]
    return table(heads, map(_in_a_row, found))


def _in_a_row(cell: Results) -> Iterator[str]:
    state = f"{'warm' if cell['warm'] else 'cold'}{', max' if cell['max_tokens'] else ''}"
    yield f"{DOORS[cell['door']]}, {state}"
    yield " ".join(map(str, cell["sent"]))
    yield ", ".join(f"{count} {end}" for end, count in cell["ends"].items())
    yield number(statistics.median(cell["seconds"]))
    yield number(max(cell["seconds"]))


def nearer(rows: list[Results]) -> Iterator[str]:
    """Say which others came nearer to the budget than any row of ours through the same door."""
    for row in rows:
        mine = [each for each in rows if each["door"] == row["door"] and each["name"] in OURS]
        if row["name"] in OURS:
            continue
        better = [key for key, cell in row["trials"].items() if _is_nearer(key, cell, mine)]
        if better:
            through = f"through {DOORS[row['door']]}: {label(row['name'])}"
            yield f"- Nearer to the budget than any row of ours, {through}: {'; '.join(better)}."


def _is_nearer(key: str, cell: Results, mine: list[Results]) -> bool:
    ours = [each["trials"].get(key) for each in mine]
    distances = [abs(1 - each["spent of the limit"]) for each in ours if each and can(each)]
    return can(cell) and bool(distances) and abs(1 - cell["spent of the limit"]) < min(distances)
