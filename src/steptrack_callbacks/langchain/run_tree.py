"""Which runs are inside which, and the steps that their names and metadata open.

Such a step begins with the first run of its name, and ends with the outermost run around it. It is
never on the stack: the calls inside it are found by their run's ancestors.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Protocol
from uuid import UUID

from steptrack_callbacks import settings
from steptrack_callbacks.concurrency.contexts import run_finalizer
from steptrack_callbacks.concurrency.flow import run_sync
from steptrack_callbacks.concurrency.guard import Guard
from steptrack_callbacks.steps.registry import definition_of, has_nodes, is_declared, node_steps
from steptrack_callbacks.steps.step import Step
from steptrack_callbacks.values.definitions import StepDefinition
from steptrack_callbacks.values.errors import BudgetExhausted, StepTrackError

from .refusals import LangChainStep

STEP_KEY = "steptrack_step"
"""The metadata that names a step."""

Metadata = Mapping[str, Any] | None


class Outermost:
    """An outermost run, and the steps that were opened inside it.

    Attributes:
        key: Its run's number.
        steps: By their names from the outermost one.
        outcomes: What the last run that is over in a step has left with, by the same names.
        kept: What others keep for as long as it runs, by keys of their own.
        is_over: Whether it has ended; runs inside it may go on, such as tasks that nobody awaits.
    """

    __slots__ = ("_beginning", "is_over", "kept", "key", "outcomes", "steps")

    def __init__(self, key: int) -> None:
        self.key = key
        self.steps: dict[tuple[str, ...], Step] = {}
        self.outcomes: dict[tuple[str, ...], BaseException | None] = {}
        self.kept: dict[object, Any] = {}
        self.is_over = False
        self._beginning: dict[tuple[str, ...], Guard] = {}

    def open(self, names: tuple[str, ...], definition: StepDefinition, parent: Step | None) -> Step:
        """Return the step of those names, which begins if it is the first time."""
        # Whoever comes while it begins has to wait for what hooks say of it. The lock is this step's alone:
        # a hook may wait for whatever does not wait for the hook's own answer. And it is re-entrant, because
        # hooks make calls, and a garbage collection ends runs that were broken off.
        with self._beginning.setdefault(names, Guard()):
            step = self.steps.get(names)
            if step is None:
                step = LangChainStep(definition, parent=parent)
                step.begin()
                self.steps[names] = step
        return step

    def end(self, error: BaseException | None) -> None:
        """End all steps, the inner ones first.

        Raises:
            BudgetExhausted: One of them is over its limit, and nothing else is leaving.
        """
        self.is_over = True
        raised: StepTrackError | None = None
        left: dict[tuple[str, ...], BaseException | None] = {}  # by steps inside, where no run tells
        for names in reversed([*self.steps]):
            step = self.steps.pop(names, None)
            if step is None:
                continue  # ended by a run that has outlived this one
            own = self.outcomes.get(names, left.get(names, error))
            is_refused = isinstance(error, BudgetExhausted) and error.step_id == step.id
            if is_refused and not isinstance(own, Exception):
                own = error  # branches beside the one that was refused have ended after it, or were cancelled
            own = own or raised
            leaving = left[names[:-1]] = run_sync(step.end(own))
            if isinstance(leaving, StepTrackError) and leaving is not own:
                raised = leaving
        self.outcomes.clear()  # they hold the frames that they have passed, and those the runs
        if raised is not None and error is None:
            raise raised


class Place:
    """Where a run is: in which outermost run, and in which step of it."""

    __slots__ = ("names", "outermost", "step")

    def __init__(self, outermost: Outermost, names: tuple[str, ...] = (), step: Step | None = None) -> None:
        self.outermost = outermost
        self.names = names
        self.step = step

    def inside(self, definition: StepDefinition, *, depth: int = 1) -> Place:
        """Return the place in so many steps of that name, the innermost opened if it is the first time."""
        if self.names.count(definition.name) >= depth:
            return self
        names = (*self.names, definition.name)
        step = self.outermost.steps.get(names) or self.outermost.open(names, definition, self.step)
        return Place(self.outermost, names, step)


NOWHERE = Place(Outermost(0))
"""Of a run that nothing was opened for."""


class Carrier(Protocol):
    """What the nodes of a graph are given with its state: the way to the step that all its runs belong to."""

    @property
    def is_open(self) -> bool:
        """Whether that step is running."""

    def see(self, state: Mapping[str, Any]) -> None:
        """Look at the state that a node begins with."""

    def open(self, state: Mapping[str, Any], node: str) -> Step:
        """Return the step; it begins if need be.

        Args:
            state: The state that a node was given.
            node: The node's path through subgraphs, as LangGraph writes it.
        """


CARRIED = "steptrack_run"
"""The key of a graph's state under which its `Carrier` is."""


