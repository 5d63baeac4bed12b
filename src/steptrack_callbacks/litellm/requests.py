"""What a LiteLLM entry point was asked, in our words."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import cache, partial
from typing import Any

from steptrack_callbacks import pricing
from steptrack_callbacks.engine.request import Request
from steptrack_callbacks.integrations.bounds import bound_messages, bound_prompt, is_all_sent
from steptrack_callbacks.integrations.needs import needs_in, needs_whole_answer
from steptrack_callbacks.integrations.request_terms import kinds_in, terms_asked
from steptrack_callbacks.integrations.seams_litellm import GIVEN_RATES
from steptrack_callbacks.tokens import InputCount, count_messages, count_prompt
from steptrack_callbacks.values.untrusted import field, items, whole_number
from steptrack_callbacks.values.usage import MOST_TOKENS

from .call_types import CALL_TYPES, Kind
from .per_item import per_item_request

_OUTPUT_LIMITS = ("max_completion_tokens", "max_tokens", "max_output_tokens")
_LOGGED = "litellm_logging_obj"
"""LiteLLM's account of a call, which may know ours: a ring that only the garbage collector could open."""
_SENT_UNSEEN = frozenset({*_OUTPUT_LIMITS, "n", "best_of", "tools", "functions", "service_tier"})


def request_of(kind: Kind, model: str, content: Any, options: Mapping[str, Any]) -> Request:
    """Describe a call by its entry point's arguments.

    Args:
        kind: Which sort of entry point.
        model: The model's name.
        content: Messages, prompt or input.
        options: The keyword arguments.
    """
    call_type = CALL_TYPES[kind]
    if not call_type.answers_in_words:
        named = {**options, call_type.model: model, call_type.content: content}
        return per_item_request(kind, named, _own_rates(options) or {})
    model = model.replace("/responses/", "/", 1)  # LiteLLM's way to say which API is used
    extra = _fields(options.get("extra_body")) if "extra_body" in options else {}
    options = _as_sent({**options, _LOGGED: None}, extra)  # a copy, of which the rest may be asked later
    answers, tools = _answers(kind, options), _schemas(options)
    whole = {**options, **extra} if extra else options
    kinds = partial(kinds_in, content, options)
    return Request(
        model=model,
        operation=call_type.operation,
        provider=_text_or_none(options.get("custom_llm_provider")),
        service_tier=_text_or_none(options.get("service_tier")),
        count_input=_counter(kind, model, content, options, tools),
        bound_input=None if extra else _bounder(kind, content, options, tools),
        max_output_tokens=_output_limit(kind, options, answers),
        answers=answers,
        can_clamp=call_type.cap is not None and extra.keys().isdisjoint(_OUTPUT_LIMITS),
        needs_whole_answer=needs_whole_answer(whole),
        streams=bool(options.get("stream")),
        rates=_own_rates(options),
        base_model=_base_model(options),
        kinds=kinds,
        needs=partial(needs_in, content, options, kinds),
        cure=_cure(model, options),
        **terms_asked(whole),
    )


def _as_sent(options: Mapping[str, Any], extra: Mapping[str, Any]) -> Mapping[str, Any]:
    """Let what stands in `extra_body` go before what stands beside it, as it does at the provider."""
    return {**options, **{name: extra[name] for name in _SENT_UNSEEN & extra.keys()}} if extra else options


def _counter(
    kind: Kind, model: str, content: Any, options: Mapping[str, Any], tools: Sequence[Any]
) -> Callable[[], InputCount]:
    def count() -> InputCount:
        if kind == "chat":
            return count_messages(_items(content), model, tools=tools or None)
        if kind == "messages":
            system = [{"role": "system", "content": options["system"]}] if options.get("system") else []
            return count_messages([*system, *_items(content)], model, tools=tools or None)
        if kind == "google":
            return count_messages(_google_messages(content, options), model, tools=tools or None)
        if kind != "responses":
            return count_prompt(content, model)
        messages = [{"role": "user", "content": content}] if isinstance(content, str) else _items(content)
        if instructions := options.get("instructions"):
            messages.insert(0, {"role": "system", "content": instructions})
        return count_messages(messages, model, tools=tools or None)

    return count


