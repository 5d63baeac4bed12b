"""One model call, whatever the host: admitted, then settled, failed or abandoned; or denied.

```
admit ──► in flight ──► settled      usage known: charged
   │          ├───────► failed       the provider said no: charged what it reported
   │          └───────► abandoned    answer lost or broken off: charged an estimate, and marked
   └─► denied                        no room: an error, nothing sent, nothing charged
```

A call is pinned to the accounts that were around it when it was made, and is settled once. One
that is still open when its step ends is *swept*: charged its estimate, which a later true report
replaces by its difference.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from decimal import Decimal

from steptrack_callbacks import hooks
from steptrack_callbacks.concurrency.flow import Flow, run_async, run_sync
from steptrack_callbacks.concurrency.lock import LOCK
from steptrack_callbacks.concurrency.tasks import running_loop
from steptrack_callbacks.pricing import Terms
from steptrack_callbacks.values.errors import BudgetExhausted, StepTrackError
from steptrack_callbacks.values.money import to_units
from steptrack_callbacks.values.usage import Usage

from . import call_log, output_stats
from .account import Account
from .amounts import NOTHING, Charge
from .escalation import question_about
from .queue import Outcome, Waiter, advance_queue
from .request import Request
from .reservation import Wrapping
from .settlement import Charged, open_calls
from .shared_reservation import SharedReservation

logger = logging.getLogger("steptrack_callbacks")


class Call(Charged):
    """One request to a model, and its charge.

    Attributes:
        number: Counts the calls of this process.
        accounts: What it is charged to, innermost first.
        request: What is sent.
        state: Where it stands.
        admitted: Whether it went through admission, and was not merely noted after it was sent.
        attempts: Requests that a host was seen to send for it, its own retries among them.
        answered_by: The model that answered, if that was told.
    """

    __slots__ = ("_produced", "admitted", "attempts")

    def __init__(
        self, accounts: Sequence[Account], request: Request, *, wrapping: Wrapping = frozenset()
    ) -> None:
        super().__init__(accounts, request, wrapping)
        self.admitted = False
        self.attempts = 0
        self._produced = 0

    @property
    def max_output_tokens(self) -> int | None:
        """The `max_tokens` to set on the request so that a strict limit holds; `None` to leave it."""
        return None if self._reservation is None else self._reservation.max_output_tokens

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
        on_loop = running_loop() is not None
        run_sync(self._admission(patient=patient and not on_loop))

    async def admit_async(self) -> None:
        """Reserve room, waiting on the event loop; then the call may be sent.

        Raises:
            BudgetExhausted: There is no room, or it did not come free in time.
            UnpricedModel: A dollar limit is in force and the model's price is unknown.
        """
        await run_async(self._admission(patient=True))

    def _admission(self, *, patient: bool) -> Flow[None]:
        if self.accounts.watches_usd:
            self._require_price()
        while (outcome := self._ask(patient=patient)) != "admitted":
            if isinstance(outcome, SharedReservation):
                outcome = yield from self._reserve_shared(outcome)
            elif isinstance(outcome, Waiter):
                outcome = self._begin((yield outcome))
            if outcome == "admitted":
                break
            error = outcome.error()
            if not (yield from self._more_is_granted(outcome.account, error)):
                self._deny(error)
                raise error
        self.admitted = True
        if hooks.wanted(hooks.CallAdmitted):
            try:
                self._emit(hooks.CallAdmitted, call_id=self.number, model=self.request.model)
            except StepTrackError:
                self.withdraw()
                raise

    def _ask(self, *, patient: bool) -> Outcome | Waiter | SharedReservation:
        """Ask for room once, and begin if there is some."""
        if self._reservation is None:
            return self._begin("admitted")
        if self._lease is not None and self._reservation.shared:
            return SharedReservation(self._reservation, self._lease, patient=patient)
        outcome = self._reservation.ask(patient=patient)
        return outcome if isinstance(outcome, Waiter) else self._begin(outcome)

    def _reserve_shared(self, shared: SharedReservation) -> Flow[Outcome]:
        """Begin once the ledger has agreed as well."""
        try:
            outcome = self._begin((yield from shared.decide()))
        except StepTrackError as error:
            self._deny(error)
            raise
        if outcome != "admitted":
            yield from shared.give_back()
        return outcome

    def _begin(self, outcome: Outcome) -> Outcome:
        """Begin if there was room, and is still."""
        with LOCK:
            if outcome == "admitted" and self._reservation is not None:
                outcome = self._reservation.confirm()
            if outcome == "admitted":
                self.note()
        return outcome

    def _more_is_granted(self, account: Account, error: BudgetExhausted) -> Flow[bool]:
        question = question_about(account, error)
        granted = question is not None and (yield question)
        if granted:
            advance_queue()  # there may be room for others as well
        elif error.phase not in ("busy", "closed"):
            account.blame(error)
        return bool(granted)

    def _require_price(self) -> None:
        """Refuse a model of unknown price where dollars are limited: fail closed."""
        error = None if self.request.is_priced else self.accounts.blindness(self.request)
        if error is not None:
            self._deny(error)
            raise error

    def _deny(self, error: StepTrackError) -> None:
        busy = isinstance(error, BudgetExhausted) and error.phase == "busy"
        with LOCK:
            self.state = "denied"
            for account in self.accounts:
                account.denied += 1
                account.busy += busy
        call_log.note_denial(self.number, self.accounts[0].ref, self.request.model, error)
        self.accounts.revise_ended()
        if hooks.wanted(hooks.CallDenied):
            self._emit(hooks.CallDenied, model=self.request.model, error=error)

    # While it runs

    def progress(self, output_tokens: int) -> None:
        """Say how much a stream has produced so far, in all.

        Raises:
            BudgetExhausted: It has passed a limit (phase `stream`); the caller must cut the stream
                and `abandon` the call.
        """
        run_sync(self._progress(output_tokens))

    async def progress_async(self, output_tokens: int) -> None:
        """Do as `progress`, where an escalation may be awaited.

        Raises:
            BudgetExhausted: It has passed a limit (phase `stream`).
        """
        await run_async(self._progress(output_tokens))

    def _progress(self, output_tokens: int) -> Flow[None]:
        self._produced = output_tokens
        if self._reservation is None or self.state != "in flight":
            return
        refusal = self._reservation.run_on(output_tokens)
        if refusal is not None:
            error = refusal.error()
            if not (yield from self._more_is_granted(refusal.account, error)):
                raise error

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
        if not self.is_open:
            return
        self.answered_by = model
        if not estimated:
            self._learn(usage, terms, truncated=truncated)
        if truncated and self.max_output_tokens is not None:
            self._note_cut()
        if cost_usd is not None:
            cost: int | None = to_units(cost_usd, "cost_usd")
        else:
            told = parts or ((model or self.request.model, usage),)
            cost = self.request.cost_of_parts(told, terms, self._duration_s())
        charge = self._counted(usage, cost, estimated=usage.estimated_calls or int(estimated))
        self._close(charge, "settled", response)

    def _learn(self, usage: Usage, terms: Terms | None, *, truncated: bool) -> None:
        tier = terms.service_tier if terms and self.request.service_tier is None else None
        with LOCK:
            output_stats.learn(
                self.request.model,
                output_tokens=usage.output_tokens,
                took_s=self._duration_s() or 0.0,
                truncated=truncated,
                counted_input=self.request.counted_input,
                input_tokens=usage.input_tokens,
                service_tier=tier,
            )

    def _note_cut(self) -> None:
        """Count an answer that was cut short by what was left of a budget."""
        with LOCK:
            for account in self.accounts:
                account.cut += 1

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
            usage = self._estimated_usage(output_tokens, reported)
            cost = self.request.cost_of(usage, model, terms, self._duration_s())
            self._close(self._counted(usage, cost, estimated=1), "abandoned")

    def _duration_s(self) -> float | None:
        """Return how long it has run, which some models are paid for."""
        return None if self._sent_at is None else time.monotonic() - self._sent_at

    def withdraw(self) -> None:
        """Give everything back: the call was admitted and never sent."""
        self._close(NOTHING, "withdrawn")

    def sweep(self) -> None:
        """Charge the estimate now, because the step ends; a true report may replace it later.

        Under a strict limit it is the most that the call can come to, so that the later report
        cannot pass the limit.
        """
        most = None if self._reservation is None else self._reservation.most_output
        if most is None:
            usage = self._estimated_usage(None)
            cost: int | None = self.request.cost_of(usage, duration_s=self._duration_s())
            charge = self._counted(usage, cost, estimated=1)
        else:
            usage = self.request.most(max(most, self._produced))
            cost = self.request.most_cost(usage.input_tokens, usage.output_tokens)
            charge = self._counted(usage, cost if self.request.is_priced else None, estimated=1)
        with LOCK:
            if self.state != "in flight":
                return
            self._release()
            self._book(charge, "swept")
            for account in self.accounts:
                account.in_flight_calls += 1
        self._tell_ledger(charge, NOTHING)
        advance_queue()
        try:
            self._tell(charge)
        except StepTrackError:  # there is nobody here to tell, and other calls are still to be swept
            logger.exception("a hook refused the estimate of a call that was open when its step ended")

    def _estimated_usage(self, output_tokens: int | None, reported: Usage | None = None) -> Usage:
        if output_tokens is None:
            expected, cap = self.request.expected_output(), self.max_output_tokens
            output_tokens = max(expected if cap is None else min(expected, cap), self._produced)
        return self.request.estimated_usage(output_tokens, reported)

    def _counted(self, usage: Usage, cost: int | None, *, failed: int = 0, estimated: int = 0) -> Charge:
        """Count the call itself, and as failed each attempt before the last."""
        retries = max(0, self.attempts - 1)
        return Charge(usage, cost, calls=1 + retries, failed=failed + retries, estimated=estimated)

    def seen(self) -> call_log.SeenCall:
        """Return it as a timeline shows a call that still runs."""
        return call_log.in_flight(self.number, self.accounts[0].ref, self.request.model, self.started_at)

    # Afterwards

    def check_overrun(self) -> None:
        """Raise if what is settled has passed a limit around this call.

        Raises:
            BudgetExhausted: It has (phase `settled`); the outermost account that is over owns it.
        """
        run_sync(self._overrun())

    def check_price(self) -> None:
        """Raise if what was charged has no price where dollars are limited.

        Raises:
            UnpricedModel: It has none, and the step does not say what to do about it.
        """
        if self._charge.cost is None and (error := self.accounts.blindness(self.request)):
            raise error

    def _overrun(self) -> Flow[None]:
        while (overrun := self.accounts.overrun()) is not None:
            if not (yield from self._more_is_granted(*overrun)):
                raise overrun[1]


def open_calls_of(account: Account) -> list[Call]:
    """Find the calls of an account that are neither settled nor swept."""
    if not account.open_calls:
        return []
    return [call for call in list(open_calls) if isinstance(call, Call) and account in call.accounts]
