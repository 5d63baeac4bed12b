"""Tables, and pieces that only a page has."""

from __future__ import annotations

from collections.abc import Iterable
from decimal import Decimal
from typing import Any

from steptrack_callbacks.values.formatting import percent, shortened, sureness_of
from steptrack_callbacks.values.markup import Child, Markup, tag
from steptrack_callbacks.values.records import CompletedStep
from steptrack_callbacks.values.usage import Usage


def part_of_whole(usage: Usage, whole: Decimal) -> Markup | None:
    """Draw which part of a run's cost something is; nothing where that is not known, or nothing was spent."""
    if not whole or not usage.cost_usd or sureness_of(usage) == "unknown":
        return None
    fraction = min(float(usage.cost_usd / whole), 1.0)
    fill = tag("span", class_="fill good", style=f"width:{fraction:.2%}")
    title = f"{percent(fraction)} of the cost of its run"
    return tag("span", fill, class_="track of-run", title=title, data_share_of_run=f"{fraction:.6g}")


def table(caption: str, columns: Iterable[str], rows: Iterable[Child], class_: str = "") -> Markup:
    """Show a table that a phone lays out as cards; the roles keep it a table for a screen reader."""
    head = (tag("th", column, role="columnheader", scope="col") for column in columns)
    return tag(
        "table",
        tag("caption", caption),
        tag("thead", tag("tr", head, role="row"), role="rowgroup"),
        tag("tbody", rows, role="rowgroup"),
        role="table",
        class_=class_ or None,
    )


def row(head: Child, cells: Iterable[tuple[str, Child]], *, depth: int = 0, **attributes: Any) -> Markup:
    """Show a row; each cell comes with its column's name, for phones."""
    first = tag("th", head, role="rowheader", scope="row")
    rest = (
        tag("td", value, role="cell", data_label=column, class_="empty" if value in ("", None) else None)
        for column, value in cells
    )
    indent = f"--depth:{depth}" if depth else None
    return tag("tr", first, rest, role="row", style=indent, **attributes)


def trouble(record: CompletedStep) -> Markup | None:
    """Show the error that a step ended with, shortened."""
    if not record.error:
        return None
    return tag("div", shortened(record.error), class_="error")
