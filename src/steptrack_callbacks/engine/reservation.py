"""Who may go, who waits, who is refused.

A reservation asks every limited account around a call for room. All of them are reserved together or
none is. One that would fit once others settle waits in line, first come first served on each account;
it is refused as soon as nothing in flight could make room for it.
"""

from __future__ import annotations

import time
from collections.abc import Hashable, Sequence

from steptrack_callbacks import pricing
from steptrack_callbacks.concurrency.lock import LOCK
from steptrack_callbacks.concurrency.tasks import current_owner
from steptrack_callbacks.values.definitions import LimitName
from steptrack_callbacks.values.errors import Breach, Phase

from .account import Account
from .budget_account import BudgetAccount
from .chain import AccountChain
from .decisions import ADMITTED, Decision, MustWait, Outcome, Refused
from .forecasts import LONGEST_KNOWN, UNBOUNDED, Flight, caution_for
from .holds import Estimate, Hold, Holding
from .lease import LeaseShare
from .queue import NO_WAIT_HINT, QUEUE, WAITED_HINT, Waiter
from .request import Request

Wrapping = frozenset[Account]


class Reservation:
    """What one call asks of the limited accounts around it, and what it holds there.

    Attributes:
        max_output_tokens: The `max_tokens` to set on the request so that a limit holds; `None` to
            leave it alone.
        capped_by: The account whose last it gets.
        most_output: The most output that a strict account holds it to; `None` if there is none.
        shared: Those of the accounts that a ledger has the last word about.
    """

    __slots__ = (
        "_ceiling",
        "_clamps",
        "_estimate",
        "_flight",
        "_held",
        "_hint",
        "_in_usd",
        "_running",
        "_since",
        "_strict",
        "accounts",
        "capped_by",
        "innermost",
        "max_output_tokens",
        "most_output",
        "owner",
        "patient",
        "request",
        "shared",
        "wrapping",
    )

    def __init__(self, chain: AccountChain, request: Request, wrapping: Wrapping) -> None:
        self.accounts: Sequence[Account] = chain.limited
        self.innermost = chain[0]
        self.shared = tuple(account for account in chain.shared if account in chain.limited)
        self.request = request
        self.wrapping = wrapping
        self.owner: Hashable = None
        self.patient = False
        self.max_output_tokens: int | None = None
        self._strict = chain.strict
        self._in_usd = chain.limits_usd
        self._clamps = chain.clamps and not chain.strict
        self.capped_by: Account | None = None
        self._ceiling: int | None = None
        self.most_output: int | None = None
        self._hint = ""
        self._estimate: Estimate | None = None
        self._held: list[tuple[Account, Holding]] = []
        self._flight: Flight | None = None
        self._running = (0, 0)
        self._since: float | None = None

    def of_another(self, chain: AccountChain, request: Request) -> Reservation:
        """Return the same for another request, which has waited as long; this one holds nothing any more."""
        other = Reservation(chain, request, self.wrapping)
        other._since = self._since
        return other

    def ask(self, *, patient: bool) -> Outcome | Waiter:
        """Reserve room everywhere, join the line, or be refused; `patient` says that the caller can wait."""
        self.owner = current_owner()
        self.patient = patient
        self._hint = "" if patient else NO_WAIT_HINT
        self.look_up()
        self._count_others()  # here and not under the lock, since to count takes its time
        with LOCK:
            decision = self._decide_undisturbed()
            if isinstance(decision, MustWait):
                return self._stand_in_line(decision.blocked_on)
            return decision

    def _stand_in_line(self, blocked_on: frozenset[Account]) -> Waiter:
        if self._since is None:
            self._since = time.monotonic()
        waiter = QUEUE.join(self, blocked_on)
        if not blocked_on.isdisjoint(self.shared):
            waiter.looks_elsewhere = True
        return waiter

    def waited_s(self) -> float:
        """Return how long it has been asking already, over earlier places in line."""
        return 0.0 if self._since is None else time.monotonic() - self._since

    def shares(self) -> tuple[LeaseShare, ...]:
        """Put what is held on shared accounts in the ledger's words."""
        estimate = self._estimate
        assert estimate is not None  # whoever holds room has asked for it
        return tuple(
            LeaseShare(account, account.ask(estimate, wrapping=account in self.wrapping))
            for account, _ in self._held
            if isinstance(account, BudgetAccount)
        )

    def refuse_busy(self) -> Refused:
        """Refuse because a ledger keeps saying no to what would fit by all that is known here."""
        return self._refusal(self.shared[-1], "busy", self.shared, "the ledger has the last word")

    def refuse_closed(self) -> Refused:
        """Refuse because an account has been closed elsewhere."""
        ended: list[Account] = [account for account in self.shared if account.closed] or [self.innermost]
        return self._refusal(ended[-1], "closed", [ended[-1]])

    def _count_others(self) -> None:
        for account in reversed(self.accounts):  # the outermost knows all calls, in their order
            account.count_all()

    def look_up(self) -> None:
        """Do what is slow before the lock is taken."""
        request = self.request
        request.counted  # noqa: B018 - counts the input
        if self._strict and request.max_output_tokens is None:
            longest = pricing.max_output_tokens(request.model, provider=request.provider)
            self._ceiling = longest and longest * request.answers

    def _decide_undisturbed(self) -> Decision:
        """Decide, and again if garbage collection has closed a call meanwhile: there may be room now."""
        while True:
            before = QUEUE.releases
            decision = self.decide(behind=bool(QUEUE) and any(account.waiting for account in self.accounts))
            if decision is ADMITTED or QUEUE.releases == before:
                return decision

    def confirm(self) -> Outcome:
        """Refuse after all, if the step has ended since room was found."""
        if not self.innermost.closed:
            return ADMITTED
        self.release()
        return self._closed()

    def give_up(self) -> Outcome:
        """Decide for the last time, after waiting in vain."""
        self.patient, self._hint = False, WAITED_HINT
        decision = self.decide(behind=False)
        assert not isinstance(decision, MustWait)  # only the patient are told to wait
        return decision

    def release(self) -> None:
        """Give back what is held; those who wait may then fit."""
        with LOCK:
            if not self._held or self._estimate is None:
                return
            cost, tokens = self._running
            for account, holding in self._held:
                account.release(holding, self._estimate.model)  # the request's may have been learned since
                if tokens or cost:
                    account.run_on(-cost, -tokens)
            self._held, self._running = [], (0, 0)
            _forget(self)
            QUEUE.releases += 1

    def run_on(self, output_tokens: int) -> Refused | None:
        """Count what a stream has produced so far; a refusal says that it must be cut."""
        used = self.request.estimated_usage(output_tokens)
        tokens, cost = used.total_tokens, self.request.cost_of(used) or 0
        with LOCK:
            more = (cost - self._running[0], tokens - self._running[1])
            self._running = (cost, tokens)
            if self._flight is not None:
                self._flight.tokens = output_tokens
            for account, holding in self._held:
                account.run_on(*more)
                if holding.expected is not None:
                    account.in_flight.note_growth(holding.expected)
            passed = [(account, names) for account, _ in self._held if (names := self._overrun(account))]
        if not passed:
            return None
        breaches = [b for account, names in reversed(passed) for b in account.breaches(names, running=True)]
        return Refused(passed[-1][0], "stream", tuple(breaches))

    def _overrun(self, account: Account) -> list[LimitName]:
        return account.overrun_limits(wrapping=account in self.wrapping)

    def decide(self, *, behind: bool) -> Decision:
        """Decide now.

        Args:
            behind: Whether others wait in line for one of the accounts. Whoever holds room there
                does not stand behind them, as they may be waiting for that very room; nor does
                who cannot wait, and would be refused in spite of ample room.
        """
        if self.innermost.closed:
            return self._closed()
        self._count_others()  # those that were admitted since the last look
        estimate = self._estimate_now()
        lacking = [account for account in self.accounts if not self._fits(account, estimate)]
        if not lacking and not (behind and self.patient and not self._holds_room()):
            return self._admit(estimate)
        hopeless = [account for account in lacking if not self._could_fit(account, estimate)]
        if hopeless:
            final = [
                account
                for account in hopeless
                if not account.may_come_to_have_room(estimate, wrapping=account in self.wrapping)
            ]
            owner = (final or hopeless)[-1]
            return self._refusal(owner, "denied" if final else "busy", lacking)
        waiting_for = lacking or [account for account in self.accounts if account.waiting]
        if not self.patient or any(account.wait_s == 0 for account in waiting_for):
            return self._refusal(waiting_for[-1], "busy", waiting_for, self._hint)
        return MustWait(frozenset(waiting_for))

    def _closed(self) -> Refused:
        ended = self.innermost
        return self._refusal(ended, "closed", [ended] if ended.limited else self.accounts[:1])

    def _fits(self, account: Account, estimate: Estimate) -> bool:
        """Tell whether the call fits beside all that is in flight.

        Of a model with nothing to go by, one call at a time is let through where others can wait.
        """
        cold = (estimate.unseen or estimate.unbounded) and account.is_cold(estimate)
        if cold and self.patient and account.wait_s > 0 and self._others_are_cold(account, estimate):
            return False
        wrapping = account in self.wrapping
        if not account.lacking_now(estimate, wrapping=wrapping):
            return True
        own = self._own(account)
        if not own.calls or own.calls < account.held_calls:
            return False
        # All that is in flight is its own, which it would wait for in vain: no margin is kept for that.
        return account.could_have_room(estimate, own, wrapping=wrapping)

    def _others_are_cold(self, account: Account, estimate: Estimate) -> bool:
        in_flight = account.cold.get(estimate.model, 0)
        return in_flight > 0 and in_flight > self._own(account, estimate.model).cold

    def _could_fit(self, account: Account, estimate: Estimate) -> bool:
        return account.could_have_room(estimate, self._own(account), wrapping=account in self.wrapping)

    def _admit(self, estimate: Estimate) -> Outcome:
        if self._clamps:
            self.max_output_tokens = self._clamp(estimate)
        if self.max_output_tokens is not None and self._clamps:
            estimate = self.request.clamped(estimate, self.max_output_tokens)
        self._hold(estimate, time.monotonic())
        return ADMITTED

    def _hold(self, estimate: Estimate, since: float) -> None:
        caution = caution_for(clamps=estimate.outlook.clamps)
        self._flight = Flight(since, estimate.outlook.forecast.most, caution)
        self._held = [(account, account.hold(estimate, self._flight)) for account in self.accounts]
        _reservations.setdefault(self.owner, {})[self] = None

    def hold_in_flight(self, owner: Hashable, since: float) -> None:
        """Hold room for a call that was sent already, since a bound of it had fit; under the lock."""
        self.owner = owner
        self._hold(self._estimate_now(), since)

    def _estimate_now(self) -> Estimate:
        outputs = self._outputs()
        self.most_output = outputs and outputs[0]
        clamps = self._clamps and not any(account.last_is_taken for account in self.accounts)
        self._estimate = self.request.estimate(outputs, in_usd=self._in_usd, clamps=clamps)
        return self._estimate

    def _clamp(self, estimate: Estimate) -> int | None:
        """Return the `max_tokens` of a call that takes the last of a budget: what is left of it.

        Who is alone on an account takes its last. Beside others only an answer does that nobody reckons
        with, and so hardly ever more than one of them is cut.
        """
        if not estimate.outlook.clamps:
            return None
        least = UNBOUNDED
        for account in self.accounts:
            left = account.output_left(estimate, wrapping=account in self.wrapping)
            if left is not None and left < least:
                least, self.capped_by = left, account
        reckoned = estimate.outlook.far if estimate.outlook.forecast.seen else self._longest()
        return max(least, self.request.least_clamp) if least < reckoned else None

    def _longest(self) -> int:
        """Return the longest answer that the model can give, as far as anybody knows."""
        longest = pricing.max_output_tokens(self.request.model, provider=self.request.provider)
        return (longest or LONGEST_KNOWN) * self.request.answers

    def _refusal(self, owner: Account, phase: Phase, lacking: Sequence[Account], hint: str = "") -> Refused:
        breaches = [breach for account in reversed(lacking) for breach in self._breaches(account)]
        hints = (
            hint,
            owner.hint_if_busy() if phase == "busy" else "",
            self._hint_if_unbounded(owner) if phase == "denied" else "",
        )
        return Refused(owner, phase, tuple(breaches), "; ".join(filter(None, hints)))

    def _hint_if_unbounded(self, owner: Account) -> str:
        """Say how a request would fit that names no `max_tokens` and could not be given one."""
        ceiling, wrapping = self._ceiling, owner in self.wrapping
        if owner.enforce != "strict" or ceiling is None or self._estimate is None:
            return ""
        room = self.request.output_room(owner, wrapping=wrapping)
        others = set(owner.lacking_now(self._estimate, wrapping=wrapping)) - {"max_usd", "max_tokens"}
        if room is None or not 0 < room < ceiling or others:
            return ""
        return (
            f"strict reserves the model's longest answer, {ceiling} tokens, for a request without max_tokens:"
            f" give the model a max_tokens of at most {room}"
        )

    def _breaches(self, account: Account) -> tuple[Breach, ...]:
        names: list[LimitName] = []
        if self._estimate is not None:
            names = account.lacking_now(self._estimate, wrapping=account in self.wrapping)
        return account.breaches(names or list(account.limits())[:1], self._estimate)

    def _outputs(self) -> tuple[int, int] | None:
        """Bound the output for strict accounts: the most, and the least that it could be lowered to.

        Where the request bounds nothing, what is left is the bound, which is then set on it.
        """
        request = self.request
        if not self._strict:
            return None
        if request.max_output_tokens is not None:
            return request.max_output_tokens, request.max_output_tokens
        rooms = [request.output_room(account, wrapping=account in self.wrapping) for account in self._strict]
        limits = [room for room in rooms if room is not None]
        most = self._ceiling or request.expected_output()
        if not limits:
            return most, most
        clampable = request.can_clamp and all(account.clamp for account in self._strict)
        if self._ceiling is not None and not clampable:
            return most, most
        alone = not any(account.held_calls for account in self._strict)
        room = max(min(limits), request.answers if alone else request.expected_output())
        worst = room if self._ceiling is None else min(room, self._ceiling)
        self.max_output_tokens = worst if clampable else None
        return worst, request.answers if clampable else worst

    def _holds_room(self) -> bool:
        return any(self._own(account).calls for account in self.accounts)

    def _own(self, account: Account, model: str | None = None) -> Hold:
        """Sum what calls of the same task or thread hold on an account; `None` for any model."""
        reservations = [each for each in _reservations_of(self.owner) if model in (None, each.request.model)]
        holdings = [pair for reservation in reservations for pair in reservation._held]  # noqa: SLF001
        parts = [holding.held() for holder, holding in holdings if holder is account]
        return Hold(*map(sum, zip(*parts, strict=True))) if parts else Hold()


_reservations: dict[Hashable, dict[Reservation, None]] = {}


def _reservations_of(owner: Hashable) -> list[Reservation]:
    return list(_reservations.get(owner, ()))  # a copy: garbage collection may release one meanwhile


def _forget(reservation: Reservation) -> None:
    reservations = _reservations[reservation.owner]
    del reservations[reservation]
    if not reservations:
        del _reservations[reservation.owner]


def leave_others_behind() -> None:
    """Forget, in a forked process, what threads hold or wait for that did not come along."""
    with LOCK:
        QUEUE.empty()
        for owner in [owner for owner in _reservations if owner != current_owner()]:
            for reservation in _reservations_of(owner):
                reservation.release()
