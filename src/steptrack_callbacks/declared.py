"""Steps that are declared as data, by name, for programs that are not to be changed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from .definitions import StepDefinition

_declared: dict[str, StepDefinition] = {}


def declare(steps: Mapping[str, Mapping[str, Any] | StepDefinition]) -> None:
    """Give names their limits, or replace those given before.

    Args:
        steps: By name: the options of `step()` as a mapping, or a `StepDefinition`.

    Raises:
        ValueError: An option is malformed, or one that such a step cannot have; nothing is declared then.
    """
    checked = {name: _definition(name, options) for name, options in steps.items()}
    _declared.update(checked)


def is_declared(name: str) -> bool:
    """Tell whether a name has been declared."""
    return name in _declared


def definition_of(name: str) -> StepDefinition:
    """Return what was declared for a name; by default a step without limits."""
    return _declared.get(name) or StepDefinition(name=name)


def reset() -> None:
    """Forget what was declared."""
    _declared.clear()


def _definition(name: str, options: Mapping[str, Any] | StepDefinition) -> StepDefinition:
    if isinstance(options, StepDefinition):
        definition = replace(options, name=name)
    elif isinstance(options, Mapping):
        definition = StepDefinition.from_dict({**options, "name": name})
    else:
        raise ValueError(f"step {name!r}: give its options as a mapping, such as {{'max_usd': 0.05}}")  # noqa: TRY004
    for field, only in (("error_boundary", "fail"), ("default", None), ("escalation", None)):
        if getattr(definition, field) != only:
            raise ValueError(
                f"step {name!r}: {field} cannot be declared from outside of the code, where such a step can"
                " only fail; use budgeted(...) around the runnable"
            )
    return definition
