"""Where a step stands: its account, what is charged around it, and what the stages around it allow."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import Any

from steptrack_callbacks.concurrency import forks
from steptrack_callbacks.concurrency.flow import run_sync
from steptrack_callbacks.engine import lease
from steptrack_callbacks.engine.account import Account
from steptrack_callbacks.engine.budget_binding import BudgetBinding, new_budgets, run_account
from steptrack_callbacks.engine.step_ref import StepRef
from steptrack_callbacks.ledgers import current
from steptrack_callbacks.ledgers.client import LedgerClient
from steptrack_callbacks.values.definitions import PersonaDefinition, StepDefinition

from .registry import named_budgets
from .tool_policy import ToolPolicy

_numbers = itertools.count(1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Placement:
    """The place of a step that has begun.

    Attributes:
        account: What is charged.
        ledger: Where its record goes, beside this process's memory; `None` if nowhere.
        bindings: The budgets that hang on this very step.
        around: Those and the ones of the steps around it, innermost first.
        personas: The personas that it is in, outermost first, itself among them if it is one.
        policy: The tools that may run in it.
    """

    account: Account
    ledger: LedgerClient | None
    bindings: tuple[BudgetBinding, ...]
    around: tuple[BudgetBinding, ...]
    personas: tuple[Any, ...]
    policy: ToolPolicy


def place(step: Any, *, within: Placement | None, run_id: str | None) -> Placement:
    """Open the account of a step that begins.

    Args:
        step: The step; what is declared of it is completed.
        within: Where the step around it stands, if there is one.
        run_id: The name that it gives to its run, if it does.

    Raises:
        ValueError: One of its budgets is attached to an enclosing step with other limits.
        LedgerError: The ledger that its budgets or its `run_id` need cannot be asked.
    """
    definition: StepDefinition = step.definition
    around = within.around if within else ()
    new = new_budgets(named_budgets(definition.budgets), around) if definition.budgets else []
    ledger = within.ledger if within else None
    if new or run_id is not None or (within is None and current.is_chosen()):
        ledger = current.ledger()
    personas = within.personas if within else ()
    if step.kind == "persona":
        personas = (*personas, step)
    account = _account_for(_new_ref(step, within, run_id, personas), definition, ledger, run_id)
    policy = within.policy if within else ToolPolicy()
    if personas:
        policy = _narrowed(policy, account, [each for each in personas if each is not step])
    bindings: tuple[BudgetBinding, ...] = ()
    if new:
        assert ledger is not None  # who has budgets needs it
        bindings = tuple([BudgetBinding(budget, account, definition, ledger) for budget in new])
    return Placement(
        account=account,
        ledger=ledger,
        bindings=bindings,
        around=(*bindings, *around),
        personas=personas,
        policy=policy,
    )


def _new_ref(step: Any, within: Placement | None, run_id: str | None, personas: tuple[Any, ...]) -> StepRef:
    definition: StepDefinition = step.definition
    step_id, outer = f"{forks.process_name}-{next(_numbers)}", within.account.ref if within else None
    return StepRef(
        name=definition.name,
        path=f"{outer.path}/{definition.name}" if outer else definition.name,
        step_id=step_id,
        run_id=run_id or (outer.run_id if outer else step_id),
        function=definition.function,
        persona=personas[-1].name if personas else None,
        error_boundary=definition.error_boundary,
        of_hook=outer.of_hook if outer else step.kind == "hook",
    )


def _account_for(
    ref: StepRef, definition: StepDefinition, ledger: LedgerClient | None, run_id: str | None
) -> Account:
    if run_id is None:
        return Account(ref, definition)
    assert ledger is not None  # who names a run needs it
    account = run_account(ref, definition, ledger)
    run_sync(lease.look([account]))
    account.resumed = account.settled.usage()
    return account


def _narrowed(policy: ToolPolicy, account: Account, personas: list[Any]) -> ToolPolicy:
    """Narrow what is allowed by the stages of this name of all personas around it."""
    for persona in personas:
        if not isinstance(persona.definition, PersonaDefinition):
            continue
        for stage in persona.definition.stages:
            if stage.name == account.ref.name:
                persona.stages_met.add(stage.name)
                policy = policy.narrowed(stage)
                if stage.max_iterations is not None:
                    account.cap_calls(stage.max_iterations)
    return policy
