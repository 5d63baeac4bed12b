"""`steptrack report`."""

from __future__ import annotations

import sys
from argparse import Namespace
from collections.abc import Mapping
from typing import Any

from steptrack_callbacks.records import CompletedStep

from .errors import OK, UNKNOWN, CommandError
from .output import print_json, print_report
from .places import opened


def go(options: Namespace) -> int:
    """Print the tree of the steps that a ledger keeps, or write it as HTML."""
    tree = _collected(options)
    if options.html:
        _write(tree, options)
    if options.json:
        summary = {"total": tree.total.to_dict(), "steps": tree.to_dicts(), "models": tree.to_dicts("models")}
        print_json(summary)
    elif not options.html:
        print_report(tree, sys.stdout)
    return OK


def _collected(options: Namespace) -> Any:
    from steptrack_callbacks.views import Report  # noqa: PLC0415

    with opened(options.place) as store:
        kept = store.records(run_id=options.run, since=options.since)
    if options.run is not None and not kept:
        raise CommandError(f"no step of a run {options.run!r} is kept in {store.url}", code=UNKNOWN)
    return Report(records=tuple(map(_record, kept)))


def _record(data: Mapping[str, Any]) -> CompletedStep:
    try:
        return CompletedStep.from_dict(data)
    except ValueError as error:
        raise CommandError(f"record {data.get('id')!r} of the ledger cannot be shown: {error}") from None


def _write(tree: Any, options: Namespace) -> None:
    try:
        file = tree.write_html(options.html)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise CommandError(f"--html {options.html!r} cannot be written: {reason}") from None
    if not options.json:
        print(f"written to {file}")
