"""Everything that a caller may want to handle.

```
StepTrackError(RuntimeError)
  BudgetExhausted          a step has no budget left
    BudgetEscalated        the same, and nobody granted more
  UnpricedModel            a dollar limit applies and the model's price is unknown
  ToolDenied               the current stage does not allow this tool
  StepDenied               a hook refused it, or too many steps are open
  LedgerError              the store of shared budgets cannot be reached, or is not ours
UserWarning
  UnknownCostWarning       a dollar limit does not include this call
  LostStepWarning          a call found no step though steps are open elsewhere
  EarlyImportWarning       a function was imported by name before `install()`
  IntegrationChangedWarning  a package that this one attaches to has changed
```

The base is `RuntimeError`, because graph frameworks retry most other exceptions by default.
"""

from __future__ import annotations

from .base_error import StepTrackError
from .exhaustion import Breach, BudgetEscalated, BudgetExhausted, Phase

__all__ = (
    "Breach",
    "BudgetEscalated",
    "BudgetExhausted",
    "EarlyImportWarning",
    "IntegrationChangedWarning",
    "LedgerError",
    "LostStepWarning",
    "Phase",
    "StepDenied",
    "StepTrackError",
    "ToolDenied",
    "UnknownCostWarning",
    "UnpricedModel",
)


class UnpricedModel(StepTrackError):
    """A dollar limit applies and the model's price is unknown, so nothing was sent.

    Attributes:
        model: The model's name, as it was asked for.
        step: Name of the step whose `max_usd` cannot be enforced.
        path: Its path, outermost first.
        lacks: The missing rate if the others are known, such as `output_usd_per_mtok`; else empty.
        budget: The name of the shared budget that sets the `max_usd`, or `None` if the step does.
        by_second: Whether it is priced by time, which is not known before the call has ended.
        cure: The remedy, if it is something other than giving a price; else empty.
    """

    _fields = ("model", "step", "path", "lacks", "budget", "by_second", "cure")

    def __init__(
        self,
        *,
        model: str,
        step: str,
        path: str,
        lacks: str = "",
        budget: str | None = None,
        by_second: bool = False,
        cure: str = "",
    ) -> None:
        self.model = model
        self.step = step
        self.path = path
        self.lacks = lacks
        self.budget = budget
        self.by_second = by_second
        self.cure = cure
        super().__init__(f"{self.trouble}: {self._advice()}")

    def _advice(self) -> str:
        if self.by_second:
            spend = (
                "" if self.budget else ", or say unpriced='warn' on the step to charge calls when they end"
            )
            return f"limit it by max_calls or max_seconds instead{spend}"
        rates = "'input_usd_per_mtok': ..., 'output_usd_per_mtok': ..."
        allowing = "" if self.budget else ", or say unpriced='warn' or 'free' on the step"
        return f"{self.cure or f'give it with install(prices={{{self.model!r}: {{{rates}}}}})'}{allowing}"

    @property
    def trouble(self) -> str:
        """What is wrong, without what to do about it."""
        limited = f"step {self.path!r}" if self.budget is None else f"budget {self.budget!r}"
        if self.by_second:
            return (
                f"{limited} has a max_usd, but model {self.model!r} is priced by the second, which cannot be"
                " budgeted before a call is sent"
            )
        unknown = f"has no {self.lacks}" if self.lacks else "is unknown"
        return f"{limited} has a max_usd, but the price of model {self.model!r} {unknown}"


class ToolDenied(StepTrackError):
    """The current stage does not allow this tool.

    Attributes:
        tool: The tool's name.
        path: The path of the step whose policy denies it.
        why: Which rule denies it, and what that rule allows.
    """

    _fields = ("tool", "path", "why")

    def __init__(self, *, tool: str, path: str, why: str) -> None:
        self.tool = tool
        self.path = path
        self.why = why
        super().__init__(f"tool {tool!r} is not allowed in step {path!r}: {why}")


class StepDenied(StepTrackError):
    """A step may not begin or continue: a hook refused it, or, on the proxy, a key has too many steps open.

    Raise it in a hook on `StepStarted` to keep a step from starting.

    Attributes:
        why: The reason, for the record and the caller.
    """

    _fields = ("why",)

    def __init__(self, why: str) -> None:
        self.why = why
        super().__init__(why)


class LedgerError(StepTrackError):
    """The store that keeps shared budgets failed; `__cause__` is the driver's own error.

    Attributes:
        ledger: The store's URL, without a password.
        why: What failed, and what to do about it.
        is_late: Whether it only took too long, so that a retry may succeed.
    """

    _fields = ("ledger", "why")
    is_late = False

    def __init__(self, *, ledger: str, why: str) -> None:
        self.ledger = ledger
        self.why = why
        super().__init__(f"ledger {ledger}: {why}")


class UnknownCostWarning(UserWarning):
    """A dollar limit does not include this call: its price is unknown."""


class LostStepWarning(UserWarning):
    """A call has no step in its context though steps are open elsewhere, or nothing is attached."""


class EarlyImportWarning(UserWarning):
    """A function was imported by name before `install()`, so its calls are controlled less strictly."""


class IntegrationChangedWarning(UserWarning):
    """A package that this one attaches to has changed: what is no longer covered, and what to do."""


# A traceback names them by where users import them from.
for _error in (
    StepTrackError,
    BudgetExhausted,
    BudgetEscalated,
    UnpricedModel,
    ToolDenied,
    StepDenied,
    LedgerError,
):
    _error.__module__ = "steptrack_callbacks"
