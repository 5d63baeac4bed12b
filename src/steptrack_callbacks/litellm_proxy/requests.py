"""What the proxy was asked, in our words: before a deployment is chosen, and after."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Literal

from steptrack_callbacks.engine.request import Request
from steptrack_callbacks.litellm.call_types import Kind
from steptrack_callbacks.litellm.requests import request_of
from steptrack_callbacks.pricing import rates_in
from steptrack_callbacks.tokens import InputCount
from steptrack_callbacks.values.untrusted import items
from steptrack_callbacks.values.usage import Usage

ProxyKind = Literal["chat", "text", "embedding", "responses", "messages", "other"]

Price = Callable[[Usage], int | None]

_KINDS: dict[str, ProxyKind] = {
    "completion": "chat",
    "acompletion": "chat",
    "text_completion": "text",
    "atext_completion": "text",
    "embeddings": "embedding",
    "embedding": "embedding",
    "aembedding": "embedding",
    "responses": "responses",
    "aresponses": "responses",
    "anthropic_messages": "messages",
}
_APART = (
    "image",
    "speech",
    "transcription",
    "moderation",
    "rerank",
    "ocr",
    "search",
    "generate_content",
    "video_generation",
)
"""Parts of the names of calls that are charged what their answers state, and reserve nothing."""

_CAP: dict[ProxyKind, str] = {
    "chat": "max_tokens",
    "text": "max_tokens",
    "messages": "max_tokens",
    "responses": "max_output_tokens",
}
_CONTENT: dict[Kind, str] = {"chat": "messages", "text": "prompt", "embedding": "input", "responses": "input"}
_COMPARED_TOKENS = 1_000


def kind_of(call_type: object) -> ProxyKind | None:
    """Tell what sort of call the proxy speaks of; `None` for what asks no model."""
    name = str(getattr(call_type, "value", call_type))
    if name in _KINDS:
        return _KINDS[name]
    return "other" if any(part in name for part in _APART) and "vector_store" not in name else None


def request_from(
    kind: ProxyKind, model: str, options: Mapping[str, Any], price: Price | None = None
) -> Request:
    """Describe a call by what a deployment is about to be sent.

    Args:
        kind: What sort of call it is.
        model: The deployment's model.
        options: What it is sent.
        price: What it costs by the name that clients know it by; only if nobody knows the model's own.
    """
    request = _request_from(kind, model, options)
    if price is not None and not request.is_priced:
        request.price = price
    return request


def _request_from(kind: ProxyKind, model: str, options: Mapping[str, Any]) -> Request:
    if kind == "other":
        return Request(model=model, count_input=_no_input, max_output_tokens=0, price=_nothing)
    if kind == "messages":
        content = list(items(options.get("messages")))
        if system := options.get("system"):
            content.insert(0, {"role": "system", "content": system})
        return request_of("chat", model, content, options)
    return request_of(kind, model, options.get(_CONTENT[kind]), options)


def request_for(
    kind: ProxyKind, data: Mapping[str, Any], team: str | None, price: Price | None = None
) -> Request | None:
    """Describe a request by the dearest deployment that may serve it; `None` if the Router has to say."""
    model = str(data.get("model") or "")
    if kind == "other":
        return request_from(kind, model, data)
    offers = [] if not model or asks_several(data) else _deployments(model, team)
    requests = [request_from(kind, offer["model"], {**data, **offer}, price) for offer in offers]
    priced = [request for request in requests if request.is_priced]
    if not priced:
        return None
    return max(priced, key=lambda request: request.cost(_COMPARED_TOKENS, _COMPARED_TOKENS) or 0)


def asks_several(data: Mapping[str, Any]) -> bool:
    """Tell whether a request is for several models at once, as LiteLLM reads a comma."""
    return "," in str(data.get("model") or "")


def group_of(options: Mapping[str, Any]) -> str:
    """Return the name that the Router knows a deployment by, which is what clients ask for."""
    holders = (options.get("litellm_metadata"), options.get("metadata"))
    named = (holder.get("model_group") for holder in holders if isinstance(holder, Mapping))
    return next((name for name in named if isinstance(name, str)), "")


def _deployments(model: str, team: str | None) -> list[dict[str, Any]]:
    from litellm.proxy import proxy_server  # noqa: PLC0415 - it is importing this room, and has a Router later

    router: Any = getattr(proxy_server, "llm_router", None)
    if router is None:
        return []
    found = router.get_model_list(model_name=model, team_id=team) or []
    return [_offer(deployment) for deployment in found]


def _offer(deployment: Mapping[str, Any]) -> dict[str, Any]:
    """Take from a deployment what says whose model it is, and what it costs."""
    params = dict(deployment.get("litellm_params") or {})
    names = ("model", "custom_llm_provider", "base_model")
    offer = {name: params[name] for name in names if params.get(name) is not None} | rates_in(params)
    info = {name: value for name, value in (deployment.get("model_info") or {}).items() if value is not None}
    return {"model": "", **offer, "model_info": info}


def capped(kind: ProxyKind, most: int) -> dict[str, int]:
    """Return the option that caps an answer."""
    return {_CAP[kind]: most} if kind in _CAP else {}


def _no_input() -> InputCount:
    return InputCount(0, 0)


def _nothing(_usage: Usage) -> int:
    return 0