class Promised(Place):
    """A place in a step that begins with the first call in it: a resumed graph has passed its beginning."""

    __slots__ = ("_carrier", "_node", "_state", "around")

    def __init__(self, around: Place, carrier: Carrier, state: Mapping[str, Any], node: str) -> None:
        self.around = around
        self.outermost = around.outermost
        self.names = around.names
        self._carrier = carrier
        self._state = state
        self._node = node

    @property
    def step(self) -> Step | None:  # type: ignore[override]
        """The step, which has begun once this was asked."""
        return self._carrier.open(self._state, self._node)


class _Watch(weakref.ref[UUID]):
    """A run's place, for as long as anybody can report on the run.

    Attributes:
        key: The run's number.
        around: That of the run around it, or `None`.
        place: Where it is.
        is_tool: Whether it is a tool's.
        when_over: Told how the run has ended.
    """

    __slots__ = ("around", "is_tool", "key", "place", "when_over")
    key: int
    around: int | None
    place: Place
    is_tool: bool
    when_over: Callable[[BaseException | None], None] | None

    def over(self, error: BaseException | None) -> None:
        """End what was opened for the run."""
        if self.place.names:
            self.place.outermost.outcomes[self.place.names] = error
        if self.when_over is not None:
            self.when_over(error)
        if self.place.outermost.key == self.key:
            self.place.outermost.end(error)


watches: dict[int, _Watch] = {}
"""The runs that are noted, by their numbers."""
_tools: weakref.WeakSet[UUID] = weakref.WeakSet()


def enter(
    run_id: UUID,
    parent_run_id: UUID | None,
    name: str | None,
    tags: Sequence[str] | None,
    metadata: Metadata,
    *,
    is_tool: bool = False,
) -> Place:
    """Note a run, and return its place: in the step that it opens, or is in, if any."""
    key = run_id.int
    known = watches.get(key)
    if known is not None:
        return known.place
    around = None if parent_run_id is None else watches.get(parent_run_id.int)
    place = Place(Outermost(key)) if around is None else around.place
    if metadata and has_nodes():
        met: list[str] = []  # a subgraph's node may be called as the node that it is in
        for definition in node_steps(_nodes(metadata)):
            met.append(definition.name)
            place = place.inside(definition, depth=met.count(definition.name))
    for step_name in _names(name, tags, metadata):
        place = place.inside(definition_of(step_name))
    watch = watches[key] = _Watch(run_id, _lost)
    watch.key, watch.place = key, place
    # It looks once its steps are open, so either the outermost run has ended them, or it does so itself.
    watch.when_over = place.outermost.end if place.outermost.is_over else None
    watch.around, watch.is_tool = None if parent_run_id is None else parent_run_id.int, is_tool
    return place


def tool_around(run_id: UUID) -> int | None:
    """Return the number of the innermost tool's run that a run is in, or `None`."""
    watch = watches.get(run_id.int)
    while watch is not None and not watch.is_tool:
        watch = None if watch.around is None else watches.get(watch.around)
    return None if watch is None else watch.key


