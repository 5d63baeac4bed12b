"""Whether a step may begin where it is to begin."""

from __future__ import annotations

from typing import Any

from steptrack_callbacks import attachments
from steptrack_callbacks.values.definitions import PersonaDefinition, StepDefinition

from .registry import completed


def check_unbegun(step: Any) -> None:
    """Refuse a step that has begun before, or whose parent is not running."""
    if step.placement is not None:
        raise RuntimeError(
            f"step {step.path!r} was entered before: a Step is good for one `with`, so make a fresh one"
            " with step(...), or decorate a function with it"
        )
    if step.parent is not None and step.parent.status != "open":
        raise RuntimeError(
            f"step {step.name!r} cannot begin inside {step.parent.path!r}, which is not running"
        )


def nowhere_for_default(name: str) -> ValueError:
    """Return what a `with` block is refused with that has a default."""
    return ValueError(
        f"step {name!r}: a `with` block has nowhere to put its default: decorate a function with"
        " the step, or set the value before the block"
    )


def checked(step: Any, run_id: str | None) -> StepDefinition:
    """Return what is declared of a step, with what a file says of it, if it may begin so.

    Raises:
        ValueError: It names a run, and is not the outermost step.
        StepTrackError: It has limits that cannot be kept.
    """
    if step.parent is not None and run_id is not None:
        _check_run(step, step.parent, run_id)
    definition: StepDefinition = completed(step.definition, step.said)
    if attachments.is_any_distrusted() and _would_refuse(definition):
        raise attachments.cannot_keep_limits(step.name)
    return definition


def _check_run(step: Any, parent: Any, run_id: str) -> None:
    if not parent.holds_runs:
        raise ValueError(f"run_id belongs to the outermost step, and {step.name!r} is inside {parent.path!r}")
    if parent.run_id == run_id:
        raise ValueError(f"run_id {run_id!r} of {step.name!r} is that of {parent.path!r} too: give it to one")


def _would_refuse(declared: StepDefinition) -> bool:
    """Tell whether calls may be refused in a step."""
    limited = bool(declared.limits or declared.budgets)
    if isinstance(declared, PersonaDefinition):
        limited = limited or any(stage.max_iterations is not None for stage in declared.stages)
    return limited and declared.enforce != "observe"
