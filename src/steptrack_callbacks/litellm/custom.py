"""Providers of the user's own (`CustomLLM`): LiteLLM tells nobody of their requests, so we do.

Such a provider may answer through LiteLLM in its turn. What it sends then is the call that it was
asked to answer, and no second one.
"""

from __future__ import annotations

import inspect
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from contextvars import ContextVar, Token
from typing import Any

from steptrack_callbacks.concurrency.contexts import CarriedVariable, carried
from steptrack_callbacks.engine.call import Call
from steptrack_callbacks.engine.request import Request
from steptrack_callbacks.integrations.seams_litellm import CUSTOM_PROVIDERS

from .context_propagation import replace

Announce = Callable[[Any, Any, dict[str, Any]], Call]
"""Takes a request's model, its messages and LiteLLM's account of it, and returns its call."""


def hear(announce: Announce) -> Callable[[], None]:
    """Hear of what these providers send, and return what stops that."""

    def hearing(route: Callable[..., Any]) -> Callable[..., Any]:
        def heard_route(*, async_fn: bool, **kwargs: Any) -> Callable[..., Any]:
            return _heard(route(async_fn=async_fn, **kwargs), announce, is_async=async_fn)

        return heard_route

    return replace(CUSTOM_PROVIDERS, hearing)


def take(request: Request) -> Call | None:
    """Take the call that the provider which runs here was asked to answer, or return `None`.

    Args:
        request: What the provider sends for it.
    """
    asked = _asked.get()
    return None if asked is None else asked.take(request)


def _heard(send: Callable[..., Any], announce: Announce, *, is_async: bool) -> Callable[..., Any]:
    def heard(**kwargs: Any) -> Any:
        details = kwargs["logging_obj"].model_call_details
        asked = _Asked(announce(kwargs.get("model"), kwargs.get("messages"), details))
        with asked:
            answer = send(**kwargs)
        return asked.going_on(answer, is_async=is_async)

    return heard


class _Asked:
    """A call that such a provider was asked to answer; as a context manager, while it works on it.

    The provider may be seen to send something itself: through LiteLLM, or since it says so to
    LiteLLM's logging. If it is not, it is taken to have sent one request.
    """

    def __init__(self, call: Call) -> None:
        self._call = call
        self._attempts_before = call.attempts
        self._is_presumed = self._is_taken = False
        self._outer: Token[_Asked | None]

    def __enter__(self) -> None:
        if self._is_presumed:
            self._call.attempts -= 1
        self._is_presumed = False
        self._outer = _asked.set(self)

    def __exit__(self, *_: object) -> None:
        _asked.reset(self._outer)
        self._is_presumed = self._call.attempts == self._attempts_before
        if self._is_presumed:
            self._call.attempts += 1

    def take(self, request: Request) -> Call | None:
        """Hand the call to what is sent for it, once; or let it give way, if it was not admitted."""
        call = self._call
        if self._is_taken or not call.is_open:
            return None
        self._is_taken = True
        if not call.admitted:
            call.withdraw()
            return None
        if request.is_priced:
            call.request = request
        return call

    def going_on(self, answer: Any, *, is_async: bool) -> Any:
        """Return an answer that is still to come so that it comes while the provider is known to run."""
        if inspect.iscoroutine(answer):
            return self._awaited(answer)
        if is_async and hasattr(answer, "__aiter__"):
            return self._read_async(answer)
        return self._read(answer) if hasattr(answer, "__next__") else answer

    async def _awaited(self, answer: Coroutine[Any, Any, Any]) -> Any:
        with self:
            return await answer

    def _read(self, chunks: Any) -> Iterator[Any]:
        try:
            while True:
                try:
                    with self:
                        chunk = next(chunks)
                except StopIteration:
                    return
                yield chunk
        finally:
            if close := getattr(chunks, "close", None):
                close()

    async def _read_async(self, chunks: Any) -> AsyncIterator[Any]:
        chunks = aiter(chunks)
        try:
            while True:
                try:
                    with self:
                        chunk = await anext(chunks)
                except StopAsyncIteration:
                    return
                yield chunk
        finally:
            if aclose := getattr(chunks, "aclose", None):
                await aclose()


_asked: ContextVar[_Asked | None] = ContextVar("steptrack_litellm_asked", default=None)
carried.append(CarriedVariable(_asked))  # a provider may send from threads of its own
