"""What a LiteLLM entry point was asked, in our words."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cache, partial
from typing import Any, NamedTuple

from steptrack_callbacks import pricing
from steptrack_callbacks.engine.request import Request
from steptrack_callbacks.integrations import bounds, needs, request_terms
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
_SENT_UNSEEN = frozenset({*_OUTPUT_LIMITS, "n", "best_of", "tools", "functions", "service_tier"})
_ASKED = _SENT_UNSEEN | bounds.READ | needs.READ | request_terms.READ
_BESIDE_MESSAGES = bounds.READ | {"functions"}
_SERVED = frozenset({"custom_llm_provider", "base_model", "model_info"})
_READ = _ASKED | {"stream", "system", "systemInstruction", "instructions"}


class Served(NamedTuple):
    """Whose a model is and what it costs, in the words of `Request`."""

    model: str
    provider: str | None
    rates: Mapping[str, Any] | None
    base_model: str | None
    cure: str


def request_of(
    kind: Kind, model: str, content: Any, options: Mapping[str, Any], served: Served | None = None
) -> Request:
    """Describe a call by its entry point's arguments.

    Args:
        kind: Which sort of entry point.
        model: The model's name.
        content: Messages, prompt or input.
        options: The keyword arguments.
        served: What `served_by` says of them, if that is known.
    """
    call_type = CALL_TYPES[kind]
    if not call_type.answers_in_words:
        named = {**options, call_type.model: model, call_type.content: content}
        return per_item_request(kind, named, _own_rates(options) or {})
    said = said_in(options)
    extra = _fields(said["extra_body"]) if "extra_body" in said else {}
    sent = _as_sent(said, extra) if extra else said
    served = served or served_by(model, sent)
    kinds = partial(kinds_in, content, sent)
    asked = {} if _ASKED.isdisjoint(sent) else _asked(kind, sent, extra)
    return Request(
        model=served.model,
        operation=call_type.operation,
        provider=served.provider,
        count_input=partial(_count, kind, served.model, content, sent),
        bound_input=None if extra else _bounder(kind, content, sent),
        can_clamp=call_type.cap is not None and extra.keys().isdisjoint(_OUTPUT_LIMITS),
        streams=bool(sent.get("stream")),
        rates=served.rates,
        base_model=served.base_model,
        kinds=kinds,
        needs=partial(needs_in, content, sent, kinds),
        cure=served.cure,
        described_by=(content, said),
        **({"max_output_tokens": 0} if kind == "embedding" else {}) | asked,
    )


def served_by(model: str, options: Mapping[str, Any]) -> Served:
    """Read whose a model is and what it costs from the arguments of a call, or of a deployment."""
    model = _plain_name(model)
    return Served(
        model,
        _text_or_none(options.get("custom_llm_provider")),
        _own_rates(options),
        _base_model(options),
        _cure(model, options),
    )


def says_who_serves(options: Mapping[str, Any]) -> bool:
    """Tell whether arguments say anything that `served_by` reads beside the model's name."""
    return not _names_of_served().isdisjoint(options)


@cache
def _names_of_served() -> frozenset[str]:
    return _SERVED | rate_names()


def describes(request: Request, model: str, content: Any, options: Mapping[str, Any]) -> bool:
    """Tell whether a request is what the same sort of call comes to with these arguments."""
    if request.described_by is None or request.model != _plain_name(model):
        return False
    about, said = request.described_by
    return about is content and said == said_in(options)


def said_in(options: Mapping[str, Any]) -> dict[str, Any]:
    """Take from the arguments of a call what describes it beside its model and content.

    The rest is let go: among it is LiteLLM's account of the call, which may know ours, a ring that only the
    garbage collector could open.
    """
    names = _names_read().intersection(options)
    return {name: value for name in names if (value := options[name]) is not None and value is not False}


@cache
def _names_read() -> frozenset[str]:
    return _READ | _names_of_served()


def _plain_name(model: str) -> str:
    """Take out LiteLLM's way to say which API is used."""
    return model.replace("/responses/", "/", 1)


def _as_sent(options: Mapping[str, Any], extra: Mapping[str, Any]) -> dict[str, Any]:
    """Let what stands in `extra_body` go before what stands beside it, as it does at the provider."""
    return {**options, **{name: extra[name] for name in _SENT_UNSEEN & extra.keys()}}


def _asked(kind: Kind, options: Mapping[str, Any], extra: Mapping[str, Any]) -> dict[str, Any]:
    """Read what is asked of the answer, as fields of `Request`."""
    answers, whole = _answers(kind, options), {**options, **extra}
    return {
        "service_tier": _text_or_none(options.get("service_tier")),
        "max_output_tokens": _output_limit(kind, options, answers),
        "answers": answers,
        "needs_whole_answer": needs_whole_answer(whole),
        **terms_asked(whole),
    }


def _count(kind: Kind, model: str, content: Any, options: Mapping[str, Any]) -> InputCount:
    tools = _schemas(options) or None
    if kind == "chat":
        return count_messages(_items(content), model, tools=tools)
    if kind == "messages":
        system = [{"role": "system", "content": options["system"]}] if options.get("system") else []
        return count_messages([*system, *_items(content)], model, tools=tools)
    if kind == "google":
        return count_messages(_google_messages(content, options), model, tools=tools)
    if kind != "responses":
        return count_prompt(content, model)
    messages = [{"role": "user", "content": content}] if isinstance(content, str) else _items(content)
    if instructions := options.get("instructions"):
        messages.insert(0, {"role": "system", "content": instructions})
    return count_messages(messages, model, tools=tools)


def _schemas(options: Mapping[str, Any]) -> list[Any]:
    return [*_items(options.get("tools")), *_items(options.get("functions"))]


def _bounder(kind: Kind, content: Any, options: Mapping[str, Any]) -> Callable[[], int | None] | None:
    """Return what bounds the input without counting it, where it is text."""
    if kind in ("text", "embedding"):
        return partial(bound_prompt, content)
    if kind != "chat":
        return None
    is_text = _BESIDE_MESSAGES.isdisjoint(options)
    return partial(bound_messages, content) if is_text else partial(_bound_chat, content, options)


def _bound_chat(content: Any, options: Mapping[str, Any]) -> int | None:
    return bound_messages(content, tools=_schemas(options)) if is_all_sent(options) else None


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
    for holder in (options, options.get("model_info")):
        named = holder.get("base_model") if isinstance(holder, Mapping) else None
        if isinstance(named, str) and named:
            return named
    return None


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
