"""Calls of LiteLLM's entry points, answered by its own mocks, or else by our provider on loopback."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Collection, Iterator
from functools import cache, partial
from importlib import import_module
from typing import Any

from .probes import Probe, Result, read

_ANSWER = "hello to you"
_ASK = [{"role": "user", "content": "hello"}]
_MOCK = {"mock_response": _ANSWER}

# What each entry point is asked, by the name that users write.

_CHAT: dict[str, Any] = {"model": "gpt-4o-mini", "messages": _ASK, **_MOCK}
_RESPONSES: dict[str, Any] = {"model": "gpt-4o-mini", "input": "hello", **_MOCK}
_MESSAGES: dict[str, Any] = {**_CHAT, "model": "claude-sonnet-4-5", "max_tokens": 9}
_PARTS = [{"role": "user", "parts": [{"text": "hello"}]}]
_CONTENTS: dict[str, Any] = {"model": "gemini/gemini-2.5-flash", "contents": _PARTS, **_MOCK}
_STREAMS: dict[str, dict[str, Any]] = {
    "litellm.completion": _CHAT,
    "litellm.text_completion": {"model": "gpt-3.5-turbo-instruct", "prompt": "hello", **_MOCK},
    "litellm.responses": _RESPONSES,
}
_WHOLE: dict[str, dict[str, Any]] = {
    "litellm.embedding": {"model": "text-embedding-3-small", "input": "hello", "mock_response": [0.5]},
    "litellm.completion_with_retries": _CHAT,
    "litellm.responses_with_retries": _RESPONSES,
    "litellm.anthropic.messages.create": _MESSAGES,
    "litellm.anthropic_messages": _MESSAGES,
    "litellm.google_genai.generate_content": _CONTENTS,
    "litellm.generate_content": _CONTENTS,
    "litellm.interactions.create": {**_RESPONSES, "model": "openai/gpt-4o-mini"},
}
_VIDEO = {"id": "hello", "object": "video", "model": "sora-2", "status": "queued", "created_at": 1}
_PIECES: dict[str, dict[str, Any]] = {
    "litellm.image_generation": {"model": "openai/gpt-image-1", "prompt": "hello", **_MOCK},
    "litellm.video_generation": {"model": "openai/sora-2", "prompt": "hello", "mock_response": _VIDEO},
    "litellm.video_remix": {"video_id": "hello", "prompt": "hello", "mock_response": _VIDEO},
    "litellm.vector_stores.search": {"vector_store_id": "hello", "query": "hello", **_MOCK},
}
"""What is billed by other things than tokens."""

_URL = {"type": "document_url", "document_url": "https://example.com/hello.pdf"}
_SENT: dict[str, dict[str, Any]] = {
    "litellm.speech": {"model": "openai/tts-1", "input": "hello", "voice": "alloy"},
    "litellm.transcription": {"model": "openai/whisper-1", "file": ("hello.mp3", b"hello")},
    "litellm.moderation": {"model": "omni-moderation-latest", "input": "hello"},
    "litellm.rerank": {"model": "cohere/rerank-v3.5", "query": "hello", "documents": ["hello"]},
    "litellm.ocr": {"model": "mistral/mistral-ocr-latest", "document": _URL},
    "litellm.image_edit": {"model": "openai/gpt-image-1", "image": b"hello", "prompt": "hello"},
}
"""What has no mock answers: it is sent to our provider."""

_ROUTER = "litellm.Router.completion"


def of_litellm(url: str | None) -> Iterator[Probe]:
    """List the calls of LiteLLM; those that have no mock answers only if there is a provider for them."""
    sent = {} if url is None else {entry: _at(url, options) for entry, options in _SENT.items()}
    for entry, options in {**_STREAMS, **_WHOLE, **_PIECES, **sent}.items():
        yield from _modes(entry, options)
    yield Probe("litellm", "litellm.batch_completion", "sync", _batch)
    yield from _of_a_router()


def _at(url: str, options: dict[str, Any]) -> dict[str, Any]:
    return {"api_base": url, "api_key": "none", **options}


def not_called(probes: Collection[Probe]) -> Iterator[Result]:
    """List the functions of LiteLLM that are gated and that no probe calls, and look for their gates."""
    from steptrack_callbacks.litellm.call_types import ENTRY_POINTS  # noqa: PLC0415 - needs LiteLLM
    from steptrack_callbacks.litellm.entry_points import is_gated  # noqa: PLC0415 - the same

    called = {probe.entry for probe in probes}
    for point in ENTRY_POINTS:
        entry, twin = (f"{point.place}.{name}" for name in (point.name, point.name.removeprefix("a")))
        function = _found(entry)
        if function is not None and called.isdisjoint((entry, twin)):
            why = "it is billed later" if point.kind in ("job", "batch") else "it has no mock answer"
            wrong = "" if is_gated(function) else "has no gate"
            shown = entry if wrong or _found(twin) is None else twin
            yield Result("litellm", shown, _mode(function), wrong, untried=why)


def _modes(entry: str, options: dict[str, Any]) -> Iterator[Probe]:
    """Call a function and its async twin, as far as there are any."""
    place, _, name = entry.rpartition(".")
    for each in (entry, f"{place}.a{name}"):
        if (function := _found(each)) is not None:
            yield from _ways(entry, _mode(function), partial(_found, each), options)


def _ways(entry: str, mode: str, find: Callable[[], Any], options: dict[str, Any]) -> Iterator[Probe]:
    """Call a function for a whole answer, and for a stream if it has any."""
    in_words = entry not in _PIECES and entry not in _SENT
    yield Probe("litellm", entry, mode, _asking(find, mode, options), in_words)
    if entry in _STREAMS or entry == _ROUTER:
        yield Probe("litellm", entry, f"{mode} stream", _asking(find, mode, {**options, "stream": True}))


def _found(entry: str) -> Any:
    """Find a function by the name that users write; `None` if this LiteLLM lacks it."""
    place: Any = import_module("litellm")
    for name in entry.split(".")[1:]:
        place = getattr(place, name, None)
    return place


def _mode(function: Any) -> str:
    return "async" if inspect.iscoroutinefunction(function) else "sync"


def _asking(find: Callable[[], Any], mode: str, options: dict[str, Any]) -> Callable[[], Any]:
    """Ask a function, and read what it answers."""

    async def awaited() -> None:
        await read(await find()(**options))

    def called() -> None:
        answer = find()(**options)
        if "stream" in options:
            list(answer)

    return awaited if mode == "async" else called


def _batch() -> None:
    for answer in import_module("litellm").batch_completion(**{**_CHAT, "messages": [_ASK]}):
        if isinstance(answer, Exception):  # which it returns, and does not raise
            raise answer


def _of_a_router() -> Iterator[Probe]:
    asked = {"model": "hello", "messages": _ASK}
    deployment = {"model_name": "hello", "litellm_params": {"model": "gpt-4o-mini", **_MOCK}}

    @cache
    def router() -> Any:
        return import_module("litellm").Router(model_list=[deployment], num_retries=0)

    async def on_a_loop() -> None:
        router().completion(**asked)

    yield from _ways(_ROUTER, "sync", lambda: router().completion, asked)
    yield from _ways(_ROUTER, "async", lambda: router().acompletion, asked)
    yield Probe("litellm", _ROUTER, "sync on a loop", on_a_loop)