def enter_model(
    run_id: UUID, parent_run_id: UUID | None, name: str | None, tags: Sequence[str] | None, metadata: Metadata
) -> Place:
    """Do as `enter` for a run of a model, which is not noted where it can open no step and is in none."""
    around = None if parent_run_id is None else watches.get(parent_run_id.int)
    place = NOWHERE if around is None else around.place
    names = settings.now.names_runs or (metadata and STEP_KEY in metadata)
    if names or type(place) is not Place or place.step is not None:
        return enter(run_id, parent_run_id, name, tags, metadata)
    return place


def carry(run_id: UUID, state: object, metadata: Metadata) -> None:
    """Put a graph's further runs into the step that the state of one of its nodes leads to, if it does."""
    carrier = state.get(CARRIED) if isinstance(state, Mapping) else None
    if carrier is None or not hasattr(carrier, "open") or not isinstance(state, Mapping):
        return
    node, graph = _node_and_graph(run_id)
    if node is None or graph is None:
        return
    carrier.see(state)
    if not carrier.is_open:
        around = graph.place.around if isinstance(graph.place, Promised) else graph.place
        named = str((metadata or {}).get("langgraph_checkpoint_ns") or "")
        graph.place = node.place = Promised(around, carrier, state, named)


def _node_and_graph(node: UUID) -> tuple[_Watch | None, _Watch | None]:
    inner = watches.get(node.int)
    return inner, None if inner is None or inner.around is None else watches.get(inner.around)


def step_around(run_id: UUID) -> Step | None:
    """Return the step that the run around a run is in, if names or metadata have opened one."""
    _, around = _node_and_graph(run_id)
    return None if around is None else around.place.step


def place_around(node: UUID) -> Place | None:
    """Return the place of the graph that a node is in, or `None` if its run was not reported."""
    _, graph = _node_and_graph(node)
    if graph is None:
        return None
    return graph.place.around if isinstance(graph.place, Promised) else graph.place


def adopt(node: UUID, step: Step, when_over: Callable[[BaseException | None], None]) -> bool:
    """Put all of a graph's further runs into a step that ends with the graph's run; `False` if none is known.

    Args:
        node: The run of one of the graph's nodes.
        step: The step; it has begun.
        when_over: Called when the graph's run is over, with the error that left it.
    """
    inner, graph = _node_and_graph(node)
    if inner is None or graph is None:
        return False
    graph.when_over = when_over
    around = graph.place.around if isinstance(graph.place, Promised) else graph.place
    graph.place = inner.place = Place(around.outermost, (*around.names, step.id), step)
    return True


def _names(name: str | None, tags: Sequence[str] | None, metadata: Metadata) -> Iterator[str]:
    if metadata and (named := metadata.get(STEP_KEY)) is not None:
        yield _checked(named)
    if name is not None and is_declared(name):
        yield name
    yield from (tag for tag in tags or () if is_declared(tag))


def _checked(named: object) -> str:
    if not isinstance(named, str) or not named.strip() or "/" in named:
        raise ValueError(f"metadata {STEP_KEY!r} names a step: a non-empty string without '/', not {named!r}")
    return named


def _nodes(metadata: Mapping[str, Any]) -> list[str]:
    """Name the nodes on the way to a run of a graph's, without the numbers that LangGraph gives them."""
    parts = str(metadata.get("langgraph_checkpoint_ns") or "").split("|")
    return [part.partition(":")[0] for part in parts if part and not part.isdigit()]


def leave(run_id: UUID, error: BaseException | None = None) -> None:
    """Forget a run; an outermost one ends the steps that were opened in it.

    Raises:
        BudgetExhausted: One of them is over its limit, and nothing else is leaving.
    """
    watch = watches.pop(run_id.int, None)
    if watch is not None:
        watch.over(error)


def is_first_report(run_id: UUID) -> bool:
    """Tell whether a tool's run was not reported before."""
    if run_id in _tools:
        return False
    _tools.add(run_id)
    return True


def _lost(watch: Any) -> None:
    """End what a run that was broken off has opened."""
    known = watches.get(watch.key)
    if known is not None and known is watch:
        del watches[known.key]
        run_finalizer(known.over, GeneratorExit())
