"""One step, one record or one exhaustion as a card, for a notebook."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from .formatting import Share, plural, seconds
from .html_parts import amounts, bars, chip, cost, facts, named, style
from .markup import Child, Markup, tag
from .statuses import Status
from .usage import Usage


@dataclass(frozen=True, slots=True, kw_only=True)
class Card:
    """What is shown of one thing, as values; whoever has something to show fills it in.

    Attributes:
        name: The path of the step that it is about.
        status: How that step stands; `None` for what is not a step.
        trouble: For what is not a step: why it is shown, after the words that it is out of budget.
        took_s: Seconds that it took; `None` if it has not begun.
        note: What is said below the title.
        error: What it ended with.
        shares: How much of its limits is used.
        usage: What was spent; `None` if nothing is said of it.
        facts: Named amounts beside it.
        notes: What else is said, a line each.
        calls_in_flight: How many calls have no answer yet; `None` if nothing is said of it.
    """

    name: str
    status: Status | None = None
    trouble: str = ""
    took_s: float | None = None
    note: str = ""
    error: str = ""
    shares: Sequence[Share] = ()
    usage: Usage | None = None
    facts: Sequence[tuple[str, str | Usage]] = ()
    notes: Sequence[str] = ()
    calls_in_flight: int | None = None

    def to_html(self) -> str:
        """Return it as HTML that brings its style along."""
        attributes: dict[str, Any] = {} if self.usage is None else amounts(self.usage)
        if self.took_s is not None:
            attributes |= {"data_status": self.status, "data_path": self.name}
        if self.trouble:
            attributes["role"] = "group"
        content = tag("div", self._content(), class_="card bad" if self.trouble else "card")
        return tag("div", style(), content, class_="steptrack", **attributes)

    def _content(self) -> Iterator[Child]:
        yield self._title()
        yield tag("p", self.note, class_="note") if self.note else None
        yield tag("div", self.error, class_="error") if self.error else None
        yield tag("div", bars(self.shares), class_="bars") if self.shares else None
        if self.usage is not None:
            yield _sums(self.usage)
        if self.facts:
            yield facts((name, cost(said) if isinstance(said, Usage) else said) for name, said in self.facts)
        if (waiting := self.calls_in_flight) is not None:
            yield tag("p", f"{plural(waiting, 'call')} in flight", class_="note", data_in_flight=waiting)
        for note in self.notes:
            yield tag("p", note, class_="note")

    def _title(self) -> Markup:
        if self.trouble:
            why = tag("span", self.trouble, class_="chip bad")
            return tag("p", named(self.name), " is out of budget ", why, class_="title")
        took = None if self.took_s is None else (" ", tag("span", seconds(self.took_s), class_="took"))
        return tag("p", named(self.name), " ", chip(self.status or "new"), took, class_="title")


def _sums(usage: Usage) -> Markup:
    return facts(
        [
            ("Cost", cost(usage)),
            ("Calls", f"{usage.calls:,}"),
            ("Tokens in", f"{usage.input_tokens:,}"),
            ("Tokens out", f"{usage.output_tokens:,}"),
        ]
    )
