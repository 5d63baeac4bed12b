"""How the nodes of an agent's graph find the agent's run: by what their state carries.

Each run of the graph makes its channels again, so what a channel makes then belongs to that very run,
whether it has begun, was resumed in the middle, or is one of many at once.
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, NotRequired, Self

from langchain.agents.middleware import AgentState
from langchain.agents.middleware.types import PrivateStateAttr
from langgraph.channels.untracked_value import UntrackedValue

from steptrack_callbacks.concurrency.guard import Guard
from steptrack_callbacks.steps.step import Step
from steptrack_callbacks.values.copying import CopiedAsItself

from . import nodes, running, spending
from .running import AgentRun
from .spending import Spending
from .terms import Terms


class Visit(CopiedAsItself, str):
    """One run of an agent's graph, and the agent's run in it, which begins when it is first asked for.

    Whoever writes down the state that it is in writes its number.
    """

    __slots__ = ("_beginning", "_run", "_terms")
    _terms: Terms
    _run: AgentRun | None
    _beginning: Guard

    @classmethod
    def of(cls, terms: Terms) -> Self:
        """Make one for an agent."""
        visit = cls(uuid.uuid4().hex)
        visit._terms = terms
        visit._run = None
        visit._beginning = Guard()
        return visit

    @property
    def is_open(self) -> bool:
        """Whether the agent's step is running."""
        return self._run is not None and self._run.is_open

    def see(self, state: Mapping[str, Any]) -> None:
        """Look at the state that a node begins with: what was saved indeed."""
        if self._run is not None:
            self._run.see(state.get("steptrack_spent") or {})

    def open(self, state: Mapping[str, Any], node: str) -> Step:
        """Return the agent's step; it begins if need be."""
        return self.run(state, node).step

    def run(self, state: Mapping[str, Any], node: str, *, anew: bool = False) -> AgentRun:
        """Return the agent's run; it begins if need be, with what the thread has spent before.

        Args:
            state: The state of the agent's graph.
            node: The path of one of its nodes.
            anew: Whether a turn of the thread begins, whatever the state says of an earlier one.
        """
        with self._beginning:  # several tools may be resumed at once
            if self._run is None:
                saved = state.get("steptrack_spent") or {}
                turn = None if anew else state.get("steptrack_turn")
                self._run = running.begin(self._terms, saved, turn, nodes.graph_of(node), str(self))
        return self._run


class VisitChannel(UntrackedValue[str]):
    """The channel of a graph's visits: each run of the graph has one, and nobody writes it."""

    __slots__ = ("_terms",)

    def __init__(self, typ: type[str], guard: bool = False, *, terms: Terms) -> None:  # noqa: FBT001, FBT002
        super().__init__(typ, guard)
        self._terms = terms

    def copy(self) -> Self:
        """Return a copy with the same visit."""
        same = self.__class__(self.typ, self.guard, terms=self._terms)
        same.key, same.value = self.key, self.value
        return same

    def from_checkpoint(self, checkpoint: Any) -> Self:
        """Return the channel of a run that begins, or goes on."""
        new = self.copy()
        new.value = Visit.of(self._terms)
        return new

    def update(self, values: Sequence[Any]) -> bool:
        """Take nothing: whatever is written is of another run."""
        return False


class SpendingState(AgentState[Any]):
    """What the middleware keeps in the graph's state; neither input nor output."""

    steptrack_spent: NotRequired[Annotated[Spending, PrivateStateAttr, spending.merged]]
    steptrack_turn: NotRequired[Annotated[Any, PrivateStateAttr, spending.newest]]
    steptrack_stopped: NotRequired[Annotated[Any, PrivateStateAttr, spending.newest]]


def state_schema_for(terms: Terms) -> Any:
    """Return the schema of the state of an agent's graph."""

    class VisitedState(SpendingState):
        steptrack_run: NotRequired[Annotated[str, PrivateStateAttr]]

    # Of each agent its own, so it cannot be written as a class is.
    channel = VisitChannel(str, terms=terms)
    VisitedState.__annotations__["steptrack_run"] = NotRequired[Annotated[str, channel, PrivateStateAttr]]
    return VisitedState
