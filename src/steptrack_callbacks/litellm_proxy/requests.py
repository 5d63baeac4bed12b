"""What the proxy was asked, in our words: before a deployment is chosen, and after."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping
from functools import lru_cache
from typing import Any, NamedTuple

from steptrack_callbacks.engine.request import Request
from steptrack_callbacks.litellm.call_types import CALL_TYPES, Kind, gated_kind
from steptrack_callbacks.litellm.requests import (
    Served,
    describes,
    request_of,
    said_in,
    says_who_serves,
    served_by,
)
from steptrack_callbacks.litellm.swapping import dearest, deployments_of, offer_of
from steptrack_callbacks.values.usage import Usage

Price = Callable[[Usage], int | None]

_PARTS: dict[str, Kind] = {
    "image": "image",
    "speech": "speech",
    "transcription": "transcription",
    "moderation": "moderation",
    "rerank": "rerank",
    "ocr": "ocr",
    "search": "search",
    "generate_content": "google",
    "create_video": "video",
}
"""Parts of the names that the proxy has for some kinds of call beside their functions' own."""


@lru_cache(maxsize=256)
def kind_of(call_type: Hashable) -> Kind | None:
    """Tell what sort of call the proxy speaks of; `None` for what asks no model."""
    name = str(getattr(call_type, "value", call_type))
    if name == "embeddings":
        return "embedding"
    if name in ("aretrieve_batch", "retrieve_batch"):
        return "batch"
    kind = gated_kind(name)
    if kind is not None:
        return None if kind == "job" else kind
    return next((kind for part, kind in _PARTS.items() if part in name), None)


class Offer(NamedTuple):
    """What a deployment serves a request with.

    Attributes:
        deployment: The deployment, as it was when it was read.
        options: What it adds to a request.
        served: What these say of the model.
    """

    deployment: Mapping[str, Any]
    options: dict[str, Any]
    served: Served


MOST_GROUPS = 1_000
"""Of the groups of deployments that clients name, so many need not be read again."""
_groups: dict[tuple[str, str | None], list[Offer]] = {}


def request_from(
    kind: Kind,
    model: str,
    options: Mapping[str, Any],
    price: Price | None = None,
    served: Served | None = None,
) -> Request:
    """Describe a call by what a deployment is about to be sent.

    Args:
        kind: What sort of call it is.
        model: The deployment's model.
        options: What it is sent.
        price: What it costs by the name that clients know it by; only if nobody knows the model's own.
        served: What the options say of the model, if that is known.
    """
    request = request_of(kind, model, options.get(CALL_TYPES[kind].content), options, served)
    if price is not None and not request.is_priced:
        request.price = price
    return request


def exact_request(
    kind: Kind, options: Mapping[str, Any], admitted: Request | None, price_of: Callable[[str], Price | None]
) -> Request:
    """Describe an attempt: as it was admitted, if that is what a deployment is about to be sent.

    Args:
        kind: What sort of call it is.
        options: What is sent.
        admitted: What was admitted and not sent yet; `None` if there is nothing.
        price_of: Returns what the file says that a model costs, by the name that clients know it by.
    """
    model, content = str(options.get("model") or ""), options.get(CALL_TYPES[kind].content)
    is_own = admitted is not None and admitted.price is None and admitted.with_model is None
    if admitted is not None and is_own and describes(admitted, model, content, options):
        return admitted
    return request_from(kind, model, options, price_of(group_of(options)))


def request_for(
    kind: Kind, data: Mapping[str, Any], team: str | None, price: Price | None = None
) -> Request | None:
    """Describe a request by the dearest deployment that may serve it; `None` if the Router has to say."""
    model = str(data.get("model") or "")
    offers = [] if not model or "," in model else _offers(model, team)
    is_own = says_who_serves(data)
    requests = []
    for _, options, served in offers:
        sent = {**data, **options}
        requests.append(request_from(kind, options["model"], sent, price, None if is_own else served))
    return dearest(requests)


def asks_several(data: Mapping[str, Any]) -> bool:
    """Tell whether a request is for several models at once, as LiteLLM reads a comma."""
    return "," in str(data.get("model") or "")


def group_of(options: Mapping[str, Any]) -> str:
    """Return the name that the Router knows a deployment by, which is what clients ask for."""
    holders = (options.get("litellm_metadata"), options.get("metadata"))
    named = (holder.get("model_group") for holder in holders if isinstance(holder, Mapping))
    return next((name for name in named if isinstance(name, str)), "")


def _offers(model: str, team: str | None) -> list[Offer]:
    """Read the deployments of a group, unless they are what they were for its last request."""
    from litellm.proxy import proxy_server  # noqa: PLC0415 - it is importing this module, and has a Router later

    found = list(deployments_of(getattr(proxy_server, "llm_router", None), model, team))
    known = _groups.get((model, team))
    if known is not None and [offer.deployment for offer in known] == found:
        return known
    offers = [_offer(deployment) for deployment in found]
    if len(_groups) >= MOST_GROUPS:
        _groups.clear()
    _groups[model, team] = offers
    return offers


def _offer(deployment: Mapping[str, Any]) -> Offer:
    """Read a deployment, and keep it as it is now: the Router may change it in its place."""
    copied = {name: dict(each) if isinstance(each, dict) else each for name, each in deployment.items()}
    options = offer_of(deployment)
    return Offer(copied, options, served_by(options["model"], said_in(options)))


def capped(kind: Kind, most: int) -> dict[str, int]:
    """Return the option that caps an answer."""
    cap = CALL_TYPES[kind].cap
    return {} if cap is None else {cap: most}
