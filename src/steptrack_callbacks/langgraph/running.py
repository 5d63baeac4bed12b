"""One run of an agent: its step, which all its model calls and tools share, and what is saved of it.

The step is never on the stack of a node, since nodes have contexts of their own; it is the parent of
what runs in them. It ends in the agent's last node, or with the graph's run, be that paused or broken.
"""

from __future__ import annotations

import uuid
import weakref
from collections import OrderedDict
from collections.abc import AsyncGenerator, Callable, Generator
from contextlib import asynccontextmanager, contextmanager, nullcontext
from dataclasses import replace
from functools import partial
from typing import Any, NamedTuple, Self, TypedDict

from langgraph.errors import GraphInterrupt

from steptrack_callbacks.concurrency.contexts import run_finalizer
from steptrack_callbacks.concurrency.flow import Flow, run_sync
from steptrack_callbacks.concurrency.guard import Guard
from steptrack_callbacks.concurrency.lock import LOCK
from steptrack_callbacks.engine.account import Account
from steptrack_callbacks.engine.escalation import has_default, take_answer, why_not_granted
from steptrack_callbacks.langchain import run_tree
from steptrack_callbacks.langchain.refusals import langchain_error
from steptrack_callbacks.steps.boundary import escalated
from steptrack_callbacks.steps.step import Step, current_step
from steptrack_callbacks.values.definitions import Grant, StepDefinition
from steptrack_callbacks.values.errors import BudgetExhausted
from steptrack_callbacks.values.usage import Usage

from . import human_in_the_loop, nodes, spending
from .agent_step import AgentStep
from .last_turn import LastTurn
from .spending import Spending
from .terms import Terms

_MOST_REMEMBERED = 10_000

# What runs that were paused or broken off have spent, by thread: their last nodes saved nothing.
_unsaved: OrderedDict[str, Spending] = OrderedDict()


class Fate:
    """What a run's step is to end with, if the run itself does not say it.

    Attributes:
        exhaustion: The last exhaustion of the step that its boundary has acted on.
        raised: What was raised for it; `None` if the agent went on to its end.
    """

    __slots__ = ("exhaustion", "raised")

    def __init__(self) -> None:
        self.exhaustion: BudgetExhausted | None = None
        self.raised: BaseException | None = None


class Granted(NamedTuple):
    """What was granted to a run of an agent, as plain values: to its thread, and to the run alone."""

    to_thread: list[dict[str, Any]] = []  # noqa: RUF012 - never changed
    to_run: list[dict[str, Any]] = []  # noqa: RUF012 - never changed

    @classmethod
    def of(cls, entry: spending.Entry) -> Self:
        """Read what was saved."""
        return cls(entry["grants"], entry.get("run_grants", []))

    def number(self) -> int:
        """Count the grants."""
        return len(self.to_thread) + len(self.to_run)


class Turn(TypedDict):
    """One turn of a thread: it goes on where it was paused.

    Attributes:
        id: The run that began it.
        before: What the thread had spent before.
    """

    id: str
    before: dict[str, Any]


class Earlier:
    """What an agent has spent in its visits of one outermost run, where no thread remembers it.

    Attributes:
        terms: What is declared of the agent.
        spent: By the visits that are over.
        running: Returns the run of those that are not, if any.
        beginning: Held while a visit begins.
    """

    __slots__ = ("beginning", "running", "spent", "terms")

    def __init__(self, terms: Terms) -> None:
        self.terms = terms
        self.spent: Spending = {"runs": {}}
        self.running: Callable[[], AgentRun | None] = lambda: None
        self.beginning = Guard()


def begin(terms: Terms, saved: Spending, turn: Turn | None, graph: str, visit: str) -> AgentRun:
    """Begin an agent's run, or join one that runs at the same time in the same outermost run.

    Args:
        terms: What is declared of the agent.
        saved: What its thread has spent before.
        turn: The turn that goes on; `None` if a new one begins.
        graph: The path of its graph through the graphs that it is in.
        visit: Names the graph's run.
    """
    earlier = None if saved or nodes.has_thread(graph) else _earlier(terms)
    with nullcontext() if earlier is None else earlier.beginning:
        run = None if earlier is None or terms.run is not None else earlier.running()
        if run is None or not run.join(visit, graph):
            run = AgentRun(terms, saved, turn, earlier)
            run.join(visit, graph)
        if earlier is not None:
            earlier.running = weakref.ref(run)
    return run


def _earlier(terms: Terms) -> Earlier | None:
    node = nodes.run_of_node()
    place = None if node is None else run_tree.place_around(node)
    if node is None or place is None:
        return None
    around = current_step() or place.step
    # An agent that a tool runs begins anew with each tool.
    key = (terms, None if around is None else around.id, run_tree.tool_around(node))
    earlier: Earlier = place.outermost.kept.setdefault(key, Earlier(terms))
    return earlier


