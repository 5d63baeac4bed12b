"""What of a step a ledger keeps: the account of its run, and the budgets that hang on it."""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from dataclasses import replace

from steptrack_callbacks.ledgers.budget import budget_key
from steptrack_callbacks.ledgers.client import LedgerClient
from steptrack_callbacks.values.budgets import BudgetDefinition
from steptrack_callbacks.values.definitions import StepDefinition
from steptrack_callbacks.values.limits import check_kept

from .account import Account
from .budget_account import BudgetAccount
from .step_ref import StepRef

clock = time.time


class BudgetBinding:
    """One budget as it hangs on a step: an account, and another one when its window is over.

    Attributes:
        budget: The budget.
    """

    __slots__ = ("_account", "_definition", "_ledger", "_step_account", "budget")

    def __init__(
        self,
        budget: BudgetDefinition,
        step_account: Account,
        definition: StepDefinition,
        ledger: LedgerClient,
    ) -> None:
        self.budget = budget
        self._step_account = step_account
        self._ledger = ledger
        self._definition = replace(
            definition,
            max_usd=budget.max_usd,
            max_tokens=budget.max_tokens,
            max_calls=budget.max_calls,
            max_seconds=None,
            wrap_up_usd=None,
            wrap_up_calls=None,
            enforce=budget.enforce,
            budgets=(),
        )
        self._account = self._open()
        ledger.connect()

    def account(self) -> BudgetAccount:
        """Return the account of the window that is running; a clock that is set back opens no old one."""
        if self.is_over(clock()):
            self._account = self._open()
        return self._account

    @property
    def ends_at(self) -> float:
        """When its window is over, in seconds since the epoch; infinity without one."""
        window = self._account.window
        return float("inf") if window is None else window.ends_at.timestamp()

    def is_over(self, now: float) -> bool:
        """Tell whether its window is over."""
        return now >= self.ends_at

    def _open(self) -> BudgetAccount:
        window = self.budget.window_at(clock())
        return BudgetAccount(
            self._step_account.ref,
            self._definition,
            budget_key(self.budget, window),
            self._ledger,
            budget=self.budget,
            window=window,
            step_account=self._step_account,
        )


def run_account(ref: StepRef, definition: StepDefinition, ledger: LedgerClient) -> BudgetAccount:
    """Return the account of a run that has a name, which goes on at what the run has spent already."""
    return BudgetAccount(ref, definition, run_key(ref.name, ref.run_id), ledger)


def run_key(name: str, run_id: str) -> str:
    """Name the account of a run in a ledger: by what is before the next colon, and what is behind it."""
    return f"run:{name.replace('%', '%25').replace(':', '%3A')}:{run_id}"


def checked_run_id(run_id: object, name: str) -> str:
    """Return the id of a run, under which a ledger keeps it together with the name of its outermost step.

    Raises:
        ValueError: It is not an id, since of an empty one nothing would be found again, or cannot be kept.
    """
    if not isinstance(run_id, str) or not run_id.strip():
        raise ValueError(
            f"run_id must be a non-empty string, or None for a run without a name, not {run_id!r}"
        )
    check_kept(run_id, "run_id")
    check_kept(name, "the name of a step with a run_id,")
    return run_id


def new_budgets(
    budgets: Iterable[BudgetDefinition], around: Sequence[BudgetBinding]
) -> list[BudgetDefinition]:
    """Leave out what hangs on a step around already.

    Raises:
        ValueError: A budget of the same name hangs there with other limits.
    """
    known = {binding.budget.name: binding.budget for binding in around}
    for budget in budgets:
        if known.get(budget.name, budget) != budget:
            raise ValueError(
                f"budget {budget.name!r} is attached to an enclosing step with other limits: one name is one"
                " budget"
            )
    return [budget for budget in budgets if budget.name not in known]
