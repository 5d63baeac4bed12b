"""Giving a chat model's request a `max_tokens`: of the last call of a budget, or where `strict` needs one.

LangChain tells handlers what it is about to send, and takes nothing back. The keyword arguments that it sends
stand in the frame of the method that asks us, as a dict that it unpacks right afterwards.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from itertools import islice
from typing import Any, NamedTuple

from steptrack_callbacks.engine.call import Call
from steptrack_callbacks.integrations.needs import needs_whole_answer
from steptrack_callbacks.integrations.seams_langchain import SENDS, SENDS_ASYNC

from .frames import code_of, frames

_sending = frozenset(code for seam in (SENDS, SENDS_ASYNC) if (code := code_of(seam)) is not None)
_CAPS = ("max_tokens", "max_output_tokens")
_FRAMES = 16
"""How far above a handler the method stands, at most."""


class Sending(NamedTuple):
    """What a model is about to be sent with.

    Attributes:
        options: Its keyword arguments, which can still be changed.
        cap: The one that limits an answer's tokens.
    """

    options: dict[str, Any]
    cap: str

    def describe(self, call: Call, params: Mapping[str, Any]) -> None:
        """Let a call know that it may be given a `max_tokens`."""
        call.request.can_clamp = True
        call.request.needs_whole_answer = needs_whole_answer(params)

    def limit(self, call: Call) -> None:
        """Set the `max_tokens` that an admitted call was given, if it was given one."""
        if (most := call.max_tokens_to_set) is not None:
            self.options[self.cap] = most


def sending() -> Sending | None:
    """Find what the chat model that starts here will send; `None` if it cannot be changed."""
    for frame in islice(frames(), _FRAMES) if _sending else ():
        if frame.f_code in _sending:
            found = frame.f_locals
            model: Any = type(found.get("self"))
            cap, options = _cap_of(model), found.get("kwargs")
            return Sending(options, cap) if cap and isinstance(options, dict) else None
    return None


@cache
def _cap_of(model: type) -> str:
    """Name the option that limits the tokens of a model's answers; empty if it has none that is known."""
    fields: Mapping[str, Any] = getattr(model, "model_fields", {})
    known = {*fields, *(field.alias for field in fields.values())}
    return next((cap for cap in _CAPS if cap in known), "")
