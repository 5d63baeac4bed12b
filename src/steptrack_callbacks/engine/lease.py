"""A call's dealings with the ledger: room on the shared accounts around it, and its charge to them."""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from functools import partial

from steptrack_callbacks.concurrency import forks
from steptrack_callbacks.concurrency.flow import Flow, run_async, run_sync
from steptrack_callbacks.concurrency.lock import LOCK
from steptrack_callbacks.ledgers.client import LedgerClient
from steptrack_callbacks.ledgers.protocol import (
    AccountRequest,
    Asked,
    Entry,
    Reason,
    ReservationRequest,
    Totals,
    Verdict,
)
from steptrack_callbacks.ledgers.store_calls import PendingCharge
from steptrack_callbacks.values.errors import StepDenied

from .amounts import Sums
from .budget_account import BudgetAccount
from .ledger_amounts import to_amounts, to_asked, to_sums
from .queue import making_room
from .request import Request

Asks = Mapping[BudgetAccount, AccountRequest]
"""What a call asks of each shared account around it."""


class Lease:
    """What ledgers have lent to one call, and been told of it; nearly always that is one ledger.

    Attributes:
        name: The call's name in a ledger, which no other process has.
        accounts: The shared accounts around the call.
    """

    __slots__ = ("_grown", "_lent", "_revision", "_untold", "accounts", "name")

    def __init__(self, number: int, accounts: Sequence[BudgetAccount]) -> None:
        self.name = f"{forks.process_name}-{number}"
        self.accounts = accounts
        self._lent: Asks = {}
        self._grown = 0
        self._revision = 0
        self._untold: list[Flow[None]] | None = None

    def reserve(self, asks: Asks, *, patience_s: float) -> Flow[Reason]:
        """Ask for room on all accounts or none, each ledger for its own; a no takes back what others gave.

        Args:
            asks: What is asked of each account.
            patience_s: For how long to ask again if a ledger is merely slow.

        Returns:
            `room` if the call may be sent.

        Raises:
            LedgerError: A ledger is away, and may not be done without.
            StepDenied: Too many accounts of a group are open.
        """
        granted: list[tuple[LedgerClient, ReservationRequest]] = []
        found: list[tuple[LedgerClient, Sequence[Totals]]] = []
        try:
            for ledger, accounts in _by_ledger(tuple(asks)):
                reservation = self._request(ledger, [asks[account] for account in accounts])
                verdict = yield from ledger.reserve(reservation, patience_s=patience_s)
                if verdict.reason != "room":
                    yield from self._refuse(ledger, verdict, granted)
                    return verdict.reason
                granted.append((ledger, reservation))
                found.append((ledger, verdict.totals))
        except BaseException:
            for ledger, reservation in granted:
                ledger.owe_back(reservation)
            raise
        self._lent = asks
        for account, ask in asks.items():
            account.replica.note_lent(ask.held)
        for ledger, totals in found:
            _take_over(self.accounts, ledger, totals)
        return "room"

    def keep_up(self, request: Request, output_tokens: int) -> Flow[None]:
        """Hold twice what a stream has come to, once that is more than was held for it.

        It waits for nothing and is refused nothing; so others are admitted by the truth, after few trips.
        """
        lent, produced = self._lent, _taken(request, output_tokens)
        if output_tokens <= self._grown or not any(_is_outgrown(ask, produced) for ask in lent.values()):
            return
        most = request.max_output_tokens
        self._grown = 2 * output_tokens if most is None else max(output_tokens, min(2 * output_tokens, most))
        twice = _taken(request, self._grown)
        for ledger, accounts in _by_ledger(tuple(lent)):
            grown = {account: _grown_to(twice, lent[account]) for account in accounts}
            if totals := (yield from ledger.grow(self._request(ledger, grown.values(), grows=True))):
                self._note_growth(grown)
                _take_over(self.accounts, ledger, totals)

    def _request(
        self, ledger: LedgerClient, asks: Iterable[AccountRequest], *, grows: bool = False
    ) -> ReservationRequest:
        return ReservationRequest(id=self.name, asks=tuple(asks), lease_s=ledger.lease_s, grows=grows)

    def _note_growth(self, grown: Asks) -> None:
        """Note that a ledger has lent more; a call that was charged meanwhile has given all back."""
        with LOCK:
            if self._lent:
                for account, ask in grown.items():
                    account.replica.note_lent(self._lent[account].held, -1)
                    account.replica.note_lent(ask.held)
                self._lent = {**self._lent, **grown}

    def _refuse(
        self, ledger: LedgerClient, verdict: Verdict, granted: list[tuple[LedgerClient, ReservationRequest]]
    ) -> Flow[None]:
        _take_over(self.accounts, ledger, verdict.totals)
        while granted:
            other, reservation = granted.pop()
            yield from other.give_back(reservation)
        if verdict.reason == "crowded":
            path = self.accounts[0].ref.path
            raise StepDenied(f"too many steps are open beside {path!r}: end some of them first")

    def charge(self, sums: Sums, instead_of: Sums, detail: Mapping[str, str]) -> Flow[None]:
        """Tell of a charge, which takes the place of what was lent; a ledger that is away is told later."""
        amounts = to_amounts(sums, instead_of)
        with LOCK:
            (lent, self._lent), revision = (self._lent, {}), self._revision
            if not amounts and not lent:
                return
            self._revision += 1
        charged = partial(self._pending_charge, lent=lent, amounts=amounts, revision=revision, detail=detail)
        charges = [(ledger, *charged(ledger, some)) for ledger, some in _by_ledger(self.accounts)]
        while charges:
            ledger, pending, untold = charges.pop(0)
            untold.count(here=False)
            try:
                yield from ledger.settle([pending])
            except BaseException:  # cancelled on the way to one of them
                for other, left, _ in charges:
                    other.owe([left])
                raise
            finally:
                if not untold.is_told:
                    untold.count(here=True)

    def tell(self, sums: Sums, instead_of: Sums, detail: Mapping[str, str]) -> None:
        """Charge at once, blocking, or at the end of the block that awaits it."""
        telling = self.charge(sums, instead_of, detail)
        if self._untold is None:
            run_sync(telling)
        else:
            self._untold.append(telling)

    @asynccontextmanager
    async def telling_at_end(self) -> AsyncGenerator[None]:
        """Await at the end of this block what the ledger is to be told, instead of blocking in it."""
        self._untold = []
        try:
            yield
        finally:
            untold, self._untold = self._untold, None
            with making_room:
                for telling in untold:
                    await run_async(telling)

    def _pending_charge(
        self,
        ledger: LedgerClient,
        accounts: Sequence[BudgetAccount],
        *,
        lent: Asks,
        amounts: Mapping[str, int],
        revision: int,
        detail: Mapping[str, str],
    ) -> tuple[PendingCharge, _Untold]:
        untold = _Untold(accounts, to_sums(amounts))

        def paid(totals: Mapping[str, Totals]) -> None:
            with LOCK:
                for account in accounts:
                    if account in lent:
                        account.replica.note_lent(lent[account].held, -1)
                untold.is_told = True
                if untold.is_counted:
                    untold.count(here=False)
                _take_over(accounts, ledger, totals.values())

        entry = Entry(
            id=self.name,
            revision=revision,
            keys=tuple([account.replica.key for account in accounts]),
            amounts=amounts,
            expires_at={each.replica.key: at for each in accounts if (at := each.expires_at) is not None},
            detail=detail,
            at=time.time(),
        )
        return PendingCharge(entry, paid), untold


