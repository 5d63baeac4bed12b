"""What the proxy's answers say of usage and cost: objects of LiteLLM's, and Anthropic's plain tables."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

from steptrack_callbacks.engine.call import Call
from steptrack_callbacks.litellm import usage as answers
from steptrack_callbacks.litellm.streams import Meter
from steptrack_callbacks.values.usage import MOST_TOKENS, Usage

from .requests import ProxyKind

_UNGATED = Usage(ungated_calls=1)


def settle(call: Call, kind: ProxyKind, answer: Any, *, cost: Any = None, from_cache: bool = False) -> None:
    """Charge a call with its complete answer.

    Args:
        call: The call.
        kind: What sort of call it is.
        answer: What LiteLLM has returned.
        cost: What LiteLLM says that it cost, beside the answer; `None` if it says nothing there.
        from_cache: Whether LiteLLM says, beside the answer, that it comes from its cache.
    """
    if from_cache:
        call.settle_free()
    elif kind == "other":
        _settle_apart(call, answer, cost)
    elif isinstance(answer, Mapping):
        _settle_message(call, answer)
    else:
        answers.settle(call, answer)


def says_usage(answer: Any, earlier: Any) -> bool:
    """Tell whether an answer is worth keeping beside an earlier one: a translation may drop the usage."""
    return earlier is None or _usage_of(answer) is not None


def _usage_of(answer: Any) -> Usage | None:
    if isinstance(answer, Mapping):
        return message_usage(answer.get("usage"))
    return answers.usage_of(getattr(answer, "usage", None))


def _settle_apart(call: Call, answer: Any, cost: Any) -> None:
    """Charge a call that reserved nothing what its answer states."""
    found = getattr(answer, "_hidden_params", None)
    hidden = found if isinstance(found, Mapping) else {}
    if hidden.get("cache_hit") and not call.attempts:
        call.settle_free()
        return
    stated = answers.stated_cost(cost) or answers.stated_cost(hidden.get("response_cost"))
    call.request.price = None  # it was admitted for nothing; an unknown price is not nothing
    usage = answers.usage_of(getattr(answer, "usage", None)) or Usage()
    call.settle(usage.replace(ungated_calls=1), cost_usd=stated)


def _settle_message(call: Call, answer: Mapping[str, Any]) -> None:
    usage = message_usage(answer.get("usage"))
    parts = answer.get("content")
    said = [_text(part, "text") for part in parts] if isinstance(parts, list) else []
    used, is_whole = answers.completed(usage, "".join(said), call.request)
    truncated = answer.get("stop_reason") == "max_tokens"
    call.settle(used, estimated=not is_whole, truncated=truncated, response=answer)


def message_usage(reported: Any) -> Usage | None:
    """Translate Anthropic's own usage, whose input leaves out what was read from or written to a cache."""
    if not isinstance(reported, Mapping):
        return None
    counts = {name: _count(reported.get(name)) for name in _MESSAGE_COUNTS}
    if not any(counts.values()):
        return None
    creation = reported.get("cache_creation")
    kept_long = _count(creation.get("ephemeral_1h_input_tokens")) if isinstance(creation, Mapping) else 0
    read, written = counts["cache_read_input_tokens"], counts["cache_creation_input_tokens"]
    return Usage(
        input_tokens=counts["input_tokens"] + read + written,
        output_tokens=counts["output_tokens"],
        cache_read_tokens=read,
        cache_write_tokens=written,
        cache_write_1h_tokens=kept_long,
    )


_MESSAGE_COUNTS = ("input_tokens", "output_tokens", "cache_read_input_tokens", "cache_creation_input_tokens")


def _count(value: Any) -> int:
    return value if type(value) is int and 0 < value <= MOST_TOKENS else 0


def _text(holder: Any, *names: str) -> str:
    found = (holder.get(name) for name in names) if isinstance(holder, Mapping) else ()
    return "".join(text for text in found if isinstance(text, str))


class MessageMeter(Meter):
    """A meter for Anthropic's streams, which the proxy hands on as bytes."""

    def __init__(self, call: Call) -> None:
        super().__init__(call, None)
        self._rest = b""
        self._reported: dict[str, Any] = {}

    def see(self, chunk: Any) -> None:
        """Look at a piece of the stream, which may end within an event."""
        for event in self._events(chunk):
            delta, message = event.get("delta"), event.get("message")
            text = _text(delta, "text", "partial_json", "thinking")
            if text:
                self._texts.append(text)
                self._count(text)
            usage = event.get("usage") or (message.get("usage") if isinstance(message, Mapping) else None)
            if isinstance(usage, Mapping):
                self._reported |= {name: value for name, value in usage.items() if value}
                self._usage = message_usage(self._reported)
            self._truncated = self._truncated or _text(delta, "stop_reason") == "max_tokens"

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


_GAPS = (b"\n\n", b"\r\n\r\n")  # between the events of a stream


class WholeEvents:
    """Holds back the piece of an event that ends a chunk of bytes, lest an error frame comes in its midst.

    Attributes:
        rest: What is held back.
    """

    def __init__(self) -> None:
        self.rest = b""

    def of(self, chunk: Any) -> Any:
        """Return what may be passed on by now; objects are whole."""
        if not isinstance(chunk, bytes):
            return chunk
        held = self.rest + chunk
        end = max(held.rfind(gap) + len(gap) if gap in held else 0 for gap in _GAPS)
        self.rest = held[end:]
        return held[:end]


def meter_for(call: Call, kind: ProxyKind, stream: Any) -> Meter:
    """Return what counts a stream of that kind."""
    return MessageMeter(call) if kind == "messages" else Meter(call, stream)
