"""Where a step stands: its account, the accounts around it, and what it has from the steps around."""

from __future__ import annotations

import itertools
from collections.abc import Collection
from typing import Any

from steptrack_callbacks.concurrency.flow import run_sync
from steptrack_callbacks.concurrency.forks import process_name
from steptrack_callbacks.engine import budget_binding, lease
from steptrack_callbacks.engine.account import Account
from steptrack_callbacks.engine.budget_account import BudgetAccount
from steptrack_callbacks.engine.budget_binding import BudgetBinding, checked_run_id, new_budgets, run_account
from steptrack_callbacks.engine.chain import AccountChain
from steptrack_callbacks.engine.step_ref import StepRef
from steptrack_callbacks.ledgers import current
from steptrack_callbacks.ledgers.client import LedgerClient
from steptrack_callbacks.values.budgets import BudgetDefinition
from steptrack_callbacks.values.definitions import PersonaDefinition, StepDefinition
from steptrack_callbacks.values.records import Kind
from steptrack_callbacks.values.usage import Usage

from .registry import completed, named_budgets
from .tool_policy import ToolPolicy

_numbers = itertools.count(1)
_NO_ACCOUNTS = AccountChain(())
_NEVER = float("inf")


class Placed:
    """A step among the steps around it; see `Activation`.

    Attributes:
        said: The options that the code gives, though some may be as by default: no file overrules them.
    """

    said: Collection[str] = ()

    def __init__(
        self, definition: StepDefinition, *, kind: Kind, parent: Placed | None, run_id: str | None
    ) -> None:
        self.definition = definition
        self.kind: Kind = kind
        self.parent = parent
        self.policy = ToolPolicy()
        self._run_id = None if run_id is None else checked_run_id(run_id)
        self._account: Account | None = None
        self._accounts = _NO_ACCOUNTS
        self._accounts_until = _NEVER
        self._ledger: LedgerClient | None = None
        self._bindings: tuple[BudgetBinding, ...] = ()
        self._bindings_around: tuple[BudgetBinding, ...] = ()
        self._personas: tuple[Any, ...] = ()
        self._stages_met: set[str] = set()

    @property
    def name(self) -> str:
        """Its name."""
        return self.definition.name

    @property
    def id(self) -> str:
        """Unique to this activation; empty before it begins."""
        return self._account.ref.step_id or "" if self._account else ""

    @property
    def run_id(self) -> str:
        """Shared by all steps under one outermost step; empty before it begins."""
        return self._account.ref.run_id if self._account else self._run_id or ""

    @property
    def path(self) -> str:
        """Names from the outermost step to this one, joined with `/`."""
        return self._account.ref.path if self._account else self.name

    @property
    def usage(self) -> Usage:
        """What was charged to it and to the steps inside it."""
        return self._account.settled.usage() if self._account else Usage()

    @property
    def own_usage(self) -> Usage:
        """What was charged to it, and not to a step inside it."""
        return self._account.own.usage() if self._account else Usage()

    @property
    def account(self) -> Account:
        """What is charged; there is one from the beginning of the step."""
        if self._account is None:
            raise RuntimeError(f"step {self.name!r} has not begun: use it with `with`, or as a decorator")
        return self._account

    @property
    def accounts(self) -> AccountChain:
        """What a call in this step is charged to now, innermost first."""
        if self._accounts_until is not _NEVER and budget_binding.clock() >= self._accounts_until:
            self._gather_accounts()  # the window of a budget is over
        return self._accounts

    @property
    def budgets(self) -> list[BudgetAccount]:
        """The accounts of the budgets that hang on this very step."""
        return [binding.account() for binding in self._bindings] if self._bindings else []

    def _open_account(self) -> Account:
        self.definition = completed(self.definition, self.said)
        parent = self.parent
        own = (self,) if self.kind == "persona" else ()
        self._personas = (*(parent._personas if parent else ()), *own)  # noqa: SLF001
        around = parent._bindings_around if parent else ()  # noqa: SLF001
        budgets = self.definition.budgets
        new = new_budgets(named_budgets(budgets), around) if budgets else []
        self._ledger = self._ledger_for(parent, new)
        self._account = self._account_for(self._new_ref(parent))
        self.policy = parent.policy if parent else self.policy
        if self._personas:
            self._apply_stages(self._account)
        self._bind_budgets(new)
        return self._account

    def _new_ref(self, parent: Placed | None) -> StepRef:
        step_id, name = f"{process_name()}-{next(_numbers)}", self.definition.name
        return StepRef(
            name=name,
            path=f"{parent.path}/{name}" if parent else name,
            step_id=step_id,
            run_id=self._run_id or (parent.run_id if parent else step_id),
            function=self.definition.function,
            persona=self._personas[-1].name if self._personas else None,
            error_boundary=self.definition.error_boundary,
        )

    def _ledger_for(self, parent: Placed | None, new: list[BudgetDefinition]) -> LedgerClient | None:
        """Return the ledger in force if it needs one, else the one of the step around, for its record."""
        if new or self._run_id is not None or (parent is None and current.is_chosen()):
            return current.ledger()
        return parent._ledger if parent else None  # noqa: SLF001

    def _account_for(self, ref: StepRef) -> Account:
        if self._run_id is None:
            return Account(ref, self.definition)
        assert self._ledger is not None  # who names a run needs it
        account = run_account(ref, self.definition, self._ledger)
        run_sync(lease.look([account]))
        account.resumed = account.settled.usage()
        return account

    def _apply_stages(self, account: Account) -> None:
        """Narrow the policy by the stages of this name of all personas around it."""
        for persona in self._personas:
            if persona is self or not isinstance(persona.definition, PersonaDefinition):
                continue
            for stage in persona.definition.stages:
                if stage.name == self.name:
                    persona._stages_met.add(stage.name)  # noqa: SLF001
                    self.policy = self.policy.narrowed(stage)
                    if stage.max_iterations is not None:
                        account.cap_calls(stage.max_iterations)

    def _bind_budgets(self, new: list[BudgetDefinition]) -> None:
        around = self.parent._bindings_around if self.parent else ()  # noqa: SLF001
        if new:
            assert self._ledger is not None  # who has budgets needs it
            ledger, step_account = self._ledger, self.account
            self._bindings = tuple(
                BudgetBinding(budget, step_account, self.definition, ledger) for budget in new
            )
        self._bindings_around = (*self._bindings, *around)
        self._gather_accounts()

    def _gather_accounts(self) -> None:
        around = self.parent.accounts if self.parent else _NO_ACCOUNTS
        if self._bindings:
            budgets = [binding.account() for binding in self._bindings]
            self._accounts = AccountChain((self.account, *budgets, *around))
        else:
            self._accounts = around.with_inner(self.account)
        if self._bindings_around:
            self._accounts_until = min(binding.ends_at for binding in self._bindings_around)
