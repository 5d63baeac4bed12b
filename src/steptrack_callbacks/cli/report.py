"""`steptrack report`."""

from __future__ import annotations

import sys
from argparse import Namespace
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from steptrack_callbacks.values.records import CompletedStep

from .errors import OK, UNKNOWN, CommandError
from .ledger_argument import opened
from .output import date, print_json, print_report, tables_of

if TYPE_CHECKING:
    from steptrack_callbacks.ledgers.protocol import Totals
    from steptrack_callbacks.reports.unfinished import RunAccount, RunName


def go(options: Namespace) -> int:
    """Print the tree of the steps that a ledger keeps, or write it as HTML."""
    from steptrack_callbacks.reports import Report  # noqa: PLC0415

    with opened(options.place) as store:
        kept, url = store.records(run_id=options.run, since=options.since), store.url
        accounts = _accounts(store.accounts(), options)
    if options.run is not None and not kept and not accounts:
        raise CommandError(_nothing(options, url), code=UNKNOWN)
    tree = Report(records=tuple(map(_record, kept)), accounts=accounts)
    if options.html:
        _write(tree, options)
    if options.json:
        print_json(tables_of(tree))
    elif not kept and not accounts and not options.html:
        print(_nothing(options, url))
    elif not options.html:
        print_report(tree, sys.stdout)
    return OK


def _accounts(found: Iterable[Totals], options: Namespace) -> dict[RunName, RunAccount]:
    """Return what the ledger's accounts say of the runs that are asked for.

    Of a part of the time nothing can be said: an account knows no times.
    """
    if options.since is not None:
        return {}
    from steptrack_callbacks.reports.unfinished import run_account, run_named  # noqa: PLC0415

    named = {run: totals for totals in found if (run := run_named(totals.key)) is not None}
    return {run: run_account(totals) for run, totals in named.items() if options.run in (None, run.run_id)}


def _nothing(options: Namespace, url: str) -> str:
    which = "no step" if options.run is None else f"no step of a run {options.run!r}"
    if options.since is not None:
        which += f" that ended since {date(options.since)}"
    return f"{which} is kept in {url}"


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
