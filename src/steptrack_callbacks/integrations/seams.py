"""A seam: one place where another package is touched, as data, and how to see whether it is as it was known.

The tables beside this file list them by package. Code that depends on a place asks its seam for what
is there, and does without it if that is `None`:

```python
SEND = Seam(
    package="httpx",
    place="httpx:Client.send",
    shape=takes("request"),
    purpose="names the step on each request to the proxy",
    lost="requests of sync clients reach the proxy without the step's name",
)
send = SEND.get()
```
"""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib import import_module
from importlib.machinery import PathFinder
from pathlib import Path
from types import CodeType
from typing import Any, Literal

State = Literal["found", "missing", "changed", "not imported"]
Shape = Callable[[Any], str | None]
"""Looks at what stands in a place, and says what is wrong with it; `None` if nothing is."""

UPDATE = "take a version of {package} that was tested ({tested}), or a newer steptrack-callbacks"


@dataclass(frozen=True, slots=True)
class Finding:
    """What was found at a seam.

    Attributes:
        state: `found`, `missing`, `changed`, or `not imported` if nobody has imported the module.
        value: What stands there; `None` unless it was found.
        detail: What is wrong, in a few words; empty if nothing is.
    """

    state: State
    value: Any = None
    detail: str = ""

    @property
    def is_lost(self) -> bool:
        """Whether the seam cannot be used."""
        return self.state in ("missing", "changed")


@dataclass(frozen=True, slots=True, kw_only=True)
class Seam:
    """One place where another package is touched.

    Attributes:
        package: The top-level module, as it is imported.
        place: Where it is: `"module:attribute"`, `"module:Class.attribute"`, or `"module"` alone.
        purpose: What it is used for; reads on from "it".
        lost: What is no longer covered without it: a sentence without its full stop.
        cure: What to do about it; `{package}` and `{tested}` are filled in.
        shape: What it must look like; `None` for anything.
        is_gate: Whether calls can be refused through it. A package all of whose gates are gone is
            out of control.
    """

    package: str
    place: str
    purpose: str
    lost: str
    cure: str = UPDATE
    shape: Shape | None = None
    is_gate: bool = False

    def look(self, *, load: bool = False) -> Finding:
        """Look whether it is there, and as it was known; whatever stands there, nothing is raised.

        Args:
            load: Whether to import its module, if nobody has.
        """
        module_name, _, path = self.place.partition(":")
        module = sys.modules.get(module_name)
        if module is None:
            if not load:
                is_gone = self.package in sys.modules and not _is_there(module_name)
                return (
                    Finding("missing", detail=f"{module_name} is gone")
                    if is_gone
                    else Finding("not imported")
                )
            try:
                module = import_module(module_name)
            except ModuleNotFoundError as error:
                if (error.name or self.package).partition(".")[0] != self.package:
                    return Finding("not imported", detail=f"needs {error.name}, which is not installed")
                return Finding("missing", detail=f"{module_name} is gone")
            except Exception as error:  # noqa: BLE001 - whatever keeps it from being imported
                return Finding("missing", detail=f"{module_name} cannot be imported: {_first_line(error)}")
        return self._judged(module, path)

    def _judged(self, module: Any, path: str) -> Finding:
        value = module
        for name in filter(None, path.split(".")):
            try:
                value = getattr(value, name)
            except Exception:  # noqa: BLE001 - of a lazy module, anything
                return Finding("missing", detail=f"{self.place} is gone")
        try:
            wrong = None if self.shape is None else self.shape(value)
        except Exception as error:  # noqa: BLE001 - of an object that cannot be looked at
            wrong = f"cannot be read: {_first_line(error)}"
        return Finding("changed", detail=f"{self.place} {wrong}") if wrong else Finding("found", value)

    def get(self) -> Any:
        """Return what stands there, its module imported if need be; `None` if it is missing or changed."""
        return self.look(load=True).value


def _is_there(module_name: str) -> bool:
    """Tell whether a module could be imported, as far as the modules around it are; none is, to find out."""
    parent: Any = None
    parts = module_name.split(".")
    for name in (".".join(parts[: end + 1]) for end in range(len(parts))):
        if name not in sys.modules:
            return PathFinder.find_spec(name, getattr(parent, "__path__", [])) is not None
        parent = sys.modules[name]
        if parent is None:  # as Python marks what must not be imported
            return False
    return True


