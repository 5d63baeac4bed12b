"""Answers of Google's own API, `generateContent`, whole and as a stream."""

from __future__ import annotations

from typing import Any

from steptrack_callbacks.engine.call import Call
from steptrack_callbacks.integrations import settling
from steptrack_callbacks.integrations.usage import Reading
from steptrack_callbacks.values.untrusted import field, fields_of, items

from . import usage as answers
from .messages import MessageMeter


def settle_google(call: Call, answer: Any) -> None:
    """Charge a call with its complete answer."""
    reading = Reading()
    _read(reading, answer)
    hidden = field(answer, "_hidden_params")
    told = answers.answer_of(reading, call.request, computed_cost=field(hidden, "response_cost"))
    settling.settle(call, told, lambda: _text_of(answer), response=answer)


class GoogleMeter(MessageMeter):
    """A meter for streams of Google's, whose pieces are answers, or bytes of their events."""

    def see(self, chunk: Any) -> None:
        """Look at a piece of the stream, which may end within an event."""
        for event in self._events(chunk) if isinstance(chunk, str | bytes) else (chunk,):
            if text := _text_of(event):
                self._count(text)
            _read(self._seen, event)


def _read(reading: Reading, answer: Any) -> None:
    """Read an answer, or a piece of one, which names its parts in either of two ways."""
    fields = fields_of(answer)
    if model := fields.get("model_version") or fields.get("modelVersion"):
        reading.add({"model": model})
    if usage := fields.get("usage_metadata") or fields.get("usageMetadata"):
        reading.add_usage(usage)
    for candidate in map(fields_of, items(fields.get("candidates"))):
        if "MAX_TOKENS" in str(candidate.get("finish_reason") or candidate.get("finishReason")):
            reading.cut()
        reading.add_grounding(candidate.get("grounding_metadata") or candidate.get("groundingMetadata"))


def _text_of(answer: Any) -> str:
    parts = [
        part
        for candidate in items(field(answer, "candidates"))
        for part in items(field(field(candidate, "content"), "parts"))
    ]
    return "".join(text for part in parts if isinstance(text := field(part, "text"), str))
