"""A call's dealings with the ledger: room on the shared accounts around it, and its charge to them."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from .books import BOOKS, Sums
from .errors import StepDenied
from .keeping import Debt
from .ledgers.contract import Ask, Entry, Reason, Reservation, Totals
from .line import LINE
from .process import process_name
from .room import Held
from .shared import SharedAccount, to_amounts, to_sums
from .waiting import Decision


class Asking(NamedTuple):
    """What a call asks of one shared account, and holds on its mirror."""

    account: SharedAccount
    held: Held
    ask: Ask


class Lending:
    """What a ledger has lent to one call, and been told of it.

    Attributes:
        name: The call's name in the ledger, which no other process has.
        accounts: The shared accounts around the call.
    """

    __slots__ = ("_lent", "_revision", "accounts", "name")

    def __init__(self, number: int, accounts: Sequence[SharedAccount]) -> None:
        self.name = f"{process_name()}-{number}"
        self.accounts = accounts
        self._lent: Sequence[Asking] = ()
        self._revision = 0

    def reserve(self, askings: Sequence[Asking]) -> Decision[Reason]:
        """Ask the ledger for room on all accounts or none.

        Returns:
            `room` if the call may be sent, also where the ledger is away and can be done without.

        Raises:
            LedgerError: The ledger is away, and may not be done without.
            StepDenied: Too many accounts of a group are open.
        """
        keeper = askings[0].account.keeper
        asks = tuple(asking.ask for asking in askings)
        verdict = yield from keeper.reserve(Reservation(id=self.name, asks=asks, lease_s=keeper.lease_s))
        if verdict is None:
            return "room"
        if verdict.granted:
            self._lent = askings
            _acknowledge(askings, 1)
        _take_over((asking.account for asking in askings), verdict.totals)
        if verdict.reason == "crowded":
            path = askings[0].account.label.path
            raise StepDenied(f"too many steps are open beside {path!r}: end some of them first")
        return verdict.reason

    def charge(self, sums: Sums, instead_of: Sums, detail: Mapping[str, str]) -> Decision[None]:
        """Tell the ledger of a charge, which takes the place of what was lent; if it is away, later."""
        amounts = to_amounts(sums, instead_of)
        with BOOKS:
            (lent, self._lent), revision = (self._lent, ()), self._revision
            if not amounts and not lent:
                return
            self._revision += 1
        change = to_sums(amounts)
        accounts = self.accounts

        def paid(totals: Mapping[str, Totals]) -> None:
            _acknowledge(lent, -1)
            for account in accounts:
                account.paid(change, totals.get(account.key))
            _tell_waiting(totals)

        entry = Entry(
            id=self.name,
            revision=revision,
            keys=tuple(account.key for account in accounts),
            amounts=amounts,
            expires_at={account.key: at for account in accounts if (at := account.expires_at) is not None},
            detail=detail,
            at=time.time(),
        )
        yield from accounts[0].keeper.settle([Debt(entry, paid)])


def look(accounts: Sequence[SharedAccount]) -> Decision[None]:
    """Let accounts know what the ledger says now.

    Raises:
        LedgerError: The ledger is away, and may not be done without.
    """
    totals = yield from accounts[0].keeper.look([account.key for account in accounts])
    _take_over(accounts, totals)


def _acknowledge(askings: Iterable[Asking], sign: int) -> None:
    for asking in askings:
        asking.account.acknowledge(Held(*(sign * value for value in asking.held)))


def _take_over(accounts: Iterable[SharedAccount], totals: Sequence[Totals]) -> None:
    """Let accounts, and those that wait on the same, know what the ledger has said."""
    by_key = {each.key: each for each in totals}
    for account in accounts:
        if account.key in by_key:
            account.learn(by_key[account.key])
    _tell_waiting(by_key)


def _tell_waiting(totals: Mapping[str, Totals]) -> None:
    """Let accounts that calls of this process wait for know what the ledger has said to another."""
    if LINE:
        for account in LINE.awaited():
            if isinstance(account, SharedAccount) and account.key in totals:
                account.learn(totals[account.key])
