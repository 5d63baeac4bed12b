"""The tools that a request offers to a model, less those that its stage does not allow."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from steptrack_callbacks.steps.tool_policy import ToolPolicy
from steptrack_callbacks.values.errors import ToolDenied

_FORCED = ("required", "any")
ANY_TOOL = ToolPolicy()
"""What is allowed where no stage says anything."""


def narrow(data: dict[str, Any], policy: ToolPolicy, path: str) -> None:
    """Take tools that are not allowed out of a request.

    Raises:
        ToolDenied: The request wants the model to use one of them.
    """
    if policy == ANY_TOOL:
        return
    _refuse_choice(data, policy, path)
    for field in ("tools", "functions"):
        offered = data.get(field)
        if offered is None:
            continue
        kept = (
            offered if isinstance(offered, list) else ()
        )  # what is not a list offers nothing that is allowed
        data[field] = [tool for tool in kept if policy.allows(tool_name(tool))]
        if not data[field]:
            _drop(data, field)
    beside = data.get("extra_body")  # LiteLLM sends what is in it as if it stood in the request
    if isinstance(beside, dict):
        narrow(beside, policy, path)


def tool_name(tool: Any) -> str:
    """Name a tool as any of the APIs spells it; a built-in one is called by its type."""
    if not isinstance(tool, Mapping):
        return str(tool)
    function = tool.get("function")
    named = function.get("name") if isinstance(function, Mapping) else function
    return str(named or tool.get("name") or tool.get("server_label") or tool.get("type"))


def _refuse_choice(data: Mapping[str, Any], policy: ToolPolicy, path: str) -> None:
    for field in ("tool_choice", "function_call"):
        choice = data.get(field)
        if isinstance(choice, Mapping) and choice.get("type") in (*_FORCED, "auto", "none", "allowed_tools"):
            choice = choice.get("type")
        if isinstance(choice, Mapping):
            _refuse(tool_name(choice), policy, path)
        elif choice in _FORCED:
            tools = data.get("tools")
            offered = [tool_name(tool) for tool in tools] if isinstance(tools, list) else []
            if offered and not any(policy.allows(name) for name in offered):
                _refuse(offered[0], policy, path)


def _refuse(tool: str, policy: ToolPolicy, path: str) -> None:
    if (objection := policy.objection(tool)) is not None:
        raise ToolDenied(tool=tool, path=path, why=objection)


def _drop(data: dict[str, Any], field: str) -> None:
    """Take an empty offer out, and what is said about it: providers refuse an empty list."""
    del data[field]
    for about in ("tool_choice", "parallel_tool_calls") if field == "tools" else ("function_call",):
        data.pop(about, None)
