"""Doing something as soon as a module has been imported, without importing it."""

from __future__ import annotations

import sys
from collections.abc import Callable
from importlib.machinery import ModuleSpec
from importlib.util import find_spec
from types import ModuleType
from typing import Any, cast


def when_imported(name: str, then: Callable[[], None]) -> None:
    """Call a function once, when a top-level module has been imported; at once if it has been.

    Args:
        name: The module's name.
        then: Called after the module's own code has run, in the thread that imports it.
    """
    if name in sys.modules:
        then()
    elif not any(watcher.name == name for watcher in _watchers()):
        sys.meta_path.insert(0, _Watcher(name, then))


def forget() -> None:
    """Wait for no import any more."""
    for watcher in _watchers():
        sys.meta_path.remove(watcher)


def _watchers() -> list[_Watcher]:
    return [finder for finder in sys.meta_path if isinstance(finder, _Watcher)]


class _Watcher:
    """A finder that finds what the others find, and puts itself between a module and its loader."""

    def __init__(self, name: str, then: Callable[[], None]) -> None:
        self.name = name
        self._then = then
        self._asking_others = False

    def find_spec(self, name: str, _path: Any = None, _target: Any = None) -> ModuleSpec | None:
        if name != self.name or self._asking_others:
            return None
        self._asking_others = True
        try:
            spec = find_spec(name)
        finally:
            self._asking_others = False
        if spec is not None and spec.loader is not None:
            spec.loader = cast(Any, _Loader(spec.loader, self._loaded))
        return spec

    def _loaded(self) -> None:
        if self in sys.meta_path:  # nobody has said `forget` meanwhile
            sys.meta_path.remove(self)
            self._then()


class _Loader:
    """Loads as the module's own loader does, and then says so."""

    def __init__(self, loader: Any, loaded: Callable[[], None]) -> None:
        self._loader = loader
        self._loaded = loaded

    def __getattr__(self, name: str) -> Any:
        return getattr(self._loader, name)

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        return self._loader.create_module(spec)  # type: ignore[no-any-return]

    def exec_module(self, module: ModuleType) -> None:
        if module.__spec__ is not None:
            module.__spec__.loader = self._loader  # the module looks as if nobody had been here
        module.__loader__ = self._loader
        self._loader.exec_module(module)
        self._loaded()