class AgentRun:
    """One run of an agent.

    Attributes:
        step: The agent's step; while it runs, it has spent what the thread had spent before, too.
        fate: What the step is to end with.
        last_turn: Its closing turn.
        graphs: The paths of the agent's graph through the graphs that it is in: of each visit its own.
    """

    def __init__(
        self, terms: Terms, saved: Spending, turn: Turn | None, earlier: Earlier | None = None
    ) -> None:
        node = nodes.run_of_node()
        definition, run = terms.definition, terms.run
        asks = definition.error_boundary == "escalate" and definition.escalation is None
        self.pauses = asks and nodes.can_pause()
        self.fate = Fate()
        self.graphs: set[str] = set()
        self._visits: set[str] = set()
        self._is_ending = False
        self._earlier = earlier
        place = None if node is None else run_tree.place_around(node)
        if self.pauses:
            definition = replace(definition, escalation=human_in_the_loop.ask)
            run = run and replace(run, escalation=human_in_the_loop.ask)
        self.step = AgentStep(
            definition,
            run=run,
            beside=None if place is None else place.step,
        )
        self.step.owner = weakref.ref(self)
        self.last_turn = LastTurn(self.step, is_wanted=terms.closing_turn)
        self._count = 0
        # Of what was granted, what was saved: the rest is granted again on resuming.
        self._granted = Granted()
        self._thread: str = saved.get("id") or uuid.uuid4().hex
        known = spending.merged(saved, _unsaved.get(self._thread, {}))
        self._unsaved = {run: e for run, e in known["runs"].items() if e != saved.get("runs", {}).get(run)}
        known = known if earlier is None else spending.merged(known, earlier.spent)
        self._grants_before = len(granted := spending.grants(known))
        # Before it begins: what was saved may be damaged, and it must end then.
        self._lost = weakref.finalize(self, _lose, self.step, self.fate)
        self._lost.atexit = False
        self.step.begin()
        if asks and not self.pauses and not has_default():
            for account in self._accounts():
                account.declined = human_in_the_loop.NOBODY
        spent = spending.total(known)
        _seed(self.step.account, spent, granted)
        self.turn: Turn = turn or {"id": self.step.id, "before": spending.written(spent)}
        self._seed_run(spent, spending.grants_of_run(known, self.turn["id"]))
        self._is_followed = False

    def join(self, visit: str, graph: str) -> bool:
        """Let a run of the agent's graph be one of this run's; `False` if it is over.

        The step ends with the last of them, and is charged what other nodes of the graph spend.
        """
        with LOCK:
            if self._is_ending or not self.is_open:
                return False
            self._visits.add(visit)
        self.graphs.add(graph)
        node = nodes.run_of_node()
        self._is_followed = node is not None and run_tree.adopt(node, self.step, partial(self.over, visit))
        return True

    def _accounts(self) -> list[Account]:
        run = self.step.run_account
        return [self.step.account, *([] if run is None else [run])]

    def _seed_run(self, spent: Usage, granted: list[Grant]) -> None:
        self._run_grants_before = len(granted)
        if (account := self.step.run_account) is not None:
            _seed(account, spent - spending.read(self.turn["before"]), granted)

    @property
    def is_open(self) -> bool:
        """Whether its step is still running."""
        return self.step.status == "open"

    def inside(self, name: str) -> Step:
        """Return a step in the agent's, not begun."""
        return Step(StepDefinition(name=name), parent=self.step)

    def may_ask(self, error: BudgetExhausted) -> bool:
        """Tell whether a person can still be asked about an exhaustion."""
        own = error.step_id == self.step.id and not error.escalated
        can_pause = self.pauses and not self._account_of(error).declined
        return own and can_pause and error.phase not in ("busy", "closed")

    def ask(self, error: BudgetExhausted) -> None:
        """Pause the graph for a person's answer, where the call itself could not."""
        account = self._account_of(error)
        take_answer(account, error, human_in_the_loop.ask(error))

    def _account_of(self, error: BudgetExhausted) -> Account:
        """Return whose limit it is: one run's, or the thread's."""
        return self.step.run_account if error.is_of_run and self.step.run_account else self.step.account

    def act_on(self, error: BudgetExhausted) -> BudgetExhausted:
        """Do at an exhaustion what the agent's boundary says; returns it if the agent is to go on.

        Raises:
            BudgetExhausted: It is not to go on, or the exhaustion is of a step around it.
        """
        if error.step_id != self.step.id or error.escalated:
            raise langchain_error(error)
        boundary = self.step.definition.error_boundary
        self.fate.exhaustion = error
        if boundary == "continue":
            return error
        handed_on = escalated(error, why_not_granted(self._account_of(error), error))
        raised = self.fate.raised = langchain_error(handed_on if boundary == "escalate" else error)
        if not self._is_followed:
            self._visits.clear()
            self._end_with(raised)
        raise raised

    def stop_at(self, error: BudgetExhausted) -> BudgetExhausted:
        """Return an exhaustion if the agent goes on from it: to its closing turn, or as its boundary says.

        Raises:
            BudgetExhausted: It is not to go on, or the exhaustion is of a step around it.
        """
        return error if self.last_turn.follows(error) else self.act_on(error)

    @contextmanager
    def closing(self) -> Generator[Step]:
        """Let the agent have its closing turn, from what is kept back for it."""
        with self.inside("closing") as step, self.last_turn.paid():
            yield step

    @asynccontextmanager
    async def closing_async(self) -> AsyncGenerator[Step]:
        """Do as `closing`, on the event loop."""
        async with self.inside("closing") as step:
            with self.last_turn.paid():
                yield step

    def has_closed(self, error: BudgetExhausted | None) -> None:
        """Note that it has: an agent that goes on has gone on from the exhaustion before.

        What hooks of other middlewares are refused from now on takes nothing from its answer.
        """
        self.last_turn.has_answered = True
        if error is not None and error.step_id == self.step.id:
            self.fate.exhaustion = error if self.step.definition.error_boundary == "continue" else None

    def last_word(self, error: BudgetExhausted) -> Any:
        """Return what the agent ends with: `default`, or what ran out."""
        default = self.step.definition.default
        text = default(error) if callable(default) else default
        return f"Stopped: {error}" if text is None else text

    def state(self, *, kept: bool = True) -> Spending:
        """Return what is to be saved: all that this run has spent so far.

        Args:
            kept: Whether it is sure to be saved; a node that may still pause is run again, and granted again
                what it was granted.
        """
        run = self.step.run_account
        granted = Granted(
            [*map(spending.written_grant, self.step.account.grants[self._grants_before :])],
            [] if run is None else [*map(spending.written_grant, run.grants[self._run_grants_before :])],
        )
        if kept:
            self._granted = granted
        return {"id": self._thread, "runs": {**self._unsaved, self.step.id: self._entry(granted)}}

    def see(self, saved: Spending) -> None:
        """Look at what was saved indeed."""
        entry = saved.get("runs", {}).get(self.step.id)
        if entry is not None:
            self._granted = max(self._granted, Granted.of(entry), key=Granted.number)

    def _entry(self, granted: Granted) -> spending.Entry:
        with LOCK:
            self._count += 1
            usage = self.step.account.here_of(self.step.usage)
            entry: spending.Entry = {
                "n": self._count,
                "usage": spending.written(usage),
                "grants": granted.to_thread,
            }
        if granted.to_run:
            entry["run_grants"], entry["turn"] = granted.to_run, self.turn["id"]
        return entry

    def end(self, visit: str) -> Flow[BaseException | None]:
        """End the step in the agent's last node; returns what must be raised."""
        if not self._is_last(visit):
            return None
        went_on = self.fate.exhaustion if self.fate.raised is None else None
        try:
            return (yield from self.step.end(went_on))
        finally:
            self._remember()

    def over(self, visit: str, error: BaseException | None) -> None:
        """End the step if the graph's run is over without its last node: it was paused, or it failed."""
        if self._is_last(visit):
            self._end_with(error)

    def _is_last(self, visit: str) -> bool:
        """Let a visit go; after the last one nobody joins, and whoever comes finds what was spent."""
        with LOCK:
            self._visits.discard(visit)
            self._is_ending = not self._visits
            if self._is_ending and self._earlier is not None:
                own = self.state(kept=False)["runs"][self.step.id]
                self._earlier.spent = spending.merged(self._earlier.spent, {"runs": {self.step.id: own}})
        return self._is_ending

    def _end_with(self, error: BaseException | None) -> None:
        if self.is_open:
            own = self.fate.exhaustion if error is not None and error is self.fate.raised else None
            run_sync(self.step.end(own or error or GraphInterrupt()))
        self._remember()

    def _remember(self) -> None:
        self.fate.raised = None  # it holds the frames that it has passed, and they this run
        entries = {**self._unsaved, self.step.id: self._entry(self._granted)}
        _unsaved[self._thread] = {"id": self._thread, "runs": entries}
        _unsaved.move_to_end(self._thread)
        while len(_unsaved) > _MOST_REMEMBERED:
            _unsaved.popitem(last=False)


def _seed(account: Account, before: Usage, granted: list[Grant]) -> None:
    with LOCK:
        account.resumed = before
        for sums in spending.sums_of(before):
            account.settled.add(sums)
    for grant in granted:
        account.grant(grant)


def _lose(step: Step, fate: Fate) -> None:
    """End what nobody reported the end of: the graph has none of our handlers, and is gone."""
    if step.status == "open":
        run_finalizer(run_sync, step.end(fate.exhaustion or fate.raised or GraphInterrupt()))
