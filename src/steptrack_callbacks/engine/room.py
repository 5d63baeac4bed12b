"""Whether there is room on an account for a call beside what is settled and what is in flight.

All of it runs under the lock of the accounts. Exactly at a limit is within it, and admits no further call.
"""

from __future__ import annotations

import time
from collections.abc import Collection, Sequence
from decimal import Decimal

from steptrack_callbacks.values.definitions import LimitName
from steptrack_callbacks.values.money import to_usd

from .account import Account
from .holds import MONEY, TOKENS, Amount, Estimate, Reserved
from .outcomes import Refused


def lacking_now(account: Account, estimate: Estimate, *, wrapping: bool) -> list[LimitName]:
    """Name the limits without room for a call beside all that is in flight."""
    estimate = account.whole(estimate)
    if account.enforce == "strict":
        held = (account.held_cost, account.held_tokens)
        return lacking(account, estimate.worst, held, wrapping=wrapping, counts=estimate.counts)
    if account.in_flight.calls == 0:
        names = lacking(account, estimate.alone, (0, 0), wrapping=wrapping, counts=estimate.counts)
        return names or _lacking_uncapped(account, estimate, wrapping=wrapping)
    names = []
    for name, unit, used, most in account.amounts(wrapping=wrapping):
        if used >= most or not _fits_beside(account, estimate, unit, used, most):
            names.append(name)
    names = _with_others(account, names, None, wrapping=wrapping, counts=estimate.counts)
    return names + account.lacking_elsewhere(estimate, names, wrapping=wrapping)


def lacking(
    account: Account,
    asked: Amount,
    held: Reserved | Amount,
    *,
    wrapping: bool,
    calls: int | None = None,
    counts: bool = True,
) -> list[LimitName]:
    """Name the limits without room for an amount beside what others hold.

    Calls in flight count toward `max_calls` whatever becomes of them: `calls`, or all.
    """
    names: list[LimitName] = []
    for name, unit, used, most in account.amounts(wrapping=wrapping):
        if used >= most or used + held[unit] + asked[unit] > most:
            names.append(name)
    return _with_others(account, names, calls, wrapping=wrapping, counts=counts)


def lacking_calls_or_time(
    account: Account, calls: int | None = None, *, wrapping: bool, counts: bool = True
) -> list[LimitName]:
    """Name the limits of calls and time without room for a call beside so many in flight, or all."""
    names: list[LimitName] = []
    held = account.in_flight
    counted = (held.calls if calls is None else calls) - held.tools
    most = account.limits.call_room(wrapping=wrapping)
    if counts and most is not None and account.settled.calls + counted >= most:
        names.append("max_calls")
    left = account.seconds_left()
    if left is not None and left <= 0:
        names.append("max_seconds")
    return names


def could_have_room(account: Account, estimate: Estimate, own: Reserved, *, wrapping: bool) -> bool:
    """Tell whether a call would fit if all calls in flight but the caller's own came to nothing."""
    estimate = account.whole(estimate)
    asked = amount_asked(account, estimate, alone=own.calls == 0)
    names = lacking(account, asked, own, wrapping=wrapping, counts=estimate.counts)
    return not names and not _lacking_uncapped(account, estimate, wrapping=wrapping)


def may_come_to_have_room(account: Account, estimate: Estimate, *, wrapping: bool) -> bool:
    """Tell whether a call would fit if all that can come back of what is reserved did."""
    estimate, lasting = account.whole(estimate), account.lasting_calls
    asked = amount_asked(account, estimate, alone=True)
    names = lacking(account, asked, Reserved(), wrapping=wrapping, calls=lasting, counts=estimate.counts)
    return not names and not _lacking_uncapped(account, estimate, wrapping=wrapping)


def amount_asked(account: Account, estimate: Estimate, *, alone: bool) -> Amount:
    """Return how much must fit, with nothing else in flight or beside others."""
    if account.enforce == "strict":
        return estimate.least if alone else estimate.worst
    return estimate.alone if alone else estimate.expected


def projected(account: Account, estimate: Estimate) -> Amount:
    """Return what a call that is refused would have come to: its input, if that alone is too much."""
    alone = account.in_flight.calls == 0
    if _lacking_uncapped(account, estimate, wrapping=False):
        return estimate.at_longest
    if alone and account.enforce != "strict" and lacking(account, estimate.certain, (0, 0), wrapping=False):
        return estimate.certain
    return amount_asked(account, estimate, alone=alone)


