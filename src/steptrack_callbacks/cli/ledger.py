"""`steptrack ledger`: what is kept, forgetting what is old, and taking it elsewhere."""

from __future__ import annotations

import csv
import json
import sys
from argparse import Namespace
from collections.abc import Mapping
from typing import Any

from .errors import OK, CommandError
from .ledger_argument import opened
from .output import date, print_json, table

_FORMULAS = ("=", "+", "-", "@", "\t", "\r")


def go(options: Namespace) -> int:
    """Do what the verb says."""
    if options.verb == "export" and options.json and options.csv:
        raise CommandError("--json and --csv exclude each other: keep one")
    {"info": _info, "prune": _prune, "export": _export}[options.verb](options)
    return OK


def _info(options: Namespace) -> None:
    with opened(options.place) as store:
        info = store.info()
        lapsed = sum(account.lapsed_calls for account in store.accounts())
    info |= {"lapsed_calls": lapsed}
    if options.json:
        print_json(info)
    else:
        rows = [
            (name, f"{value:,}" if isinstance(value, int) else str(value)) for name, value in info.items()
        ]
        print(table(("what", "is"), rows))


def _prune(options: Namespace) -> None:
    with opened(options.place, writing=True) as store:
        rows = store.prune(options.before)
    if options.json:
        print_json({"pruned": rows, "before": options.before})
    else:
        print(f"{rows:,} {'row' if rows == 1 else 'rows'} from before {date(options.before)} forgotten")


def _export(options: Namespace) -> None:
    with opened(options.place) as store:
        rows = (
            account_dicts(store.accounts())
            if options.of == "accounts"
            else store.records(since=options.since)
        )
    if options.csv:
        _print_csv(rows)
    else:
        print_json(rows)


def account_dicts(accounts: Any) -> list[dict[str, Any]]:
    """Return flat dicts of plain values for accounts, money in US dollars."""
    from steptrack_callbacks.ledgers.protocol import COST, pico_to_usd  # noqa: PLC0415

    return [
        {
            "key": each.key,
            "group": each.group,
            "cost_usd": float(pico_to_usd(each.settled.get(COST, 0))),
            **{name: count for name, count in sorted(each.settled.items()) if name != COST},
            "reserved_usd": float(pico_to_usd(each.held.cost)),
            "reserved_tokens": each.held.tokens,
            "calls_in_flight": each.held_calls,
            "lapsed_calls": each.lapsed_calls,
            "closed": each.closed,
            "opened_at": each.opened_at,
        }
        for each in accounts
    ]


def _print_csv(rows: list[dict[str, Any]]) -> None:
    columns = list(dict.fromkeys(name for row in rows for name in row))
    writer = csv.DictWriter(sys.stdout, columns, restval="", lineterminator="\n")
    writer.writeheader()
    writer.writerows({name: _cell(value) for name, value in row.items()} for row in rows)


def _cell(value: Any) -> Any:
    """Write a value so that a spreadsheet shows it, and never runs it."""
    if isinstance(value, Mapping | list):
        return json.dumps(value, ensure_ascii=False)
    if isinstance(value, str) and value.startswith(_FORMULAS):
        return f"'{value}"
    return value
