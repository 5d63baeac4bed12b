"""How each kind of call is charged with its answer, whole or as a stream."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from steptrack_callbacks.engine.call import Call
from steptrack_callbacks.integrations import stream_pacing
from steptrack_callbacks.integrations.stated_cost import usd_in
from steptrack_callbacks.integrations.usage import read_usage
from steptrack_callbacks.values.untrusted import field
from steptrack_callbacks.values.usage import Usage

from . import background, usage
from .call_types import CALL_TYPES, Kind
from .google import GoogleMeter, settle_google
from .messages import MessageMeter, settle_message
from .streams import Meter, kept_by


def settle(call: Call, kind: Kind, answer: Any, cost: Any = None) -> None:
    """Charge a call with its complete answer.

    Args:
        call: The call.
        kind: What sort of call it is.
        answer: What LiteLLM has returned.
        cost: What LiteLLM says beside the answer that it cost.
    """
    if not CALL_TYPES[kind].answers_in_words:
        settle_per_item(call, answer, cost)
    elif kind == "google":
        settle_google(call, answer)
    elif isinstance(answer, Mapping):
        settle_message(call, answer)
    elif background.is_response(answer) and background.keep(call, answer):
        return
    else:
        usage.settle(call, answer, cost)
    stream_pacing.tighten(call)


def settle_per_item(call: Call, answer: Any, cost: Any = None) -> None:
    """Charge a call that is billed per item: what LiteLLM states, else what its price list says.

    Args:
        call: The call.
        answer: What LiteLLM has returned.
        cost: What LiteLLM says beside it that it cost.
    """
    hidden = field(answer, "_hidden_params")
    if field(hidden, "cache_hit") and not call.attempts:
        call.settle_free()
        return
    used = read_usage(field(answer, "usage")) or Usage()
    stated = usd_in(cost) or usd_in(field(hidden, "response_cost"))
    call.settle(used, cost_usd=stated, response=answer)


def meter_for(call: Call, kind: Kind, stream: Any, *, is_mock: bool = False) -> Meter:
    """Return what looks at a stream of that kind.

    Args:
        call: Its call.
        kind: What was asked for.
        stream: What LiteLLM has returned.
        is_mock: Whether LiteLLM makes the answer up itself: what it counts is then what the provider says.
    """
    if kind == "messages":
        return MessageMeter(call)
    if kind == "google":
        return GoogleMeter(call)
    return MockMeter(call) if is_mock else Meter(call, kept_by(stream))


class MockMeter(Meter):
    """A meter of what LiteLLM makes up itself: there is no provider that would know better."""

    def __init__(self, call: Call) -> None:
        super().__init__(call, None)

    def finish(self) -> None:
        """Charge it with what LiteLLM has shown as its usage, else with what was counted here."""
        if not self._seen.has_usage:
            counted = self.call.request.estimated_usage(self.output_tokens)
            told = {"prompt_tokens": counted.input_tokens, "completion_tokens": counted.output_tokens}
            usage.read(self._seen, {"usage": told})
        super().finish()
