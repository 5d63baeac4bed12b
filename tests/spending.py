"""Calls without a framework: 1 US dollar per token, 10 tokens in and 5 out unless said otherwise."""

from collections.abc import Callable
from typing import Any

from steptrack_callbacks import Usage, record_usage
from steptrack_callbacks.engine.call import Call
from steptrack_callbacks.engine.request import Request
from steptrack_callbacks.steps.attribution import new_call
from steptrack_callbacks.tokens import InputCount
from steptrack_callbacks.values.money import to_units


def spend(
    input_tokens: int = 10, output_tokens: int = 5, *, cost_usd: Any = None, model: str = "test-model"
) -> None:
    """Charge a call that was made already, at a dollar per token if no cost is given."""
    cost = input_tokens + output_tokens if cost_usd is None else cost_usd
    record_usage(model, input_tokens=input_tokens, output_tokens=output_tokens, cost_usd=cost)


def open_call(input_tokens: int = 10, max_output_tokens: int | None = 5, **details: Any) -> Call:
    """Pin a call to the steps that are active, and have it admitted."""
    call = new_call(request(input_tokens, max_output_tokens, **details))
    call.admit()
    return call


def ask(input_tokens: int = 10, output_tokens: int = 5, **details: Any) -> str:
    """Make a call from admission to its answer."""
    call = open_call(input_tokens, output_tokens, **details)
    call.settle(Usage(input_tokens=input_tokens, output_tokens=output_tokens), response="the answer")
    return "the answer"


async def ask_async(input_tokens: int = 10, output_tokens: int = 5) -> str:
    """Do as `ask`, on the event loop."""
    call = new_call(request(input_tokens, output_tokens))
    await call.admit_async()
    call.settle(Usage(input_tokens=input_tokens, output_tokens=output_tokens), response="the answer")
    return "the answer"


def request(
    input_tokens: int = 10,
    max_output_tokens: int | None = 5,
    *,
    model: str = "test-model",
    price: Callable[[Usage], int | None] | None = None,
) -> Request:
    """Describe a call."""
    return Request(
        model=model,
        count_input=lambda: InputCount(tokens=input_tokens, upper_bound=input_tokens),
        max_output_tokens=max_output_tokens,
        price=price or (lambda usage: to_units(usage.total_tokens, "price")),
    )
