"""What a step shows of itself: names, words and HTML."""

from __future__ import annotations

from typing import Any

from steptrack_callbacks.values.formatting import amount_of

PUBLIC = frozenset(
    {
        "aremaining",
        "budgets",
        "cost_usd",
        "definition",
        "exhausted",
        "exhaustion",
        "id",
        "kind",
        "limits",
        "model",
        "name",
        "own_usage",
        "parent",
        "path",
        "persona",
        "policy",
        "record",
        "records",
        "remaining",
        "run_id",
        "status",
        "usage",
        "wrap_up",
    }
)
"""The members of a step that are for everybody; the others are for the rest of this package."""


def in_words(step: Any) -> str:
    """Put a step in a line: its path, how it stands, what it has spent, and its limits."""
    limits = [f"{name}={value}" for name, value in step.limits.items()]
    return f"<{', '.join([f'{step.kind} {step.path!r}: {step.status}', _spent(step), *limits])}>"


def _spent(step: Any) -> str:
    """Put the cost in words, so that one that is not known whole does not look like one that is."""
    usage = step.usage
    if usage.unpriced_calls and not usage.cost_usd:
        return "cost unknown"
    return f"{'>=' if usage.unpriced_calls else ''}{usage.cost_usd} USD"


def card_of(step: Any) -> str:
    """Return a step that has not begun as HTML."""
    from steptrack_callbacks.values.cards import Card  # noqa: PLC0415 - only once somebody wants HTML

    limits = [f"{limit} {amount_of(limit, value)}" for limit, value in step.limits.items()]
    note = f"limits: {', '.join(limits)}" if limits else "without limits"
    return Card(name=step.name, note=note).to_html()
