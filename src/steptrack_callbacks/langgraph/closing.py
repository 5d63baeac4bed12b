"""An agent that ends early: providers take its history only if each tool call in it has an answer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from langchain_core.messages import AIMessage, AnyMessage, ToolMessage

NOT_RUN = "not run: budget"


def not_run(call: Mapping[str, Any]) -> ToolMessage:
    """Answer a model's call of a tool that is not run."""
    return ToolMessage(NOT_RUN, name=call["name"], tool_call_id=call["id"], status="error")


def unanswered(messages: Sequence[AnyMessage]) -> list[ToolMessage]:
    """Answer the last calls of tools that have no answer yet: no provider takes a history with such."""
    answered = {message.tool_call_id for message in messages if isinstance(message, ToolMessage)}
    last = next((message for message in reversed(messages) if isinstance(message, AIMessage)), None)
    calls = [] if last is None else last.tool_calls
    return [not_run(call) for call in calls if call["id"] not in answered]
