"""One model call, whatever package makes it: admitted, then settled, failed or abandoned; or denied.

A call is pinned to the accounts that were around it when it was made, and is settled once. One that is
open when its step ends is *swept*: charged its estimate, which a true report replaces by its difference.
"""

from __future__ import annotations

import itertools
import logging
import os
import time
from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager, nullcontext
from decimal import Decimal

from steptrack_callbacks import hooks
from steptrack_callbacks.concurrency.flow import Flow, run_async, run_sync
from steptrack_callbacks.concurrency.lock import LOCK
from steptrack_callbacks.concurrency.tasks import running_loop
from steptrack_callbacks.pricing import Terms
from steptrack_callbacks.pricing.terms import NO_TERMS
from steptrack_callbacks.values.copying import CopiedAsItself
from steptrack_callbacks.values.errors import StepTrackError
from steptrack_callbacks.values.money import to_units
from steptrack_callbacks.values.usage import Usage

from . import call_log, fast_path, forking, settlement, streaming
from .account import Account
from .admission import admission, raise_if_passed, tell_admitted
from .amounts import NOTHING, Charge
from .chain import AccountChain, Wrapping
from .holds import Bound
from .lease import Lease
from .open_call import State, open_calls
from .queue import QUEUE, making_room
from .request import Request
from .reservation import Reservation
from .swapping import Swap, Swapping

logger = logging.getLogger("steptrack_callbacks")

_NOT_WRAPPING: Wrapping = frozenset()
_OPEN = ("in flight", "swept")
_NOTHING_TO_TELL = nullcontext()
next_number = itertools.count(1).__next__
"""Numbers the calls of this process."""


