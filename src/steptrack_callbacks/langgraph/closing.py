"""An agent that ends early: providers take its history only if each tool call in it has an answer.

It may get one more turn for its last word, which is paid from what is kept back.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from langchain.agents.structured_output import ProviderStrategy, ToolStrategy
from langchain_core.messages import AIMessage, AnyMessage, HumanMessage, ToolMessage

NOT_RUN = "not run: budget"
LAST_TURN = (
    "The budget is used up, and this is the last turn. No tool can be called any more: answer now with what"
    " has been found so far, and say what is missing."
)

NOTHING_SAID = "Stopped: the budget is used up, and nothing was said of what had been found."

_NONE = {"anthropic": {"type": "none"}, "amazon_bedrock": None}
"""How a provider is told to call no tool, where it is not by the word; `None` where it cannot be told."""


def not_run(call: Mapping[str, Any]) -> ToolMessage:
    """Answer a model's call of a tool that is not run."""
    return ToolMessage(NOT_RUN, name=call["name"], tool_call_id=call["id"], status="error")


def unanswered(messages: Sequence[AnyMessage]) -> list[ToolMessage]:
    """Answer the last calls of tools that have no answer yet: no provider takes a history with such."""
    answered: set[str] = set()  # since the last answer of the model: some providers use their ids again
    for message in reversed(messages):
        if isinstance(message, AIMessage):
            return [not_run(call) for call in message.tool_calls if call["id"] not in answered]
        if isinstance(message, ToolMessage):
            answered.add(message.tool_call_id)
    return []


def last_turn(request: Any) -> Any:
    """Make the request of an agent's last turn: its tools are kept for its history, and none is to be called.

    Whoever has to give structured output is still made to: where that is a tool, it is the only one left.
    """
    messages = [*request.messages, *unanswered(request.messages), HumanMessage(LAST_TURN)]
    request = request.override(messages=messages)
    if not request.tools:
        return request
    if isinstance(request.response_format, ToolStrategy):
        return request.override(tools=[])
    choice = _NONE.get(_provider_of(request.model), "none")
    if request.response_format is not None:
        if choice is None or not _is_structured_by_provider(request):
            return request
        return request.override(model_settings={**request.model_settings, "tool_choice": choice})
    if choice is not None:
        return request.override(tool_choice=choice)
    return request if _has_tool_blocks(request.messages) else request.override(tools=[], tool_choice=None)


def closed(messages: Sequence[AnyMessage]) -> list[AnyMessage]:
    """Return what a last turn leaves in the history, though the model has called tools nevertheless."""
    pending = unanswered(messages)
    said = next((message.text for message in reversed(messages) if message.text), "")
    return [*messages, *pending, AIMessage(said or NOTHING_SAID)] if pending else [*messages]


def _has_tool_blocks(messages: Sequence[AnyMessage]) -> bool:
    return any(
        isinstance(message, ToolMessage) or getattr(message, "tool_calls", None) for message in messages
    )


def _is_structured_by_provider(request: Any) -> bool:
    """Tell whether structured output is known to be asked of the provider, and not as a tool."""
    if isinstance(request.response_format, ProviderStrategy):
        return True
    profile = getattr(request.model, "profile", None) or {}
    # Gemini's older models have no structured output beside tools.
    return bool(profile.get("structured_output")) and "google" not in _provider_of(request.model)


def _provider_of(model: Any) -> str:
    describe = getattr(model, "_get_ls_params", None)
    return str((describe() if describe is not None else {}).get("ls_provider", ""))
