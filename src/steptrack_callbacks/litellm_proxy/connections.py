"""What an attempt sends: whether a provider has taken it, and how to stop one that is still answering.

LiteLLM passes a stream on in many coats, and not all of them close what is inside. But whatever the
coats, it sends through `httpx`, where the answers are seen as they begin.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from contextvars import ContextVar
from functools import cache, wraps
from typing import Any

import httpx

_NOT_SENT = (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout, httpx.UnsupportedProtocol)
_LEAST_REFUSAL = 400

_current: ContextVar[Connections | None] = ContextVar("steptrack_proxy_connections", default=None)
_closing: set[asyncio.Task[None]] = set()


class Connections:
    """What was sent of one attempt.

    Attributes:
        taken: Whether a provider has taken the last request: it was sent, and nobody has said no.
            `None` if nothing was seen to be sent.
    """

    def __init__(self) -> None:
        self.taken: bool | None = None
        self._answers: list[tuple[asyncio.AbstractEventLoop, httpx.Response]] = []

    def watch(self) -> None:
        """See what is sent in this context from now on."""
        _current.set(self)

    def note(self, response: httpx.Response) -> None:
        """Look at an answer that begins."""
        self.taken = response.status_code < _LEAST_REFUSAL
        if not response.is_closed:
            self._answers.append((asyncio.get_running_loop(), response))

    def hang_up(self) -> None:
        """Stop providers that are still answering; from any thread, also while a task is cancelled."""
        answers, self._answers = self._answers, []
        for loop, response in answers:
            if not response.is_closed:
                with suppress(RuntimeError):  # the loop has ended, and its connections with it
                    loop.call_soon_threadsafe(_begin_closing, response)


def _begin_closing(response: httpx.Response) -> None:
    task = asyncio.get_running_loop().create_task(_close(response))
    _closing.add(task)
    task.add_done_callback(_closing.discard)


async def _close(response: httpx.Response) -> None:
    with suppress(Exception):  # of a connection that is broken already
        await response.aclose()


@cache
def see_httpx() -> None:
    """Let connections see what is sent through `httpx`."""
    client: Any = httpx.AsyncClient
    client.send = _watched(client.send)


def _watched(send: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(send)
    async def sending(client: Any, request: Any, **options: Any) -> Any:
        connections = _current.get()
        if connections is None:
            return await send(client, request, **options)
        connections.taken = True  # until somebody says no
        try:
            response = await send(client, request, **options)
        except _NOT_SENT:
            connections.taken = False
            raise
        connections.note(response)
        return response

    return sending
