"""What views say of a record beside its numbers."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from steptrack_callbacks.values.formatting import all_granted, doubts_about, of_calls, printable
from steptrack_callbacks.values.records import CompletedStep, spent_elsewhere


def status_of(record: CompletedStep) -> str:
    """Write how a step ended, and how many calls it was refused and why."""
    counted = {"denied": record.denied_calls - record.busy_calls, "busy": record.busy_calls}
    return ", ".join([record.status, *(f"{count:,} {why}" for why, count in counted.items() if count > 0)])


def remarks_on(record: CompletedStep, *, refused: int, late: int, extras: bool = True) -> Iterator[str]:
    """Yield what a row of numbers cannot show of a step's own calls.

    Args:
        record: The step.
        refused: Calls refused in it and not in a step inside it.
        late: Its calls that were settled after it had ended.
        extras: Whether to tell of its grants, and of what was spent before it began.
    """
    counted = {
        "still in flight at the end": record.in_flight_calls,
        "settled late": late,
        "beyond a strict limit": record.strict_breaches,
        "cut short by what was left": record.cut_calls,
        "refused": refused,
    }
    parts = doubts_about(record.own_usage)
    parts += [f"{count:,} {what}" for what, count in counted.items() if count]
    if parts:
        yield f"{printable(record.path)}: {of_calls(parts)}"
    for swap in record.swaps:
        yield f"{printable(record.path)}: {printable(str(swap))}"
    if extras:
        for note in (*all_granted(record.grants), *spent_elsewhere(record)):
            yield f"{printable(record.path)}: {note}"


def counted_once(notes: Counter[str]) -> Iterator[str]:
    """Say once what many steps share."""
    for note, times in notes.items():
        yield note if times == 1 else f"{note} (in each of {times} steps)"
