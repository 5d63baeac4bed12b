"""A call's dealings with the ledger: room on the shared accounts around it, and its charge to them."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import NamedTuple, TypeVar

from steptrack_callbacks.concurrency.flow import Decision
from steptrack_callbacks.concurrency.forks import process_name
from steptrack_callbacks.ledgers.client import Keeper
from steptrack_callbacks.ledgers.outbox import Debt
from steptrack_callbacks.ledgers.protocol import Ask, Entry, Reason, Reservation, Totals, Verdict
from steptrack_callbacks.values.errors import StepDenied

from .amounts import BOOKS, Sums
from .balance import Held
from .budget_account import SharedAccount, to_amounts, to_sums
from .queue import LINE

T = TypeVar("T")


class Asking(NamedTuple):
    """What a call asks of one shared account, and holds on its mirror."""

    account: SharedAccount
    held: Held
    ask: Ask


class Lending:
    """What ledgers have lent to one call, and been told of it; nearly always that is one ledger.

    Attributes:
        name: The call's name in a ledger, which no other process has.
        accounts: The shared accounts around the call.
    """

    __slots__ = ("_lent", "_revision", "accounts", "name")

    def __init__(self, number: int, accounts: Sequence[SharedAccount]) -> None:
        self.name = f"{process_name()}-{number}"
        self.accounts = accounts
        self._lent: Sequence[Asking] = ()
        self._revision = 0

    def reserve(self, askings: Sequence[Asking]) -> Decision[Reason]:
        """Ask for room on all accounts or none, each ledger for its own; a no takes back what others gave.

        Returns:
            `room` if the call may be sent.

        Raises:
            LedgerError: A ledger is away, and may not be done without.
            StepDenied: Too many accounts of a group are open.
        """
        granted: list[tuple[Keeper, Reservation]] = []
        found: list[tuple[Keeper, Sequence[Totals]]] = []
        try:
            for keeper, some in _by_keeper(askings, lambda asking: asking.account.keeper):
                asks = tuple(asking.ask for asking in some)
                reservation = Reservation(id=self.name, asks=asks, lease_s=keeper.lease_s)
                verdict = yield from keeper.reserve(reservation)
                if not verdict.granted:
                    yield from self._refuse(keeper, verdict, granted)
                    return verdict.reason
                granted.append((keeper, reservation))
                found.append((keeper, verdict.totals))
        except BaseException:
            for keeper, reservation in granted:
                keeper.owe_back(reservation)
            raise
        self._lent = askings
        _acknowledge(askings, 1)
        for keeper, totals in found:
            _take_over(self.accounts, keeper, totals)
        return "room"

    def _refuse(
        self, keeper: Keeper, verdict: Verdict, granted: list[tuple[Keeper, Reservation]]
    ) -> Decision[None]:
        _take_over(self.accounts, keeper, verdict.totals)
        while granted:
            other, reservation = granted.pop()
            yield from other.give_back(reservation)
        if verdict.reason == "crowded":
            path = self.accounts[0].label.path
            raise StepDenied(f"too many steps are open beside {path!r}: end some of them first")

    def charge(self, sums: Sums, instead_of: Sums, detail: Mapping[str, str]) -> Decision[None]:
        """Tell of a charge, which takes the place of what was lent; a ledger that is away is told later."""
        amounts = to_amounts(sums, instead_of)
        with BOOKS:
            (lent, self._lent), revision = (self._lent, ()), self._revision
            if not amounts and not lent:
                return
            self._revision += 1
        charged = partial(self._debt, lent=lent, amounts=amounts, revision=revision, detail=detail)
        parts = _by_keeper(self.accounts, lambda account: account.keeper)
        debts = [(keeper, charged(keeper, accounts)) for keeper, accounts in parts]
        while debts:
            keeper, debt = debts.pop(0)
            try:
                yield from keeper.settle([debt])
            except BaseException:  # cancelled on the way to one of them
                for other, untold in debts:
                    other.owe([untold])
                raise

    def _debt(
        self,
        keeper: Keeper,
        accounts: Sequence[SharedAccount],
        *,
        lent: Sequence[Asking],
        amounts: Mapping[str, int],
        revision: int,
        detail: Mapping[str, str],
    ) -> Debt:
        change = to_sums(amounts)
        returned = [asking for asking in lent if asking.account.keeper is keeper]

        def paid(totals: Mapping[str, Totals]) -> None:
            _acknowledge(returned, -1)
            for account in accounts:
                account.paid(change, totals.get(account.key))
            _tell_waiting(keeper, totals)

        entry = Entry(
            id=self.name,
            revision=revision,
            keys=tuple(account.key for account in accounts),
            amounts=amounts,
            expires_at={account.key: at for account in accounts if (at := account.expires_at) is not None},
            detail=detail,
            at=time.time(),
        )
        return Debt(entry, paid)


def look(accounts: Sequence[SharedAccount]) -> Decision[None]:
    """Let accounts know what their ledgers say now.

    Raises:
        LedgerError: A ledger is away, and may not be done without.
    """
    for keeper, some in _by_keeper(accounts, lambda account: account.keeper):
        totals = yield from keeper.look([account.key for account in some])
        _take_over(some, keeper, totals)


def _by_keeper(things: Sequence[T], keeper_of: Callable[[T], Keeper]) -> list[tuple[Keeper, Sequence[T]]]:
    """Sort things by the ledger that they are of: one, unless another was installed in an open step."""
    first = keeper_of(things[0])
    if all(keeper_of(thing) is first for thing in things):
        return [(first, things)]
    keepers = dict.fromkeys(keeper_of(thing) for thing in things)
    return [(keeper, [thing for thing in things if keeper_of(thing) is keeper]) for keeper in keepers]


def _acknowledge(askings: Iterable[Asking], sign: int) -> None:
    for asking in askings:
        asking.account.acknowledge(Held(*(sign * value for value in asking.held)))


def _take_over(accounts: Iterable[SharedAccount], keeper: Keeper, totals: Sequence[Totals]) -> None:
    """Let accounts, and those that wait on the same, know what their ledger has said."""
    by_key = {each.key: each for each in totals}
    for account in accounts:
        if account.keeper is keeper and account.key in by_key:
            account.learn(by_key[account.key])
    _tell_waiting(keeper, by_key)


def _tell_waiting(keeper: Keeper, totals: Mapping[str, Totals]) -> None:
    """Let accounts that calls of this process wait for know what their ledger has said to another."""
    if LINE:
        for account in LINE.awaited():
            if isinstance(account, SharedAccount) and account.keeper is keeper and account.key in totals:
                account.learn(totals[account.key])
