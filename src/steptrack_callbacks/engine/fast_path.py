"""Far from every limit a call is admitted by a bound of what it can come to, and nothing is counted.

A token is at least a byte, and there is a length that no answer is taken to exceed. Where a call fits at
that much, at the dearest rate, beside all that is held at *its* longest, it fits by every other rule as
well: then nobody needs to know more exactly what it will use. Such calls are uncounted. As soon as
somebody decides by what is held, or reads it, they are counted after all, if they are still in flight.

It only saves time: `STEPTRACK_FAST=0` turns it off, and nothing else changes.
"""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from decimal import Decimal

from steptrack_callbacks import hooks
from steptrack_callbacks.concurrency.flow import Flow
from steptrack_callbacks.concurrency.lock import LOCK
from steptrack_callbacks.concurrency.tasks import current_owner
from steptrack_callbacks.pricing.terms import USUAL_TIERS
from steptrack_callbacks.values.money import to_units
from steptrack_callbacks.values.usage import Usage

from . import output_stats
from .amounts import CALLS, COST, INPUT, OUTPUT, Charge, Tally
from .call_log import note_charge
from .chain import AccountChain
from .holds import FAR_TIMES, Bound
from .lease import Lease
from .ledger_amounts import to_asked
from .open_call import OpenCall, open_calls
from .queue import QUEUE, making_room
from .request import NO_FEE, Request
from .reservation import Reservation
from .settlement import tell_of

asking: dict[OpenCall, None] = {}
"""Calls that hold their bounds here while a ledger is asked."""

enabled = os.environ.get("STEPTRACK_FAST") != "0"


def bound_of(chain: AccountChain, request: Request) -> Bound | None:
    """Bound a call without counting it; `None` if something asks for more than that."""
    bound_input, output = request.bound_input, request.max_output_tokens
    if bound_input is None or not enabled or request.price is not None or request.fee is not NO_FEE:
        return None
    stats = output_stats.find(request.model)
    if stats is None or stats.surplus is None:
        return None
    if chain.strict:
        may_be_dearer = request.service_tier is None and not stats.tiers <= USUAL_TIERS
        if may_be_dearer or output is None:
            return None
    if output is None:
        if not stats.revision:
            return None
        output = FAR_TIMES * stats.reach * request.answers
    sent = bound_input()
    if sent is None:
        return None
    owner = current_owner() if request.together is None else request.together
    sent += stats.surplus
    if not chain.watches_usd:
        return Bound(0, sent + output, sent, owner)
    rates = request.prices().dearest
    if rates is None:
        return None
    return Bound(sent * rates.sent + output * rates.made + rates.request, sent + output, sent, owner)


def let_through(call: OpenCall) -> bool:
    """Begin a call without further ado if nothing limits it, or every limit is far; tells whether it did."""
    chain = call.accounts
    if not chain.limited:
        if chain.watches_usd:
            return False
        call.begin()
    else:
        bound = None if call.wrapping or chain.listing else bound_of(chain, call.request)
        if bound is None:
            return False
        with LOCK:
            if chain[0].closed or not chain.allowance.take(call, bound):
                return False
            call.begin()
    call.admitted = True
    if hooks.registered:
        call.announce()
    return True