def _schemas(options: Mapping[str, Any]) -> list[Any]:
    if "tools" not in options and "functions" not in options:
        return []
    return [*_items(options.get("tools")), *_items(options.get("functions"))]


def _bounder(
    kind: Kind, content: Any, options: Mapping[str, Any], tools: Sequence[Any]
) -> Callable[[], int | None] | None:
    """Return what bounds the input without counting it, where it is text."""
    if kind in ("text", "embedding"):
        return lambda: bound_prompt(content)
    if kind != "chat":
        return None
    return lambda: bound_messages(content, tools=tools) if is_all_sent(options) else None


def _output_limit(kind: Kind, options: Mapping[str, Any], answers: int) -> int | None:
    """Multiply the limit of one answer by the number of answers."""
    if kind == "embedding":
        return 0
    if kind == "google":
        options = _google_config(options)
    given = [value for name in _OUTPUT_LIMITS if (value := options.get(name)) is not None]
    limits = [limit for value in given if (limit := whole_number(value)) is not None]
    if not limits or min(limits) < 0:  # some servers take -1 for no limit
        return None
    return min(max(limits) * answers, MOST_TOKENS)


def _answers(kind: Kind, options: Mapping[str, Any]) -> int:
    """Count the answers that are asked for at once."""
    asked = _google_config(options) if kind == "google" else options
    if not asked.get("n") and not asked.get("best_of"):
        return 1
    return max(1, *(whole_number(asked.get(name)) or 1 for name in ("n", "best_of")))


def _google_messages(contents: Any, options: Mapping[str, Any]) -> list[Any]:
    """Put contents in Google's words into those of a chat."""
    messages = [
        {"role": "user", "content": [{"type": "text", "text": text} for text in _google_texts(content)]}
        for content in items(contents)
    ]
    instruction = field(options.get("config"), "system_instruction") or options.get("systemInstruction")
    return [{"role": "system", "content": "".join(_google_texts(instruction))}, *messages]


def _google_texts(content: Any) -> list[str]:
    if isinstance(content, str):
        return [content]
    texts = (field(part, "text") for part in items(field(content, "parts")))
    return [text for text in texts if isinstance(text, str)]


def _google_config(options: Mapping[str, Any]) -> dict[str, Any]:
    config = options.get("config")
    return {
        "max_output_tokens": field(config, "max_output_tokens") or field(config, "maxOutputTokens"),
        "n": field(config, "candidate_count") or field(config, "candidateCount"),
    }


def _own_rates(options: Mapping[str, Any]) -> dict[str, Any] | None:
    """Collect what the call itself, or its deployment, says that it costs.

    Of the call's own arguments only what LiteLLM takes as a rate is one: on its proxy, these are what no
    client can set.
    """
    names = rate_names()
    given = {} if names.isdisjoint(options) else {name: options[name] for name in options.keys() & names}
    info = options.get("model_info")
    return pricing.rates_in(_fields(info), given) or None if given or info else None


@cache
def rate_names() -> frozenset[str]:
    """Name the arguments of a call that say what it costs."""
    fields = getattr(GIVEN_RATES.get(), "model_fields", None) or ()
    return frozenset({"input_cost_per_token", "output_cost_per_token", *fields})


def _base_model(options: Mapping[str, Any]) -> str | None:
    """Name the model by whose price a deployment is charged, if it says so."""
    if "base_model" not in options and "model_info" not in options:
        return None
    named = (options.get("base_model"), _fields(options.get("model_info")).get("base_model"))
    return next((name for name in named if isinstance(name, str) and name), None)


def _cure(model: str, options: Mapping[str, Any]) -> str:
    """Say what helps where a model's name is that of a deployment, which no table has."""
    if options.get("custom_llm_provider") != "azure" and not model.startswith("azure/"):
        return ""
    return f'if {model!r} is a deployment, say which model it is of beside it: base_model="azure/gpt-4o"'


def _fields(value: Any) -> dict[str, Any]:
    return dict(value) if isinstance(value, Mapping) else {}


def _items(value: Any) -> list[Any]:
    return list(value) if isinstance(value, list | tuple) else []


def _text_or_none(value: Any) -> str | None:
    return value if isinstance(value, str) else None