def output_left(account: Account, estimate: Estimate, *, wrapping: bool) -> int | None:
    """Count the output tokens that are left to a call; `None` if no limit counts any.

    Beside others these are never fewer than anybody reckons with.
    """
    rooms = [
        account.in_flight.left_for(estimate, unit, most - used - account.in_flight.fixed[unit])
        for _, unit, used, most in account.amounts(wrapping=wrapping)
    ]
    least = min(rooms, default=None)
    return least if least is None or not account.in_flight.calls else max(least, estimate.reckoned)


def remaining(account: Account, limit: LimitName, *, wrapping: bool) -> Decimal | float | None:
    """Return what is neither settled nor reserved under a limit, at least 0; `None` if it is not set."""
    settled = account.settled
    if limit == "max_usd":
        cost = account.limits.cost_room(wrapping=wrapping)
        return None if cost is None else to_usd(max(0, cost - settled.cost - account.held_cost))
    if limit == "max_seconds":
        seconds = account.seconds_left()
        return None if seconds is None else max(0.0, seconds)
    if limit == "max_tokens":
        tokens = account.limits.tokens
        return None if tokens is None else max(0, tokens - settled.tokens - account.held_tokens)
    calls = account.limits.call_room(wrapping=wrapping)
    held = account.in_flight.calls - account.in_flight.tools
    return None if calls is None else max(0, calls - settled.calls - held)


def about_left(account: Account) -> dict[LimitName, Decimal | float]:
    """Say what is left of amounts and calls, to within a hundredth of it.

    Calls in flight that nobody has counted are taken at their bounds where that makes no more difference.
    """
    limits, settled = account.limits, account.settled
    left: dict[LimitName, Decimal | float] = {}
    if (cost := limits.cost_room(wrapping=False)) is not None:
        rest = _rest(account, MONEY, cost - settled.cost)
        left["max_usd"] = remaining(account, "max_usd", wrapping=False) or 0 if rest is None else to_usd(rest)
    if limits.tokens is not None:
        rest = _rest(account, TOKENS, limits.tokens - settled.tokens)
        left["max_tokens"] = remaining(account, "max_tokens", wrapping=False) or 0 if rest is None else rest
    if limits.calls is not None:
        left["max_calls"] = remaining(account, "max_calls", wrapping=False) or 0
    return left


def _rest(account: Account, unit: int, unspent: int) -> int | None:
    """Take off what calls in flight hold; `None` if those have to be counted for that."""
    held = account.in_flight
    bounds = held.bounds(unit) if held.allowances else 0
    rest = max(0, unspent - held.fixed[unit] - held.mean(unit) - bounds)
    return None if rest < 100 * bounds else rest


def _fits_beside(account: Account, estimate: Estimate, unit: int, used: int, most: int) -> bool:
    held = account.in_flight
    left = most - used - held.fixed[unit]
    if held.is_far(estimate, unit, left):
        return True
    held.refresh(time.monotonic())
    if not held.fits(estimate, unit, left, most):
        return False
    goes_uncapped = estimate.clamps and account.gave_its_last
    return not goes_uncapped or held.fits_uncapped(estimate, unit, left, most)


def _lacking_uncapped(account: Account, estimate: Estimate, *, wrapping: bool) -> list[LimitName]:
    """Name the limits that only a `max_tokens` would keep, where an answer was cut by one already."""
    if not (estimate.clamps and account.last_is_taken):
        return []
    amounts = account.amounts(wrapping=wrapping)
    return [name for name, unit, used, most in amounts if not estimate.fits_uncapped(unit, most - used, most)]


def _with_others(
    account: Account, names: list[LimitName], calls: int | None, *, wrapping: bool, counts: bool
) -> list[LimitName]:
    """Add the limits of calls and time; of several, those that are reached already are named first."""
    names += lacking_calls_or_time(account, calls, wrapping=wrapping, counts=counts)
    return list(dict.fromkeys((*account.full_limits(wrapping=wrapping), *names))) if names else []


def overrun(
    accounts: Sequence[Account], wrapping: Collection[Account], unused: Amount = (0, 0)
) -> Refused | None:
    """Refuse what streams go on to produce, if they have passed limits for which they must be cut.

    Args:
        accounts: The accounts around a stream, innermost first.
        wrapping: Those that are being wrapped up around it.
        unused: What is charged for it, and not used by it so far.
    """
    over = [
        (account, names)
        for account in accounts
        if (names := account.overrun_limits(wrapping=account in wrapping, unused=unused))
    ]
    if not over:
        return None
    breaches = [b for account, names in reversed(over) for b in account.breaches(names, running=True)]
    return Refused(over[-1][0], "stream", tuple(breaches))