class _Untold:
    """A charge that is counted here until what the ledger says contains it.

    While the ledger is being told, what another call hears of it may contain the charge already. So it is
    not counted here meanwhile: it would count twice, and somebody be refused for it.

    Attributes:
        is_counted: Whether it is counted here.
        is_told: Whether what the ledger says contains it.
    """

    __slots__ = ("_accounts", "_change", "is_counted", "is_told")

    def __init__(self, accounts: Sequence[BudgetAccount], change: Sums) -> None:
        self._accounts = accounts
        self._change = change
        self.is_counted, self.is_told = True, False

    def count(self, *, here: bool) -> None:
        """Count it here, or leave it to the ledger."""
        with LOCK:
            if here == self.is_counted:
                return
            self.is_counted = here
            for account in self._accounts:
                if here:
                    account.settled.add(self._change)
                else:
                    account.settled.add((), self._change)


def _taken(request: Request, output_tokens: int) -> Asked:
    """Put in a ledger's words what a call has come to that has produced so much."""
    used = request.estimated_usage(output_tokens)
    return to_asked((request.cost_of(used) or 0, used.total_tokens))


def _is_outgrown(ask: AccountRequest, taken: Asked) -> bool:
    return (ask.max_cost is not None and taken.cost > ask.held.cost) or (
        ask.max_tokens is not None and taken.tokens > ask.held.tokens
    )


def _grown_to(held: Asked, ask: AccountRequest) -> AccountRequest:
    return replace(ask, held=Asked(*map(max, ask.held, held)))


def look(accounts: Sequence[BudgetAccount], *, patience_s: float = 0.0) -> Flow[None]:
    """Let accounts know what their ledgers say now.

    Args:
        accounts: Accounts of any ledgers.
        patience_s: For how long to ask again if a ledger is merely slow.

    Raises:
        LedgerError: A ledger is away, and may not be done without.
    """
    for ledger, some in _by_ledger(accounts):
        totals = yield from ledger.look([account.replica.key for account in some], patience_s=patience_s)
        _take_over(some, ledger, totals)


def _by_ledger(accounts: Sequence[BudgetAccount]) -> list[tuple[LedgerClient, Sequence[BudgetAccount]]]:
    """Sort accounts by their ledgers: one, unless another was installed in an open step."""
    ledgers = dict.fromkeys([account.replica.ledger for account in accounts])
    if len(ledgers) == 1:
        return [(accounts[0].replica.ledger, accounts)]
    return [(ledger, [each for each in accounts if each.replica.ledger is ledger]) for ledger in ledgers]


def _take_over(accounts: Iterable[BudgetAccount], ledger: LedgerClient, totals: Iterable[Totals]) -> None:
    """Let accounts know what their ledger has said."""
    by_key = {each.key: each for each in totals}
    for account in accounts:
        replica = account.replica
        if replica.ledger is ledger and replica.key in by_key:
            account.learn(by_key[replica.key])
