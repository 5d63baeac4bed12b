"""A stream while it runs: raises once it has passed a limit, and whoever reads it then ends it."""

from __future__ import annotations

from steptrack_callbacks.concurrency.flow import Flow

from .admission import more_is_granted
from .open_call import OpenCall


def progress(call: OpenCall, output_tokens: int) -> Flow[None]:
    """Count what a call has produced so far, in all, against the limits around it.

    Raises:
        BudgetExhausted: It has passed one (phase `stream`), and nobody grants more: the stream is to be cut.
    """
    __tracebackhide__ = True
    call.produced = output_tokens
    if call.state != "in flight":
        return
    call.count()
    refusal = None if call.reservation is None else call.reservation.run_on(output_tokens)
    if refusal and not (yield from more_is_granted(refusal.account, error := refusal.error())):
        raise error
    if call.lease is not None:
        yield from call.lease.keep_up(call.request, output_tokens)
