"""What a LangChain model was asked, in our words."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache, partial
from typing import Any

from steptrack_callbacks.engine.request import UNKNOWN_MODEL, Request, plain_request
from steptrack_callbacks.integrations.bounds import UNSEEN, bound_messages, is_all_sent
from steptrack_callbacks.integrations.needs import needs_in
from steptrack_callbacks.integrations.request_terms import PRICED, kinds_in, terms_asked
from steptrack_callbacks.integrations.servers import server_at
from steptrack_callbacks.pricing.names import GATEWAYS, accepts, canonical
from steptrack_callbacks.pricing.table import installed
from steptrack_callbacks.tokens import count_messages, count_prompt

_OUTPUT_LIMITS = ("max_completion_tokens", "max_tokens", "max_output_tokens", "num_predict")
_SCHEMAS = ("tools", "functions")
_EXTRAS = ("model_kwargs", "extra_body")
_TELLING = PRICED | UNSEEN | {"service_tier", "response_format", *_EXTRAS, *_OUTPUT_LIMITS, *_SCHEMAS}
"""Options without which a request is no more than its messages."""
_MODEL_NAMES = ("model", "model_name", "model_id")

Named = Mapping[str, Any] | None


def chat_request(
    serialized: Named, messages: Sequence[Any], metadata: Mapping[str, Any], params: Mapping[str, Any]
) -> Request:
    """Describe a call of a chat model.

    Args:
        serialized: What LangChain says of the model itself.
        messages: What is sent.
        metadata: The run's; LangChain puts the effective model, provider and limit there.
        params: The invocation's parameters.
    """
    model, provider = metadata.get("ls_model_name"), _provider(serialized, metadata)
    if type(model) is not str or not model:
        model = model_named(metadata, params)
    kinds = partial(kinds_in, messages, params)
    needs = partial(needs_in, messages, params, kinds)
    if _TELLING.isdisjoint(params) and not metadata.get("ls_max_tokens"):
        return plain_request(
            model,
            provider,
            count_input=partial(count_messages, messages, model),
            bound_input=partial(bound_messages, messages),
            kinds=kinds,
            needs=needs,
            cure=_cure(model, provider),
        )
    schemas = _schemas(params)
    return Request(
        model=model,
        provider=provider,
        count_input=partial(count_messages, messages, model, tools=schemas or None),
        bound_input=partial(bound_messages, messages, tools=schemas) if is_all_sent(params) else None,
        kinds=kinds,
        needs=needs,
        cure=_cure(model, provider),
        **_asked(metadata, params),
    )


def completion_request(
    serialized: Named, prompt: str, metadata: Mapping[str, Any], params: Mapping[str, Any]
) -> Request:
    """Describe a call of a completion model."""
    model, provider = model_named(metadata, params), _provider(serialized, metadata)
    return Request(
        model=model,
        operation="text_completion",
        provider=provider,
        count_input=partial(count_prompt, prompt, model),
        cure=_cure(model, provider),
        **_asked(metadata, params),
    )


def _schemas(params: Mapping[str, Any]) -> list[Any]:
    schemas: list[Any] = []
    for name in _SCHEMAS:
        if found := params.get(name):
            schemas += found
    if answer_schema := params.get("response_format"):
        schemas.append(answer_schema)
    return schemas


def _asked(metadata: Mapping[str, Any], params: Mapping[str, Any]) -> dict[str, Any]:
    """Read what is asked beside the content, in the words of `Request`."""
    options = _with_extras(params)
    tier = options.get("service_tier")
    return {
        "service_tier": tier if isinstance(tier, str) else None,
        "max_output_tokens": _output_limit(metadata, params),
        **terms_asked(options),
    }


def _with_extras(params: Mapping[str, Any]) -> Mapping[str, Any]:
    """Add what is sent beside the parameters that a client knows."""
    for name in _EXTRAS:
        extras = params.get(name)
        if isinstance(extras, dict) and extras:
            params = {**params, **extras}
    return params


@lru_cache(maxsize=1024)
def _cure(model: str, provider: str | None) -> str:
    """Say what helps where a price for the name that LangChain has would be a price for nothing."""
    if model == UNKNOWN_MODEL:
        return (
            "LangChain does not report its name; if its class has a field for the name, set one that has a"
            ' price, such as model="gpt-4o"'
        )
    if provider is not None and canonical(provider) == "azure":
        return f'if {model!r} is a deployment, say which model it is of beside it: model="gpt-4o"'
    return ""


def model_named(metadata: Mapping[str, Any], params: Mapping[str, Any]) -> str:
    """Name the model of a call, by what LangChain says of it and what it is invoked with."""
    model = metadata.get("ls_model_name")
    for name in _MODEL_NAMES:
        if isinstance(model, str) and model:
            return model
        model = params.get(name)
    return model if isinstance(model, str) and model else UNKNOWN_MODEL


def _provider(serialized: Named, metadata: Mapping[str, Any]) -> str | None:
    """Name who serves the model; `None` if nothing says it, so that its price is its maker's.

    OpenAI's client talks to anybody's server, which its address may tell, and of a class that names no
    provider LangChain makes one up from the class's name.
    """
    provider = metadata.get("ls_provider")
    if not isinstance(provider, str):
        return None
    if provider == "openai":
        given = (serialized or {}).get("kwargs")
        return server_at(given.get("openai_api_base")) if isinstance(given, Mapping) else None
    return _stated(provider, str(serialized.get("name", "")) if serialized else "")


@lru_cache(maxsize=1024)
def _stated(provider: str, class_name: str) -> str | None:
    is_made_up = provider in class_name.lower() and not _is_listed(provider)
    return None if is_made_up else provider


def _is_listed(provider: str) -> bool:
    owner = canonical(provider)
    if owner in GATEWAYS:
        return True
    named = (entry.get("litellm_provider") for entry in installed().entries.values())
    return any(each is not None and accepts(owner, each) for each in named)  # some are anybody's


def _output_limit(metadata: Mapping[str, Any], params: Mapping[str, Any]) -> int | None:
    """Multiply the limit of one answer by the number of answers."""
    for value in (metadata.get("ls_max_tokens"), *map(params.get, _OUTPUT_LIMITS)):
        if type(value) is int and value > 0:
            answers = params.get("n")
            return value * (answers if type(answers) is int and answers > 1 else 1)
    return None
