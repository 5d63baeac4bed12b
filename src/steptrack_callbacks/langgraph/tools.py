"""Tools as an agent's middleware sees them: which are offered, which may run, what they answer."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

from langchain_core.messages import ToolMessage
from langgraph.types import Command

from steptrack_callbacks.langchain.async_handler import watched
from steptrack_callbacks.steps.step import Step
from steptrack_callbacks.steps.tool_policy import ToolPolicy
from steptrack_callbacks.values.errors import ToolDenied


def offered(request: Any, policy: ToolPolicy) -> Any:
    """Take the tools that a policy does not allow out of a model's request."""
    allowed = [tool for tool in request.tools if policy.allows(_name(tool), _level(tool))]
    if len(allowed) == len(request.tools):
        return request
    names = {_name(tool) for tool in allowed}
    choice = request.tool_choice
    must_use_another = isinstance(choice, str) and choice in {_name(tool) for tool in request.tools} - names
    return request.override(tools=allowed, tool_choice=None if must_use_another else choice)


def check(request: Any, step: Step) -> None:
    """Raise if the policy of a tool's step does not allow it.

    Raises:
        ToolDenied: It does not.
    """
    name = request.tool_call["name"]
    why = step.policy.objection(name, _level(request.tool))
    if why is not None:
        raise ToolDenied(tool=name, path=step.path, why=why)


def own_denial(request: Any, denial: ToolDenied) -> ToolDenied:
    """Return the denial of this very tool; that of another one, which it has called, is raised on.

    Raises:
        ToolDenied: It is of another tool.
    """
    if denial.tool != request.tool_call["name"]:
        raise denial
    return denial


def step_name(request: Any) -> str:
    """Name the step that a tool runs in."""
    return f"tool:{request.tool_call['name']}".replace("/", ".")


def refusal(request: Any, error: BaseException | None) -> ToolMessage:
    """Answer a model's call of a tool with an error."""
    call = request.tool_call
    return ToolMessage(str(error), name=call["name"], tool_call_id=call["id"], status="error")


def saving(result: Any, saved: dict[str, Any]) -> Any:
    """Put beside a tool's result what is to be saved in the graph's state."""
    if not saved:
        return result
    if isinstance(result, ToolMessage):
        return Command(update={"messages": [result], **saved})
    if isinstance(result, Command):
        if result.graph is not None:
            return result  # it leaves the agent, and says what becomes of another graph's state
        if isinstance(result.update, dict | None):
            return replace(result, update={**(result.update or {}), **saved})
    results = result if isinstance(result, list) else [result]
    return [*results, Command(update=saved)]


@contextmanager
def seen(request: Any, *, waiting: bool = False) -> Generator[None]:
    """Let what a tool calls be seen, installed or not, and wait if it may.

    LangGraph keeps hold of the configuration that it made for this call, and takes no other.
    """
    config = request.runtime.config
    before = config.get("callbacks")
    config["callbacks"] = watched(config, waiting=waiting).get("callbacks")
    try:
        yield
    finally:
        config["callbacks"] = before


def _name(tool: Any) -> str:
    if not isinstance(tool, dict):
        return str(tool.name)
    function = tool.get("function")
    named = tool.get("name") or (function.get("name") if isinstance(function, dict) else None)
    return str(named or tool.get("type"))


def _level(tool: Any) -> Any:
    return (getattr(tool, "metadata", None) or {}).get("side_effect_level")
