"""What `help()`, `dir()` and completion show: all options of a step, and of a step what is public."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable
from dataclasses import MISSING, fields
from typing import Any, TypeVar

from .definitions import StepDefinition, StepOptions

F = TypeVar("F", bound=Callable[..., Any])


def shows_options(function: F) -> F:
    """Spell out the options of a step in a function's signature, where it takes them as `**options`."""
    signature = inspect.signature(function)
    named = [each for each in signature.parameters.values() if each.kind is not each.VAR_KEYWORD]
    vars(function)["__signature__"] = signature.replace(parameters=[*named, *_options()])
    return function


def _options() -> list[inspect.Parameter]:
    types = StepOptions.__annotations__
    return [
        inspect.Parameter(
            field.name,
            inspect.Parameter.KEYWORD_ONLY,
            default=() if field.default is MISSING else field.default,
            annotation=getattr(types[field.name], "__forward_arg__", types[field.name]),
        )
        for field in fields(StepDefinition)
        if field.name in types
    ]


class ShowsPublicNames(type):
    """The class of those classes whose other members are for the rest of this package only."""

    _public: frozenset[str]

    def __dir__(cls) -> list[str]:
        """List what is public."""
        return cls.shown(super().__dir__())

    def shown(cls, names: Iterable[str]) -> list[str]:
        """Return those of some names that are public, or Python's own."""
        return sorted(name for name in names if name in cls._public or name.startswith("__"))
