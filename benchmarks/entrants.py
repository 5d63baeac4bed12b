"""The list of all who are measured, by the names that workers are started with."""

from __future__ import annotations

from contestants.agentguard import AgentGuard
from contestants.contestant import Contestant
from contestants.floe_guard import FloeGuard, FloeGuardCallback
from contestants.frameworks import DoesNothing, MaxBudget, Nothing, OpenAICallback, UsageHandler
from contestants.ours import Ours, OursDeep, OursStrict, OursWaiting
from contestants.shekel import Shekel
from contestants.small import AgentBudget, AgentBudgetGuard, Burnmap, CostTracker, TokenCap

ALL: dict[str, type[Contestant]] = {
    kind.__name__: kind
    for kind in (
        Nothing,
        DoesNothing,
        UsageHandler,
        OpenAICallback,
        MaxBudget,
        Ours,
        OursDeep,
        OursWaiting,
        OursStrict,
        FloeGuard,
        FloeGuardCallback,
        Shekel,
        AgentGuard,
        AgentBudget,
        TokenCap,
        AgentBudgetGuard,
        CostTracker,
        Burnmap,
    )
}
PACKAGES = sorted({kind.package for kind in ALL.values() if kind.package})
