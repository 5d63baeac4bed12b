"""What the proxy's answers say of usage and cost: objects of LiteLLM's, and Anthropic's plain tables."""

from __future__ import annotations

from typing import Any

from steptrack_callbacks.engine.call import Call
from steptrack_callbacks.integrations.usage import read_usage
from steptrack_callbacks.litellm import charging
from steptrack_callbacks.litellm.call_types import Kind
from steptrack_callbacks.litellm.charging import meter_for
from steptrack_callbacks.values.untrusted import field


def settle(call: Call, kind: Kind, answer: Any, *, cost: Any = None, from_cache: bool = False) -> None:
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
    else:
        charging.settle(call, kind, answer, cost)


def says_usage(answer: Any, earlier: Any) -> bool:
    """Tell whether an answer is worth keeping beside an earlier one: a translation may drop the usage."""
    return earlier is None or read_usage(field(answer, "usage")) is not None


__all__ = ("WholeEvents", "meter_for", "says_usage", "settle")

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
