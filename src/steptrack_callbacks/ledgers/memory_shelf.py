"""Accounts in dictionaries."""

from __future__ import annotations

import math
from collections import OrderedDict

from .protocol import Asked, Entry
from .rules import StoredAccount

SWEPT_EVERY = 1_000
_NOTHING: dict[str, Asked] = {}


class MemoryShelf:
    """A `Shelf` of this process alone: accounts that may be forgotten are swept out now and then."""

    def __init__(self, kept: int) -> None:
        self.accounts: dict[str, StoredAccount] = {}
        self.charges: OrderedDict[tuple[str, int], Entry] = OrderedDict()
        self._kept = kept
        self._groups: dict[str, dict[str, StoredAccount]] = {}
        self._calls: dict[str, dict[str, Asked]] = {}
        self._leases: dict[str, dict[str, float]] = {}
        self._sweep_at = SWEPT_EVERY

    def account(self, key: str) -> StoredAccount | None:
        """See `Shelf`."""
        return self.accounts.get(key)

    def save(self, account: StoredAccount) -> None:
        """See `Shelf`."""
        if account.key not in self.accounts and len(self.accounts) >= self._sweep_at:
            self._sweep(account.opened_at)
        self.accounts[account.key] = account
        if account.group:
            self._groups.setdefault(account.group, {})[account.key] = account

    def forget(self, key: str) -> None:
        """See `Shelf`."""
        account = self.accounts.pop(key)
        for call in self._leases.pop(key, ()):
            self._drop_hold(call, key)
        members = self._groups.get(account.group, {})
        members.pop(key, None)
        if not members:
            self._groups.pop(account.group, None)

    def open_in(self, group: str, now: float) -> int:
        """See `Shelf`."""
        return sum(
            not account.closed and (account.expires_at is None or account.expires_at > now)
            for account in self._groups.get(group, {}).values()
        )

    def holds(self, call: str) -> dict[str, Asked]:
        """See `Shelf`."""
        return self._calls.get(call, _NOTHING)

    def put_hold(self, call: str, key: str, asked: Asked, until: float) -> None:
        """See `Shelf`."""
        self._calls.setdefault(call, {})[key] = asked
        self._leases.setdefault(key, {})[call] = until

    def drop_holds(self, call: str) -> None:
        """See `Shelf`."""
        for key in self._calls.pop(call, ()):
            leases = self._leases[key]
            del leases[call]
            if not leases:
                del self._leases[key]

    def take_lapsed(self, key: str, now: float) -> tuple[list[Asked], float]:
        """See `Shelf`."""
        leases = self._leases.get(key, {})
        lapsed = []
        for call in [call for call, until in leases.items() if until <= now]:
            lapsed.append(self._drop_hold(call, key))
            del leases[call]
        if not leases:
            self._leases.pop(key, None)
        return lapsed, min(leases.values(), default=math.inf)

    def is_charged(self, call: str, revision: int) -> bool:
        """See `Shelf`."""
        return (call, revision) in self.charges

    def put_charge(self, entry: Entry) -> None:
        """See `Shelf`."""
        self.charges[entry.id, entry.revision] = entry
        if len(self.charges) > self._kept:
            self.charges.popitem(last=False)

    def forget_expired(self, before: float) -> int:
        """Drop accounts that expired before a time; returns how many."""
        expired = [
            key
            for key, account in self.accounts.items()
            if account.expires_at is not None and account.expires_at <= before
        ]
        for key in expired:
            self.forget(key)
        return len(expired)

    def _drop_hold(self, call: str, key: str) -> Asked:
        held = self._calls[call]
        asked = held.pop(key)
        if not held:
            del self._calls[call]
        return asked

    def _sweep(self, now: float) -> None:
        self.forget_expired(now)
        closed = [key for key, account in self.accounts.items() if account.closed]
        for key in closed[: -self._kept]:
            self.forget(key)
        self._sweep_at = 2 * len(self.accounts) + SWEPT_EVERY
