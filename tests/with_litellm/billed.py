"""One call of each kind that LiteLLM bills besides words, against the provider on loopback."""

from __future__ import annotations

import asyncio
import importlib
import io
from dataclasses import dataclass, field
from typing import Any

import litellm
from calling import ASK

import provider_media
from provider import Provider


@dataclass(frozen=True)
class Billed:
    """A sync entry point and its async twin, with what they are asked.

    Attributes:
        place: The module in which users find it.
        name: Its sync name there.
        options: What it is asked.
        usd: What one call costs, as a string; `None` if nobody knows.
        root: Whether the provider's address has no `/v1`.
    """

    name: str
    options: dict[str, Any]
    usd: str | None
    place: str = "litellm"
    root: bool = False
    modes: tuple[str, ...] = field(default=("", "a"))

    def function(self, mode: str) -> Any:
        return getattr(module(self.place), mode + self.name)

    def arguments(self, provider: Provider, **more: Any) -> dict[str, Any]:
        url = provider.url.removesuffix("/v1") if self.root else provider.url
        options = {key: value() if callable(value) else value for key, value in self.options.items()}
        return {"api_base": url, "api_key": "none"} | options | more

    def call(self, provider: Provider, mode: str = "", **more: Any) -> Any:
        if mode:
            return self.run(self.acall(provider, **more))
        return self.function("")(**self.arguments(provider, **more))

    async def acall(self, provider: Provider, **more: Any) -> Any:
        return await self.function("a")(**self.arguments(provider, **more))

    @staticmethod
    def run(coroutine: Any) -> Any:
        async def inside() -> Any:
            try:
                return await coroutine
            finally:
                await litellm.close_litellm_async_clients()
                litellm.in_memory_llm_clients_cache.flush_cache()

        return asyncio.run(inside())


def module(path: str) -> Any:
    place: Any = litellm
    for name in path.split(".")[1:]:
        place = getattr(place, name, None) or importlib.import_module(path)
    return place


def _wav() -> Any:
    file = io.BytesIO(provider_media.recording(2.0))
    file.name = "a.wav"
    return file


def _picture() -> Any:
    return io.BytesIO(b"a picture")


_URL = {"type": "document_url", "document_url": "https://example.com/a.pdf"}

BILLED: dict[str, Billed] = {
    "image": Billed("image_generation", {"prompt": "a cat", "model": "openai/gpt-image-1"}, "0.1669"),
    "image edit": Billed(
        "image_edit", {"image": _picture, "prompt": "x", "model": "openai/gpt-image-1"}, "0.1669"
    ),
    "image variation": Billed("image_variation", {"image": _picture, "model": "openai/pictures"}, None),
    "moderation": Billed("moderation", {"input": "hello", "model": "omni-moderation-latest"}, "0"),
    "speech": Billed(
        "speech", {"model": "openai/tts-1", "input": "hello there", "voice": "alloy"}, "0.00015"
    ),
    "transcription": Billed("transcription", {"model": "openai/whisper-1", "file": _wav}, "0.0002"),
    "rerank": Billed("rerank", {"model": "cohere/rerank-v3.5", "query": "q", "documents": ["one"]}, "0.002"),
    "rerank of one's own": Billed(
        "rerank", {"model": "hosted_vllm/ranker", "query": "q", "documents": ["one"]}, None
    ),
    "ocr": Billed("ocr", {"model": "mistral/mistral-ocr-latest", "document": _URL}, "0.012"),
    "video": Billed("video_generation", {"prompt": "x", "model": "openai/sora-2"}, "0.4"),
    "messages": Billed(
        "create",
        {"model": "anthropic/claude-sonnet-4-5", "max_tokens": 1000, "messages": ASK},
        "0.0033",
        place="litellm.anthropic.messages",
        root=True,
        modes=("a",),  # LiteLLM itself says that its sync function is not implemented
    ),
    "messages of another": Billed(
        "create",
        {"model": "openai/gpt-4o", "max_tokens": 1000, "messages": ASK},
        "0.00225",
        place="litellm.anthropic.messages",
    ),
    "contents": Billed(
        "generate_content",
        {"model": "openai/gpt-4o", "contents": [{"role": "user", "parts": [{"text": "hello"}]}]},
        "0.00225",
        place="litellm.google_genai",
    ),
    "chat with retries": Billed(
        "completion_with_retries", {"model": "openai/gpt-4o", "messages": ASK}, "0.00225"
    ),
}
WAYS = [(name, mode) for name, billed in BILLED.items() for mode in billed.modes]
IDS = [f"{name}{', async' * bool(mode)}" for name, mode in WAYS]
