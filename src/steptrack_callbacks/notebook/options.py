"""What may stand after `%%step`, read into a declaration."""

from __future__ import annotations

import argparse
import difflib
import shlex
from collections.abc import Mapping
from decimal import Decimal, InvalidOperation
from typing import Any, NamedTuple, NoReturn

from steptrack_callbacks.values.definitions import StepDefinition
from steptrack_callbacks.values.synonyms import ours_for


class Declared(NamedTuple):
    """What a line says.

    Attributes:
        definition: The step.
        run_id: The run's name, or `None`.
        live: Whether it is shown while it runs.
    """

    definition: StepDefinition
    run_id: str | None
    live: bool


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise ValueError(message)


def _number(text: str) -> Decimal | str:
    try:
        return Decimal(text)
    except InvalidOperation:
        return text  # the declaration says what is wrong with it, and names the option


def _seconds(text: str) -> float | str:
    try:
        return float(text)
    except ValueError:
        return text


def _count(text: str) -> int | str:
    try:
        return int(text)
    except ValueError:
        return text


def _names(text: str) -> tuple[str, ...]:
    return tuple(name.strip() for name in text.split(","))


def _parser() -> _Parser:
    parser = _Parser(prog="%%step", add_help=False, allow_abbrev=False, argument_default=argparse.SUPPRESS)
    parser.add_argument("name", nargs="?")
    for option in ("--max-usd", "--wrap-up-usd"):
        parser.add_argument(option, type=_number)
    for option in ("--max-tokens", "--max-calls", "--max-tool-calls", "--wrap-up-calls"):
        parser.add_argument(option, type=_count)
    for option in ("--max-seconds", "--wait-s", "--downgrade-at"):
        parser.add_argument(option, type=_seconds)
    for option in ("--model", "--error-boundary", "--enforce", "--unpriced", "--run-id", "--escalation"):
        parser.add_argument(option)
    parser.add_argument("--budget", action="append", dest="budgets")
    parser.add_argument("--models", type=_names, metavar="MODEL,...")
    parser.add_argument("--no-clamp", action="store_false", dest="clamp")
    parser.add_argument("--no-cut-streams", action="store_false", dest="cut_streams")
    parser.add_argument("--quiet", action="store_true")
    return parser


def read(line: str, names: Mapping[str, Any], *, unnamed: str) -> Declared:
    """Read the line after `%%step`.

    Args:
        line: What stands there.
        names: The notebook's names, in which `--escalation` and `--budget` are looked up.
        unnamed: The step's name if the line gives none.

    Raises:
        ValueError: An option is unknown or malformed; the message names it and the fix.

    Example:
        >>> read("plan --max-usd 0.05 --error-boundary continue", {}, unnamed="cell").definition.max_usd
        Decimal('0.05')
    """
    parser = _parser()
    options, unknown = parser.parse_known_args(_words(line))
    if unknown:
        raise ValueError(_unknown(parser, unknown[0]))
    given = vars(options)
    run_id = given.pop("run_id", None)
    quiet = given.pop("quiet", False)
    if "escalation" in given:
        given["escalation"] = _found(names, given["escalation"], "--escalation")
    if "budgets" in given:
        given["budgets"] = tuple(_found(names, name, "--budget") for name in given["budgets"])
    definition = StepDefinition(**({"name": unnamed} | given))
    return Declared(definition, run_id, not quiet)


def _words(line: str) -> list[str]:
    try:
        return shlex.split(line)
    except ValueError as error:
        raise ValueError(f"%%step {line}: {str(error).lower()}; close the quotes around a name") from None


def _unknown(parser: argparse.ArgumentParser, word: str) -> str:
    known = [option for action in parser._actions for option in action.option_strings]  # noqa: SLF001
    if not word.startswith("-"):
        return f"%%step takes one name, and {word!r} is a second; quote a name that has spaces"
    option = word.partition("=")[0]
    close = difflib.get_close_matches(option, known, n=1, cutoff=0.75)
    meant = f": did you mean {close[0]}?" if close else "."
    if ours := ours_for(option, known):
        meant = f": here it is {' or '.join(ours)}."
    return f"%%step has no option {word!r}{meant} The options are {', '.join(sorted(known))}"


def _found(names: Mapping[str, Any], name: str, option: str) -> Any:
    if name not in names:
        raise ValueError(
            f"{option} {name}: there is no {name!r} in this notebook; define it in a cell before"
        )
    return names[name]
