"""What the proxy's answers say of usage and cost: objects of LiteLLM's, and Anthropic's plain tables."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from steptrack_callbacks.engine.call import Call
from steptrack_callbacks.integrations.usage import read_usage
from steptrack_callbacks.litellm import usage as answers
from steptrack_callbacks.litellm.messages import MessageMeter, settle_message
from steptrack_callbacks.litellm.streams import Meter, kept_by
from steptrack_callbacks.values.untrusted import field, fields_of

from .requests import ProxyKind


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
        settle_message(call, answer)
    else:
        answers.settle(call, answer)


def says_usage(answer: Any, earlier: Any) -> bool:
    """Tell whether an answer is worth keeping beside an earlier one: a translation may drop the usage."""
    return earlier is None or read_usage(field(answer, "usage")) is not None


def _settle_apart(call: Call, answer: Any, cost: Any) -> None:
    """Charge a call that reserved nothing what its answer states."""
    hidden = fields_of(field(answer, "_hidden_params"))
    if hidden.get("cache_hit") and not call.attempts:
        call.settle_free()
        return
    call.request.price = None  # it was admitted for nothing; an unknown price is not nothing
    answers.settle_unseen(call, answer, cost)


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
    return MessageMeter(call) if kind == "messages" else Meter(call, kept_by(stream))
