"""The step of an agent, as calls see it that are made outside of the middleware's own hands.

Those are what hooks of other middlewares call, in nodes of their own, and what is called around the
middleware. They are charged to the agent by their runs; at its limit they leave the node as LangGraph lets
any node say how its graph goes on: with a command.
"""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from typing import Any, Protocol, Self

from langgraph.errors import ParentCommand
from langgraph.types import Command

from steptrack_callbacks.engine.account import Account
from steptrack_callbacks.engine.chain import AccountChain
from steptrack_callbacks.integrations.errors import as_framework_error
from steptrack_callbacks.langchain.refusals import LangChainStep
from steptrack_callbacks.steps.step import Step, current_step, wrapping
from steptrack_callbacks.values.definitions import StepDefinition
from steptrack_callbacks.values.errors import BudgetExhausted, StepTrackError

from . import nodes
from .last_turn import LastTurn
from .run_account import RunAccount
from .spending import Spending

STOPPED = "steptrack_stopped"
"""The key of the state for the last word of an agent that has met its limit, until it is said."""


class Owner(Protocol):
    """Whose step it is: a run of an agent."""

    graphs: set[str]

    last_turn: LastTurn

    def stop_at(self, error: BudgetExhausted) -> BudgetExhausted:
        """Return an exhaustion if the agent goes on from it: to its closing turn, or as its boundary says."""

    def act_on(self, error: BudgetExhausted) -> BudgetExhausted:
        """Do at an exhaustion what the agent's boundary says; returns it if the agent is to go on."""

    def last_word(self, error: BudgetExhausted) -> Any:
        """Return what the agent ends with."""

    def state(self, *, kept: bool) -> Spending:
        """Return what is to be saved in the graph's state."""


class AgentStep(LangChainStep):
    """The step of an agent's run.

    Attributes:
        owner: Returns the run, as long as there is one.
        run_account: The account of the run alone, if it has limits of its own.
    """

    def __init__(
        self, definition: StepDefinition, *, run: StepDefinition | None, beside: Step | None
    ) -> None:
        around = current_step()
        is_inner = around is None or (beside is not None and around.account in beside.accounts)
        super().__init__(definition, parent=beside if is_inner else around)
        self._beside = None if is_inner else beside
        self._run_definition = run
        self.run_account: RunAccount | None = None
        self.owner: Any = lambda: None

    @property
    def budgets(self) -> list[Any]:
        """What may be exhausted beside its own account: budgets that hang on it, and its run."""
        return [*super().budgets, *([self.run_account] if self.run_account else [])]

    def _gather_accounts(self) -> None:
        super()._gather_accounts()
        if self._run_definition is not None:
            self.run_account = self.run_account or RunAccount(self.account, self._run_definition)
            self.chain = AccountChain((self.chain[0], self.run_account, *self.chain[1:]))
        if self._beside is not None:
            outer: tuple[Account, ...] = self._beside.accounts
            self.chain = AccountChain((*(each for each in self.chain if each not in outer), *outer))

    def raised_as(self, error: BaseException) -> BaseException:
        """Return what a refusal leaves a node of another middleware with."""
        owner: Owner | None = self.owner()
        mine = isinstance(error, BudgetExhausted) and error.step_id == self.id and not error.escalated
        if owner is None or not mine or self._is_around_here():
            return error
        node = nodes.current_node(owner.graphs)
        if node is None:
            return error
        assert isinstance(error, BudgetExhausted)
        if owner.last_turn.has_answered:
            return _command(error, Command(graph=node, update={"jump_to": "end"}))
        try:
            is_over = nodes.name_of(node).endswith(".after_agent")
            exhaustion = owner.act_on(error) if is_over else owner.stop_at(error)
        except StepTrackError as raised:
            return raised
        update = {STOPPED: owner.last_word(exhaustion), "jump_to": "end"}
        if owner.last_turn.is_left and not is_over:
            # A hook before the model is followed by it anyway; whoever jumped there would come back for ever.
            update["jump_to"] = "model" if nodes.name_of(node).endswith(".after_model") else None
        return _command(exhaustion, Command(graph=node, update=update))

    @contextmanager
    def wrap_up(self) -> Generator[Self]:
        """Let calls inside this block spend what is kept back, of the thread's limits and of the run's."""
        with super().wrap_up():
            if self.run_account is not None:
                wrapping.push(self.run_account)
            try:
                yield self
            finally:
                if self.run_account is not None:
                    wrapping.remove(self.run_account)

    def charged(self) -> None:
        """Save what a hook of another middleware has spent with what its node saves."""
        owner: Owner | None = self.owner()
        if owner is not None and not self._is_around_here():
            nodes.write(owner.graphs, {"steptrack_spent": owner.state(kept=False)})

    def _is_around_here(self) -> bool:
        """Tell whether the middleware itself is calling: it has a step of its own for that."""
        step = current_step()
        while step is not None and step is not self:
            step = step.parent
        return step is self


def _command(error: BudgetExhausted, command: Command[Any]) -> BaseException:
    """Return the same exhaustion as what LangGraph takes for a node's own word on how to go on."""
    twin: Any = as_framework_error(error, ParentCommand, (("__str__", _message),))
    twin.args = (command,)
    return twin  # type: ignore[no-any-return]


def _message(error: Any) -> str:
    return str(error._message())  # noqa: SLF001 - its arguments are LangGraph's now
