"""Asking the person at the keyboard for more, when a step with `escalate` is exhausted."""

from __future__ import annotations

import getpass
from decimal import Decimal, InvalidOperation
from typing import Any

from steptrack_callbacks.reports.live import hidden
from steptrack_callbacks.values.definitions import Grant, LimitName
from steptrack_callbacks.values.errors import BudgetExhausted

_UNITS: dict[LimitName, str] = {
    "max_usd": "US dollars, such as 0.05",
    "max_tokens": "tokens, such as 2000",
    "max_calls": "calls, such as 2",
    "max_seconds": "seconds, such as 30",
}
_NO = ("", "n", "no")


def ask_person(error: BudgetExhausted) -> Grant | None:
    """Ask with `input()` how much more an exhausted step may have, and say what it is about.

    Where nobody can be asked, as in a notebook that is run by a program, the answer is no.

    Args:
        error: Which step is exhausted, and how.

    Returns:
        The grant; `None` for no.
    """
    with hidden():
        print(f"{error}")
        while True:
            try:
                answer = input(f"Grant how much more {error.limit} ({_UNITS[error.limit]}; Enter for no)? ")
            except (EOFError, NotImplementedError):
                print("nobody can be asked here, so nothing is granted")
                return None
            if answer.strip().lower() in _NO:
                return None
            try:
                return Grant(**{error.limit: _amount(error.limit, answer.strip())}, by=_who())
            except ValueError as wrong:
                print(f"that is not a grant: {wrong}")


def _amount(limit: LimitName, answer: str) -> Any:
    number = answer.removeprefix("$").replace(",", "").replace("_", "")
    try:
        value = Decimal(number)
    except InvalidOperation:
        raise ValueError(f"{answer!r} is not a number; type {_UNITS[limit]}, or Enter for no") from None
    if limit in ("max_tokens", "max_calls") and value.is_finite() and value == int(value):
        return int(value)
    return float(value) if limit == "max_seconds" else value


def _who() -> str:
    try:
        return getpass.getuser()
    except (OSError, KeyError):  # a container's user may have no name
        return "the person at the notebook"