def settle(
    call: OpenCall,
    usage: Usage,
    cost_usd: Decimal | float | None,
    model: str | None,
    parts: Sequence[tuple[str, Usage]],
    *,
    response: object,
) -> bool:
    """Charge a call that was let through here with a whole answer of plain text, as nearly all are.

    It does what `Call.settle` does for all other calls, in one go: what is known beforehand of such a call
    is not asked again. Tells whether it did; if not, nothing has happened.

    Args:
        call: The call.
        usage: What was used, which nobody has estimated.
        cost_usd: US dollars as stated for this very call; `None` to price the tokens.
        model: The model that answered, if it is not the one asked for.
        parts: Whose price these have, if it is told apart; if it is several models', nothing is done here.
        response: The answer, for the error that a step may raise at its close.
    """
    bound, chain, request = call.bound, call.accounts, call.request
    stats, asked = output_stats.find(request.model), request.model
    if bound is None or stats is None or len(parts) > 1 or not (usage.is_text and request.counts):
        return False
    if chain.judging or call.attempts > 1:
        return False
    sent, made, densest = usage.input_tokens, usage.output_tokens, stats.densest
    if sent * densest[1] > bound.sent * densest[0]:
        return False  # denser than any input that was counted
    took_s = time.monotonic() - (call.sent_at or 0.0)
    if cost_usd is None:
        cost = request.cost_of(usage, parts[0][0] if parts else model, None, took_s)
    else:
        cost = to_units(cost_usd, "cost_usd")
    if cost is None:
        return False
    innermost, charge = chain[0], Charge(usage, cost)
    with LOCK:
        if call.bound is None:
            return False  # it was settled meanwhile, or counted
        chain.allowance.give_back(call, cost, sent + made)
        stats.add_output(made, took_s, whole=True)
        by_model = innermost.models.get(asked) or innermost.models.setdefault(asked, Tally())
        for sums in (by_model.sums, *chain.adding):
            sums[INPUT] += sent
            sums[OUTPUT] += made
            sums[CALLS] += 1
            sums[COST] += cost
        innermost.model = asked
        for account in chain:
            account.open_calls -= 1
        if response is not None:
            for account in chain.limited:
                account.response = response
        call.state, call.charge, call.answered_by = "settled", charge, model
        del open_calls[call]
    if QUEUE.waiters:
        QUEUE.move_on()
    note_charge((call.number, innermost.ref, asked, "settled", call.started_at, time.time(), charge))
    if hooks.registered or chain.observed:
        tell_of(call, charge, None)
    return True


def let_through_by_ledger(call: OpenCall, lease: Lease, *, patient: bool) -> Flow[bool]:
    """Begin a call if every limit is far, as far as is known here, and ledgers find so too.

    Raises:
        LedgerError: A ledger is away, and may not be done without.
        StepDenied: Too many accounts of a group are open.
    """
    chain = call.accounts
    bound = None if call.wrapping or chain.listing else bound_of(chain, call.request)
    shared = [account for account in chain.shared if account in chain.limited]
    if bound is None or not shared:
        return False
    with LOCK:
        if call.accounts[0].closed or not chain.allowance.take(call, bound):
            return False
    asked = to_asked((bound.cost, bound.tokens))
    asks = {account: account.ask_for(asked, asked, asked, counts=call.request.counts) for account in shared}
    try:
        asking[call] = None
        patience_s = min([account.definition.wait_s for account in shared]) if patient else 0.0
        reason = yield from lease.reserve(asks, patience_s=patience_s)
        with LOCK:
            if reason == "room" and not chain[0].closed:
                call.begin()
                return True
            _drop(call)
    except BaseException:
        _drop(call)
        raise
    finally:
        del asking[call]
    if reason == "room":
        yield from lease.give_back()
    return False


def _drop(call: OpenCall) -> None:
    """Give back what a call holds that is not sent, though somebody may have counted it meanwhile."""
    with making_room, LOCK:
        call.accounts.allowance.give_back(call)
        reservation, call.reservation = call.reservation, None
        if reservation is not None:
            reservation.release()


def count(call: OpenCall) -> None:
    """Let a call hold what is expected of it, if it holds a bound of that."""
    if call.bound is None:
        return
    since = call.sent_at or time.monotonic()
    reservation = Reservation(call.accounts, call.request, call.wrapping)
    reservation.look_up()  # before the lock is taken, as it may take its time
    with LOCK:
        bound = call.bound
        if bound is not None:  # else it was settled meanwhile, or counted
            call.accounts.allowance.give_back(call)
            call.reservation = reservation
            reservation.hold_in_flight(bound.owner, since)
