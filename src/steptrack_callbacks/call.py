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

import itertools
import logging
import warnings
from collections.abc import Sequence
from decimal import Decimal
from typing import Any, Literal

from . import history, hooks
from .account import Account
from .admission import Claim, Wrapping
from .announcing import announce_thresholds, warn_if_observed
from .books import BOOKS, NOTHING, Charge
from .errors import BudgetExhausted, StepTrackError, UnknownCostWarning, UnpricedModel
from .escalation import question_about
from .line import Refusal, Waiter, settle_line
from .loops import running_loop
from .money import to_units
from .request import Request
from .usage import Usage
from .waiting import Decision, drive, drive_async

logger = logging.getLogger("steptrack_callbacks")

State = Literal["new", "in flight", "swept", "settled", "failed", "abandoned", "denied", "withdrawn"]

_numbers = itertools.count(1)
_open: dict[Call, None] = {}


class Call:
    """One request to a model, and its charge.

    Attributes:
        number: Counts the calls of this process.
        accounts: What it is charged to, innermost first.
        request: What is sent.
        state: Where it stands.
        admitted: Whether it went through admission, and was not merely noted after it was sent.
        attempts: Requests that a host was seen to send for it, its own retries among them.
    """

    __slots__ = (
        "_charge",
        "_claim",
        "_produced",
        "accounts",
        "admitted",
        "attempts",
        "number",
        "request",
        "state",
    )

    def __init__(
        self, accounts: Sequence[Account], request: Request, *, wrapping: Wrapping = frozenset()
    ) -> None:
        self.number = next(_numbers)
        self.accounts = accounts
        self.request = request
        self.state: State = "new"
        self.admitted = False
        self.attempts = 0
        self._charge = NOTHING
        self._produced = 0
        limited = [account for account in accounts if account.limited and account.enforce != "observe"]
        self._claim = Claim(limited, accounts[0], request, wrapping) if limited else None

    @property
    def max_output_tokens(self) -> int | None:
        """The `max_tokens` to set on the request so that a strict limit holds; `None` to leave it."""
        return None if self._claim is None else self._claim.max_output_tokens

    @property
    def is_open(self) -> bool:
        """Whether its usage is still to come, an estimate charged meanwhile or not."""
        return self.state in ("in flight", "swept")

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
        drive(self._admission(patient=patient and not on_loop))

    async def admit_async(self) -> None:
        """Reserve room, waiting on the event loop; then the call may be sent.

        Raises:
            BudgetExhausted: There is no room, or it did not come free in time.
            UnpricedModel: A dollar limit is in force and the model's price is unknown.
        """
        await drive_async(self._admission(patient=True))

    def note(self) -> None:
        """Begin without admission, for a call that was sent already."""
        with BOOKS:
            self.state = "in flight"
            for account in self.accounts:
                account.open_calls += 1
            _open[self] = None

    def _admission(self, *, patient: bool) -> Decision[None]:
        if any(account.cost_limit is not None for account in self.accounts):
            self._require_price()
        while (refusal := (yield from self._claim_room(patient=patient))) is not None:
            error = refusal.error()
            if not (yield from self._more_is_granted(refusal.account, error)):
                self._deny(error)
                raise error
        self.admitted = True
        if hooks.wanted(hooks.CallAdmitted):
            try:
                self._emit(hooks.CallAdmitted, model=self.request.model)
            except StepTrackError:
                self.withdraw()
                raise

    def _claim_room(self, *, patient: bool) -> Decision[Refusal | None]:
        """Ask once, wait if need be, and begin if there is room; else say why there is none."""
        if self._claim is None:
            self.note()
            return None
        outcome = self._claim.ask(patient=patient)
        if isinstance(outcome, Waiter):
            outcome = yield outcome
        with BOOKS:
            if outcome == "admitted":
                outcome = self._claim.confirm()
            if isinstance(outcome, Refusal):
                return outcome
            self.note()
        return None

    def _more_is_granted(self, account: Account, error: BudgetExhausted) -> Decision[bool]:
        question = question_about(account, error)
        granted = question is not None and (yield question)
        if granted:
            settle_line()  # there may be room for others as well
        elif error.phase not in ("busy", "closed"):
            account.raised = error
        return bool(granted)

    def _require_price(self) -> None:
        """Refuse a model of unknown price where dollars are limited: fail closed."""
        error = None if self.request.is_priced else self._blindness()
        if error is not None:
            self._deny(error)
            raise error

    def _blindness(self) -> UnpricedModel | None:
        """Say which dollar limit cannot see this call, as an error or a warning as its step wants it."""
        blind = [
            account
            for account in self.accounts
            if account.cost_limit is not None and account.unpriced != "free"
        ]
        refusing = [account for account in blind if account.unpriced is None and account.enforce != "observe"]
        if refusing:
            label = refusing[-1].label
            return UnpricedModel(model=self.request.model, step=label.name, path=label.path)
        if blind:
            warnings.warn(
                f"the price of model {self.request.model!r} is unknown, so max_usd of step"
                f" {blind[-1].label.path!r} cannot see this call",
                UnknownCostWarning,
                stacklevel=2,
            )
        return None

    def _deny(self, error: StepTrackError) -> None:
        with BOOKS:
            self.state = "denied"
            for account in self.accounts:
                account.denied += 1
        self._revise_ended()
        if hooks.wanted(hooks.CallDenied):
            self._emit(hooks.CallDenied, model=self.request.model, error=error)

    # While it runs

    def progress(self, output_tokens: int) -> None:
        """Say how much a stream has produced so far, in all.

        Raises:
            BudgetExhausted: It has passed a limit (phase `stream`); the caller must cut the stream
                and `abandon` the call.
        """
        drive(self._progress(output_tokens))

    async def progress_async(self, output_tokens: int) -> None:
        """Do as `progress`, where an escalation may be awaited.

        Raises:
            BudgetExhausted: It has passed a limit (phase `stream`).
        """
        await drive_async(self._progress(output_tokens))

    def _progress(self, output_tokens: int) -> Decision[None]:
        self._produced = output_tokens
        if self._claim is None or self.state != "in flight":
            return
        refusal = self._claim.run_on(output_tokens)
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
        estimated: bool = False,
        truncated: bool = False,
        response: object = None,
    ) -> None:
        """Charge what was used; a second report of the same call changes nothing.

        Args:
            usage: Its tokens.
            cost_usd: US dollars as stated for this very call; `None` to price the tokens.
            model: The model that answered, if it is not the one asked for.
            estimated: Whether the tokens were counted by us.
            truncated: Whether the answer was cut short by the request's own `max_tokens`.
            response: The answer, for the error that a step may raise at its close.
        """
        if not self.is_open:
            return
        if not estimated:
            self._learn(usage, truncated=truncated)
        cost = self.request.cost_of(usage, model) if cost_usd is None else to_units(cost_usd, "cost_usd")
        charge = self._counted(usage, cost, estimated=usage.estimated_calls or int(estimated))
        self._close(charge, "settled", response)

    def _learn(self, usage: Usage, *, truncated: bool) -> None:
        with BOOKS:
            history.learn(
                self.request.model,
                output_tokens=None if truncated else usage.output_tokens,
                counted_input=self.request.counted_input,
                input_tokens=usage.input_tokens,
            )

    def settle_free(self) -> None:
        """Charge nothing: the answer came from a cache."""
        self._close(NOTHING, "settled")

    def fail(self, usage: Usage | None = None) -> None:
        """Charge what a provider reported beside its error; by default nothing but the call itself."""
        used = usage or Usage()
        cost = self.request.cost_of(used) if used.total_tokens else 0
        self._close(self._counted(used, cost, failed=1), "failed")

    def abandon(self, output_tokens: int | None = None) -> None:
        """Charge an estimate: the answer was lost or broken off.

        Args:
            output_tokens: What was produced, as far as it was seen; `None` if nothing could be seen.
        """
        if self.is_open:
            self._close(self._estimate(output_tokens), "abandoned")

    def withdraw(self) -> None:
        """Give everything back: the call was admitted and never sent."""
        self._close(NOTHING, "withdrawn")

    def sweep(self) -> None:
        """Charge the estimate now, because the step ends; a true report may replace it later.

        Under a strict limit it is the most that the call can come to, so that the later report
        cannot pass the limit.
        """
        most = None if self._claim is None else self._claim.most_output
        if most is None:
            charge = self._estimate(None)
        else:
            usage = self.request.most(max(most, self._produced))
            cost = self.request.most_cost(usage.input_tokens, usage.output_tokens)
            charge = self._counted(usage, cost if self.request.is_priced else None, estimated=1)
        with BOOKS:
            if self.state != "in flight":
                return
            self._release()
            self._book(charge, "swept")
            for account in self.accounts:
                account.in_flight_calls += 1
        settle_line()
        try:
            self._tell(charge)
        except StepTrackError:  # there is nobody here to tell, and other calls are still to be swept
            logger.exception("a hook refused the estimate of a call that was open when its step ended")

    def _estimate(self, output_tokens: int | None) -> Charge:
        if output_tokens is None:
            expected, cap = self.request.expected_output(), self.max_output_tokens
            output_tokens = max(expected if cap is None else min(expected, cap), self._produced)
        return self._guess(self.request.estimate(output_tokens))

    def _guess(self, usage: Usage) -> Charge:
        return self._counted(usage, self.request.cost_of(usage), estimated=1)

    def _counted(self, usage: Usage, cost: int | None, *, failed: int = 0, estimated: int = 0) -> Charge:
        """Count the call itself, and as failed each attempt before the last."""
        retries = max(0, self.attempts - 1)
        return Charge(usage, cost, calls=1 + retries, failed=failed + retries, estimated=estimated)

    def _close(self, charge: Charge, state: State, response: object = None) -> None:
        with BOOKS:
            if not self.is_open:
                return
            swept = self.state == "swept"
            if swept:
                for account in self.accounts:
                    account.in_flight_calls -= 1
            else:
                self._release()
            self._book(charge, state)
            if response is not None:
                for account in self.accounts:
                    account.response = response if account.limited else None
        settle_line()
        if swept or state != "withdrawn":
            self._tell(charge)

    def _release(self) -> None:
        _open.pop(self, None)
        for account in self.accounts:
            account.open_calls -= 1
        if self._claim is not None:
            self._claim.release()

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

    def _tell(self, charge: Charge) -> None:
        """Let those know who want to: late records, hooks, thresholds."""
        self._revise_ended()
        for account in self.accounts:
            warn_if_observed(account)
        if hooks.wanted(hooks.CallSettled):
            self._emit(
                hooks.CallSettled, call_id=self.number, model=self.request.model, usage=charge.as_usage()
            )
        if shares := hooks.thresholds():
            for account in self.accounts:
                announce_thresholds(account, sorted(shares))

    def _revise_ended(self) -> None:
        """Put back the records of steps that have ended already."""
        for account in self.accounts:
            if account.closed and account.on_late_charge is not None:
                account.on_late_charge()

    def _emit(self, event: Any, **fields: Any) -> None:
        hooks.emit(event(**self.accounts[0].label.event_fields(), **fields))

    # Afterwards

    def check_overrun(self) -> None:
        """Raise if what is settled has passed a limit around this call.

        Raises:
            BudgetExhausted: It has (phase `settled`); the outermost account that is over owns it.
        """
        drive(self._overrun())

    def check_price(self) -> None:
        """Raise if what was charged has no price where dollars are limited.

        Raises:
            UnpricedModel: It has none, and the step does not say what to do about it.
        """
        if self._charge.cost is None and (error := self._blindness()):
            raise error

    def _overrun(self) -> Decision[None]:
        while True:
            with BOOKS:
                over = [
                    account
                    for account in self.accounts
                    if account.enforce != "observe" and account.passed_limits()
                ]
                if not over:
                    return
                breaches = [
                    b for account in reversed(over) for b in account.breaches(account.passed_limits())
                ]
                error = over[-1].exhaustion("settled", tuple(breaches))
            if not (yield from self._more_is_granted(over[-1], error)):
                raise error


def open_calls_of(account: Account) -> list[Call]:
    """Find the calls of an account that are neither settled nor swept."""
    if not account.open_calls:
        return []
    return [call for call in list(_open) if account in call.accounts]
