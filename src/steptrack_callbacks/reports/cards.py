"""One step, one record or one exhaustion as a card, for a notebook."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from steptrack_callbacks.steps.step import Step
from steptrack_callbacks.values.errors import Breach, BudgetExhausted
from steptrack_callbacks.values.records import CompletedStep
from steptrack_callbacks.values.usage import Usage

from .bars import STATUS_MEANS, amounts, bars, chip, cost, facts, named, style, trouble
from .marks import Share, all_granted, amount_of, doubts_about, plural, seconds, shares_of, spent_elsewhere
from .markup import Child, Markup, tag


def card_of(thing: object) -> str:
    """Return a card of a step, a record or an exhaustion.

    Raises:
        TypeError: It is something else.
    """
    if isinstance(thing, Step):
        if thing.status == "new":
            return _card(_declared(thing))
        thing = thing.record()
    if isinstance(thing, CompletedStep):
        return _card(_record(thing), **amounts(thing.usage), data_status=thing.status, data_path=thing.path)
    if isinstance(thing, BudgetExhausted):
        return _card(_exhaustion(thing), class_="card bad", role="group")
    raise TypeError(f"there is no card of {thing!r}")


def live_card(step: Step) -> str:
    """Return the card of a running step: what is spent of what it has, and how many calls are in flight."""
    record = step.record()
    waiting = step.account.open_calls
    flight = tag("p", f"{plural(waiting, 'call')} in flight", class_="note", data_in_flight=waiting)
    content = [_head(record), tag("div", bars(shares_of(record)), class_="bars"), _sums(record.usage), flight]
    return _card(content, **amounts(record.usage), data_status=record.status, data_path=record.path)


def _card(content: Child, *, class_: str = "card", **attributes: Any) -> Markup:
    return tag("div", style(), tag("div", content, class_=class_), class_="steptrack", **attributes)


def _declared(step: Step) -> Iterator[Child]:
    limits = [f"{limit} {amount_of(limit, value)}" for limit, value in step.limits.items()]
    yield tag("p", named(step.name), " ", chip("new"), class_="title")
    yield tag("p", f"limits: {', '.join(limits)}" if limits else "without limits", class_="note")


def _record(record: CompletedStep) -> Iterator[Child]:
    yield _head(record)
    if record.status not in ("completed", "open"):
        yield tag("p", STATUS_MEANS[record.status], class_="note")
    yield trouble(record)
    shares = shares_of(record)
    yield tag("div", bars(shares), class_="bars") if shares else None
    yield _sums(record.usage)
    notes = doubts_about(record.usage)
    notes += [f"{record.denied_calls:,} refused"] if record.denied_calls else []
    notes += [f"{record.in_flight_calls:,} still in flight at the end"] if record.in_flight_calls else []
    yield tag("p", f"calls {', '.join(notes)}", class_="note") if notes else None
    for note in (*spent_elsewhere(record), *all_granted(record.grants), *_resets(record)):
        yield tag("p", note, class_="note")


def _resets(record: CompletedStep) -> Iterator[str]:
    for name, budget in record.budgets.items():
        if budget["resets_at"]:
            yield f"budget {name} begins anew at {budget['resets_at']}"


def _head(record: CompletedStep) -> Markup:
    took = tag("span", seconds(record.duration_s), class_="took")
    return tag("p", named(record.path), " ", chip(record.status), " ", took, class_="title")


def _sums(usage: Usage) -> Markup:
    return facts(
        [
            ("Cost", cost(usage)),
            ("Calls", f"{usage.calls:,}"),
            ("Tokens in", f"{usage.input_tokens:,}"),
            ("Tokens out", f"{usage.output_tokens:,}"),
        ]
    )


def _exhaustion(error: BudgetExhausted) -> Iterator[Child]:
    phase = tag("span", error.phase, class_="chip bad")
    yield tag("p", named(error.path), " is out of budget ", phase, class_="title")
    yield tag("p", str(error), class_="error")
    yield tag("div", bars(map(_share, error.breaches)), class_="bars")
    yield facts(_facts(error))


def _share(breach: Breach) -> Share:
    return Share(breach.limit, breach.limit_value, breach.consumed, breach.budget)


def _facts(error: BudgetExhausted) -> Iterator[tuple[str, Any]]:
    yield "Limit", f"{error.limit} {amount_of(error.limit, error.limit_value)}"
    yield "Spent", cost(Usage(cost_usd=error.consumed_cost_usd))
    yield "Tokens", f"{error.consumed_tokens:,}"
    yield "Boundary", error.error_boundary
    if error.grants:
        yield "Before", ", ".join(all_granted(error.grants))
