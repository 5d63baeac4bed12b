"""`steptrack check`."""

from __future__ import annotations

import sys
from argparse import Namespace
from typing import Any

from .errors import BAD_INPUT, OK
from .output import print_json


def go(options: Namespace) -> int:
    """Check a file and say all that is wrong with it, or print the schema."""
    from steptrack_callbacks.config import ConfigError, load, schema  # noqa: PLC0415

    if options.schema:
        print_json(schema())
        return OK
    try:
        warnings = load(options.file).warnings
    except ConfigError as error:
        if options.json:
            _print_verdict(options.file, problems=error.problems)
        else:
            print(error, file=sys.stderr)
        return BAD_INPUT
    if options.json:
        _print_verdict(options.file, warnings=warnings)
    else:
        print(f"{options.file}: OK")
        for warning in warnings:
            print(f"  warning: {warning}")
    return OK


def _print_verdict(file: str, *, problems: tuple[Any, ...] = (), warnings: tuple[Any, ...] = ()) -> None:
    print_json(
        {
            "file": file,
            "ok": not problems,
            "problems": [problem.to_dict() for problem in problems],
            "warnings": [warning.to_dict() for warning in warnings],
        }
    )
