"""Which tools may run: a ceiling that stages can only lower."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, get_args

from steptrack_callbacks import settings
from steptrack_callbacks.concurrency.lock import LOCK
from steptrack_callbacks.settings import Settings
from steptrack_callbacks.values.definitions import SideEffectLevel, Stage
from steptrack_callbacks.values.limits import check_key, check_mapping
from steptrack_callbacks.values.tools import ToolLimit, checked_cost

LEVELS: tuple[SideEffectLevel, ...] = get_args(SideEffectLevel)
UNKNOWN_LEVEL: SideEffectLevel = "network"
ToolSaid = SideEffectLevel | Mapping[str, Any]
"""What is said of a tool: its side effects, or those and what its use costs."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ToolPolicy:
    """What the stages in force allow together.

    Attributes:
        allowed_tools: The only tools that may run; `None` for any, empty for none.
        side_effect_level: The strongest side effect that may happen; `None` for any.
    """

    allowed_tools: frozenset[str] | None = None
    side_effect_level: SideEffectLevel | None = None

    def narrowed(self, stage: Stage) -> ToolPolicy:
        """Return this policy and the stage's together: never more than either allows."""
        tools = self.allowed_tools
        if stage.allowed_tools is not None:
            own = frozenset(stage.allowed_tools)
            tools = own if tools is None else tools & own
        levels = [level for level in (self.side_effect_level, stage.side_effect_level) if level is not None]
        return ToolPolicy(allowed_tools=tools, side_effect_level=min(levels, key=LEVELS.index, default=None))

    def objection(self, tool: str, side_effect_level: SideEffectLevel | None = None) -> str | None:
        """Say why a tool may not run, or `None` if it may.

        Args:
            tool: The tool's name.
            side_effect_level: What it does to the world; `None` takes the registered level, and an
                unregistered tool counts as `network`.

        Raises:
            ValueError: The level is not one of the five.
        """
        level = side_effect_level or settings.now.tools.get(tool, UNKNOWN_LEVEL)
        if level not in LEVELS:
            raise ValueError(f"side_effect_level must be one of {', '.join(LEVELS)}, not {level!r}")
        if self.allowed_tools is not None and tool not in self.allowed_tools:
            return f"allowed are {', '.join(sorted(self.allowed_tools)) or 'none'}"
        if self.side_effect_level is not None and LEVELS.index(level) > LEVELS.index(self.side_effect_level):
            return f"its side effects are {level!r}, and the ceiling is {self.side_effect_level!r}"
        return None

    def allows(self, tool: str, side_effect_level: SideEffectLevel | None = None) -> bool:
        """Tell whether a tool may run."""
        return self.objection(tool, side_effect_level) is None


def objection_to_use(step: Any, tool: str, within: Any = None) -> str | None:
    """Count the use of a tool in a step and in all around it; say why not if one of them has no more.

    Args:
        step: The step.
        tool: The tool's name.
        within: Another step that the tool runs in, with all around that; `None` if there is none.
    """
    around = _with_those_around(step, within)
    with LOCK:
        for each in around:
            if (why := _too_many(each, tool)) is not None:
                return why
        _count(step, around, tool, 1)
    return None


def take_back_use(step: Any, tool: str, within: Any = None) -> None:
    """Count the use of a tool no more that `objection_to_use` has counted: it was refused, and never ran."""
    with LOCK:
        _count(step, _with_those_around(step, within), tool, -1)


def _with_those_around(*steps: Any) -> list[Any]:
    """Return steps and all around them, each once."""
    around: list[Any] = []
    for step in steps:
        while step is not None and step not in around:
            around.append(step)
            step = step.parent  # noqa: PLW2901 - outwards
    return around


def _count(step: Any, around: list[Any], tool: str, uses: int) -> None:
    for each in around:
        name = _counted_as(each, tool)
        each.tool_uses[name] = each.tool_uses.get(name, 0) + uses
    step.tool_calls += uses


def _too_many(step: Any, tool: str) -> str | None:
    """Say why a tool may not be used once more under a step's `max_tool_calls`, or `None` if it may."""
    limit: ToolLimit | None = step.definition.max_tool_calls
    most = limit.get(tool) if isinstance(limit, Mapping) else limit
    if most is None or step.tool_uses.get(_counted_as(step, tool), 0) < most:
        return None
    whose = f" of {tool!r}" if isinstance(limit, Mapping) else ""
    return f"max_tool_calls{whose} in step {step.path!r} is {most}, and none is left"


def _counted_as(step: Any, tool: str) -> str:
    """Return what uses of a tool are counted under: its name, or nothing where all count together."""
    return tool if isinstance(step.definition.max_tool_calls, Mapping) else ""


def with_tools(before: Settings, tools: Mapping[str, ToolSaid]) -> Settings:
    """Return settings that also say what these tools do to the world, and what their use costs.

    Args:
        before: What counts otherwise.
        tools: By name: a level, or a mapping of `side_effect_level` and `usd`.

    Raises:
        ValueError: Something is malformed; the message says what.
    """
    check_mapping(tools, "tools", "{'search': 'network'}")
    levels, costs = dict(before.tools), dict(before.tool_usd)
    for tool, said in tools.items():
        check_key(tool, "tools: a tool", "search")
        told: Mapping[str, Any] = said if isinstance(said, Mapping) else {"side_effect_level": said}
        if unknown := set(told) - {"side_effect_level", "usd"}:
            raise ValueError(
                f"tool {tool!r} has no {', '.join(sorted(unknown))}; use side_effect_level and usd"
            )
        if "side_effect_level" in told:
            levels[tool] = _checked_level(tool, told["side_effect_level"])
        if "usd" in told:
            costs[tool] = checked_cost(told["usd"], f"tool {tool!r}: usd")
    return replace(before, tools=levels, tool_usd=costs)


def _checked_level(tool: str, level: Any) -> SideEffectLevel:
    if level not in LEVELS:
        cost = "" if isinstance(level, str) else "; what a use costs is said as {'usd': 0.01}"
        raise ValueError(f"tool {tool!r}: its level must be one of {', '.join(LEVELS)}, not {level!r}{cost}")
    return level  # type: ignore[no-any-return]
