"""Which functions of LiteLLM send what a provider bills: a gate for each, or why it has none.

It is data: a function that the installed LiteLLM lacks is a row that is not found, and a new one is a
new row. The page on LiteLLM says the same in words.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from steptrack_callbacks.engine.request import Operation

Kind = Literal[
    "chat",
    "text",
    "embedding",
    "responses",
    "messages",
    "google",
    "interaction",
    "image",
    "video",
    "moderation",
    "speech",
    "transcription",
    "rerank",
    "ocr",
    "search",
    "decisions",
    "job",
    "batch",
]


@dataclass(frozen=True, slots=True)
class CallType:
    """What calls of one kind have in common.

    Attributes:
        operation: What is asked of the model, in the words of telemetry.
        content: The parameter that holds what is sent; empty if it says nothing of its size.
        cap: The parameter that limits the tokens of an answer; `None` if there is none.
        answers_in_words: Whether it is billed by the tokens that are read and written. What is not is
            billed per item: images, seconds, characters, pages, queries.
        model: The parameter that names the model.
        default_model: What is asked where no model is named.
    """

    operation: Operation
    content: str
    cap: str | None = None
    answers_in_words: bool = False
    model: str = "model"
    default_model: str = ""


CALL_TYPES: dict[Kind, CallType] = {
    "chat": CallType("chat", "messages", "max_tokens", answers_in_words=True),
    "text": CallType("text_completion", "prompt", "max_tokens", answers_in_words=True),
    "embedding": CallType("embeddings", "input", answers_in_words=True),
    "responses": CallType("chat", "input", "max_output_tokens", answers_in_words=True),
    "messages": CallType("chat", "messages", "max_tokens", answers_in_words=True),
    "google": CallType("generate_content", "contents", answers_in_words=True),
    "interaction": CallType("generate_content", "input", answers_in_words=True),
    "image": CallType("image_generation", "prompt"),
    "video": CallType("video_generation", "prompt"),
    "moderation": CallType("moderation", "input", default_model="omni-moderation-latest"),
    "speech": CallType("speech", "input"),
    "transcription": CallType("transcription", ""),
    "rerank": CallType("rerank", "query"),
    "ocr": CallType("ocr", ""),
    "search": CallType("search", "query", model="search_provider"),
    "decisions": CallType("decisions", "input"),
    "job": CallType("batch", ""),
    "batch": CallType("batch", ""),
}


@dataclass(frozen=True, slots=True)
class EntryPoint:
    """A public function that sends what is billed.

    Attributes:
        place: The module in which users find it.
        name: Its name there.
        kind: What sort of call it makes.
        tells: Whether it tells LiteLLM's callbacks what it sends.
    """

    place: str
    name: str
    kind: Kind
    tells: bool = True


_BOTH_MODES: dict[tuple[str, Kind], tuple[str, ...]] = {
    ("litellm", "chat"): ("completion", "completion_with_retries"),
    ("litellm", "text"): ("text_completion",),
    ("litellm", "embedding"): ("embedding",),
    ("litellm", "responses"): ("responses", "responses_with_retries", "compact_responses"),
    ("litellm.anthropic.messages", "messages"): ("create",),
    ("litellm.google_genai", "google"): ("generate_content", "generate_content_stream"),
    ("litellm", "google"): ("generate_content",),
    ("litellm.interactions", "interaction"): ("create",),
    ("litellm", "image"): ("image_generation", "image_edit", "image_variation"),
    ("litellm", "video"): ("video_generation", "video_remix", "video_edit", "video_extension"),
    ("litellm", "moderation"): ("moderation",),
    ("litellm", "speech"): ("speech",),
    ("litellm", "transcription"): ("transcription",),
    ("litellm", "rerank"): ("rerank",),
    ("litellm", "ocr"): ("ocr",),
    ("litellm", "search"): ("search",),
    ("litellm", "decisions"): ("decisions", "systemone", "extraction"),
    ("litellm.vector_stores", "search"): ("search",),
    ("litellm", "job"): ("create_batch", "create_fine_tuning_job"),
    ("litellm", "batch"): ("retrieve_batch",),
}
"""By place and kind: functions that have an async twin, whose name begins with `a`."""

_ONE_MODE: dict[tuple[str, Kind], tuple[str, ...]] = {
    ("litellm", "messages"): ("anthropic_messages", "anthropic_messages_handler"),
}

_TELL_NOBODY = ("moderation",)

UNGATED: dict[str, str] = {
    "run_thread": "an assistant's run says what it has used only when it is asked for later",
    "run_thread_stream": "the same",
    "_arealtime": "a session: it is billed as long as it is open",
    "_aresponses_websocket": "the same",
    "realtime_calls": "the same",
    "realtime_translation_calls": "the same",
    "llm_passthrough_route": "a request in a provider's own words, which LiteLLM only hands on",
    "create_container": "a machine, billed by the hour",
    "create_sandbox": "the same",
    "run_code": "what runs on it",
    "code_interpreter_tool": "the same",
    "upload_container_file": "storage, billed by the day",
    "vector_store_file_create": "the same",
    "create_run": "an evaluation on the provider's side, which says nothing of what it costs",
    "create_agent": "an agent on the provider's side; what it does is billed there",
}
"""Functions that a provider may bill, and that have no gate: with an `a` before them too."""


def _rows() -> Iterator[EntryPoint]:
    for (place, kind), names in _BOTH_MODES.items():
        for name in names:
            yield EntryPoint(place, name, kind, tells=name not in _TELL_NOBODY)
            yield EntryPoint(place, f"a{name}", kind)
    for (place, kind), names in _ONE_MODE.items():
        for name in names:
            yield EntryPoint(place, name, kind)


ENTRY_POINTS: tuple[EntryPoint, ...] = tuple(_rows())

_KINDS: dict[str, Kind] = {
    **{point.name: point.kind for point in ENTRY_POINTS if point.name not in ("create", "acreate")},
    "aanthropic_messages": "messages",
    "create_video": "video",
    "acreate_video": "video",
    "vector_store_search": "search",
    "avector_store_search": "search",
    "create_interaction": "interaction",
    "acreate_interaction": "interaction",
}
_NO_MODEL_CALL = re.compile(
    r"a?(?:(?:get|list|delete|cancel|retrieve|upload)_.*|file_.*|vector_store_.*|video_.*|rag_.*|ingest|query"
    r"|create_(?:file|batch|fine_tuning_job|assistants|thread|container|sandbox|skill|agent|eval)"
    r"|a?_?add_message|.*_(?:skill|container|sandbox|eval|agent)s?|call_mcp_tool|health_check)"
)


ASYNC_NAMES = frozenset(name for name in _KINDS if name.startswith("a") and name[1:] in _KINDS) | {
    "anthropic_messages"
}


def gated_kind(call_type: object) -> Kind | None:
    """Tell the kind of an entry point by the name that LiteLLM has for it; `None` if it has no gate."""
    kind = _KINDS.get(str(call_type))
    return None if kind == "batch" else kind


def kind_named(call_type: object) -> Kind | None:
    """Tell what sort of call LiteLLM speaks of; `None` if it calls no model: files, lists, polling."""
    name = str(getattr(call_type, "value", call_type) or "")
    if name in _KINDS:
        return None if _KINDS[name] in ("job", "batch") else _KINDS[name]
    return None if _NO_MODEL_CALL.fullmatch(name) else "chat"
