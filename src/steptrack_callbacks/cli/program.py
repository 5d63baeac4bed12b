"""A Python program that runs in this process as `python SCRIPT` or `python -m MODULE` would run it."""

from __future__ import annotations

import builtins
import os
import runpy
import sys
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.machinery import SourceFileLoader
from importlib.util import find_spec
from pathlib import Path
from types import CodeType, ModuleType, TracebackType
from typing import Any

from .errors import CommandError

_OUR_FOLDER = str(Path(__file__).parent)


@dataclass(frozen=True, slots=True, kw_only=True)
class Program:
    """What is to be run.

    Attributes:
        name: What to call it.
        run: Runs it, in the main thread, and returns when its main code has ended.
    """

    name: str
    run: Callable[[], None]


def script(path: str, arguments: Sequence[str]) -> Program:
    """Take a file, or a folder or archive that has a `__main__.py`.

    Raises:
        CommandError: It is not there, cannot be read, or is a folder with nothing to run.
    """
    file = Path(path)
    if not file.exists():
        raise CommandError(f"there is no file {path!r}; for a module, write -m {path!r}")
    if not os.access(file, os.R_OK):
        raise CommandError(f"{path!r} cannot be read: see its permissions")
    if file.is_dir() and not any((file / f"__main__.{ending}").exists() for ending in ("py", "pyc")):
        raise CommandError(
            f"{path!r} is a folder without a __main__.py: name the file in it that is to run, such as"
            f" {str(file / 'program.py')!r}"
        )
    name = file.absolute().stem
    if file.is_file() and _is_source(path):
        return Program(name=name, run=lambda: _run_script(path, arguments))
    return Program(name=name, run=lambda: _run_path(path, arguments))


def module(name: str, arguments: Sequence[str]) -> Program:
    """Take a module, or a package that has a `__main__`."""
    return Program(name=name, run=lambda: _run_module(name, arguments))


def _is_source(path: str) -> bool:
    if path.endswith((".py", ".pyc")):
        return path.endswith(".py")
    from zipfile import is_zipfile  # noqa: PLC0415 - few programs need the question

    return not is_zipfile(path)


def _run_script(path: str, arguments: Sequence[str]) -> None:
    _set_arguments(path, arguments, first_in_path=str(Path(path).resolve().parent))
    file = os.path.join(Path.cwd(), path)  # noqa: PTH118 - Python leaves the name as it was written
    code = compile(Path(file).read_bytes(), file, "exec", dont_inherit=True)
    _execute(code, __file__=file, __loader__=SourceFileLoader("__main__", file), __cached__=None)


def _run_path(path: str, arguments: Sequence[str]) -> None:
    """Run what is not source code: byte code, a folder, an archive."""
    _set_arguments(path, arguments, first_in_path=path)
    runpy.run_path(path, run_name="__main__")


def _run_module(name: str, arguments: Sequence[str]) -> None:
    _set_arguments("-m", arguments, first_in_path=str(Path.cwd()))
    spec = find_spec(name)
    if spec is not None and spec.submodule_search_locations is not None:
        spec = find_spec(f"{name}.__main__")
    get_code = getattr(spec.loader, "get_code", None) if spec is not None else None
    code: CodeType | None = get_code(spec.name) if spec is not None and get_code is not None else None
    if spec is None or code is None:
        raise ModuleNotFoundError(f"No module named {name!r} that can be run", name=name)
    sys.argv[0] = spec.origin or name
    _execute(
        code,
        __file__=spec.origin,
        __loader__=spec.loader,
        __cached__=spec.cached,
        __spec__=spec,
        __package__=spec.parent,
    )


def _set_arguments(path: str, arguments: Sequence[str], *, first_in_path: str) -> None:
    sys.argv[:] = [path, *arguments]
    if not sys.flags.safe_path:
        sys.path[0] = first_in_path  # in the place of our own script's folder


def _execute(code: CodeType, **names: Any) -> None:
    """Run code as the main module, which it stays: threads and pickles may need it later."""
    main = ModuleType("__main__")
    vars(main).update({"__builtins__": builtins, **names})
    if sys.version_info < (3, 14):
        vars(main)["__annotations__"] = {}
    sys.modules["__main__"] = main
    exec(code, vars(main))  # noqa: S102 - this is what we were asked to do


def wait_for_threads() -> None:
    """Wait for threads and pools as the interpreter does after the main code, before its exit functions.

    There is no public name for it: joining every thread oneself would wait forever for idle pools.
    """
    shut_down: Callable[[], None] | None = getattr(threading, "_shutdown", None)
    if shut_down is not None:
        shut_down()


def without_us(trace: TracebackType | None) -> TracebackType | None:
    """Cut the frames that led into the program off a traceback."""
    while trace is not None and _is_ours(trace):
        trace = trace.tb_next
    return trace


def _is_ours(trace: TracebackType) -> bool:
    file = trace.tb_frame.f_code.co_filename
    return file.startswith((_OUR_FOLDER, "<frozen runpy", "<frozen importlib")) or file == runpy.__file__
