"""What LangChain's answers say of usage and cost, in our words.

Whatever a provider or a test double puts there, reading it never fails: what makes no sense counts
as not reported.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from decimal import Decimal
from typing import Any

from langchain_core.outputs import LLMResult

from steptrack_callbacks.engine.call import Call
from steptrack_callbacks.tokens import count_text
from steptrack_callbacks.values.usage import LEAST_USD, MOST_TOKENS, MOST_USD, Usage

_SENT = ("input_tokens", "prompt_tokens", "prompt_token_count", "prompt_eval_count")
_PRODUCED = ("output_tokens", "completion_tokens", "candidates_token_count", "eval_count")
_GIVEN = ("input_token_details", "prompt_tokens_details", "input_tokens_details")
_MADE = ("output_token_details", "completion_tokens_details", "output_tokens_details")
_TIERS = ("priority", "flex")
_NO_DETAILS: Mapping[str, Any] = {}
_REASONS = ("finish_reason", "stop_reason", "done_reason")
_CUT_SHORT = frozenset({"length", "max_tokens", "MAX_TOKENS"})


def settle(call: Call, result: LLMResult, *, counted_elsewhere: bool = False) -> bool:
    """Charge a call with its complete answer, and say whether its usage was reported.

    Args:
        call: The call.
        result: The answer.
        counted_elsewhere: Whether another answer of its batch has its usage, too.
    """
    answer = _first(result)
    reported = _reported(answer, result)
    if reported is not None and reported.get("total_cost") == 0:
        call.settle_free()  # a hit of LangChain's cache: it puts a total cost of 0 beside the usage
        return False
    if counted_elsewhere:
        call.settle(Usage(), truncated=True)
        return False
    usage = None if reported is None else usage_of(reported)
    if usage is None or (not usage.output_tokens and text_of(result)):
        output = count_text(text_of(result), call.request.model)
        call.settle(call.request.estimate(output), estimated=True, response=answer)
        return False
    settle_reported(call, usage, reported, _told(answer), response=answer)
    return True


def settle_reported(
    call: Call,
    usage: Usage,
    reported: Any,
    told: Mapping[str, Any],
    *,
    is_whole: bool = True,
    response: Any = None,
) -> None:
    """Charge a call with its usage.

    Args:
        call: The call.
        usage: The usage, in our words.
        reported: The same in LangChain's, or in a provider's.
        told: What the answer says beside it.
        is_whole: Whether the model ended the answer itself, as far as is known.
        response: The answer, if it can be used.
    """
    if tier := tier_of(reported) or _text(told.get("service_tier")):
        call.request.service_tier = tier
    missing = 0 if usage.input_tokens else call.request.estimate(0).input_tokens
    call.settle(
        usage.replace(input_tokens=missing) if missing else usage,  # some streams report an input of 0
        cost_usd=stated_cost(told.get("response_cost")),
        model=_text(told.get("model_name")) or _text(told.get("model")) or None,
        estimated=bool(missing),
        truncated=not is_whole or _is_truncated(told),
        response=response,
    )


def report_of(result: LLMResult) -> tuple[Mapping[str, Any], Mapping[str, Any]]:
    """Return the usage that LangChain knows of a failed run, and what is said beside it."""
    answer = _first(result)
    told = _told(answer)
    if (reported := _reported(answer, result)) is not None:
        return reported, told
    body = _mapping(told.get("body"))
    return _mapping(body.get("usage")), body


def has_lost_its_usage(result: LLMResult) -> bool:
    """Tell an answer whose usage LangChain has put on the first one of its batch."""
    return _mapping(result.llm_output).get("token_usage") == {}


def stated_cost(value: Any) -> Decimal | None:
    """Read a cost that LiteLLM states; it says 0.0 for models that it cannot price."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not LEAST_USD <= value <= MOST_USD:
        return None
    return Decimal(f"{value:.15g}")


def usage_of(reported: Mapping[str, Any]) -> Usage | None:
    """Translate a reported usage, by LangChain's names or by a provider's; `None` if it says nothing."""
    sent, produced = _tokens(reported, *_SENT), _tokens(reported, *_PRODUCED)
    if not sent and not produced:
        return None
    given = _details(reported, *_GIVEN)
    made = _details(reported, *_MADE)
    if not given and not made:
        return Usage(input_tokens=sent, output_tokens=produced)
    prefix = f"{tier}_" if (tier := tier_of(reported)) else ""
    hour = _tokens(given, "ephemeral_1h_input_tokens")
    written = _tokens(given, f"{prefix}cache_creation", "cache_creation")
    return Usage(
        input_tokens=sent,
        output_tokens=produced,
        cache_read_tokens=_tokens(given, f"{prefix}cache_read", "cache_read", "cached_tokens"),
        cache_write_tokens=max(written, _tokens(given, "ephemeral_5m_input_tokens") + hour),
        cache_write_1h_tokens=hour,
        reasoning_tokens=_tokens(made, f"{prefix}reasoning", "reasoning", "reasoning_tokens"),
        input_audio_tokens=_tokens(given, "audio", "audio_tokens"),
        output_audio_tokens=_tokens(made, "audio", "audio_tokens"),
        input_image_tokens=_tokens(given, "image"),
        output_image_tokens=_tokens(made, "image"),
    )


