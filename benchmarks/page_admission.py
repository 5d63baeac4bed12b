"""The tables of what passes a budget, and what it leaves unused, in virtual time."""

from __future__ import annotations

from collections.abc import Sequence

from tables import Results, table

HEADS = ("", "spent", "means of cells", "p99", "worst", "time", "longest", "cut")


def written(found: Sequence[Results]) -> str:
    """Make a table of each class."""
    return "\n\n".join(_class(found, name) for name in dict.fromkeys(each["class"] for each in found))


def _class(found: Sequence[Results], name: str) -> str:
    rows = [each for each in found if each["class"] == name]
    title, budget = name.rsplit(", ", 1)
    draws = rows[0]["draws"]
    head = f"*{title[0].upper()}{title[1:]}*: a budget of {budget} mean answers, {draws} draws of each cell."
    return f"{head}\n\n{table(HEADS, map(_cells, rows))}"


def row(each: Results) -> str:
    """Write what one rule does in one class as a line."""
    return " | ".join([each["class"], *_cells(each)])


def _cells(each: Results) -> list[str]:
    low, high = each["cells"]
    return [
        each["rule"],
        f"{each['spent']:.0%}",
        f"{low:.0%} to {high:.0%}",
        f"{each['p99']:.0%}",
        f"{each['worst']:.0%}",
        f"{each['time']:.1f}",
        f"{each['longest']:.1f}",
        _cut(each),
    ]


def _cut(each: Results) -> str:
    if each["cut"] <= 1:
        return str(each["cut"])
    return f"{each['cut']} ({each['cut_twice']} of {each['runs']:,} runs)"
