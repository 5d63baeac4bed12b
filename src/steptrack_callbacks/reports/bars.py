"""Bars and small pieces that the page, the cards and the live view share."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from decimal import Decimal
from functools import cache
from importlib.resources import files
from typing import Any

from steptrack_callbacks.values.records import CompletedStep, Status
from steptrack_callbacks.values.usage import Usage

from .marks import Share, cost_of, percent, sureness_of
from .markup import Child, Markup, stylesheet, tag

NEAR = 0.8
"""The share of a limit from which a bar warns."""

STATUS_MEANS: dict[Status, str] = {
    "new": "not begun",
    "open": "still running",
    "completed": "ended within its limits",
    "exhausted": "ran out of budget, and its body handled that",
    "continued": "ran out of budget, and the program went on without it",
    "escalated": "ran out of budget, and was handed to whoever can decide",
    "failed": "ran out of budget, and raised",
    "stopped": "a step around it ran out of budget",
    "error": "left by another exception",
    "cancelled": "cancelled or interrupted",
    "interrupted": "paused, to be resumed",
    "denied": "kept from starting by a hook",
}
_TONES = {
    "completed": "good",
    "open": "busy",
    "new": "quiet",
    "continued": "warn",
    "exhausted": "warn",
    "escalated": "bad",
    "failed": "bad",
    "error": "bad",
    "denied": "bad",
}
_SURE_TITLES = {
    "estimated": "partly estimated: some tokens were counted here, not reported by the provider",
    "lower bound": "at least this: calls of unknown price are not in it",
    "unknown": "nobody knows the price of these calls",
}


@cache
def style() -> Markup:
    """Return the style sheet of everything that is shown."""
    return stylesheet(files(__package__).joinpath("report.css").read_text(encoding="utf-8"))


def chip(status: Status) -> Markup:
    """Show how a step ended."""
    return tag("span", status, class_=f"chip {_TONES.get(status, 'quiet')}", title=STATUS_MEANS[status])


def named(name: str) -> Markup:
    """Show a name that somebody chose; it may be written in either direction."""
    return tag("bdi", name, class_="name")


def cost(usage: Usage) -> Markup:
    """Show a cost, with what it is worth."""
    sureness = sureness_of(usage)
    exact = None if sureness == "unknown" else str(usage.cost_usd)
    text = cost_of(usage).replace("~>=", "≥ ≈ ").replace(">=", "≥ ").replace("~", "≈ ")
    return tag(
        "data", text, value=exact, class_=f"cost {sureness.split()[0]}", title=_SURE_TITLES.get(sureness)
    )


def bars(shares: Iterable[Share]) -> Iterator[Markup]:
    """Show how much of each limit is used, in words and as a bar; an overrun crosses the limit's line."""
    for share in shares:
        fraction = 1.0 if share.fraction is None else share.fraction
        yield tag(
            "div",
            tag("span", tag("b", share.percent), f" of {share.allowed}", class_="words"),
            _track(fraction),
            class_="bar",
            data_limit=share.limit,
            data_budget=share.budget,
            data_share=None if share.fraction is None else f"{share.fraction:.6g}",
        )


def _track(fraction: float) -> Markup:
    """Draw a share as wide as the track, or, over the limit, on a track that is longer than the limit."""
    scale = max(fraction, 1.0)
    tone = "bad" if fraction >= 1 else "warn" if fraction >= NEAR else "good"
    within = tag("span", class_=f"fill {tone}", style=f"width:{min(fraction, 1) / scale:.2%}")
    if fraction <= 1:
        return tag("span", within if fraction else None, class_="track", aria_hidden="true")
    over = tag("span", class_="over", style=f"left:{1 / scale:.2%}")
    return tag("span", within, over, class_="track", aria_hidden="true")


def part_of_whole(usage: Usage, whole: Decimal) -> Markup | None:
    """Draw which part of a run's cost something is; nothing where that is not known, or nothing was spent."""
    if not whole or not usage.cost_usd or sureness_of(usage) == "unknown":
        return None
    fraction = min(float(usage.cost_usd / whole), 1.0)
    fill = tag("span", class_="fill good", style=f"width:{fraction:.2%}")
    title = f"{percent(fraction)} of the cost of its run"
    return tag("span", fill, class_="track of-run", title=title, data_share_of_run=f"{fraction:.6g}")


def facts(pairs: Iterable[tuple[str, Child]], class_: str = "facts") -> Markup:
    """Show named numbers."""
    return tag("dl", (tag("div", tag("dt", name), tag("dd", value)) for name, value in pairs), class_=class_)


def amounts(usage: Usage) -> dict[str, Any]:
    """Return a sum exactly, as attributes that a program can read."""
    return {
        "data_cost_usd": str(usage.cost_usd),
        "data_calls": usage.calls,
        "data_input_tokens": usage.input_tokens,
        "data_output_tokens": usage.output_tokens,
        "data_estimated_calls": usage.estimated_calls,
        "data_unpriced_calls": usage.unpriced_calls,
    }


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
    most = 400
    text = record.error if len(record.error) <= most else f"{record.error[:most]}…"
    return tag("div", text, class_="error")
