"""The report as HTML: one page without script, or a fragment for a notebook."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from itertools import islice
from typing import Any

from steptrack_callbacks.values.definitions import Grant
from steptrack_callbacks.values.formatting import amounts_granted, percent, plural, seconds, sureness_of
from steptrack_callbacks.values.html_parts import amounts, chip, cost, facts, named, style
from steptrack_callbacks.values.markup import Child, Markup, document, tag
from steptrack_callbacks.values.statuses import STATUS_MEANS
from steptrack_callbacks.values.usage import Usage

from .bars import row, table
from .chart import timeline_of
from .steps_table import doubts, moment, steps_table
from .tree import Tree

PAGE_STEPS = 1_000
FRAGMENT_STEPS = 100
MOST_REMARKS = 50


def page_of(report: Tree, title: str) -> str:
    """Return a whole page."""
    return document(
        "en",
        tag(
            "head",
            tag("meta", charset="utf-8"),
            tag("meta", name="viewport", content="width=device-width, initial-scale=1"),
            tag("meta", name="color-scheme", content="light dark"),
            tag("title", title),
            style(),
        ),
        tag(
            "body",
            tag(
                "main",
                tag("header", tag("h1", title), tag("p", _subtitle(report), class_="subtitle")),
                _body(report, PAGE_STEPS),
                tag("footer", _legend()),
                class_="steptrack page",
                **_totals(report),
            ),
        ),
    )


def fragment_of(report: Tree) -> str:
    """Return what a notebook shows below a cell."""
    return tag("div", style(), _body(report, FRAGMENT_STEPS), class_="steptrack", **_totals(report))


def _totals(report: Tree) -> dict[str, Any]:
    return amounts(report.total) | {"data_denied_calls": report.denied_calls}


def _subtitle(report: Tree) -> Iterator[Child]:
    if not report.records:
        return
    began = min(record.started_at for record in report.records)
    ended = max(record.ended_at for record in report.records)
    yield plural(len(report.records), "step")
    yield " in "
    yield plural(len({record.run_id for record in report.records}), "run")
    yield ", begun "
    yield moment(began)
    yield f", over {seconds(max(0.0, ended - began))}"


def _body(report: Tree, most: int) -> Iterator[Child]:
    yield _headline(report)
    if not report.records and not report.total.calls:
        yield tag("p", "No steps to show.", class_="note")
        return
    yield _remarks(report)
    yield tag("section", tag("h2", "Steps"), steps_table(report, most), class_="steps")
    yield timeline_of(report)
    yield _models(report)
    yield _grants(report)
    yield _statuses(report)


def _headline(report: Tree) -> Markup:
    total = report.total
    pairs: list[tuple[str, Child]] = [
        ("Cost", cost(total)),
        ("Calls", f"{total.calls:,}"),
        ("Tokens in", [f"{total.input_tokens:,}", _part(total.cache_read_tokens, "cached")]),
        ("Tokens out", [f"{total.output_tokens:,}", _part(total.reasoning_tokens, "reasoning")]),
    ]
    doubtful = {
        "Estimated": total.estimated_calls,
        "Unknown price": total.unpriced_calls,
        "Failed": total.failed_calls,
        "Refused": report.denied_calls,
        "Late": report.late_calls,
        "Ungated": total.ungated_calls,
    }
    marks = [(name, plural(count, "call")) for name, count in doubtful.items() if count]
    return tag("div", facts(pairs, "totals"), facts(marks, "doubts") if marks else None, class_="headline")


def _part(count: int, what: str) -> Child:
    return [" ", tag("small", f"{count:,} {what}")] if count else None


def _remarks(report: Tree) -> Markup | None:
    remarks = list(islice(report.remarks(extras=False), MOST_REMARKS + 1))
    if not remarks:
        return None
    shown = [tag("li", remark) for remark in remarks[:MOST_REMARKS]]
    if len(remarks) > MOST_REMARKS:
        shown.append(tag("li", "… and more; the text report has them all"))
    return tag("section", tag("h2", "What the sums do not show"), tag("ul", shown), class_="remarks")


def _models(report: Tree) -> Markup | None:
    models, rest, whole = report.models, report.unbroken, report.total.cost_usd
    if not models and not rest.calls:
        return None
    rows = [_model(named(model), used, whole, data_model=model) for model, used in models.items()]
    if rest.calls or rest.cost_usd:
        rows.append(_model("(of steps that are no longer here)", rest, whole, class_="unattributed"))
    columns = ("Model", "Share of cost", "Calls", "In", "Out", "Cost")
    content = table("What was used of each model", columns, rows, "models")
    return tag("section", tag("h2", "Models"), content)


def _model(name: Child, used: Usage, whole: Any, **attributes: Any) -> Markup:
    fraction = float(used.cost_usd / whole) if whole else 0.0
    fill = tag("span", class_="fill good", style=f"width:{fraction:.2%}") if fraction else None
    words = percent(None if sureness_of(used) == "unknown" else fraction)
    bar = tag("span", fill, class_="track", aria_hidden="true")
    share = tag("div", tag("span", tag("b", words), class_="words"), bar, class_="bar")
    return row(name, [("Share of cost", share), *_numbers(used)], **amounts(used), **attributes)


def _numbers(usage: Usage) -> list[tuple[str, Child]]:
    return [
        ("Calls", f"{usage.calls:,}"),
        ("In", f"{usage.input_tokens:,}"),
        ("Out", f"{usage.output_tokens:,}"),
        ("Cost", [cost(usage), doubts(usage)]),
    ]


def _grants(report: Tree) -> Markup | None:
    rows = [
        row(named(line.record.path), [("Granted", _granted(grant)), ("By", named(grant.by or "not said"))])
        for line in report.lines()
        for grant in line.record.grants
    ]
    if not rows:
        return None
    content = table("What escalations added to limits", ("Step", "Granted", "By"), rows, "grants")
    return tag("section", tag("h2", "Grants"), content)


def _granted(grant: Grant) -> str:
    return ", ".join(f"+{amount}" for amount in amounts_granted(grant))


def _statuses(report: Tree) -> Markup | None:
    counts = Counter(record.status for record in report.records)
    if not counts:
        return None
    items = (
        tag(
            "li",
            chip(status),
            f" {plural(count, 'step')}: {STATUS_MEANS[status]}",
            data_status=status,
            data_steps=count,
        )
        for status, count in counts.most_common()
    )
    return tag("section", tag("h2", "How steps ended"), tag("ul", items), class_="statuses")


def _legend() -> Iterator[Child]:
    yield tag(
        "p",
        "≈ contains estimates: tokens counted here, not reported by the provider. "
        "≥ at least: calls of unknown price are not in it. "
        "Refused calls were not sent, and cost nothing. "
        "A call is late if its usage came after its step had ended.",
    )
    yield tag("p", "steptrack-callbacks")
