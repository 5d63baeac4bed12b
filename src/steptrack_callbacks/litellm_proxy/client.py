"""The client's side: requests to the proxy say in which step they are made, whoever makes them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from steptrack_callbacks.integrations import http_clients, proxy_client


def attach() -> Callable[[], None]:
    """Name the step on each request to the proxy; returns what undoes it.

    The clients of OpenAI, Anthropic, LangChain and LiteLLM all send through `httpx` or `httpx2`.
    """
    return http_clients.observe(_name)


def _name(request: Any) -> None:
    """Add what the request does not say itself."""
    if proxy_client.is_for_proxy(request.url):
        proxy_client.name_request(request.headers)