class GoneError(Exception):
    """Stands in for a class of errors that a package no longer has; nothing is ever raised as one."""


def _first_line(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}".partition("\n")[0]


# Shapes


def takes(*parameters: str) -> Shape:
    """Expect something that can be called with these parameters, by name or by position."""

    def wrong_with(value: Any) -> str | None:
        if not callable(value):
            return "cannot be called"
        known = inspect.signature(value, follow_wrapped=True).parameters.values()
        if any(each.kind is each.VAR_KEYWORD for each in known):
            return None
        names = {each.name for each in known}
        missing = [name for name in parameters if name not in names]
        return f"does not take {', '.join(missing)}" if missing else None

    return wrong_with


def has(*attributes: str) -> Shape:
    """Expect something with these attributes: its own, its class's, or set by its code."""

    def wrong_with(value: Any) -> str | None:
        mentioned = set(_names_in(value))
        missing = [name for name in attributes if not (hasattr(value, name) or name in mentioned)]
        return f"has no {', '.join(missing)}" if missing else None

    return wrong_with


def mentions(*words: str) -> Shape:
    """Expect code, of a function or of a class's methods, in which these names or texts stand."""

    def wrong_with(value: Any) -> str | None:
        mentioned = set(_names_in(value))
        missing = [word for word in words if word not in mentioned]
        return f"says nothing of {', '.join(missing)}" if missing else None

    return wrong_with


def is_a(kind: type) -> Shape:
    """Expect an object of a class, or a class derived from it."""

    def wrong_with(value: Any) -> str | None:
        fits = issubclass(value, kind) if isinstance(value, type) else isinstance(value, kind)
        return None if fits else f"is no {kind.__name__}"

    return wrong_with


def equals(known: object) -> Shape:
    """Expect this very value."""

    def wrong_with(value: Any) -> str | None:
        return None if value == known else f"is {value!r}, and was {known!r}"

    return wrong_with


def stands_in(folder: str) -> Shape:
    """Expect a function whose source file is in this folder, as in `"/langchain_core/language_models/"`."""

    def wrong_with(value: Any) -> str | None:
        file = inspect.unwrap(value).__code__.co_filename.replace("\\", "/")
        return None if folder in file else f"stands elsewhere than in {folder.strip('/')}"

    return wrong_with


def ships(*files: str) -> Shape:
    """Expect the folders of a package, its `__path__`, and these files in one of them."""

    def wrong_with(value: Any) -> str | None:
        missing = [file for file in files if not any(Path(folder, file).is_file() for folder in value)]
        return f"has no {', '.join(missing)}" if missing else None

    return wrong_with


def all_of(*shapes: Shape) -> Shape:
    """Expect several things at once."""

    def wrong_with(value: Any) -> str | None:
        return next((wrong for shape in shapes if (wrong := shape(value))), None)

    return wrong_with


def _names_in(value: Any) -> Iterator[str]:
    """Name all that the code of a function, or of a class's own methods, speaks of."""
    # Copied, since a class may grow meanwhile: as other threads import, or by being looked at.
    functions = list(vars(value).copy().values()) if isinstance(value, type) else [value]
    pending = [code for function in functions if (code := _code_of(function)) is not None]
    while pending:
        code = pending.pop()
        yield from (*code.co_names, *code.co_varnames, *code.co_freevars)
        for constant in code.co_consts:
            if isinstance(constant, CodeType):
                pending.append(constant)
            elif isinstance(constant, str):
                yield constant
            elif isinstance(constant, tuple | frozenset):
                yield from (each for each in constant if isinstance(each, str))
    if isinstance(value, type):
        yield from tuple(getattr(value, "__annotations__", ()))


def _code_of(function: Any) -> CodeType | None:
    function = getattr(function, "__func__", None) or getattr(function, "fget", None) or function
    code = getattr(inspect.unwrap(function), "__code__", None) if callable(function) else None
    return code if isinstance(code, CodeType) else None
