"""What lies under a stream of LiteLLM's, and how it is closed, so that the provider stops."""

from __future__ import annotations

import asyncio
import inspect
from contextlib import suppress
from typing import Any

_INNER = ("litellm_custom_stream_wrapper", "completion_stream", "streaming_response", "response")

_closing: set[asyncio.Task[None]] = set()
"""What is closed in the background: an event loop itself does not keep its tasks."""


def layers_of(stream: Any) -> list[Any]:
    """List a stream and what lies under it: LiteLLM's own, the client's, the HTTP response."""
    layers = [stream]
    while (inner := _inner(layers[-1])) is not None and len(layers) < len(_INNER) * 2:
        layers.append(inner)
    return layers


def _inner(layer: Any) -> Any:
    frame = getattr(layer, "ag_frame", None)
    if frame is not None:  # async text completion hides its stream in a generator
        return frame.f_locals.get("response")
    found = (getattr(layer, name, None) for name in _INNER)
    return next((inner for inner in found if inner is not None), None)


def hang_up(stream: Any) -> None:
    """Close the connection under a stream, so that the provider stops."""
    _close(layers_of(stream))


async def hang_up_async(stream: Any) -> None:
    """Do as `hang_up`, where an async connection can be awaited."""
    await _aclose(layers_of(stream))


def hang_up_soon(stream: Any, loop: asyncio.AbstractEventLoop | None) -> None:
    """Close the connection under a stream that is collected, as asyncio does: soon, on its own loop."""
    layers = layers_of(stream)  # before the outer ones, when closed, let go of those inside
    _close(layers)
    if loop is not None and loop.is_running():
        loop.call_soon_threadsafe(_begin_closing, layers)


def _begin_closing(layers: list[Any]) -> None:
    task = asyncio.get_running_loop().create_task(_aclose(layers))
    _closing.add(task)
    task.add_done_callback(_closing.discard)


def _close(layers: list[Any]) -> None:
    for layer in layers:
        close = getattr(layer, "close", None)
        if close is not None and not inspect.iscoroutinefunction(close):
            with suppress(Exception):  # an async connection says here that it cannot
                close()


async def _aclose(layers: list[Any]) -> None:
    for layer in layers:
        close = getattr(layer, "aclose", None) or getattr(layer, "close", None)
        with suppress(Exception):
            closing = close() if close is not None else None
            if inspect.isawaitable(closing):
                await closing
