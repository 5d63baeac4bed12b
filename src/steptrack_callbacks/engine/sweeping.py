"""What becomes of the calls that are open when their step ends."""

from __future__ import annotations

from typing import Any

from steptrack_callbacks.concurrency.lock import LOCK

from .account import Account
from .open_call import open_calls
from .queue import making_room


def open_calls_of(account: Account) -> list[Any]:
    """Find the calls of an account that are neither settled nor swept."""
    if not account.open_calls:
        return []
    return [call for call in list(open_calls) if account in call.accounts]


def close_and_sweep(account: Account) -> None:
    """Close the account of a step that ends, and charge what is still open in it."""
    with making_room:
        with LOCK:
            account.close()
        if account.open_calls:
            for call in open_calls_of(account):
                call.sweep()
