"""A call's books: what it is charged, on every account around it, and who is told."""

from __future__ import annotations

import itertools
import time
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from typing import Any, Literal

from steptrack_callbacks import hooks
from steptrack_callbacks.concurrency.flow import Flow, run_async, run_sync
from steptrack_callbacks.concurrency.lock import LOCK

from . import call_log
from .account import Account
from .amounts import NOTHING, Charge
from .chain import AccountChain
from .lease import Lease
from .queue import advance_queue
from .request import Request
from .reservation import Reservation, Wrapping
from .thresholds import announce_thresholds, warn_if_observed

State = Literal["new", "in flight", "swept", "settled", "failed", "abandoned", "denied", "withdrawn"]

_numbers = itertools.count(1)
open_calls: dict[Charged, None] = {}
"""Calls that are neither settled nor swept, in the order in which they began."""


class Charged:
    """What is charged once, and may be charged anew when more is known; see `Call`."""

    __slots__ = (
        "_before",
        "_charge",
        "_lease",
        "_reservation",
        "_sent_at",
        "_untold",
        "accounts",
        "answered_by",
        "number",
        "request",
        "started_at",
        "state",
    )

    def __init__(self, accounts: Sequence[Account], request: Request, wrapping: Wrapping) -> None:
        self.number = next(_numbers)
        self.accounts = accounts if isinstance(accounts, AccountChain) else AccountChain(accounts)
        self.request = request
        self.state: State = "new"
        self.answered_by: str | None = None
        self._before: Charge | None = None
        self._charge = NOTHING
        self._reservation = Reservation(self.accounts, request, wrapping) if self.accounts.limited else None
        shared = self.accounts.shared
        self._lease = Lease(self.number, shared) if shared else None
        self._untold: list[Flow[None]] | None = None
        self._sent_at: float | None = None
        self.started_at = 0.0

    @property
    def is_open(self) -> bool:
        """Whether its usage is still to come, an estimate charged meanwhile or not."""
        return self.state in ("in flight", "swept")

    def note(self) -> None:
        """Begin without admission, for a call that was sent already."""
        self._sent_at, self.started_at = time.monotonic(), call_log.now()
        with LOCK:
            self.state = "in flight"
            for account in self.accounts:
                account.open_calls += 1
            open_calls[self] = None

    def _close(self, charge: Charge, state: State, response: object = None) -> None:
        with LOCK:
            if not self.is_open:
                return
            swept, before = self.state == "swept", self._charge
            if swept:
                self._before = before
                for account in self.accounts:
                    account.in_flight_calls -= 1
                    account.late_calls += state != "withdrawn"
            else:
                self._release()
            self._book(charge, state)
            if response is not None:
                for account in self.accounts:
                    account.response = response if account.limited else None
        self._tell_ledger(charge, before)
        advance_queue()
        if swept or state != "withdrawn":
            self._tell(charge)

    def _release(self) -> None:
        open_calls.pop(self, None)
        for account in self.accounts:
            account.open_calls -= 1
        if self._reservation is not None:
            self._reservation.release()

    def _book(self, charge: Charge, state: State) -> None:
        """Replace what was charged so far, on every account."""
        innermost, model = self.accounts[0], self.request.model
        amounts, instead_of = charge.sums(), () if self._charge is NOTHING else self._charge.sums()
        for account in self.accounts:
            account.charge(amounts, instead_of)
        if amounts or instead_of:
            innermost.charge_own(amounts, model, instead_of)
            innermost.model = model
        self._charge = charge
        self.state = state

    def _tell_ledger(self, charge: Charge, instead_of: Charge) -> None:
        """Let the ledger have the charge before anybody has the answer."""
        if self._lease is not None:
            ref = self.accounts[0].ref
            detail = {"model": self.request.model, "path": ref.path, "run_id": ref.run_id}
            telling = self._lease.charge(charge.sums(), instead_of.sums(), detail)
            if self._untold is None:
                run_sync(telling)
            else:
                self._untold.append(telling)

    @asynccontextmanager
    async def telling_ledger(self) -> AsyncGenerator[None]:
        """Await at the end of this block what the ledger is to be told, instead of blocking in it."""
        if self._lease is None:
            yield
            return
        self._untold = []
        try:
            yield
        finally:
            untold, self._untold = self._untold, None
            for telling in untold:
                await run_async(telling)

    def _tell(self, charge: Charge) -> None:
        """Let those know who want to: the timeline, late records, hooks, thresholds."""
        # Not the charge that is told of: another thread may have replaced it by a true report.
        call_log.note_charge(
            self.number,
            self.accounts[0].ref,
            self._charge,
            model=self.request.model,
            state=self.state,
            started_at=self.started_at,
        )
        self.accounts.revise_ended()
        for account in self.accounts.observed:
            warn_if_observed(account)
        if hooks.wanted(hooks.CallSettled):
            self._emit_settled(charge)
        if shares := hooks.thresholds():
            for account in self.accounts:
                announce_thresholds(account, sorted(shares))

    def _emit_settled(self, charge: Charge) -> None:
        before = None if self._before is charge else self._before  # another thread may have been faster
        self._emit(
            hooks.CallSettled,
            call_id=self.number,
            model=self.request.model,
            usage=charge.as_usage(),
            instead_of=None if before is None else before.as_usage(),
            operation=self.request.operation,
            provider=self.request.provider,
            response_model=self.answered_by,
        )

    def _emit(self, event: Any, **fields: Any) -> None:
        hooks.emit(event(**self.accounts[0].ref.event_fields(), **fields))
