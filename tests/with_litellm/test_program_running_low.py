"""A program of one's own on LiteLLM: it works with the dear model, goes on with the cheap one, and closes."""

from __future__ import annotations

from collections.abc import Iterator
from decimal import Decimal
from typing import Any

import litellm
import pytest
from calling import CALL_USD, run
from test_cheaper_models import LADDER, MINI_USD, models_at

from provider import Provider
from steptrack_callbacks import BudgetExhausted, drain_completed_steps, step
from steptrack_callbacks.litellm import entry_points

TOOL = {"type": "function", "function": {"name": "look", "parameters": {"type": "object", "properties": {}}}}
KEPT_BACK = MINI_USD * 2


@pytest.fixture
def looking() -> Iterator[Provider]:
    with Provider(tool="look") as provider:
        yield provider


def options_of(provider: Provider, messages: list[Any], **more: Any) -> dict[str, Any]:
    return {
        "model": "openai/gpt-4o",
        "messages": messages,
        "tools": [TOOL],
        "max_tokens": 200,
        "api_base": provider.url,
        "api_key": "none",
        "max_retries": 0,
        **more,
    }


def answered(messages: list[Any], answer: Any) -> None:
    """Put an answer into the history, and answer what it calls."""
    message = answer.choices[0].message
    messages.append(message.model_dump(exclude_none=True))
    messages.extend(
        {"role": "tool", "tool_call_id": call.id, "content": "seen"} for call in message.tool_calls or ()
    )


@pytest.mark.parametrize("is_async", [False, True])
def test_the_program(is_async: bool, looking: Provider) -> None:
    assert entry_points.gates.active
    messages: list[Any] = [{"role": "user", "content": "look around"}]

    def ask(**more: Any) -> Any:
        return litellm.completion(**options_of(looking, messages, **more))

    async def ask_async(**more: Any) -> Any:
        return await litellm.acompletion(**options_of(looking, messages, **more))

    async def main() -> None:
        while True:
            answered(messages, await ask_async() if is_async else ask())

    async def close() -> Any:
        messages.append({"role": "user", "content": "This is the last turn: answer now."})
        return await ask_async(tool_choice="none") if is_async else ask(tool_choice="none")

    async def program() -> None:
        limits: Any = {"max_usd": CALL_USD * 3 + KEPT_BACK, "wrap_up_usd": KEPT_BACK}
        with step("research", models=LADDER, downgrade_at=0.65, **limits) as research:
            try:
                await main()
            except BudgetExhausted:
                with research.wrap_up():
                    await close()

    run(program())
    sent = models_at(looking)
    assert sent[:2] == ["gpt-4o", "gpt-4o"]
    assert set(sent[2:]) == {"gpt-4o-mini"}
    assert looking.requests[-1].body["tool_choice"] == "none"
    billed = sum((MINI_USD if "mini" in model else CALL_USD for model in sent), Decimal(0))
    (record,) = drain_completed_steps()
    assert (record.usage.calls, record.usage.cost_usd) == (len(sent), billed)
    assert billed <= CALL_USD * 3 + KEPT_BACK
    assert sum(swap.calls for swap in record.swaps) == len(sent) - 2
    for before, after in zip(looking.requests, looking.requests[1:], strict=False):
        assert after.body["messages"][: len(before.body["messages"])] == before.body["messages"]
