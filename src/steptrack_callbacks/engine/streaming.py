"""A stream while it runs: raises once it has passed a limit, and whoever reads it then ends it."""

from __future__ import annotations

from steptrack_callbacks import hooks
from steptrack_callbacks.concurrency.flow import Flow
from steptrack_callbacks.concurrency.lock import LOCK

from . import room
from .admission import more_is_granted
from .amounts import Charge
from .open_call import OpenCall
from .outcomes import Refused
from .settlement import put_on, tell_of


def progress(call: OpenCall, output_tokens: int) -> Flow[None]:
    """Count what a call has produced so far, in all, against the limits around it.

    Raises:
        BudgetExhausted: It has passed one (phase `stream`), and nobody grants more: the stream is to be cut.
    """
    __tracebackhide__ = True
    call.produced = output_tokens
    if call.state == "swept":
        refusal = yield from _run_on_after_its_step(call, output_tokens)
    elif call.state == "in flight":
        call.count()
        refusal = None if call.reservation is None else call.reservation.run_on(output_tokens)
    else:
        return
    if refusal and not (yield from more_is_granted(refusal.account, error := refusal.error())):
        raise error
    if call.lease is not None and call.state == "in flight":
        yield from call.lease.keep_up(call.request, output_tokens)


def _run_on_after_its_step(call: OpenCall, output_tokens: int) -> Flow[Refused | None]:
    """Hold a stream to what is still open around its step, which has ended and has charged an estimate.

    What it has produced beyond that is charged now. What it has not used of it does not cut it.
    """
    used = call.request.estimated_usage(output_tokens)
    tokens, cost = used.total_tokens, call.request.cost_of(used) or 0
    charge = call.charge
    if tokens > charge.usage.total_tokens or cost > (charge.cost or 0):
        charge = charge._replace(usage=used, cost=None if charge.cost is None else cost)
        yield from _charge_more(call, charge)
    unused = (max(0, (charge.cost or 0) - cost), max(0, charge.usage.total_tokens - tokens))
    with LOCK:
        still_open = [account for account in call.accounts.limited if not account.closed]
        return room.overrun(still_open, call.wrapping, unused)


def _charge_more(call: OpenCall, charge: Charge) -> Flow[None]:
    with LOCK:
        if call.state != "swept":
            return
        before, call.charge = call.charge, charge
        sums = put_on(call.accounts, charge, before, call.request.model)
    if call.lease is not None:
        yield from call.lease.charge_more(call.request.model, *sums)
    if hooks.registered or call.accounts.observed:
        tell_of(call, charge, before)