def tier_of(reported: Any) -> str | None:
    """Name the service tier by which LangChain has renamed the details of a usage."""
    given, made = _details(reported, *_GIVEN), _details(reported, *_MADE)
    if not given and not made:
        return None
    names: tuple[Any, ...] = (*given, *made)
    details = [name for name in names if isinstance(name, str)]
    return next((tier for name in details for tier in _TIERS if name.startswith(tier)), None)


def model_of(result: LLMResult) -> str | None:
    """Name the model that has answered."""
    told, output = _told(_first(result)), _mapping(result.llm_output)
    return (
        _text(told.get("model_name")) or _text(told.get("model")) or _text(output.get("model_name")) or None
    )


def _is_truncated(told: Mapping[str, Any]) -> bool:
    """Tell whether an answer was cut short by its own `max_tokens`."""
    reasons = [str(reason) for name in _REASONS if (reason := told.get(name)) is not None]
    return told.get("status") == "incomplete" or not _CUT_SHORT.isdisjoint(reasons)


def text_of(result: LLMResult) -> str:
    """Collect all that a complete answer says: text, reasoning, tool calls."""
    return "".join(part for answers in result.generations for answer in answers for part in _said(answer))


def text_of_chunk(chunk: Any) -> str:
    """Collect what one chunk of a stream adds to the answer."""
    return "".join(_said(chunk))


def text_of_event(event: Any) -> str:
    """Collect what one event of a `v3` stream adds to the answer."""
    if _mapping(event).get("event") != "content-block-delta":
        return ""
    delta = _mapping(_mapping(event).get("delta"))
    fields = _mapping(delta.get("fields"))
    return "".join(_text(holder.get(key)) for holder in (delta, fields) for key in _SAID)


_SAID = ("text", "reasoning", "args", "name")


def _said(answer: Any) -> Iterator[str]:
    message = getattr(answer, "message", None)
    if message is None:
        yield _text(getattr(answer, "text", None))
        return
    yield from _content(message.content)
    yield _text(message.additional_kwargs.get("reasoning_content"))
    for call in getattr(message, "tool_call_chunks", None) or getattr(message, "tool_calls", None) or ():
        yield _text(call.get("name"))
        yield call["args"] if isinstance(call.get("args"), str) else str(call.get("args") or "")


def _content(content: Any) -> Iterable[str]:
    if isinstance(content, str):
        yield content
        return
    for block in content if isinstance(content, list) else ():
        if isinstance(block, str):
            yield block
        else:
            yield from (_text(_mapping(block).get(key)) for key in ("text", "reasoning", "thinking"))


def _first(result: LLMResult) -> Any:
    """Return the first answer: each of several has the usage of all."""
    for answers in result.generations:
        for answer in answers:
            return answer
    return None


def _reported(answer: Any, result: LLMResult) -> Mapping[str, Any] | None:
    """Find the usage of a whole answer, or the mark of LangChain's cache."""
    usage = getattr(getattr(answer, "message", None), "usage_metadata", None)
    if isinstance(usage, dict) and usage:
        return usage
    output, told = _mapping(result.llm_output), _told(answer)
    names = ("token_usage", "usage", "usage_metadata")
    candidates = [holder.get(name) for holder in (output, told) for name in names]
    says = (found for found in (*candidates, told) if isinstance(found, dict) and _says_something(found))
    return next(says, None)


def _says_something(usage: Mapping[str, Any]) -> bool:
    return bool(_tokens(usage, *_SENT) or _tokens(usage, *_PRODUCED))


def _told(answer: Any) -> Mapping[str, Any]:
    """Return what a message, or a completion, says about itself."""
    message = getattr(answer, "message", None)
    if message is not None:
        return _mapping(getattr(message, "response_metadata", None))
    return _mapping(getattr(answer, "generation_info", None))


def _details(reported: Any, *names: str) -> Mapping[str, Any]:
    if not isinstance(reported, dict):
        return _NO_DETAILS
    return next((found for name in names if isinstance(found := reported.get(name), dict)), _NO_DETAILS)


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else _NO_DETAILS


def _tokens(holder: Mapping[str, Any], *names: str) -> int:
    for name in names:
        value = holder.get(name)
        if type(value) is int and 0 < value <= MOST_TOKENS:
            return value
    return 0


def _text(value: Any) -> str:
    return value if isinstance(value, str) else ""