class Call(CopiedAsItself):
    """One request to a model, and its charge.

    Attributes:
        number: Counts the calls of this process.
        accounts: What it is charged to, innermost first.
        request: What is sent.
        state: Where it stands.
        admitted: Whether it went through admission, and was not merely noted after it was sent.
        attempts: Requests that a package was seen to send for it, its own retries among them.
        answered_by: The model that answered, if that was told.
        started_at: When it began, in seconds since the epoch.
        reservation: What it asks of the limited accounts around it, once it has to ask.
        wrapping: The accounts that are being wrapped up around it.
        sent_at: When it began, by the monotonic clock.
        bound: What it holds without being counted, if it does; see `fast_path`.
        charge: What it was charged, so far.
        produced: Tokens that a stream has produced so far.
        lease: What ledgers have lent to it; `None` if none has an account around it.
        swapping: Its way through the models that a step names for it; `None` if none does.
    """

    # Without slots, so that a call that begins has no more to set than what is its own.
    state: State = "new"
    charge = NOTHING
    admitted = False
    answered_by: str | None = None
    attempts = 0
    started_at = 0.0
    sent_at: float | None = None
    produced = 0
    bound: Bound | None = None
    reservation: Reservation | None = None
    lease: Lease | None = None
    swapping: Swapping | None = None
    _before: Charge | None = None

    def __init__(
        self, accounts: Sequence[Account], request: Request, *, wrapping: Wrapping = _NOT_WRAPPING
    ) -> None:
        self.number = next_number()
        chain = accounts if type(accounts) is AccountChain else AccountChain(accounts)
        self.accounts = chain
        self.request = request
        self.wrapping = wrapping
        if chain.shared:
            self.lease = Lease(self.number, chain)

    @property
    def is_open(self) -> bool:
        """Whether its usage is still to come, an estimate charged meanwhile or not."""
        return self.state in _OPEN

    @property
    def max_output_tokens(self) -> int | None:
        """The most that all its answers may come to because of a limit; `None` if none says so."""
        return None if self.reservation is None else self.reservation.cap.max_tokens

    @property
    def max_tokens_to_set(self) -> int | None:
        """The `max_tokens` to set on the request so that a limit holds; `None` to leave it alone."""
        most = self.max_output_tokens
        return None if most is None else most // self.request.answers

    @property
    def swap(self) -> Swap | None:
        """What it is made with in place of the model that was asked for."""
        return None if self.swapping is None else self.swapping.swap

    # Before it is sent

    def admit(self, *, patient: bool = True) -> None:
        """Reserve room; then the call may be sent.

        Args:
            patient: Whether to wait for room that others may give back. A thread that runs an event
                loop never waits here.

        Raises:
            BudgetExhausted: There is no room, or it did not come free in time.
            UnpricedModel: A dollar limit is in force and the model's price is unknown.
        """
        __tracebackhide__ = True
        if self.lease is not None or not fast_path.let_through(self):
            run_sync(self._admission(patient=patient and running_loop() is None))

    async def admit_async(self) -> None:
        """Reserve room, waiting on the event loop; then the call may be sent.

        Raises:
            BudgetExhausted: There is no room, or it did not come free in time.
            UnpricedModel: A dollar limit is in force and the model's price is unknown.
        """
        __tracebackhide__ = True
        if self.lease is not None or not fast_path.let_through(self):
            await run_async(self._admission(patient=True))

    def count(self) -> None:
        """Hold what is expected of it instead of a bound, if it is still in flight."""
        fast_path.count(self)

    def _admission(self, *, patient: bool) -> Flow[None]:
        __tracebackhide__ = True
        yield from admission(self, patient=patient)
        self.admitted = True
        if hooks.registered:
            self.announce()

    def announce(self) -> None:
        """Let hooks see that it is admitted; then it may yet be refused, or interrupted."""
        try:
            tell_admitted(self, self.swap)
        except BaseException:
            self.withdraw()
            raise

    def begin(self) -> None:
        """Put it in flight; one that was sent already begins so, without admission."""
        self.sent_at, self.started_at = time.monotonic(), time.time()
        with LOCK:
            self.state = "in flight"
            for account in self.accounts:
                account.open_calls += 1
            open_calls[self] = None

    # While it runs

    def progress(self, output_tokens: int) -> None:
        """Say how much a stream has produced so far, in all.

        Raises:
            BudgetExhausted: It has passed a limit (phase `stream`); the caller must cut the stream
                and `abandon` the call.
        """
        run_sync(streaming.progress(self, output_tokens))

    async def progress_async(self, output_tokens: int) -> None:
        """Do as `progress`, where an escalation may be awaited.

        Raises:
            BudgetExhausted: It has passed a limit (phase `stream`).
        """
        await run_async(streaming.progress(self, output_tokens))

    # Once it is over

    def settle(
        self,
        usage: Usage,
        *,
        cost_usd: Decimal | float | None = None,
        model: str | None = None,
        terms: Terms | None = None,
        parts: Sequence[tuple[str, Usage]] = (),
        estimated: bool = False,
        truncated: bool = False,
        response: object = None,
    ) -> None:
        """Charge what was used; a second report of the same call changes nothing.

        Args:
            usage: Its tokens.
            cost_usd: US dollars as stated for this very call; `None` to price the tokens.
            model: The model that answered, if it is not the one asked for.
            terms: How it was served, as the answer says: its tier, speed and region.
            parts: Which model used what of `usage`, if several made the answer; each has its own price.
            estimated: Whether the tokens were counted by us.
            truncated: Whether the answer was cut short by the request's own `max_tokens`.
            response: The answer, for the error that a step may raise at its close.
        """
        is_far = self.bound is not None and self.lease is None
        is_usual = not (estimated or truncated) and (terms is None or terms is NO_TERMS)
        if is_far and is_usual and fast_path.settle(self, usage, cost_usd, model, parts, response=response):
            return
        if self.state not in _OPEN:
            return
        self.answered_by = model
        took_s = None if self.sent_at is None else time.monotonic() - self.sent_at
        if cost_usd is not None:
            cost: int | None = to_units(cost_usd, "cost_usd")
        elif len(parts) > 1:
            cost = self.request.cost_of_parts(parts, terms, took_s)
        else:
            cost = self.request.cost_of(usage, parts[0][0] if parts else model, terms, took_s)
        estimated_calls = usage.estimated_calls or int(estimated)
        if self.attempts > 1 or not self.request.counts:
            charge = self._counted(usage, cost, estimated=estimated_calls)
        else:
            charge = Charge(usage, cost, estimated=estimated_calls)
        learn = None if estimated else settlement.lesson_of(self, usage, terms, took_s, cut=truncated)
        if truncated:
            settlement.note_cut(self)
        self._close(charge, "settled", response, learn)

    def settle_free(self) -> None:
        """Charge nothing: the answer came from a cache."""
        self._close(NOTHING, "settled")

    def fail(
        self, usage: Usage | None = None, *, model: str | None = None, terms: Terms | None = None
    ) -> None:
        """Charge what a provider reported beside its error; by default nothing but the call itself.

        Args:
            usage: What was used.
            model: The model that answered, if it is not the one asked for.
            terms: How it was served, as the answer says.
        """
        used = usage or Usage()
        cost = self.request.cost_of(used, model, terms, self._duration_s()) if used.total_tokens else 0
        self._close(self._counted(used, cost, failed=1, estimated=used.estimated_calls), "failed")

    def abandon(
        self,
        output_tokens: int | None = None,
        *,
        reported: Usage | None = None,
        model: str | None = None,
        terms: Terms | None = None,
    ) -> None:
        """Charge an estimate: the answer was lost or broken off.

        Args:
            output_tokens: What was produced, as far as it was seen; `None` if nothing could be seen.
            reported: What the provider had said of it by then.
            model: The model that answered, if it is not the one asked for.
            terms: How it was served, as the answer says.
        """
        if self.is_open:
            usage = settlement.estimated_usage(self, output_tokens, reported)
            cost = self.request.cost_of(usage, model, terms, self._duration_s())
            self._close(self._counted(usage, cost, estimated=1), "abandoned")

    def _duration_s(self) -> float | None:
        return None if self.sent_at is None else time.monotonic() - self.sent_at

    def withdraw(self) -> None:
        """Give everything back: the call was admitted and never sent."""
        self._close(NOTHING, "withdrawn")

    def sweep(self) -> None:
        """Charge the estimate now, because the step ends; a true report may replace it later."""
        self.count()
        usage, cost = settlement.swept(self, self._duration_s())
        charge = self._counted(usage, cost, estimated=1)
        with making_room:
            with LOCK:
                if self.state != "in flight":
                    return
                self.release()
                settlement.put_on(self.accounts, charge, NOTHING, self.request.model)
                self.charge, self.state = charge, "swept"
                for account in self.accounts:
                    account.in_flight_calls += 1
            if self.lease is not None:
                self.lease.charge(self.request.model, charge.sums(), ())
        try:
            self._tell(charge)
        except StepTrackError:  # there is nobody here to tell, and other calls are still to be swept
            logger.exception("a hook refused the estimate of a call that was open when its step ended")

    def _counted(self, usage: Usage, cost: int | None, *, failed: int = 0, estimated: int = 0) -> Charge:
        retries = max(0, self.attempts - 1)  # each attempt before the last has failed
        charge = Charge(usage, cost, calls=1 + retries, failed=failed + retries, estimated=estimated)
        return charge if self.request.counts else Charge(usage, cost, calls=0)

    def _close(
        self, charge: Charge, state: State, response: object = None, learn: settlement.Lesson | None = None
    ) -> None:
        try:
            with LOCK:
                if self.state not in _OPEN:
                    return
                if learn is not None:
                    learn()
                swept, before = self.state == "swept", self.charge
                if swept:
                    self._before = before
                    for account in self.accounts:
                        account.in_flight_calls -= 1
                        account.late_calls += state != "withdrawn"
                else:
                    self.release()
                sums = settlement.put_on(self.accounts, charge, before, self.request.model)
                self.charge, self.state = charge, state
                if response is not None:
                    for account in self.accounts:
                        if account.limited and not account.forgets:
                            account.response = response
            if self.lease is not None:
                self.lease.charge(self.request.model, *sums)
        finally:  # written out, as each call comes here: see `making_room`
            if QUEUE.waiters:
                QUEUE.move_on()
        if swept or state != "withdrawn":
            self._tell(charge)

    def release(self) -> None:
        """Be open no longer, and hold nothing; under the lock."""
        open_calls.pop(self, None)
        for account in self.accounts:
            account.open_calls -= 1
        if self.bound is not None:
            self.accounts.allowance.give_back(self)
        elif self.reservation is not None:
            self.reservation.release()

    def telling_ledger(self) -> AbstractAsyncContextManager[object]:
        """Await at the end of this block what the ledger is to be told, instead of blocking in it."""
        return _NOTHING_TO_TELL if self.lease is None else self.lease

    def _tell(self, charge: Charge) -> None:
        """Let those know who want to: the timeline, late records, hooks, thresholds."""
        ref, model = self.accounts[0].ref, self.request.model
        # Not the charge that is told of: another thread may have replaced it by a true report.
        call_log.note_charge((self.number, ref, model, self.state, self.started_at, time.time(), self.charge))
        for account in self.accounts:
            if account.closed and account.on_late_charge is not None:
                account.on_late_charge(account)
        if hooks.registered or self.accounts.observed:
            settlement.tell_of(self, charge, None if self._before is charge else self._before)

    # Afterwards

    def check_overrun(self) -> None:
        """Raise if what is settled has passed a limit around this call.

        Raises:
            BudgetExhausted: It has (phase `settled`); the outermost account that is over owns it.
        """
        __tracebackhide__ = True
        run_sync(raise_if_passed(self.accounts))

    def check_price(self) -> None:
        """Raise if what was charged has no price where dollars are limited.

        Raises:
            UnpricedModel: It has none, and the step does not say what to do about it.
        """
        if self.charge.cost is None and (error := self.accounts.blindness(self.request)):
            raise error


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=forking.leave_to_parent)
