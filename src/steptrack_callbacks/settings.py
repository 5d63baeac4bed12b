"""What the package was told: one frozen value, checked whole before it counts, and swapped whole.

Each part of the package reads here what it is told, and knows how to check it. Whoever tells several parts
at once, as `install` does, lets all of them check before the new value takes the place of the old one.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Any, Literal

from .values.budgets import BudgetDefinition
from .values.definitions import Escalation, PersonaDefinition, SideEffectLevel, StepDefinition
from .values.tools import ToolCost

OnStoreError = Literal["refuse", "allow"]
OnIntegrationChange = Literal["refuse", "warn", "raise"]
Path = tuple[str, ...]

_NOTHING: Mapping[Any, Any] = MappingProxyType({})


@dataclass(frozen=True, slots=True, kw_only=True)
class LedgerSettings:
    """What was said of the ledger; `None` where nothing was.

    Attributes:
        ledger: A URL or a store.
        on_store_error: What becomes of calls while it is away.
        lease_s: Seconds after which the reservations of a dead process come back.
        timeout_s: Seconds that a trip to it may take, unless its URL says so.
    """

    ledger: object = None
    on_store_error: OnStoreError | None = None
    lease_s: float | None = None
    timeout_s: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class FileSettings:
    """What a file of limits says of steps, personas and budgets, by name.

    Attributes:
        source: The file, as it was named; empty if there is none.
        steps, personas, budgets: What it declares.
    """

    source: str = ""
    steps: Mapping[str, StepDefinition] = field(default_factory=lambda: _NOTHING)
    personas: Mapping[str, PersonaDefinition] = field(default_factory=lambda: _NOTHING)
    budgets: Mapping[str, BudgetDefinition] = field(default_factory=lambda: _NOTHING)


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """All that was said, by code and by a file.

    Attributes:
        prices: The user's own, by model, as entries of a price table.
        tools: What tools do to the world, by name.
        tool_usd: What one use of a tool costs, by name.
        escalation: Whom to ask where a step escalates and names nobody.
        steps: Limits that code declares by the name of a step.
        nodes: Limits of nodes of graphs, by path.
        file: What a file says.
        ledger: What was said of the ledger.
        proxy: The address of a proxy that keeps budgets too: scheme, host with port, and path.
        on_integration_change: What becomes of a package that is not as it was known.
        threads: Whether threads and jobs of pools begin in the steps of whoever starts or submits them.
        names_runs: Whether the names of runs of frameworks can open steps, since such were declared.
    """

    prices: Mapping[str, Mapping[str, Any]] = field(default_factory=lambda: _NOTHING)
    tools: Mapping[str, SideEffectLevel] = field(default_factory=lambda: _NOTHING)
    tool_usd: Mapping[str, ToolCost] = field(default_factory=lambda: _NOTHING)
    escalation: Escalation | None = None
    steps: Mapping[str, StepDefinition] = field(default_factory=lambda: _NOTHING)
    nodes: Mapping[Path, StepDefinition] = field(default_factory=lambda: _NOTHING)
    file: FileSettings = FileSettings()
    ledger: LedgerSettings = LedgerSettings()
    proxy: tuple[str, str, str] | None = None
    on_integration_change: OnIntegrationChange = "refuse"
    threads: bool = True
    names_runs: bool = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "names_runs", bool(self.steps or self.nodes or self.file.steps))


now = Settings()
"""What counts. It is replaced as a whole, so it is always read as `settings.now`."""


def put_in_force(settings: Settings) -> None:
    """Let these settings count from now on, and no others."""
    global now
    now = settings


def change(**changes: Any) -> None:
    """Let some of them be otherwise from now on; the caller has checked them."""
    put_in_force(replace(now, **changes))


def reset() -> None:
    """Forget all that was said."""
    put_in_force(Settings())
