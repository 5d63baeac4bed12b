"""Which tools may run: a ceiling that stages can only lower."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import get_args

from steptrack_callbacks import settings
from steptrack_callbacks.settings import Settings
from steptrack_callbacks.values.definitions import SideEffectLevel, Stage

LEVELS: tuple[SideEffectLevel, ...] = get_args(SideEffectLevel)
UNKNOWN_LEVEL: SideEffectLevel = "network"


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
        level = side_effect_level or settings.in_force().tools.get(tool, UNKNOWN_LEVEL)
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


def with_tools(before: Settings, levels: Mapping[str, SideEffectLevel]) -> Settings:
    """Return settings that also say what these tools do to the world, for those who do not say it themselves.

    Raises:
        ValueError: A level is not one of the five.
    """
    for tool, level in levels.items():
        if level not in LEVELS:
            raise ValueError(f"tool {tool!r}: its level must be one of {', '.join(LEVELS)}, not {level!r}")
    return replace(before, tools={**before.tools, **levels})
