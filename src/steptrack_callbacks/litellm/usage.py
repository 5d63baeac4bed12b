"""What LiteLLM's answers say of usage and cost, in our words.

Whatever a provider or a test double puts there, reading it never fails: what makes no sense counts
as not reported.
"""

from __future__ import annotations

from collections.abc import Iterable
from decimal import Decimal
from typing import Any

from steptrack_callbacks.engine.call import Call
from steptrack_callbacks.engine.request import Request
from steptrack_callbacks.tokens import count_text
from steptrack_callbacks.values.usage import LEAST_USD, MOST_TOKENS, MOST_USD, Usage


def settle(call: Call, response: Any) -> None:
    """Charge a call with its complete answer."""
    hidden = _field(response, "_hidden_params")
    from_cache = bool(_field(hidden, "cache_hit"))
    if from_cache and not call.attempts:
        call.settle_free()
        return
    usage = usage_of(_field(response, "usage"))
    used, is_whole = completed(usage, text_of(response), call.request)
    call.settle(
        used,
        estimated=from_cache or not is_whole,  # in part: what was sent and cached is told as one sum
        cost_usd=stated_cost(_field(hidden, "response_cost")) if is_whole else None,
        model=_answering_model(response) if usage else None,
        truncated=is_truncated(response),
        response=response,
    )


def completed(usage: Usage | None, text: str, request: Request) -> tuple[Usage, bool]:
    """Count by ourselves what a report leaves out, or says to be nothing where there was something.

    Returns:
        The usage, and whether all of it was reported.
    """
    used = usage or Usage()
    counted = {}
    if not used.input_tokens:
        counted["input_tokens"] = request.estimate(0).input_tokens
    if not used.output_tokens and text:
        counted["output_tokens"] = count_text(text, request.model)
    counted = {name: tokens for name, tokens in counted.items() if tokens}
    return (used.replace(**counted) if counted else used), usage is not None and not counted


def stated_cost(value: Any) -> Decimal | None:
    """Read a cost that LiteLLM states; it says 0.0 for models that it cannot price, so 0 is no statement.

    Nor is what no call costs. Beyond the fifteenth digit a float says nothing but how it was added up.
    """
    if isinstance(value, bool) or not isinstance(value, int | float) or not LEAST_USD <= value <= MOST_USD:
        return None
    return Decimal(f"{value:.15g}")


def usage_of(reported: Any) -> Usage | None:
    """Translate a reported usage, of chat completions or of responses; `None` if nothing was reported."""
    sent = _tokens(reported, "prompt_tokens", "input_tokens")
    produced = _tokens(reported, "completion_tokens", "output_tokens")
    if not sent and not produced:
        return None
    prompt = _field(reported, "prompt_tokens_details") or _field(reported, "input_tokens_details")
    completion = _field(reported, "completion_tokens_details") or _field(reported, "output_tokens_details")
    creation = _field(prompt, "cache_creation_token_details")
    return Usage(
        input_tokens=sent,
        output_tokens=produced,
        cache_read_tokens=_tokens(prompt, "cached_tokens") or _tokens(reported, "cache_read_input_tokens"),
        cache_write_tokens=_tokens(prompt, "cache_creation_tokens", "cache_write_tokens")
        or _tokens(reported, "cache_creation_input_tokens"),
        cache_write_1h_tokens=_tokens(creation, "ephemeral_1h_input_tokens"),
        reasoning_tokens=_tokens(completion, "reasoning_tokens"),
        input_audio_tokens=_tokens(prompt, "audio_tokens"),
        output_audio_tokens=_tokens(completion, "audio_tokens"),
        input_image_tokens=_tokens(prompt, "image_tokens"),
        output_image_tokens=_tokens(completion, "image_tokens"),
    )


def text_of(response: Any) -> str:
    """Collect all that a complete answer says: text, reasoning, tool calls."""
    parts = [part for choice in _items(_field(response, "choices")) for part in _said(choice)]
    for item in _items(_field(response, "output")):
        parts += [_text(_field(item, "name")), _text(_field(item, "arguments"))]
        parts += [_text(_field(content, "text")) for content in _items(_field(item, "content"))]
    return "".join(parts)


def text_of_chunk(chunk: Any) -> str:
    """Collect what one chunk of a stream adds to the answer."""
    choices = _items(_field(chunk, "choices"))
    if choices:
        return "".join(part for choice in choices for part in _said(choice))
    return _text(_field(chunk, "delta"))  # an event of the responses API


def _said(choice: Any) -> Iterable[str]:
    yield _text(_field(choice, "text"))
    message = _field(choice, "delta") or _field(choice, "message")
    yield _text(_field(message, "content"))
    yield _text(_field(message, "reasoning_content"))
    for call in _items(_field(message, "tool_calls")):
        function = _field(call, "function")
        yield _text(_field(function, "name"))
        yield _text(_field(function, "arguments"))


def is_truncated(response: Any) -> bool:
    """Tell whether an answer was cut short by its own `max_tokens`."""
    if _field(response, "status") == "incomplete":
        return True
    return any(_field(choice, "finish_reason") == "length" for choice in _items(_field(response, "choices")))


def _answering_model(response: Any) -> str | None:
    return _text(_field(response, "model")) or None


def _field(holder: Any, name: str) -> Any:
    return holder.get(name) if isinstance(holder, dict) else getattr(holder, name, None)


def _tokens(holder: Any, *names: str) -> int:
    values = (_field(holder, name) for name in names)
    return next((value for value in values if type(value) is int and 0 < value <= MOST_TOKENS), 0)


def _items(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def _text(value: Any) -> str:
    return value if isinstance(value, str) else ""
