"""An agent's model calls that go on with the next of a step's models: the request gets another one."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from steptrack_callbacks.engine.swapping import Trial
from steptrack_callbacks.langchain import swapping
from steptrack_callbacks.steps.step import Step
from steptrack_callbacks.steps.trials import trial_of, tried, tried_async


def called(request: Any, handler: Callable[[Any], Any], step: Step, models: Mapping[str, Any]) -> Any:
    """Call the model of a request, or the next one of a step's list that fits.

    Args:
        request: The agent's request.
        handler: Makes it.
        step: The step that it is made in.
        models: Models of the list that were given as such, by name.
    """
    __tracebackhide__ = True
    trial = _trial(request, step)
    if trial is None:
        return handler(request)
    response = tried(trial, lambda name: handler(_with(request, name, trial, models)))
    swapping.tell(response.result, trial.swap)
    return response


async def called_async(
    request: Any, handler: Callable[[Any], Awaitable[Any]], step: Step, models: Mapping[str, Any]
) -> Any:
    """Do as `called`, on the event loop."""
    __tracebackhide__ = True
    trial = _trial(request, step)
    if trial is None:
        return await handler(request)
    response = await tried_async(trial, lambda name: handler(_with(request, name, trial, models)))
    swapping.tell(response.result, trial.swap)
    return response


def _trial(request: Any, step: Step) -> Trial | None:
    model = swapping.model_in(request.model) if step.accounts.listing else None
    return None if model is None else trial_of(swapping.describe(model).name, within=step)


def _with(request: Any, name: str, trial: Trial, models: Mapping[str, Any]) -> Any:
    if name == trial.models[0]:
        return request
    return request.override(model=models.get(name) or swapping.named_as(request.model, name))
