"""`steptrack proxy --example`."""

from __future__ import annotations

from argparse import Namespace
from pathlib import Path

from .errors import CommandError


def go(options: Namespace) -> int:
    """Run the example's proxy until it is stopped."""
    from steptrack_callbacks.litellm_proxy.example import run  # noqa: PLC0415 - the other commands do without

    folder = None if options.folder is None else Path(options.folder)
    if folder is not None and not folder.is_dir():
        raise CommandError(f"{options.folder!r} is not a folder; make it first, or leave --folder out")
    try:
        return run(folder, port=options.port)
    except ModuleNotFoundError as error:
        raise CommandError(str(error)) from error
