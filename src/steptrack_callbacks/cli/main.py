"""From arguments to a command, and from whatever happens there to an exit code."""

from __future__ import annotations

import argparse
import errno
import os
import sys
from collections.abc import Sequence
from importlib import import_module
from typing import TextIO

from steptrack_callbacks.values.errors import LedgerError

from .errors import BAD_INPUT, INTERRUPTED, PIPE_CLOSED, CommandError
from .parser import build

_UNWRITABLE = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command, and return its exit code.

    Args:
        arguments: What stands after `steptrack`; `None` reads it from the process.

    Raises:
        SystemExit: With code 2 for arguments that make no sense, with 0 after `--help`.
    """
    parser = build()
    if "_ARGCOMPLETE" in os.environ:
        import argcomplete  # noqa: PLC0415 - the shell asks what could come next

        argcomplete.autocomplete(parser)
    options = parser.parse_args(arguments)
    try:
        return _carry_out(options)
    except CommandError as error:
        return _complain(options, str(error), error.code)
    except LedgerError as error:
        return _complain(options, str(error), BAD_INPUT)
    except BrokenPipeError:  # whoever read our output has seen enough
        _drop_output()
        return PIPE_CLOSED
    except OSError as error:
        if error.errno not in _UNWRITABLE or options.command == "run":
            raise
        _drop_output()
        return _complain(options, f"its output could not be written: {error.strerror}", BAD_INPUT)
    except KeyboardInterrupt:
        return INTERRUPTED


def _carry_out(options: argparse.Namespace) -> int:
    command = import_module(f".{options.command}", __package__)
    if options.command == "run":  # a program's own output is its own business
        return int(command.go(options))
    _let_through_any_text(sys.stdout)
    code = int(command.go(options))
    sys.stdout.flush()
    return code


def _drop_output() -> None:
    """Write what is still to be written to nowhere, so that Python does not try it again as it ends."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _let_through_any_text(stream: TextIO) -> None:
    reconfigure = getattr(stream, "reconfigure", None)
    if reconfigure is not None:
        reconfigure(errors="backslashreplace")


def _complain(options: argparse.Namespace, message: str, code: int) -> int:
    print(f"steptrack {options.command}: {message}", file=sys.stderr)
    return code
