"""Room that is set aside for several calls at once, while every limit around them is far.

To be admitted by its bound a call would have to ask all accounts around it, and tell each as it ends. So
room is set aside on all of them for the next calls as well, and each takes its part of that.

It keeps nobody else out: whoever decides by what is held has these calls counted first, and the rest of what
was set aside is given back.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from math import isqrt

from .account import Account
from .amounts import COST, INPUT, OUTPUT
from .holds import MONEY, TOKENS, Bound
from .in_flight import HeldSums, InFlight, Uncounted
from .queue import QUEUE
from .room import lacking_calls_or_time

AT_ONCE = 16
"""For so many calls room is set aside at most."""
MOST_UNCOUNTED = 64
"""Of one account: so many can be counted quickly when somebody asks."""
SHARED_TIMES = 100
"""How many calls have to fit at their bounds on a shared account, which holds these until the calls end."""


class Allowance:
    """What calls inside the same limited accounts may hold together; to be used under the lock.

    Attributes:
        calls: Those in flight, by number.
        calls_left: How many more may take their part.
    """

    __slots__ = ("_accounts", "_aside", "_cost", "_shared", "_tokens", "calls", "calls_left")

    def __init__(self, accounts: Sequence[Account], shared: Collection[Account]) -> None:
        self._accounts = accounts
        self._shared = shared
        self._aside = (0, 0)
        self.calls: dict[int, Uncounted] = {}
        self.calls_left = self._cost = self._tokens = 0

    def take(self, call: Uncounted, bound: Bound) -> bool:
        """Let a call hold its bound, if that fits everywhere beside all others at theirs; tells whether."""
        fits = self.calls_left and bound.cost <= self._cost and bound.tokens <= self._tokens
        if not fits and not self._renew(bound):
            return False
        self.calls_left -= 1
        self._cost -= bound.cost
        self._tokens -= bound.tokens
        self.calls[call.number], call.bound = call, bound
        return True

    def give_back(self, call: Uncounted, cost: int = 0, tokens: int = 0) -> None:
        """Take back what a call holds, less what it was charged; nothing if it was counted meanwhile."""
        bound, call.bound = call.bound, None
        if bound is None:
            return
        del self.calls[call.number]
        if bound.cost:  # else nobody limits dollars
            self._cost += bound.cost - cost
        self._tokens += bound.tokens - tokens
        if self._cost < 0 or self._tokens < 0:  # it came to more than was set aside for all of them
            revoke(self._accounts)
        if not self.calls and not self.calls_left:
            self._set_aside(0, 0)  # so that accounts which outlive it have nothing to do with it any more
        QUEUE.releases += 1

    def release(self) -> None:
        """Set no more aside than what those in flight hold."""
        cost, tokens = self._held()
        self._set_aside(cost, tokens)
        self.calls_left = self._cost = self._tokens = 0

    def _held(self) -> tuple[int, int]:
        bounds = [call.bound for call in list(self.calls.values()) if call.bound is not None]
        return sum([bound.cost for bound in bounds]), sum([bound.tokens for bound in bounds])

    def _renew(self, bound: Bound) -> bool:
        """Set room aside again, for half of the calls that fit, so that others have their turn.

        On a shared account others are told of the bound, and cannot count the call. So many such have to fit
        there, and room is set aside for one.
        """
        held_cost, held_tokens = self._held() if self.calls else (0, 0)
        spare_cost, spare_tokens = self._aside[MONEY] - held_cost, self._aside[TOKENS] - held_tokens
        cost, tokens, shared, times = bound.cost, bound.tokens, self._shared, AT_ONCE
        for account in self._accounts:
            limits, settled, held = account.limits, account.settled.sums, account.in_flight
            is_alone = len(held.allowances) == (self in held.allowances)
            free = MOST_UNCOUNTED - len(self.calls) if is_alone else self._free_beside_others(held)
            if held.waiting or free <= 0:
                return False
            is_counting = limits.calls is not None or limits.seconds is not None
            if is_counting and lacking_calls_or_time(account, wrapping=False):
                return False
            fitting = SHARED_TIMES
            if (most := limits.cost) is not None:
                left = most - limits.kept_cost - settled[COST] - held.fixed[MONEY] - held.aside[MONEY]
                left += spare_cost - (_longest(held.sums[MONEY]) if held.counted else 0)
                fitting = min(fitting, (left - 1) // (cost or 1))
            if (most := limits.tokens) is not None:
                left = most - settled[INPUT] - settled[OUTPUT] - held.fixed[TOKENS] - held.aside[TOKENS]
                left += spare_tokens - (_longest(held.sums[TOKENS]) if held.counted else 0)
                fitting = min(fitting, (left - 1) // (tokens or 1))
            if fitting < (SHARED_TIMES if account in shared else 1):
                return False
            times = 1 if shared or is_counting else min(times, (min(free, fitting) + 1) // 2)
        self.calls_left, self._cost, self._tokens = times, times * cost, times * tokens
        self._set_aside(held_cost + self._cost, held_tokens + self._tokens)
        return True

    def _free_beside_others(self, held: InFlight) -> int:
        return MOST_UNCOUNTED + self.calls_left - held.promised

    def _set_aside(self, cost: int, tokens: int) -> None:
        more_cost, more_tokens = cost - self._aside[MONEY], tokens - self._aside[TOKENS]
        self._aside = cost, tokens
        is_used = bool(cost or tokens or self.calls)
        for account in self._accounts:
            held = account.in_flight
            held.aside[MONEY] += more_cost
            held.aside[TOKENS] += more_tokens
            if is_used:
                held.allowances[self] = None
            else:
                held.allowances.pop(self, None)


def revoke(accounts: Sequence[Account]) -> None:
    """Let no call have room there without asking: something was charged that was not reckoned with."""
    for account in accounts:
        for each in account.in_flight.allowances:
            each.calls_left = 0


def _longest(counted: HeldSums) -> int:
    """Return an upper bound for the counted calls: the longest answers that are reckoned with."""
    return counted.inputs + max(counted.far, counted.usual + isqrt(counted.variance))
