"""How a ledger judges and charges: one set of rules, over any shelf that keeps accounts.

The Redis ledger follows the same rules in Lua; one contract suite holds all of them to it.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from .protocol import COST, NO_ROOM, AccountRequest, Asked, Entry, Reason, ReservationRequest, Totals, Verdict
from .validation import MOST, check_sums

REMEMBERED_CLOSED_S = 30 * 86_400
"""How long an account is remembered that was closed before anybody had used it."""

CHARGES_KEPT_S = 86_400
"""How long a charge is remembered at least, so that it counts once if it is sent again."""

_GRAVITY: tuple[Reason, ...] = ("room", "busy", "full", "crowded", "closed")


@dataclass(slots=True)
class StoredAccount:
    """What a ledger keeps of an account; it is one that is unknown yet as long as `seq` is 0."""

    key: str
    seq: int = 0
    settled: dict[str, int] = field(default_factory=dict)
    held_cost: int = 0
    held_tokens: int = 0
    held_calls: int = 0
    lapsed_calls: int = 0
    lapse_at: float = math.inf  # no reservation ends before
    closed: bool = False
    group: str = ""
    opened_at: float = 0.0
    expires_at: float | None = None

    def totals(self) -> Totals:
        """Say what is known of it."""
        return Totals(
            key=self.key,
            seq=self.seq,
            settled=self.settled,
            held=Asked(self.held_cost, self.held_tokens) if self.held_calls else NO_ROOM,
            held_calls=self.held_calls,
            lapsed_calls=self.lapsed_calls,
            closed=self.closed,
            group=self.group,
            opened_at=self.opened_at,
        )

    def hold(self, asked: Asked, until: float, now: float, expires_at: float | None, group: str = "") -> None:
        """Reserve room until its lease ends, and make the account last as long as is asked."""
        self.held_cost += asked.cost
        self.held_tokens += asked.tokens
        self.held_calls += 1
        self.lapse_at = min(self.lapse_at, until)
        if self.seq == 0:
            self.opened_at, self.expires_at = now, expires_at
        elif self.expires_at is not None:
            self.expires_at = None if expires_at is None else max(expires_at, self.expires_at)
        self.group = self.group or group
        self.seq += 1

    def give_back(self, asked: Asked) -> None:
        """Take a reservation off."""
        self.held_cost -= asked.cost
        self.held_tokens -= asked.tokens
        self.held_calls -= 1

    def close(self, now: float) -> None:
        """Admit no more calls; an account that nobody has used is remembered for a while."""
        if self.seq == 0:
            self.opened_at, self.expires_at = now, now + REMEMBERED_CLOSED_S
        self.closed = True
        self.seq += 1


class Shelf(Protocol):
    """Where accounts lie while somebody works on them, alone."""

    def account(self, key: str) -> StoredAccount | None:
        """Return what is kept under a key; the caller may change it and must then save it."""

    def save(self, account: StoredAccount) -> None:
        """Keep an account."""

    def forget(self, key: str) -> None:
        """Drop an account and what is reserved on it."""

    def open_in(self, group: str, now: float) -> int:
        """Count the open accounts of a group."""

    def holds(self, call: str) -> dict[str, Asked]:
        """Return what a call has reserved, by account."""

    def put_hold(self, call: str, key: str, asked: Asked, until: float) -> None:
        """Keep a reservation on one account."""

    def drop_holds(self, call: str) -> None:
        """Drop all that a call has reserved."""

    def take_lapsed(self, key: str, now: float) -> tuple[list[Asked], float]:
        """Drop the reservations on an account whose lease is over; return them, and when the next ends."""

    def is_charged(self, call: str, revision: int) -> bool:
        """Say whether a charge is kept already."""

    def put_charge(self, entry: Entry) -> None:
        """Keep a charge."""


def reserve(shelf: Shelf, reservation: ReservationRequest, now: float) -> Verdict:
    """Reserve room on all accounts or on none."""
    asks, until = reservation.asks, now + reservation.lease_s
    accounts = [current(shelf, ask.key, now) for ask in asks]
    own = shelf.holds(reservation.id)
    if reservation.grows:
        return _grow(shelf, reservation, accounts, own, now)
    if own and not [ask for ask in asks if ask.key not in own]:
        for account in accounts:  # it was granted before; its lease starts again
            shelf.put_hold(reservation.id, account.key, own[account.key], until)
        return Verdict(reason="room", totals=tuple([account.totals() for account in accounts]))
    asked = list(zip(asks, accounts, strict=True))
    reasons = [_judge(ask, account, own.get(ask.key)) for ask, account in asked]
    opening = [ask for ask, account in asked if ask.group and not (account.group or account.closed)]
    if opening and _is_crowded(shelf, opening, now):
        reasons.append("crowded")
    reason: Reason = max(reasons, key=_GRAVITY.index, default="room")
    if reason == "room":
        _check_sums([(account, ask.held) for ask, account in asked])
        for ask, account in asked:
            if ask.key in own:
                account.give_back(own[ask.key])
            account.hold(ask.held, until, now, ask.expires_at, ask.group)
            shelf.save(account)
            shelf.put_hold(reservation.id, ask.key, ask.held, until)
    return Verdict(reason=reason, totals=tuple([account.totals() for account in accounts]))


def _grow(
    shelf: Shelf,
    reservation: ReservationRequest,
    accounts: Sequence[StoredAccount],
    own: dict[str, Asked],
    now: float,
) -> Verdict:
    """Let a call hold more where it holds anything."""
    asked = zip(reservation.asks, accounts, strict=True)
    growing = [
        (account, own[ask.key], Asked(*map(max, own[ask.key], ask.held)))
        for ask, account in asked
        if ask.key in own
    ]
    _check_sums(
        [(account, Asked(held.cost - was.cost, held.tokens - was.tokens)) for account, was, held in growing]
    )
    until = now + reservation.lease_s
    for account, before, held in growing:
        account.give_back(before)
        account.hold(held, until, now, account.expires_at)
        shelf.save(account)
        shelf.put_hold(reservation.id, account.key, held, until)
    return Verdict(reason="room", totals=tuple([account.totals() for account in accounts]))


def _check_sums(holding: Iterable[tuple[StoredAccount, Asked]]) -> None:
    """Refuse to reserve what no ledger can keep, before anything is changed.

    Raises:
        OverflowError: A sum would be too large.
    """
    for account, asked in holding:
        cost, tokens = account.held_cost + asked.cost, account.held_tokens + asked.tokens
        if max(cost, tokens) > MOST:
            check_sums({"reserved cost": cost, "reserved tokens": tokens}, account.key)


def settle(shelf: Shelf, entries: Sequence[Entry], now: float) -> tuple[Totals, ...]:
    """Charge; all is reckoned before anything is changed, so nothing is kept if one entry cannot be."""
    accounts = {key: current(shelf, key, now) for entry in entries for key in entry.keys}
    held = {entry.id: shelf.holds(entry.id) for entry in entries}
    beside = [key for holds in held.values() for key in holds if key not in accounts]
    if beside:
        accounts |= {key: current(shelf, key, now) for key in beside}
        held = {entry.id: shelf.holds(entry.id) for entry in entries}  # the lease of one may have been over
    new = _new(shelf, entries)
    sums = _sums(new, accounts)
    for entry in new:
        for key in entry.keys:
            account = accounts[key]
            if account.seq == 0 and not account.opened_at:
                account.opened_at, account.expires_at = now, entry.expires_at.get(key)
            account.settled = sums[key]
    changed = dict.fromkeys(sums)
    for call, holds in held.items():
        for key, asked in holds.items():
            accounts[key].give_back(asked)
            changed[key] = None
        if holds:
            shelf.drop_holds(call)
    for key in changed:
        accounts[key].seq += 1
        shelf.save(accounts[key])
    for entry in new:
        shelf.put_charge(entry)
    return tuple([account.totals() for account in accounts.values()])


def _new(shelf: Shelf, entries: Sequence[Entry]) -> list[Entry]:
    """Return charges that were not made before, each once."""
    marked = {(entry.id, entry.revision): entry for entry in reversed(entries) if entry.amounts}
    return [entry for mark, entry in reversed(marked.items()) if not shelf.is_charged(*mark)]


def _sums(entries: Iterable[Entry], accounts: Mapping[str, StoredAccount]) -> dict[str, dict[str, int]]:
    """Return what accounts have been charged once these are.

    Raises:
        OverflowError: A sum would be too large to be kept.
    """
    sums: dict[str, dict[str, int]] = {}
    for entry in entries:
        for key in dict.fromkeys(entry.keys):
            settled = sums.get(key, accounts[key].settled)
            added = {name: settled.get(name, 0) + amount for name, amount in entry.amounts.items()}
            if max(added.values()) > MOST or min(added.values()) < -MOST:
                check_sums(added, key)
            sums[key] = {**settled, **added}
    return sums


def close(shelf: Shelf, keys: Iterable[str], now: float) -> None:
    """Close accounts, unknown ones too."""
    for key in dict.fromkeys(keys):
        account = current(shelf, key, now)
        if not account.closed:
            account.close(now)
            shelf.save(account)


def current(shelf: Shelf, key: str, now: float) -> StoredAccount:
    """Return an account as it is now: gone if it has expired, without the leases that are over."""
    account = shelf.account(key)
    if account is None:
        return StoredAccount(key)
    if account.expires_at is not None and account.expires_at <= now:
        shelf.forget(key)
        return StoredAccount(key)
    if account.lapse_at <= now:
        lapsed, account.lapse_at = shelf.take_lapsed(key, now)
        for asked in lapsed:
            account.give_back(asked)
        account.lapsed_calls += len(lapsed)
        account.seq += bool(lapsed)
        shelf.save(account)
    return account


def fits(ask: AccountRequest, asked: Asked, account: StoredAccount, held: Asked, held_calls: int) -> bool:
    """Say whether there is room beside what is held; what has reached its limit has none."""
    settled = account.settled
    if ask.max_calls is not None and settled.get("calls", 0) + held_calls >= ask.max_calls:
        return False
    if ask.max_cost is not None:
        cost = settled.get(COST, 0)
        if cost >= ask.max_cost or cost + held.cost + asked.cost > ask.max_cost:
            return False
    if ask.max_tokens is None:
        return True
    tokens = settled.get("input_tokens", 0) + settled.get("output_tokens", 0)
    return tokens < ask.max_tokens and tokens + held.tokens + asked.tokens <= ask.max_tokens


def _is_crowded(shelf: Shelf, opening: Iterable[AccountRequest], now: float) -> bool:
    """Tell whether a group would have more open accounts than it may."""
    found: dict[str, int] = {}
    for ask in opening:
        if ask.most_open is not None:
            found[ask.group] = found.get(ask.group) or shelf.open_in(ask.group, now)
            found[ask.group] += 1
            if found[ask.group] > ask.most_open:
                return True
    return False


def _judge(ask: AccountRequest, account: StoredAccount, own: Asked | None) -> Reason:
    if account.closed:
        return "closed"
    held, held_calls = Asked(account.held_cost, account.held_tokens), account.held_calls
    if own is not None:
        held, held_calls = Asked(held.cost - own.cost, held.tokens - own.tokens), held_calls - 1
    if fits(ask, ask.beside if held_calls else ask.alone, account, held, held_calls):
        return "room"
    return "busy" if held_calls and fits(ask, ask.alone, account, NO_ROOM, 0) else "full"
