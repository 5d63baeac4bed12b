"""Calls that their package makes again with the next model of a step's list, where it cannot change one."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

from steptrack_callbacks.engine.swapping import Describe, Trial, lists_with, trying

from .active import innermost
from .step import Step

T = TypeVar("T")


def trial_of(
    model: str,
    describe: Describe | None = None,
    *,
    within: Step | None = None,
    is_about_all: bool = False,
) -> Trial | None:
    """Return how a call is to be made that may go on with another model; `None` if no step lists its model.

    Args:
        model: The name by which the call asks for its model.
        describe: See `Trial`.
        within: The step that the call is made in; `None` for the one that is active here.
        is_about_all: See `Trial`.
    """
    step = within or innermost()
    if step is None or not step.accounts.limited:
        return None
    for _, listed, names in lists_with(step.accounts, model):
        options: dict[str, Any] = {} if describe is None else {"describe": describe}
        trial = Trial(names, is_about_all=is_about_all, **options)
        trial.begin(step.accounts, listed)
        return trial
    return None


def tried(trial: Trial, make: Callable[[str], T]) -> T:
    """Make a call with one model after the other until one fits; what the last is refused with is raised.

    Args:
        trial: The trial.
        make: Makes the call with the model of that name.
    """
    __tracebackhide__ = True
    while True:
        try:
            with trying(trial):
                return make(trial.models[trial.place])
        except Exception:
            if not trial.refused:
                raise
        trial.go_on()


async def tried_async(trial: Trial, make: Callable[[str], Awaitable[T]]) -> T:
    """Do as `tried`, on the event loop."""
    __tracebackhide__ = True
    while True:
        try:
            with trying(trial):
                return await make(trial.models[trial.place])
        except Exception:
            if not trial.refused:
                raise
        trial.go_on()
