"""Answers of Anthropic's own API, whole and as a stream of its events."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

from steptrack_callbacks.engine.call import Call
from steptrack_callbacks.integrations import settling
from steptrack_callbacks.integrations.usage import Reading
from steptrack_callbacks.values.untrusted import fields_of, items

from . import usage as answers
from .streams import Meter


def settle_message(call: Call, answer: Mapping[str, Any]) -> None:
    """Charge a call with its complete answer."""
    reading = Reading()
    reading.add(answer)
    told = answers.answer_of(reading, call.request)
    settling.settle(call, told, lambda: _text_of(answer), response=answer)


def _text_of(message: Mapping[str, Any]) -> str:
    return "".join(_text(fields_of(part), "text") for part in items(message.get("content")))


def _text(holder: Any, *names: str) -> str:
    found = (holder.get(name) for name in names) if isinstance(holder, Mapping) else ()
    return "".join(text for text in found if isinstance(text, str))


class MessageMeter(Meter):
    """A meter for Anthropic's streams, which the proxy hands on as bytes."""

    def __init__(self, call: Call) -> None:
        super().__init__(call, None)
        self._rest = b""

    def see(self, chunk: Any) -> None:
        """Look at a piece of the stream, which may end within an event."""
        for event in self._events(chunk):
            text = _text(event.get("delta"), "text", "partial_json", "thinking")
            if text:
                self._count(text)
            self._seen.add(event)

    def _events(self, chunk: Any) -> Iterator[dict[str, Any]]:
        if isinstance(chunk, Mapping):
            yield dict(chunk)
            return
        self._rest += chunk if isinstance(chunk, bytes) else str(chunk).encode()
        *lines, self._rest = self._rest.split(b"\n")
        for line in lines:
            if line.startswith(b"data:"):
                try:
                    event = json.loads(line[5:])
                except ValueError:
                    continue
                if isinstance(event, dict):
                    yield event
