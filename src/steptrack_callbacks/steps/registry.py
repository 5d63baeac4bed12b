"""Steps that are declared as data, by name, for programs that are not to be changed."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import fields, replace
from typing import Any, TypeVar

from steptrack_callbacks import settings
from steptrack_callbacks.settings import Path, Settings
from steptrack_callbacks.values.budgets import BudgetDefinition
from steptrack_callbacks.values.definitions import PersonaDefinition, StepDefinition
from steptrack_callbacks.values.limits import check_mapping, did_you_mean

Declared = Mapping[str, Any] | StepDefinition

_EXAMPLE = "{'plan': {'max_usd': 0.05}}"
_ONLY_IN_CODE = {"error_boundary": "fail", "default": None, "escalation": None}

D = TypeVar("D", bound=StepDefinition)


def with_steps(before: Settings, steps: Mapping[str, Declared]) -> Settings:
    """Return settings in which names have these limits, or others than before.

    Args:
        before: What counts otherwise.
        steps: By name: the options of `step()` as a mapping, or a `StepDefinition`.

    Raises:
        ValueError: An option is malformed, or one that such a step cannot have.
    """
    check_mapping(steps, "steps", _EXAMPLE)
    checked = {name: _definition(name, options) for name, options in steps.items()}
    _refuse_twice([name for name in checked if (name,) in before.nodes])
    return replace(before, steps={**before.steps, **checked})


def with_nodes(before: Settings, nodes: Mapping[str, Declared]) -> Settings:
    """Return settings in which nodes of graphs have these limits, or others than before.

    Args:
        before: What counts otherwise.
        nodes: By a node's name, wherever it is, or by its path through subgraphs, joined with `/`.

    Raises:
        ValueError: A path or an option is malformed, or one that such a step cannot have.
    """
    check_mapping(nodes, "nodes", _EXAMPLE)
    checked = {_path(path): _definition(_path(path)[-1], options) for path, options in nodes.items()}
    taken = {*before.steps, *before.file.steps}
    _refuse_twice([path[0] for path in checked if len(path) == 1 and path[0] in taken])
    return replace(before, nodes={**before.nodes, **checked})


def named_budgets(budgets: Iterable[BudgetDefinition | str]) -> tuple[BudgetDefinition, ...]:
    """Return budgets, those that are given by their names as a file says them.

    Raises:
        ValueError: No file names it.
    """
    return tuple(_budget_called(each) if isinstance(each, str) else each for each in budgets)


def _budget_called(name: str) -> BudgetDefinition:
    file = settings.now.file
    if name in file.budgets:
        return file.budgets[name]
    if not file.source:
        raise ValueError(
            f"budget {name!r} is named, but no file of limits was read: declare it as [budgets.{name}] in"
            " steptrack.toml and call install(config=...), or give a Budget(...)"
        )
    meant = did_you_mean(name, file.budgets) or f"; it has {', '.join(file.budgets) or 'none'}"
    raise ValueError(f"{file.source} has no budget {name!r}{meant}")


def completed(definition: D, said: Collection[str] = ()) -> D:
    """Fill in what a file says of a step of that name, and the code does not say otherwise.

    Args:
        definition: What the code says.
        said: The options that the code gives although they are as by default.

    Raises:
        ValueError: What both say does not go together.
    """
    file = settings.now.file
    is_persona = isinstance(definition, PersonaDefinition)
    in_file: Mapping[str, StepDefinition] = file.personas if is_persona else file.steps
    found = in_file.get(definition.name)
    if found is None:
        return definition
    missing = {
        field.name: getattr(found, field.name)
        for field in fields(definition)
        if field.name not in ("name", *said) and getattr(definition, field.name) == field.default
    }
    if missing.get("error_boundary", definition.error_boundary) != "continue":
        missing.pop("default", None)  # the code says otherwise, and then nothing returns it
    try:
        return replace(definition, **missing)
    except ValueError as error:
        table = "personas" if is_persona else "steps"
        raise ValueError(
            f"{error}; the code says one of them, and [{table}.{definition.name}] in {file.source} the other"
        ) from None


def has_nodes() -> bool:
    """Tell whether any node has been declared."""
    return bool(settings.now.nodes)


def node_steps(path: Sequence[str]) -> list[StepDefinition]:
    """Return the steps that a node is in, outermost first.

    A step that was declared by its path is inside steps of the nodes on its way, declared or not.

    Args:
        path: The names of the nodes on the way to it, its own last.
    """
    nodes = settings.now.nodes
    found: list[StepDefinition | None] = []
    for depth, name in enumerate(path, start=1):
        by_path = nodes.get(tuple(path[:depth])) if depth > 1 else None
        if by_path is not None:
            on_the_way = zip(found, path, strict=False)
            found = [step or StepDefinition(name=node) for step, node in on_the_way]
        found.append(by_path or nodes.get((name,)))
    return [step for step in found if step is not None]


def is_declared(name: str) -> bool:
    """Tell whether a name has been declared."""
    now = settings.now
    return name in now.steps or name in now.file.steps


def definition_of(name: str) -> StepDefinition:
    """Return what was declared for a name; by default a step without limits.

    A step that a file says more of can only fail here as well, and keeps its limits.
    """
    declared = settings.now.steps.get(name) or completed(StepDefinition(name=name))
    return replace(declared, error_boundary="fail", default=None)


def _path(path: object) -> Path:
    names = tuple(path.split("/")) if isinstance(path, str) else ()
    if not names or not all(name.strip() for name in names):
        raise ValueError(f"a node is named by its path, such as 'outer/research', not {path!r}")
    return names


def _refuse_twice(names: list[str]) -> None:
    if names:
        raise ValueError(f"{', '.join(map(repr, names))}: declared as a step and as a node; keep one")


def _from_mapping(name: str, options: Mapping[str, Any]) -> StepDefinition:
    try:
        return StepDefinition.from_dict({**options, "name": name})
    except ValueError as error:
        message = str(error)
        if repr(name) in message:
            raise
        raise ValueError(f"step {name!r} {message.removeprefix('step ')}") from None


def _definition(name: str, options: Declared) -> StepDefinition:
    if isinstance(options, StepDefinition):
        _refuse_what_only_code_can_do(name, {field: getattr(options, field) for field in _ONLY_IN_CODE})
        return replace(options, name=name)
    if not isinstance(options, Mapping):
        raise ValueError(f"step {name!r}: give its options as a mapping, such as {{'max_usd': 0.05}}")  # noqa: TRY004
    _refuse_what_only_code_can_do(name, options)
    return _from_mapping(name, options)


def _refuse_what_only_code_can_do(name: str, options: Mapping[str, Any]) -> None:
    for field, only in _ONLY_IN_CODE.items():
        if field in options and options[field] != only:
            raise ValueError(
                f"step {name!r}: {field} cannot be declared from outside of the code, where such a step can"
                " only fail; use budgeted(...) around the runnable, StepBudgetMiddleware in the agent, or"
                " budget_error_handler(...) on the node"
            )
