"""Who may go, who waits, who is refused.

A reservation asks every limited account around a call for room. All of them are reserved together or
none is. One that would fit once others settle waits in line, first come first served on each account;
it is refused as soon as nothing in flight could make room for it.
"""

from __future__ import annotations

import time
from collections.abc import Hashable, Sequence

from steptrack_callbacks.concurrency.lock import LOCK
from steptrack_callbacks.concurrency.tasks import current_owner
from steptrack_callbacks.values.definitions import LimitName
from steptrack_callbacks.values.errors import Breach, Phase

from . import room
from .account import Account
from .budget_account import BudgetAccount
from .chain import AccountChain, Wrapping
from .estimating import estimate_of
from .holds import MONEY, TOKENS, Estimate, Hold, Reserved
from .lease import Asks
from .outcomes import ADMITTED, Decision, MustWait, Outcome, Refused
from .output_cap import OutputCap
from .queue import NO_WAIT_HINT, QUEUE, WAITED_HINT, Waiter, making_room
from .request import Request


class Reservation:
    """What one call asks of the limited accounts around it, and what it holds there.

    Attributes:
        accounts: Those whose limits are enforced, innermost first.
        shared: Those of them that a ledger has the last word about.
        innermost: The account of the step that the call is made in.
        request: What is sent.
        wrapping: The accounts that are being wrapped up around the call.
        owner: The task or thread that makes the call.
        patient: Whether it can wait.
        cap: How long its answer may become.
    """

    __slots__ = (
        "_estimate",
        "_held",
        "_hint",
        "_in_usd",
        "_running",
        "_since",
        "accounts",
        "cap",
        "innermost",
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
        self.cap = OutputCap(chain, request, wrapping)
        self._in_usd = chain.limits_usd
        self._hint = ""
        self._estimate: Estimate | None = None
        self._held: list[tuple[Account, Hold]] = []
        self._running = (0, 0)
        self._since: float | None = None

    def of_another(self, chain: AccountChain, request: Request) -> Reservation:
        """Return the same for another request, which has waited as long; this one holds nothing any more."""
        other = Reservation(chain, request, self.wrapping)
        other._since = self._since
        return other

    def prepare(self, *, patient: bool) -> None:
        """Do what takes its time before the lock is taken; `patient` says that the caller can wait."""
        together = self.request.together
        self.owner = current_owner() if together is None else together
        self.patient = patient
        self._hint = "" if patient else NO_WAIT_HINT
        self.look_up()
        self._count_others()

    def ask(self) -> Outcome | Waiter:
        """Reserve room everywhere, join the line, or be refused."""
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

    def asks(self) -> Asks:
        """Put what is held on shared accounts in the ledger's words."""
        estimate = self._estimate
        assert estimate is not None  # whoever holds room has asked for it
        shared = [account for account, _ in self._held if isinstance(account, BudgetAccount)]
        return {account: account.ask(estimate, wrapping=account in self.wrapping) for account in shared}

    def refuse_busy(self) -> Refused:
        """Refuse because a ledger keeps saying no to what would fit by all that is known here."""
        return self._refusal(self.shared[-1], "busy", self.shared, "the ledger has the last word")

    def refuse_closed(self) -> Refused:
        """Refuse because an account has been closed elsewhere."""
        ended: list[Account] = [account for account in self.shared if account.closed] or [self.innermost]
        return self._refusal(ended[-1], "closed", [ended[-1]])

    def _count_others(self) -> None:
        for account in reversed(self.accounts):  # the outermost knows all calls, in their order
            account.in_flight.count_all()

    def look_up(self) -> None:
        """Do what is slow before the lock is taken."""
        self.request.counted  # noqa: B018 - counts the input
        self.cap.look_up()

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
        with making_room:
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
            if not self._held:
                return
            cost, tokens = self._running
            for account, hold in self._held:
                account.in_flight.remove(hold)
                account.in_flight.running[MONEY] -= cost
                account.in_flight.running[TOKENS] -= tokens
            if self.cap.capped_by is not None:
                self.cap.capped_by.capped -= 1
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
            for account, hold in self._held:
                account.in_flight.running[MONEY] += more[MONEY]
                account.in_flight.running[TOKENS] += more[TOKENS]
                if not hold.is_fixed:
                    account.in_flight.note_growth(hold, output_tokens)
            return room.overrun([account for account, _ in self._held], self.wrapping)

    def decide(self, *, behind: bool) -> Decision:
        """Decide now.

        Args:
            behind: Whether others wait in line for one of the accounts. Whoever holds room there
                does not stand behind them, as they may be waiting for that very room; nor does
                a caller that cannot wait, and would be refused in spite of ample room.
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
                if not room.may_come_to_have_room(account, estimate, wrapping=account in self.wrapping)
            ]
            full = (final or hopeless)[-1]
            return self._refusal(full, "denied" if final else "busy", lacking)
        waiting_for = lacking or [account for account in self.accounts if account.waiting]
        if not self.patient or any(account.definition.wait_s == 0 for account in waiting_for):
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
        if (
            cold
            and self.patient
            and account.definition.wait_s > 0
            and self._others_are_cold(account, estimate)
        ):
            return False
        wrapping = account in self.wrapping
        if not room.lacking_now(account, estimate, wrapping=wrapping):
            return True
        own = self._own(account)
        if not own.calls or own.calls < account.in_flight.calls:
            return False
        # All that is in flight is its own, which it would wait for in vain: no margin is kept for that.
        return room.could_have_room(account, estimate, own, wrapping=wrapping)

    def _others_are_cold(self, account: Account, estimate: Estimate) -> bool:
        in_flight = account.in_flight.cold.get(estimate.model, 0)
        return in_flight > 0 and in_flight > self._own(account, estimate.model).cold

    def _could_fit(self, account: Account, estimate: Estimate) -> bool:
        return room.could_have_room(account, estimate, self._own(account), wrapping=account in self.wrapping)

    def _admit(self, estimate: Estimate) -> Outcome:
        self._hold(self.cap.clamped(estimate), time.monotonic())
        return ADMITTED

    def _hold(self, estimate: Estimate, since: float) -> None:
        self._held = [(account, account.hold(estimate, since)) for account in self.accounts]
        if self.cap.capped_by is not None:
            self.cap.capped_by.capped += 1
        _reservations.setdefault(self.owner, {})[self] = None

    def hold_in_flight(self, owner: Hashable, since: float) -> None:
        """Hold room for a call that was sent already, since a bound of it had fit; under the lock."""
        self.owner = owner
        self._hold(self._estimate_now(), since)

    def _estimate_now(self) -> Estimate:
        outputs = self.cap.outputs()
        cap = self.cap
        self._estimate = estimate_of(
            self.request, outputs, in_usd=self._in_usd, clamps=cap.clamps, is_cut=cap.is_cut
        )
        return self._estimate

    def _refusal(self, full: Account, phase: Phase, lacking: Sequence[Account], hint: str = "") -> Refused:
        breaches = [breach for account in reversed(lacking) for breach in self._breaches(account)]
        hints = (
            hint,
            full.hint_if_busy({each.limit for each in breaches}) if phase == "busy" else "",
            self.cap.hint(full, self._estimate) if phase == "denied" and self._estimate else "",
        )
        return Refused(full, phase, tuple(breaches), "; ".join(filter(None, hints)))

    def _breaches(self, account: Account) -> tuple[Breach, ...]:
        names: list[LimitName] = []
        asked = None
        if self._estimate is not None:
            names = room.lacking_now(account, self._estimate, wrapping=account in self.wrapping)
            asked = room.projected(account, self._estimate)
        return account.breaches(names or list(account.limits.as_dict())[:1], asked)

    def _holds_room(self) -> bool:
        return any(self._own(account).calls for account in self.accounts)

    def _own(self, account: Account, model: str | None = None) -> Reserved:
        """Sum what calls of the same task or thread hold on an account; `None` for any model."""
        reservations = [each for each in reservations_of(self.owner) if model in (None, each.request.model)]
        holds = [pair for reservation in reservations for pair in reservation._held]  # noqa: SLF001
        parts = [hold.reserved() for holder, hold in holds if holder.in_flight is account.in_flight]
        return Reserved(*map(sum, zip(*parts, strict=True))) if parts else Reserved()


_reservations: dict[Hashable, dict[Reservation, None]] = {}


def owners() -> list[Hashable]:
    """Return the tasks and threads that hold room."""
    return list(_reservations)


def reservations_of(owner: Hashable) -> list[Reservation]:
    """Return what a task or thread holds."""
    return list(_reservations.get(owner, ()))  # a copy: garbage collection may release one meanwhile


def _forget(reservation: Reservation) -> None:
    reservations = _reservations[reservation.owner]
    del reservations[reservation]
    if not reservations:
        del _reservations[reservation.owner]
