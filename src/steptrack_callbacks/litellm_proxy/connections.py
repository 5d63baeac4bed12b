"""What an attempt sends: whether a provider has taken it, and how to stop one that is still answering.

LiteLLM passes a stream on in many coats, and not all of them close what is inside. But whatever the
coats, it sends through an HTTP client, where the answers are seen as they begin.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from contextvars import ContextVar
from functools import cache
from typing import Any

from steptrack_callbacks.concurrency.tasks import running_loop
from steptrack_callbacks.integrations import http_clients

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
        self._answers: list[tuple[asyncio.AbstractEventLoop, Any]] = []

    def watch(self) -> None:
        """See what is sent in this context from now on."""
        _current.set(self)

    def answered(self, response: Any) -> None:
        """Look at an answer that begins."""
        self.taken = response.status_code < _LEAST_REFUSAL
        if not response.is_closed:
            self._answers.append((asyncio.get_running_loop(), response))

    def failed(self, error: BaseException) -> None:
        """Note whether the request has reached anybody."""
        if http_clients.was_never_sent(error):
            self.taken = False

    def hang_up(self) -> None:
        """Stop providers that are still answering; from any thread, also while a task is cancelled."""
        answers, self._answers = self._answers, []
        for loop, response in answers:
            if not response.is_closed:
                with suppress(RuntimeError):  # the loop has ended, and its connections with it
                    loop.call_soon_threadsafe(_begin_closing, response)


def _begin_closing(response: Any) -> None:
    task = asyncio.get_running_loop().create_task(_close(response))
    _closing.add(task)
    task.add_done_callback(_closing.discard)


async def _close(response: Any) -> None:
    with suppress(Exception):  # of a connection that is broken already
        await response.aclose()


@cache
def see_clients() -> None:
    """Let connections see what is sent, whichever client sends it."""
    http_clients.observe(_sending)


def _sending(_request: Any) -> Connections | None:
    connections = None if running_loop() is None else _current.get()  # only there can an answer be closed
    if connections is not None:
        connections.taken = True  # until somebody says no
    return connections
