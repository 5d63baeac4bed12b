"""Providers of a user's own for LiteLLM, in all forms, on top of the provider on loopback."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from typing import Any

import httpx
import litellm
from litellm import CustomLLM, ModelResponse
from litellm.types.utils import GenericStreamingChunk

from provider import Provider

MODEL = "mine/model"
RATES = {"input_cost_per_token": 2.5e-6, "output_cost_per_token": 1e-5}  # those of gpt-4o


class ByHTTP(CustomLLM):
    """Sends by a client that nobody knows."""

    def __init__(self, provider: Provider) -> None:
        super().__init__()
        self.url = provider.url

    def _ask(self) -> ModelResponse:
        body = {"model": "gpt-4o", "messages": [{"role": "user", "content": "hello"}]}
        answer = httpx.post(f"{self.url}/chat/completions", json=body)
        if answer.is_error:
            raise litellm.InternalServerError(answer.text, "mine", MODEL)
        return ModelResponse(**answer.json())

    def completion(self, *args: Any, **kwargs: Any) -> Any:
        return self._ask()

    async def acompletion(self, *args: Any, **kwargs: Any) -> Any:
        return self._ask()

    def streaming(self, *args: Any, **kwargs: Any) -> Iterator[GenericStreamingChunk]:
        answer = self._ask()
        words = answer.choices[0].message.content.split(" ")[1:]
        yield from (_chunk(f" {word}") for word in words)
        yield _chunk("", answer.usage)

    async def astreaming(self, *args: Any, **kwargs: Any) -> AsyncIterator[GenericStreamingChunk]:
        for chunk in self.streaming():
            yield chunk


class ThroughLiteLLM(CustomLLM):
    """Answers through LiteLLM in its turn, as the example in LiteLLM's own documentation does.

    Attributes:
        requests_each: How many requests it sends for one answer.
    """

    requests_each = 1

    def __init__(self, provider: Provider) -> None:
        super().__init__()
        self._options: dict[str, Any] = {
            "model": "openai/gpt-4o",
            "messages": [{"role": "user", "content": "hello"}],
            "api_base": provider.url,
            "api_key": "none",
            "max_retries": 0,
        }

    def completion(self, *args: Any, **kwargs: Any) -> Any:
        return [litellm.completion(**self._options) for _ in range(self.requests_each)][-1]

    async def acompletion(self, *args: Any, **kwargs: Any) -> Any:
        return [await litellm.acompletion(**self._options) for _ in range(self.requests_each)][-1]

    def streaming(self, *args: Any, **kwargs: Any) -> Iterator[GenericStreamingChunk]:
        begun = [litellm.completion(stream=True, **self._options) for _ in range(self.requests_each)]
        for chunk in begun[-1]:
            yield _chunk(chunk.choices[0].delta.content or "")
        yield _chunk("", True)

    async def astreaming(self, *args: Any, **kwargs: Any) -> AsyncIterator[GenericStreamingChunk]:
        begun = [await litellm.acompletion(stream=True, **self._options) for _ in range(self.requests_each)]
        async for chunk in begun[-1]:
            yield _chunk(chunk.choices[0].delta.content or "")
        yield _chunk("", True)


class TellsLiteLLM(ByHTTP):
    """Says to LiteLLM's logging when it sends, as LiteLLM's own providers do."""

    def completion(self, *args: Any, **kwargs: Any) -> Any:
        kwargs["logging_obj"].pre_call(input=kwargs["messages"], api_key="none")
        return self._ask()

    async def acompletion(self, *args: Any, **kwargs: Any) -> Any:
        return self.completion(*args, **kwargs)

    def streaming(self, *args: Any, **kwargs: Any) -> Iterator[GenericStreamingChunk]:
        kwargs["logging_obj"].pre_call(input=kwargs["messages"], api_key="none")
        yield from super().streaming()

    async def astreaming(self, *args: Any, **kwargs: Any) -> AsyncIterator[GenericStreamingChunk]:
        for chunk in self.streaming(*args, **kwargs):
            yield chunk


KINDS: tuple[type[CustomLLM], ...] = (ByHTTP, ThroughLiteLLM, TellsLiteLLM)


@contextmanager
def registered(custom: CustomLLM) -> Iterator[None]:
    """Make a provider known to LiteLLM as `mine`, while it lasts."""
    litellm.custom_provider_map = [{"provider": "mine", "custom_handler": custom}]
    try:
        yield
    finally:
        litellm.custom_provider_map = []


def _chunk(text: str, end: Any = None) -> GenericStreamingChunk:
    """Make a chunk; the last one has the usage, if that is known."""
    usage = {name: getattr(end, name) for name in COUNTS} if hasattr(end, COUNTS[0]) else None
    return {
        "text": text,
        "is_finished": end is not None,
        "finish_reason": "stop" if end is not None else "",
        "index": 0,
        "tool_use": None,
        "usage": usage,
    }


COUNTS = ("prompt_tokens", "completion_tokens", "total_tokens")
