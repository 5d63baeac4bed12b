"""The client's side: requests to the proxy say in which step they are made, whoever makes them."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any

from steptrack_callbacks import remote


def attach() -> Callable[[], None]:
    """Name the step on each request of `httpx` to the proxy; returns what undoes it.

    The clients of OpenAI, Anthropic, LangChain and LiteLLM all send through `httpx`.
    """
    import httpx  # noqa: PLC0415 - only once somebody has imported it

    undo = [_replace(httpx.Client, _sending), _replace(httpx.AsyncClient, _sending_async)]

    def detach() -> None:
        for put_back in undo:
            put_back()

    return detach


def _replace(client: Any, around: Callable[[Any], Any]) -> Callable[[], None]:
    original = client.send
    wrapper = around(original)
    client.send = wrapper

    def put_back() -> None:
        if client.send is wrapper:  # somebody may have wrapped it once more
            client.send = original

    return put_back


def _sending(send: Callable[..., Any]) -> Any:
    @wraps(send)
    def sending(client: Any, request: Any, **options: Any) -> Any:
        _name(request)
        return send(client, request, **options)

    return sending


def _sending_async(send: Callable[..., Any]) -> Any:
    @wraps(send)
    async def sending(client: Any, request: Any, **options: Any) -> Any:
        _name(request)
        return await send(client, request, **options)

    return sending


def _name(request: Any) -> None:
    """Add what the request does not say itself."""
    if remote.is_for_proxy(request.url):
        remote.name_request(request.headers)
