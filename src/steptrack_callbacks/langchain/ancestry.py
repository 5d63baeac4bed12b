"""Which runs are inside which, and the steps that their names and metadata open.

Such a step begins with the first run of its name, and ends with the outermost run around it. It is
never on the stack: the calls inside it are found by their run's ancestors.
"""

from __future__ import annotations

import weakref
from collections.abc import Iterator, Mapping, Sequence
from typing import Any
from uuid import UUID

from steptrack_callbacks.declared import definition_of, is_declared
from steptrack_callbacks.errors import StepTrackError
from steptrack_callbacks.steps import Step
from steptrack_callbacks.waiting import drive

from .refusals import host_error

STEP_KEY = "steptrack_step"
"""The metadata that names a step."""

Metadata = Mapping[str, Any] | None


class Outermost:
    """An outermost run, and the steps that were opened inside it.

    Attributes:
        key: Its run's number.
        steps: By their names from the outermost one.
    """

    __slots__ = ("key", "steps")

    def __init__(self, key: int) -> None:
        self.key = key
        self.steps: dict[tuple[str, ...], Step] = {}

    def end(self, error: BaseException | None) -> None:
        """End all steps, the inner ones first.

        Raises:
            BudgetExhausted: One of them is over its limit, and nothing else is leaving.
        """
        leaving = error
        while self.steps:
            _, step = self.steps.popitem()
            leaving = drive(step.end(leaving))
        if isinstance(leaving, StepTrackError) and leaving is not error:
            raise host_error(leaving) from error


class Place:
    """Where a run is: in which outermost run, and in which step of it."""

    __slots__ = ("names", "outermost", "step")

    def __init__(self, outermost: Outermost, names: tuple[str, ...] = (), step: Step | None = None) -> None:
        self.outermost = outermost
        self.names = names
        self.step = step

    def inside(self, name: str) -> Place:
        """Return the place in a step of that name, opened if it is the first time."""
        names = (*self.names, name)
        step = self.outermost.steps.get(names)
        if step is None:
            step = self.outermost.steps[names] = _begun(Step(definition_of(name), parent=self.step))
        return Place(self.outermost, names, step)


def _begun(step: Step) -> Step:
    try:
        step.begin()
    except StepTrackError as error:  # a hook said no
        raise host_error(error) from None
    return step


class _Watch(weakref.ref[UUID]):
    """A run's place, for as long as anybody can report on the run."""

    __slots__ = ("key", "place")
    key: int
    place: Place


_watches: dict[int, _Watch] = {}
_tools: weakref.WeakSet[UUID] = weakref.WeakSet()


def enter(
    run_id: UUID, parent_run_id: UUID | None, name: str | None, tags: Sequence[str] | None, metadata: Metadata
) -> Step | None:
    """Note a run, and return the step that it opens or is in, if its name or metadata say one."""
    key = run_id.int
    known = _watches.get(key)
    if known is not None:
        return known.place.step
    around = None if parent_run_id is None else _watches.get(parent_run_id.int)
    place = Place(Outermost(key)) if around is None else around.place
    for step_name in _names(name, tags, metadata):
        if step_name not in place.names:
            place = place.inside(step_name)
    watch = _watches[key] = _Watch(run_id, _lost)
    watch.key, watch.place = key, place
    return place.step


def _names(name: str | None, tags: Sequence[str] | None, metadata: Metadata) -> Iterator[str]:
    if metadata and (named := metadata.get(STEP_KEY)) is not None:
        yield named
    if name is not None and is_declared(name):
        yield name
    yield from (tag for tag in tags or () if is_declared(tag))


def leave(run_id: UUID, error: BaseException | None = None) -> None:
    """Forget a run; an outermost one ends the steps that were opened in it.

    Raises:
        BudgetExhausted: One of them is over its limit, and nothing else is leaving.
    """
    watch = _watches.pop(run_id.int, None)
    if watch is not None and watch.place.outermost.key == watch.key:
        watch.place.outermost.end(error)


def is_first_report(run_id: UUID) -> bool:
    """Tell whether a tool's run was not reported before."""
    if run_id in _tools:
        return False
    _tools.add(run_id)
    return True


def _lost(watch: Any) -> None:
    """End what a run that was broken off has opened."""
    known = _watches.get(watch.key)
    if known is not None and known is watch:
        del _watches[known.key]
        if known.place.outermost.key == known.key:
            known.place.outermost.end(GeneratorExit())
