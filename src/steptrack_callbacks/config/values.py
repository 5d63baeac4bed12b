"""What a file says, as values of the package."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from steptrack_callbacks.values.budgets import BudgetDefinition
from steptrack_callbacks.values.definitions import PersonaDefinition, StepDefinition

from .problems import Problem

Scope = Literal["all", "key"]


@dataclass(frozen=True, slots=True, kw_only=True)
class LedgerOptions:
    """The table `[ledger]`.

    Attributes:
        url: Where shared budgets and records are kept; `None` if the file does not say it, and the rest
            is then said of the ledger that code or `STEPTRACK_LEDGER` names.
        on_store_error: What happens to calls under a shared budget while it cannot be reached; `None`
            leaves it at what it is by default.
        lease_s: Seconds after which reservations of a dead process come back; `None` likewise.
        timeout_s: Seconds that one trip may take, unless the URL says it; `None` likewise.
    """

    url: str | None = None
    on_store_error: Literal["refuse", "allow"] | None = None
    lease_s: float | None = None
    timeout_s: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ProxyOptions:
    """The table `[proxy]`.

    Attributes:
        budgets: Names of the budgets that every request is charged to.
        max_open_steps: Most steps that one key may have open; `None` leaves it at the default.
        step_ttl_s: Seconds after its beginning until a step ends by itself; `None` likewise.
    """

    budgets: tuple[str, ...] = ()
    max_open_steps: int | None = None
    step_ttl_s: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """All that a file says, by name.

    Attributes:
        source: The file, as it was named.
        steps: What is declared of steps; the budgets that hang on each are in its `budgets`.
        personas: The same of personas, with their stages.
        budgets: The shared budgets.
        scopes: For each budget, whether it is one account for `all`, or one for each `key` that the
            proxy has authenticated.
        step_budgets: Names of the budgets that hang on a step, for steps that have any.
        persona_budgets: The same for personas.
        prices: Rates by model, as `install(prices=...)` takes them.
        tools: Side effect levels and costs by tool, as `install(tools=...)` takes them.
        ledger: The ledger.
        proxy: What the proxy adds; `None` if the file has no such table.
        warnings: What is allowed, and probably not meant.
    """

    source: str
    steps: Mapping[str, StepDefinition] = field(default_factory=dict)
    personas: Mapping[str, PersonaDefinition] = field(default_factory=dict)
    budgets: Mapping[str, BudgetDefinition] = field(default_factory=dict)
    scopes: Mapping[str, Scope] = field(default_factory=dict)
    step_budgets: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    persona_budgets: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    prices: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    tools: Mapping[str, Any] = field(default_factory=dict)
    ledger: LedgerOptions = LedgerOptions()
    proxy: ProxyOptions | None = None
    warnings: tuple[Problem, ...] = ()
