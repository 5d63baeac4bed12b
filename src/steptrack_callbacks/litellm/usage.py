"""Where LiteLLM's answers keep what they say.

Whatever a provider or a test double puts there, reading it never fails: what makes no sense counts
as not reported.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from steptrack_callbacks.engine.call import Call
from steptrack_callbacks.engine.request import Request
from steptrack_callbacks.integrations import settling
from steptrack_callbacks.integrations.stated_cost import STATING, usd_in
from steptrack_callbacks.integrations.usage import Answer, Reading, is_cut_by
from steptrack_callbacks.pricing.names import canonical
from steptrack_callbacks.pricing.terms import NO_TERMS, terms_of_tier
from steptrack_callbacks.values.untrusted import field as _field
from steptrack_callbacks.values.untrusted import fields_of
from steptrack_callbacks.values.usage import MOST_TOKENS, text_usage

_SAID = frozenset(
    {"id", "created", "model", "object", "system_fingerprint", "choices", "usage", "service_tier"}
) | {"_response_ms", "response_ms"}
"""What an answer says where there is nothing to be looked at closely, ..."""
_DETAILS = ("prompt_tokens_details", "completion_tokens_details")
_TOLD = frozenset({"prompt_tokens", "completion_tokens", "total_tokens", *_DETAILS})
"""... and what its usage tells."""
_LONGEST_TIER = 100  # of what is remembered


def settle(call: Call, response: Any, cost: Any = None) -> None:
    """Charge a call with its complete answer.

    Args:
        call: The call.
        response: Its answer.
        cost: What LiteLLM says beside it that it cost; else what the answer's own account of it says.
    """
    hidden = fields_of(_field(response, "_hidden_params"))
    from_cache = bool(hidden.get("cache_hit"))
    if from_cache and not call.attempts:
        call.settle_free()
        return
    computed_cost = usd_in(cost) or hidden.get("response_cost")
    if not from_cache and (plain := _plainly_told(response, hidden, computed_cost)):
        settling.settle_plain(call, plain, response=response)
        return
    reading = Reading()
    read(reading, response)
    settling.settle(
        call,
        answer_of(reading, call.request, computed_cost=computed_cost),
        lambda: text_of(response),
        is_in_part=from_cache,  # what was sent and cached is told as one sum
        response=response,
    )


def _plainly_told(response: Any, hidden: Mapping[Any, Any], computed_cost: Any) -> Answer | None:
    """Read an answer as nearly all are: text, two counts, and nothing that changes their price."""
    said = fields_of(response)
    told, choices = fields_of(said.get("usage")), said.get("choices")
    if not (said.keys() <= _SAID and told.keys() <= _TOLD and type(choices) is list and len(choices) == 1):
        return None
    choice = fields_of(choices[0])
    cited = fields_of(choice.get("delta") or choice.get("message")).get("annotations")
    detailed = [
        name for name in _DETAILS if told.get(name) is not None and any(fields_of(told[name]).values())
    ]
    if cited or detailed or hidden.get("provider_specific_fields"):
        return None
    sent, made = told.get("prompt_tokens"), told.get("completion_tokens")
    if type(sent) is not int or type(made) is not int or told.get("total_tokens") != sent + made:
        return None
    if not (0 < sent <= MOST_TOKENS and 0 < made <= MOST_TOKENS):
        return None
    model = _text(hidden.get("provider_response_model")) or said.get("model")
    tier = said.get("service_tier")
    if type(tier) is str and len(tier) > _LONGEST_TIER:
        return None
    return Answer(
        usage=text_usage(sent, made),
        model=model if type(model) is str and model else None,
        terms=terms_of_tier(tier) if type(tier) is str and tier else NO_TERMS,
        computed_cost_usd=usd_in(computed_cost),
        is_cut=is_cut_by(choice.get),
    )


def settle_unseen(call: Call, response: Any, cost: Any) -> None:
    """Charge a call that LiteLLM reports and nobody has seen before it was sent.

    Args:
        call: The call.
        response: Its answer, of whatever kind.
        cost: What LiteLLM says beside it that it cost; else what the answer's own account of it says.
    """
    reading = Reading()
    reading.add(response)
    told = usd_in(cost) or _field(_field(response, "_hidden_params"), "response_cost")
    settling.settle_unseen(call, answer_of(reading, call.request, computed_cost=told))


def answer_of(reading: Reading, request: Request, *, computed_cost: Any = None) -> Answer:
    """Return what was read of an answer through LiteLLM.

    Args:
        reading: What it has said.
        request: What it answers.
        computed_cost: What LiteLLM says beside it that it cost.
    """
    provider = request.provider or request.model.partition("/")[0]
    return reading.answer(is_from_provider=canonical(provider) in STATING, computed_cost=computed_cost)


def read(reading: Reading, answer: Any) -> None:
    """Read an answer, or a chunk of one, with what LiteLLM keeps out of sight of what the provider said.

    That is the model that answered, in whose place a chunk shows the one that was asked for, and Google's
    word for the tier that served.
    """
    reading.add(answer)
    hidden = _field(answer, "_hidden_params")
    tier = _field(_field(hidden, "provider_specific_fields"), "traffic_type")
    reading.name(model=_text(_field(hidden, "provider_response_model")), tier=_text(tier) or None)


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


def cites(answer: Any) -> bool:
    """Tell an answer, or a chunk of one, that says what the provider has found for it."""
    choices = map(fields_of, _items(_field(answer, "choices")))
    said = (choice.get("delta") or choice.get("message") for choice in choices)
    return any(fields_of(each).get("annotations") for each in said)


def _said(choice: Any) -> Iterable[str]:
    yield _text(_field(choice, "text"))
    message = _field(choice, "delta") or _field(choice, "message")
    yield _text(_field(message, "content"))
    yield _text(_field(message, "reasoning_content"))
    for call in _items(_field(message, "tool_calls")):
        function = _field(call, "function")
        yield _text(_field(function, "name"))
        yield _text(_field(function, "arguments"))


def _items(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def _text(value: Any) -> str:
    return value if isinstance(value, str) else ""
