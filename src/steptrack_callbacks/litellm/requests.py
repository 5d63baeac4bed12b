"""What a LiteLLM entry point was asked, in our words."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import partial
from typing import Any, Literal

from steptrack_callbacks import pricing
from steptrack_callbacks.request import Request
from steptrack_callbacks.tokens import InputCount, count_messages, count_prompt
from steptrack_callbacks.usage import Usage

Kind = Literal["chat", "text", "embedding", "responses"]

_PRICE_KEYS = ("input_cost_per_token", "output_cost_per_token")
_OUTPUT_LIMITS = ("max_completion_tokens", "max_tokens", "max_output_tokens")


def request_of(kind: Kind, model: str, content: Any, options: Mapping[str, Any]) -> Request:
    """Describe a call by its entry point's arguments.

    Args:
        kind: Which sort of entry point.
        model: The model's name.
        content: Messages, prompt or input.
        options: The keyword arguments.
    """
    model = model.replace("/responses/", "/", 1)  # LiteLLM's way to say which API is used
    return Request(
        model=model,
        provider=options.get("custom_llm_provider"),
        service_tier=_text_or_none(options.get("service_tier")),
        count_input=_counter(kind, model, content, options),
        max_output_tokens=_output_limit(kind, options),
        can_clamp=kind != "embedding",
        price=_own_price(model, options),
    )


def _counter(kind: Kind, model: str, content: Any, options: Mapping[str, Any]) -> Callable[[], InputCount]:
    tools = [*_items(options.get("tools")), *_items(options.get("functions"))]

    def count() -> InputCount:
        if kind == "chat":
            return count_messages(_items(content), model, tools=tools or None)
        if kind != "responses":
            return count_prompt(content, model)
        messages = [{"role": "user", "content": content}] if isinstance(content, str) else _items(content)
        if instructions := options.get("instructions"):
            messages.insert(0, {"role": "system", "content": instructions})
        return count_messages(messages, model, tools=tools or None)

    return count


def _output_limit(kind: Kind, options: Mapping[str, Any]) -> int | None:
    """Multiply the limit of one answer by the number of answers."""
    if kind == "embedding":
        return 0
    given = (options.get(name) for name in _OUTPUT_LIMITS)
    limit = next((value for value in given if isinstance(value, int) and not isinstance(value, bool)), None)
    if limit is None:
        return None
    answers = max(_count(options.get("n")), _count(options.get("best_of")), 1)
    return max(limit, 0) * answers


def _own_price(model: str, options: Mapping[str, Any]) -> Callable[[Usage], int | None] | None:
    """Price by what the call itself says a token costs, as LiteLLM does; what makes no sense says nothing."""
    told = _fields(options.get("model_info")) | {k: v for k, v in options.items() if v is not None}
    rates = {name: told[name] for name in _PRICE_KEYS if told.get(name) is not None}
    if rates:
        with suppress(ValueError):
            return pricing.price_of(model, rates)
    base_model = _text_or_none(told.get("base_model"))
    return partial(pricing.cost_units, base_model) if base_model else None


def _fields(value: Any) -> dict[str, Any]:
    return dict(value) if isinstance(value, Mapping) else {}


def _items(value: Any) -> list[Any]:
    return list(value) if isinstance(value, list | tuple) else []


def _count(value: Any) -> int:
    return value if isinstance(value, int) else 0


def _text_or_none(value: Any) -> str | None:
    return value if isinstance(value, str) else None
