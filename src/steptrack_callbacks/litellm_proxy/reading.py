"""What the proxy's answers say of usage and cost: objects of LiteLLM's, and Anthropic's plain tables."""

from __future__ import annotations

from typing import Any

from steptrack_callbacks.integrations.usage import read_usage
from steptrack_callbacks.litellm.charging import meter_for
from steptrack_callbacks.values.untrusted import field


def says_usage(answer: Any, earlier: Any) -> bool:
    """Tell whether an answer is worth keeping beside an earlier one: a translation may drop the usage."""
    return earlier is None or read_usage(field(answer, "usage")) is not None


__all__ = ("WholeEvents", "meter_for", "says_usage")

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
