"""Budgets for the steps of an LLM program.

Every model call is charged once, to the step that it was made in and to all steps around it, and
is refused before it is sent if one of them has no room:

```python
import litellm
import steptrack_callbacks as steptrack
from steptrack_callbacks import step

steptrack.install()
with step("plan", max_usd=0.05) as plan:
    litellm.completion(model="gpt-4o-mini", messages=[{"role": "user", "content": "Plan!"}])
print(plan.cost_usd)
```
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .concurrency.contexts import bind
    from .installation import install, uninstall
    from .ledgers.budget import Budget
    from .reports import report
    from .steps.recording import drain_completed_steps, peek_completed_steps
    from .steps.step import Step, current_step
    from .steps.verbs import (
        aremaining,
        check_tool,
        current_model,
        current_persona,
        current_policy,
        persona,
        record_usage,
        remaining,
        step,
    )
    from .values.definitions import Grant, PersonaDefinition, Stage, StepDefinition
    from .values.errors import (
        BudgetEscalated,
        BudgetExhausted,
        EarlyImportWarning,
        IntegrationChangedWarning,
        LedgerError,
        LostStepWarning,
        StepDenied,
        StepTrackError,
        ToolDenied,
        UnknownCostWarning,
        UnpricedModel,
    )
    from .values.records import CompletedStep
    from .values.usage import Usage

__version__ = "0.1.0"

__all__ = [
    "Budget",
    "BudgetEscalated",
    "BudgetExhausted",
    "CompletedStep",
    "EarlyImportWarning",
    "Grant",
    "IntegrationChangedWarning",
    "LedgerError",
    "LostStepWarning",
    "PersonaDefinition",
    "Stage",
    "Step",
    "StepDefinition",
    "StepDenied",
    "StepTrackError",
    "ToolDenied",
    "UnknownCostWarning",
    "UnpricedModel",
    "Usage",
    "aremaining",
    "bind",
    "check_tool",
    "current_model",
    "current_persona",
    "current_policy",
    "current_step",
    "drain_completed_steps",
    "install",
    "peek_completed_steps",
    "persona",
    "record_usage",
    "remaining",
    "report",
    "step",
    "uninstall",
]

_PARTS = {
    "ledgers.budget": ("Budget",),
    "concurrency.contexts": ("bind",),
    "values.definitions": ("Grant", "PersonaDefinition", "Stage", "StepDefinition"),
    "installation": ("install", "uninstall"),
    "values.errors": (
        "BudgetEscalated",
        "BudgetExhausted",
        "EarlyImportWarning",
        "IntegrationChangedWarning",
        "LedgerError",
        "LostStepWarning",
        "StepDenied",
        "StepTrackError",
        "ToolDenied",
        "UnknownCostWarning",
        "UnpricedModel",
    ),
    "values.records": ("CompletedStep",),
    "steps.verbs": (
        "aremaining",
        "check_tool",
        "current_model",
        "current_persona",
        "current_policy",
        "persona",
        "record_usage",
        "remaining",
        "step",
    ),
    "steps.recording": ("drain_completed_steps", "peek_completed_steps"),
    "steps.step": ("Step", "current_step"),
    "values.usage": ("Usage",),
    "reports": ("report",),
}
_PART_OF = {name: part for part, names in _PARTS.items() for name in names}
_PUBLIC_PARTS = ("hooks", "pricing", "testing")


def __getattr__(name: str) -> Any:
    """Import a part when somebody first asks for what is in it, so that importing the package is free."""
    if name in _PUBLIC_PARTS:
        return import_module(f".{name}", __name__)
    if name not in _PART_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = globals()[name] = getattr(import_module(f".{_PART_OF[name]}", __name__), name)
    return value


def __dir__() -> list[str]:
    return sorted([*__all__, *_PUBLIC_PARTS, *(name for name in globals() if name.startswith("__"))])
