"""From a file to its values: read, checked whole, and every problem told at once."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterable
from dataclasses import replace
from itertools import islice
from os import PathLike, fspath
from pathlib import Path
from typing import Any, NoReturn

from .building import Building
from .lines import Lines
from .problems import MOST_PROBLEMS, ConfigError, Problem, shown
from .shape import misshapen
from .values import Config

_LARGEST_BYTES = 1_000_000
_PLACE = re.compile(r" \(at line (\d+), column (\d+)\)$")


def load(path: str | PathLike[str]) -> Config:
    """Read a `steptrack.toml`.

    Args:
        path: The file: TOML in UTF-8, of at most a megabyte.

    Returns:
        All that it says, checked.

    Raises:
        ValueError: It is not a path.
        ConfigError: There is no such file, it cannot be read, it is not TOML, or something in it is
            unknown or malformed. Its `problems` say all of it, with key, line, value and fix.

    Example:
        >>> load("no-such.toml")
        Traceback (most recent call last):
        ...
        steptrack_callbacks.config.problems.ConfigError: no-such.toml: there is no such file
    """
    if not isinstance(path, str | PathLike):
        raise ValueError(f"config must be the path of a file, not {path!r}")  # noqa: TRY004
    source = fspath(path)
    return parse(_text(source, _content(source)), source=source)


def parse(text: str, *, source: str = "steptrack.toml") -> Config:
    """Read what would stand in a `steptrack.toml`; see `load`.

    Args:
        text: TOML.
        source: What to call it in messages.

    Raises:
        TypeError: It is not text.
        ConfigError: As for `load`.
    """
    if not isinstance(text, str):
        raise TypeError(f"parse() reads text of TOML, not {shown(text)}: decode bytes, or load(path) a file")
    tables = _tables(text, source)
    problems = list(islice(misshapen(tables), MOST_PROBLEMS))
    building = Building(tables, frozenset(problem.path for problem in problems))
    config = building.config(source)
    problems = [*problems, *building.problems][:MOST_PROBLEMS]
    lines = Lines(text)
    if problems:
        raise ConfigError(source, _placed(problems, lines))
    return replace(config, warnings=_placed(config.warnings, lines))


def _content(source: str) -> bytes:
    try:
        path = Path(source)
        if path.is_dir():
            _refuse(source, f"is a directory; name the file in it, such as {path / 'steptrack.toml'}")
        if not path.exists():
            _refuse(source, "there is no such file")
        if not path.is_file():
            _refuse(source, "is not a plain file")
        with path.open("rb") as file:
            content = file.read(_LARGEST_BYTES + 1)
    except OSError as error:
        _refuse(source, f"cannot be read: {error.strerror or error}", error)
    if len(content) > _LARGEST_BYTES:
        _refuse(source, f"is larger than {_LARGEST_BYTES:,} bytes; is it really a steptrack.toml?")
    return content


def _text(source: str, content: bytes) -> str:
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        hint = "it looks like UTF-16; " if content[:2] in (b"\xff\xfe", b"\xfe\xff") else ""
        problem = Problem(why=f"is not UTF-8: {hint}save it as UTF-8", line=line)
        raise ConfigError(source, (problem,)) from error


def _tables(text: str, source: str) -> dict[str, Any]:
    try:
        return tomllib.loads(text)
    except RecursionError as error:
        _refuse(source, "is nested too deeply; write fewer brackets inside each other", error)
    except ValueError as error:
        why, line = str(error), None
        if place := _PLACE.search(why):
            why, line = f"{why[: place.start()]}, column {place[2]}", int(place[1])
        raise ConfigError(source, (Problem(why=f"is not TOML: {why}", line=line),)) from error


def _placed(problems: Iterable[Problem], lines: Lines) -> tuple[Problem, ...]:
    placed = [replace(problem, line=lines.line_of(problem.path)) for problem in problems]
    return tuple(sorted(placed, key=lambda problem: problem.line or 0))


def _refuse(source: str, why: str, cause: Exception | None = None) -> NoReturn:
    raise ConfigError(source, (Problem(why=why),)) from cause
