"""A call's dealings with the ledger: room on the shared accounts around it, and its charge to them."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

from steptrack_callbacks import hooks
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
from steptrack_callbacks.values.errors import StepDenied

from .amounts import Sums
from .budget_account import BudgetAccount, by_ledger
from .chain import AccountChain
from .ledger_amounts import to_amounts, to_asked, to_sums
from .queue import making_room
from .request import Request

Asks = Mapping[BudgetAccount, AccountRequest]
"""What a call asks of each shared account around it."""


class Lease:
    """What ledgers have lent to one call, and been told of it; nearly always that is one ledger.

    Attributes:
        name: The call's name in a ledger, which no other process has.
    """

    __slots__ = ("_chain", "_grown", "_lent", "_revision", "_untold", "name")

    def __init__(self, number: int, chain: AccountChain) -> None:
        self.name = f"{forks.process_name}-{number}"
        self._chain = chain
        self._lent: Asks = {}
        self._grown = 0
        self._revision = 0
        self._untold: list[_Charge] | None = None

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
            for ledger, accounts in self._chain.ledgers:
                asked = [asks[account] for account in accounts if account in asks]
                if not asked:
                    continue
                reservation = ReservationRequest(id=self.name, asks=tuple(asked), lease_s=ledger.lease_s)
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
        said = {(ledger, each.key): each for ledger, totals in found for each in totals}
        for account, ask in asks.items():
            replica = account.replica
            totals = said.get((replica.ledger, replica.key))
            replica.learn(totals, ask.held, 1)
            if account.lives_in_ledger:
                account.follow(totals)
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
        for ledger, accounts in self._chain.ledgers:
            grown = {each: _grown_to(twice, lent[each]) for each in accounts if each in lent}
            growth = ReservationRequest(
                id=self.name, asks=tuple(grown.values()), lease_s=ledger.lease_s, grows=True
            )
            if grown and (totals := (yield from ledger.grow(growth))):
                self._note_growth(grown)
                _take_over(self._chain.shared, ledger, totals)

    def _note_growth(self, grown: Asks) -> None:
        """Note that a ledger has lent more; a call that was charged meanwhile has given all back."""
        with LOCK:
            if self._lent:
                for account, ask in grown.items():
                    before = self._lent[account].held
                    more = Asked(ask.held.cost - before.cost, ask.held.tokens - before.tokens)
                    account.replica.learn(None, more)
                self._lent = {**self._lent, **grown}

    def _refuse(
        self, ledger: LedgerClient, verdict: Verdict, granted: list[tuple[LedgerClient, ReservationRequest]]
    ) -> Flow[None]:
        _take_over(self._chain.shared, ledger, verdict.totals)
        while granted:
            other, reservation = granted.pop()
            yield from other.give_back(reservation)
        if verdict.reason == "crowded":
            path = self._chain.shared[0].ref.path
            raise StepDenied(f"too many steps are open beside {path!r}: end some of them first")

    def give_back(self) -> Flow[None]:
        """Give back what was lent: nothing was sent."""
        yield from _tell(self._take((), (), ""))

    def charge(self, model: str, sums: Sums, instead_of: Sums) -> None:
        """Charge in place of what was lent: at once, blocking, or at the end of the block that awaits it.

        A ledger that is away is told later.
        """
        if not self.name.startswith(forks.process_name):
            return  # its ledger is told by the process that has sent it
        charges = self._take(sums, instead_of, model)
        if self._untold is None:
            run_sync(_tell(charges))
            return
        if hooks.registered or self._chain.observed:  # which are told first
            for charge in charges:
                charge.count(here=True)
        self._untold += charges

    def charge_more(self, model: str, sums: Sums, instead_of: Sums) -> Flow[None]:
        """Charge in place of what was charged: a stream goes on after its step has charged an estimate."""
        if self.name.startswith(forks.process_name):  # as above
            yield from _tell(self._take(sums, instead_of, model))

    def leave_to_parent(self) -> None:
        """Hold nothing in a forked child: what was lent to its parent's call is held elsewhere.

        Of a ledger in memory the child has a copy, in which nobody else would give it back.
        """
        for charge in self._take((), (), ""):
            if charge.ledger.is_durable:
                charge.paid({})
            else:
                charge.ledger.owe([charge])

    async def __aenter__(self) -> None:
        """Await at the end of this block what the ledger is to be told, instead of blocking in it."""
        self._untold = []

    async def __aexit__(self, *_raised: object) -> None:
        """Tell it now."""
        untold, self._untold = self._untold or [], None
        with making_room:
            await run_async(_tell(untold))

    def _take(self, sums: Sums, instead_of: Sums, model: str) -> list[_Charge]:
        """Put a charge in the words of each ledger, with what it has lent to the call."""
        amounts = to_amounts(sums, instead_of)
        with LOCK:
            (lent, self._lent), revision = (self._lent, {}), self._revision
            if not amounts and not lent:
                return []
            self._revision += 1
        ref, charges = self._chain[0].ref, []
        for ledger, accounts in self._chain.ledgers:
            entry = Entry(
                id=self.name,
                revision=revision,
                keys=tuple([account.replica.key for account in accounts]),
                amounts=amounts,
                expires_at={each.replica.key: at for each in accounts if (at := each.expires_at) is not None},
                detail={"model": model, "path": ref.path, "run_id": ref.run_id},
                at=time.time(),
            )
            charges.append(_Charge(entry, ledger, accounts, lent))
        return charges


class _Charge:
    """A charge to accounts of one ledger, with what that has lent to the call.

    It counts here only while the ledger is not told, and not while it is being told: what another call hears
    of it may contain the charge by then. It would count twice, and somebody be refused for it.

    Attributes:
        entry: The charge.
        ledger: The ledger.
        is_counted: Whether it counts here.
        is_told: Whether what the ledger says contains it.
    """

    __slots__ = ("_accounts", "_lent", "entry", "is_counted", "is_told", "ledger")

    def __init__(
        self, entry: Entry, ledger: LedgerClient, accounts: Sequence[BudgetAccount], lent: Asks
    ) -> None:
        self.entry = entry
        self.ledger = ledger
        self._accounts = accounts
        self._lent = lent
        self.is_counted = self.is_told = False

    def paid(self, totals: Mapping[str, Totals]) -> None:
        """Leave it to what the ledger says, which contains it."""
        with LOCK:
            self.is_told = True
            if self.is_counted:
                self.count(here=False)
            for account in self._accounts:
                ask, said = self._lent.get(account), totals.get(account.replica.key)
                if ask is None:
                    account.replica.learn(said)
                else:
                    account.replica.learn(said, Asked(-ask.held.cost, -ask.held.tokens), -1)
                if account.lives_in_ledger:
                    account.follow(said)

    def count(self, *, here: bool) -> None:
        """Count it here, unless the ledger has been told meanwhile, or leave it to the ledger."""
        with LOCK:
            if here == self.is_counted or (here and self.is_told):
                return
            self.is_counted = here
            change = to_sums(self.entry.amounts)
            for account in self._accounts:
                if here:
                    account.settled.add(change)
                else:
                    account.settled.add((), change)


def _tell(charges: list[_Charge]) -> Flow[None]:
    """Tell ledgers of charges, one after the other."""
    while charges:
        charge = charges.pop(0)
        if charge.is_counted:
            charge.count(here=False)
        try:
            yield from charge.ledger.settle([charge])
        except BaseException:  # cancelled on the way to one of them
            for left in charges:
                left.ledger.owe([left])
            raise


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
    for ledger, some in by_ledger(accounts):
        totals = yield from ledger.look([account.replica.key for account in some], patience_s=patience_s)
        _take_over(some, ledger, totals)


def _take_over(accounts: Iterable[BudgetAccount], ledger: LedgerClient, totals: Iterable[Totals]) -> None:
    """Let accounts know what their ledger has said."""
    by_key = {each.key: each for each in totals}
    for account in accounts:
        replica = account.replica
        if replica.ledger is ledger and replica.key in by_key:
            replica.learn(by_key[replica.key])
            account.follow(by_key[replica.key])
