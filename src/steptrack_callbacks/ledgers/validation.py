"""What no ledger can keep, refused before it gets there, and what none has kept, refused when it is read."""

from __future__ import annotations

import json
import math
from collections.abc import Collection, Iterable, Mapping
from typing import Any

from .protocol import Entry, ReservationRequest

MOST = 2**63 - 1
"""The largest sum that every ledger can keep: $9.2 million in pico-dollars."""

_COUNTS, _TIMES = {int}, {int, float, type(None)}
_CURE = "put a copy in its place that is not"


class Damaged(Exception):
    """What is kept was not written by a ledger, or was changed since."""


def read_json(text: object) -> Any:
    """Read what was kept as JSON.

    Raises:
        Damaged: It is none.
    """
    try:
        return json.loads(str(text))
    except (ValueError, RecursionError) as error:
        raise Damaged(f"what is kept in it is damaged ({error}): {_CURE}") from error


def read_table(text: object) -> dict[str, Any]:
    """Read what was kept as a JSON object.

    Raises:
        Damaged: It is none.
    """
    table = read_json(text)
    if not isinstance(table, dict):
        raise Damaged(f"what is kept in it is damaged ({table!r:.80} is not a table): {_CURE}")
    return table


def read_count(value: object) -> int:
    """Read what was kept as a whole number.

    Raises:
        Damaged: It is none.
    """
    if type(value) is not int:
        raise Damaged(f"what is kept in it is damaged ({value!r:.80} is not a count): {_CURE}")
    return value


def check_counts(values: Collection[object]) -> None:
    """Refuse what was kept as whole numbers, and is none.

    Raises:
        Damaged: One of them is something else.
    """
    if not set(map(type, values)) <= _COUNTS:
        for value in values:
            read_count(value)


def check_times(values: Collection[object]) -> None:
    """Refuse what was kept as times, or as none, and is neither.

    Raises:
        Damaged: One of them is something else.
    """
    if not set(map(type, values)) <= _TIMES:
        strange = next(value for value in values if type(value) not in _TIMES)
        raise Damaged(f"what is kept in it is damaged ({strange!r:.80} is not a time): {_CURE}")


def check_sums(totals: Mapping[str, int], key: str) -> None:
    """Refuse sums that not all ledgers can keep.

    Raises:
        OverflowError: One of them is beyond `MOST`.
    """
    for name, total in totals.items():
        if not -MOST <= total <= MOST:
            raise OverflowError(overflow(key, name))


def overflow(key: str, name: str) -> str:
    """Say that a sum is too large to be kept, and what to do."""
    return (
        f"{name} of account {key!r} would pass {MOST}, the largest sum that is kept; nothing was changed:"
        " give the account another name, or a window"
    )


def check_reservation(reservation: ReservationRequest) -> None:
    """Refuse what no ledger can reserve.

    Raises:
        ValueError: An account is asked twice, an amount is not a whole number from 0 to `MOST`, or the lease
            is not a positive number of seconds.
    """
    keys = [ask.key for ask in reservation.asks]
    if len(keys) > 1 and len(set(keys)) < len(keys):
        raise ValueError(
            f"reservation {reservation.id!r} asks an account twice: {sorted(keys)}; ask each once"
        )
    for ask in reservation.asks:
        for amount in (*ask.alone, *ask.beside, *ask.held):
            if type(amount) is not int or not 0 <= amount <= MOST:
                raise ValueError(
                    f"what {reservation.id!r} asks of {ask.key!r} must be whole numbers from 0 to {MOST},"
                    f" not {amount!r}"
                )
    if not 0 < reservation.lease_s < math.inf:
        raise ValueError(f"lease_s must be a positive number of seconds, not {reservation.lease_s!r}")


def check_entries(entries: Iterable[Entry]) -> None:
    """Refuse what no ledger can charge.

    Raises:
        ValueError: An amount or a revision is not a whole number, or too large to be kept.
    """
    for entry in entries:
        if type(entry.revision) is not int or entry.revision < 0:
            raise ValueError(f"the revision of {entry.id!r} must be 0 or more, not {entry.revision!r}")
        for name, amount in entry.amounts.items():
            if type(amount) is not int or not -MOST <= amount <= MOST:
                raise ValueError(
                    f"{name} of {entry.id!r} must be a whole number of at most {MOST}, not {amount!r}"
                )
