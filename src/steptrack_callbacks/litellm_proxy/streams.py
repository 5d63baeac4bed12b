"""Streams on their way through the proxy: counted as they run, cut at a limit, charged once."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from functools import partial
from typing import Any

from litellm.exceptions import Timeout

from steptrack_callbacks.integrations.usage import read_usage
from steptrack_callbacks.litellm import usage as answers
from steptrack_callbacks.litellm.streams import Meter, is_from_cache
from steptrack_callbacks.values.errors import BudgetExhausted

from .reading import WholeEvents, meter_for
from .refusals import error_frame
from .tickets import Ticket


async def metered(ticket: Ticket, stream: Any, data: dict[str, Any]) -> AsyncIterator[Any]:
    """Yield a stream's chunks while it has room, and an error frame in place of the rest if it runs out."""
    call = ticket.current
    if call is None or not call.is_open:
        async for chunk in stream:
            yield chunk
        return
    if is_from_cache(stream) and not call.attempts:
        call.settle_free()
    meter = meter_for(call, ticket.kind, stream)
    events = WholeEvents()
    ticket.watch()
    try:
        async for chunk in stream:
            if ticket.current is not meter.call:  # the Router goes on with another deployment
                meter, events = await _followed(ticket, meter, stream), WholeEvents()
            meter.see(chunk)
            try:
                await meter.call.progress_async(meter.output_tokens)
            except BudgetExhausted as error:
                error.response = meter.text
                await _cut(ticket, meter)
                await _bill_cut(data, stream)
                yield error_frame(error, event=ticket.kind == "messages")
                return
            if not (ticket.hides_usage and _is_bare_usage(chunk)) and (whole := events.of(chunk)):
                yield whole
        await ticket.charge(meter.call, meter.finish)
        if events.rest:
            yield events.rest
    except (GeneratorExit, asyncio.CancelledError):
        ticket.hang_up()
        meter.lose()
        raise
    except Exception as error:
        ticket.hang_up()
        await ticket.charge(meter.call, partial(_fail, ticket, meter, error))
        raise
    finally:
        await ticket.give_up(gone=True)


async def _cut(ticket: Ticket, meter: Meter) -> None:
    """Stop the provider, and charge what it has produced."""
    ticket.hang_up()
    await ticket.charge(meter.call, meter.break_off)


async def _followed(ticket: Ticket, meter: Meter, stream: Any) -> Meter:
    """Charge what the stream that broke off had produced, and count the other one."""
    if meter.call.is_open:
        await ticket.charge(meter.call, partial(_fail, ticket, meter))
    assert ticket.current is not None  # there was one before
    return meter_for(ticket.current, ticket.kind, stream)


def _fail(ticket: Ticket, meter: Meter, error: Exception | None = None) -> None:
    if ticket.is_refused(meter.call):
        meter.call.fail()
    elif isinstance(getattr(error, "original_exception", None) or error, Timeout):
        meter.lose()
    else:
        meter.fail()


def _is_bare_usage(chunk: Any) -> bool:
    return read_usage(getattr(chunk, "usage", None)) is not None and not answers.text_of_chunk(chunk)


async def _bill_cut(data: dict[str, Any], stream: Any) -> None:
    """Let LiteLLM's own budgets have what a stream has cost that we cut, as if its client had gone."""
    from litellm.proxy import common_request_processing  # noqa: PLC0415 - the proxy is running by now

    bill = getattr(common_request_processing, "_bill_partial_streamed_spend_on_disconnect", None)
    if bill is not None:
        await bill(data, stream)
