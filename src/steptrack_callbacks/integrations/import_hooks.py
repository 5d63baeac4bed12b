"""Doing something as soon as a module has been imported, without importing it, and never to its harm."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable
from importlib.machinery import ModuleSpec
from importlib.util import find_spec
from types import ModuleType
from typing import Any, cast


def when_imported(name: str, then: Callable[[], bool]) -> None:
    """Call a function whenever a top-level module has been imported, or reloaded; at once if it is there.

    Args:
        name: The module's name.
        then: Called after the module's own code has run, in the thread that imports it. If it says
            `False`, it is called again after the next import of anything of the module's package.
    """
    known = next((watcher for watcher in _watchers() if watcher.name == name), None)
    if known is None:
        known = _Watcher(name, then)
        sys.meta_path.insert(0, known)
    if name in sys.modules:
        known.loaded()


_here = threading.local()


def is_within_import() -> bool:
    """Tell whether a module is being imported here, so that whatever is raised would break its import."""
    return getattr(_here, "is_within_import", False)


def forget() -> None:
    """Wait for no import any more."""
    for watcher in _watchers():
        sys.meta_path.remove(watcher)


def _watchers() -> list[_Watcher]:
    return [finder for finder in sys.meta_path if isinstance(finder, _Watcher)]


class _Watcher:
    """A finder that finds what the others find, and puts itself between a module and its loader."""

    def __init__(self, name: str, then: Callable[[], bool]) -> None:
        self.name = name
        self._then = then
        self._is_retrying = self._is_trying = False
        self._asking_others = False

    def find_spec(self, name: str, _path: Any = None, _target: Any = None) -> ModuleSpec | None:
        if self._asking_others or not self._is_watched(name):
            return None
        self._asking_others = True
        try:
            spec = find_spec(name)
        finally:
            self._asking_others = False
        if spec is not None and spec.loader is not None:
            spec.loader = cast(Any, _Loader(spec.loader, self.loaded))
        return spec

    def _is_watched(self, name: str) -> bool:
        return name == self.name or (self._is_retrying and name.startswith(f"{self.name}."))

    def loaded(self) -> None:
        """Say that the module is there."""
        if self._is_trying or self not in sys.meta_path:  # somebody may have said `forget` meanwhile
            return
        self._is_trying, is_done = True, False
        try:
            is_done = self._then()
        finally:  # it may be broken off
            self._is_trying, self._is_retrying = False, not is_done


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
        before, _here.is_within_import = is_within_import(), True
        try:
            self._loaded()
        finally:
            _here.is_within_import = before
