"""Parts of HTML that cards, pages and the live view share."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import cache
from importlib.resources import files
from typing import Any

from .formatting import Share, cost_of, sureness_of
from .markup import Child, Markup, stylesheet, tag
from .statuses import STATUS_MEANS, TONES, Status
from .usage import Usage

NEAR = 0.8
"""The share of a limit from which a bar warns."""

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
    return tag("span", status, class_=f"chip {TONES.get(status, 'quiet')}", title=STATUS_MEANS[status])


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
