"""One look at a ledger for all calls of this process that wait for the same accounts.

Processes do not notify each other, so whoever waits for a shared account has to ask again. But what one is
told, all are told: so only the first in line asks, and the others ask if it has not.
"""

from __future__ import annotations

import time
from collections.abc import Generator, Sequence
from contextlib import contextmanager

from steptrack_callbacks.concurrency.lock import LOCK
from steptrack_callbacks.ledgers.client import LedgerClient

from .budget_account import BudgetAccount
from .queue import LOOK_EVERY_S

LONGEST_LOOK_S = 1.0
"""After how long another one looks, if who has begun to look has not come back."""
ROUNDING_S = 0.01
"""A timer may ring so much early."""

_next_look: dict[tuple[LedgerClient, str], float] = {}


@contextmanager
def looking(accounts: Sequence[BudgetAccount]) -> Generator[list[BudgetAccount]]:
    """Take it upon oneself to look at those accounts that nobody has looked at just now."""
    with LOCK:
        due = _due(accounts, time.monotonic() + ROUNDING_S)
        _note(due, LONGEST_LOOK_S)
    try:
        yield due
    finally:
        with LOCK:
            _note(due, LOOK_EVERY_S)


def _due(accounts: Sequence[BudgetAccount], now: float) -> list[BudgetAccount]:
    for name in [name for name, at in _next_look.items() if at <= now]:
        del _next_look[name]
    return [account for account in accounts if (account.ledger, account.key) not in _next_look]


def _note(accounts: Sequence[BudgetAccount], seconds: float) -> None:
    at = time.monotonic() + seconds
    _next_look.update({(account.ledger, account.key): at for account in accounts})
