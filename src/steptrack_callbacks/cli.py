"""The command line: `steptrack`."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from . import __version__


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command, and return its exit code.

    Args:
        arguments: What stands after `steptrack`; `None` reads it from the process.
    """
    parser = argparse.ArgumentParser(prog="steptrack", description="Budgets for the steps of an LLM program.")
    parser.add_argument("--version", action="version", version=f"steptrack-callbacks {__version__}")
    commands = parser.add_subparsers(dest="command", required=True)
    demo = commands.add_parser("demo", help="run three budgeted steps, offline, and print what they spent")
    where = demo.add_mutually_exclusive_group()
    where.add_argument(
        "--proxy",
        action="store_true",
        default=None,
        help="through a LiteLLM proxy that is started on loopback",
    )
    where.add_argument(
        "--in-process", action="store_false", dest="proxy", help="with LiteLLM's mock answers in this process"
    )
    options = parser.parse_args(arguments)

    from .demo import run  # noqa: PLC0415 - the other commands do without

    return run(proxy=options.proxy)


if __name__ == "__main__":
    raise SystemExit(main())
