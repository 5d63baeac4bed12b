"""`steptrack completion`: argcomplete asks this very program what could come next."""

from __future__ import annotations

from argparse import Namespace

from .errors import OK, CommandError


def go(options: Namespace) -> int:
    """Print what a shell evaluates."""
    try:
        from argcomplete.shell_integration import shellcode  # noqa: PLC0415 - an extra
    except ImportError:
        raise CommandError("completion needs pip install 'steptrack-callbacks[completion]'") from None
    print(shellcode(["steptrack"], shell=options.shell))
    return OK
