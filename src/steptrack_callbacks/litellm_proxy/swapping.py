"""Requests that go on with the next model of a list: the file's, and only what their key may call."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from steptrack_callbacks.engine.chain import AccountChain
from steptrack_callbacks.engine.request import Request
from steptrack_callbacks.engine.swapping import lists_with
from steptrack_callbacks.integrations.seams_litellm import PROXY_MODEL_ACCESS
from steptrack_callbacks.litellm.call_types import Kind

from .requests import Price, request_for

_KEEPS_ITS_GROUP = "an attempt of the Router's keeps to what it was asked for"


async def with_models(
    request: Request,
    kind: Kind,
    data: Mapping[str, Any],
    user: Any,
    *,
    around: AccountChain,
    price_of: Callable[[str], Price | None],
) -> Request:
    """Let a request be made with another model of a list, if its key may call that one.

    Args:
        request: The request.
        kind: What sort of call it is.
        data: What the client has sent.
        user: Whose key it came with.
        around: The accounts that it is charged to; what they list comes from the file.
        price_of: Returns what the file says that a model costs, by the name that clients know it by.
    """
    model = str(data.get("model") or "")
    request.called = model
    if kind == "embedding":
        return request
    allowed = {name for name in _named_beside(model, around) if await _may_call(name, user)}

    def with_model(name: str) -> Request | str:
        if name not in allowed:
            return "its key may not call it"
        team = getattr(user, "team_id", None)
        other = request_for(kind, {**data, "model": name}, team, price_of(name))
        if other is None:
            return "the proxy has no model of that name and of known price"
        other.called = name
        return other

    request.with_model = with_model
    return request


def keeping_its_group(request: Request) -> Request:
    """Let an attempt of the Router's be refused as any: it was chosen for what had been asked for."""
    request.with_model = lambda _name: _KEEPS_ITS_GROUP
    return request


def _named_beside(model: str, around: AccountChain) -> set[str]:
    return {name for _, _, names in lists_with(around, model) for name in names[1:]}


async def _may_call(model: str, user: Any) -> bool:
    """Tell whether a key might have asked for a model itself; where nobody can tell, it might not."""
    from litellm.proxy import proxy_server  # noqa: PLC0415 - it is importing this module, and has a Router later

    check = PROXY_MODEL_ACCESS.get()
    if check is None:
        return False
    try:
        await check(model=model, llm_model_list=None, valid_token=user, llm_router=proxy_server.llm_router)
    except Exception:  # noqa: BLE001 - a no, or nobody could tell
        return False
    return True
