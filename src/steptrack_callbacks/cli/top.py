"""`steptrack top`: the accounts of a ledger and the steps that ended last, again and again."""

from __future__ import annotations

import shutil
import sys
import time
from argparse import Namespace
from decimal import Decimal
from typing import Any, NamedTuple

from steptrack_callbacks.values.errors import LedgerError
from steptrack_callbacks.values.formatting import cost_of, usd
from steptrack_callbacks.values.usage import Usage

from .errors import OK
from .ledger import account_dicts
from .ledger_argument import opened
from .limits import budget_named, limit_rows
from .output import print_json, table

_SHOWN_ACCOUNTS = 15
_SHOWN_STEPS = 10
_RECENT_S = 3600.0
_ACCOUNT_COLUMNS = ("account", "spent", "calls", "tokens", "in flight", "reserved")
_STEP_COLUMNS = ("step", "status", "cost", "calls", "ended")
_BUDGET_COLUMNS = ("used of limit", "of budget", "starts again")
_CLEAR = "\x1b[H\x1b[2J"


class Look(NamedTuple):
    """What a ledger says at one moment; `problem` says why it cannot."""

    accounts: list[dict[str, Any]]
    steps: list[dict[str, Any]]
    problem: str | None = None


def go(options: Namespace) -> int:
    """Watch a ledger until Ctrl-C; print it once where nobody watches."""
    with opened(options.place) as store:
        if options.json or options.once or not sys.stdout.isatty():
            look = _look(store)
            if options.json:
                print_json({"accounts": look.accounts, "steps": look.steps})
            else:
                print("\n".join(_lines(store.url, look)))
            return OK
        _watch(store, options.interval)
    return OK


def _look(store: Any) -> Look:
    steps = store.records(since=time.time() - _RECENT_S)
    accounts = account_dicts(store.accounts())
    accounts.sort(key=lambda each: (-each["calls_in_flight"], -each["opened_at"], each["key"]))
    return Look(accounts, steps[::-1])


def _look_again(store: Any, before: Look) -> Look:
    try:
        return _look(store)
    except LedgerError as error:  # it may come back: what was seen last is shown until then
        return before._replace(problem=str(error))


def _watch(store: Any, interval_s: float) -> None:
    look = _look(store)
    screen = _screen()
    try:
        with screen:
            while True:
                screen.show("\n".join(_fitted(_lines(store.url, look))))
                time.sleep(interval_s)
                look = _look_again(store, look)
    except KeyboardInterrupt:
        return


def _lines(url: str, look: Look) -> list[str]:
    lines = [f"{url}  {time.strftime('%H:%M:%S %Z')}"]
    if look.problem:
        lines.append(f"! {look.problem}")
    accounts = [_account_row(each) for each in look.accounts[:_SHOWN_ACCOUNTS]]
    lines += ["", *table(_ACCOUNT_COLUMNS, accounts, numbers=range(1, 6)).splitlines()]
    if len(look.accounts) > _SHOWN_ACCOUNTS:
        lines.append(f"and {len(look.accounts) - _SHOWN_ACCOUNTS:,} more")
    budgets = [
        (shares, _printable(name, 24), starts)
        for name, shares, starts in limit_rows(look.accounts[:_SHOWN_ACCOUNTS], look.steps)
    ]
    if budgets:
        lines += ["", *table(_BUDGET_COLUMNS, budgets).splitlines()]
    steps = [_step_row(each) for each in look.steps[:_SHOWN_STEPS]]
    return [*lines, "", *table(_STEP_COLUMNS, steps, numbers=range(2, 4)).splitlines()]


def _account_row(account: dict[str, Any]) -> tuple[str, ...]:
    tokens = account.get("input_tokens", 0) + account.get("output_tokens", 0)
    key = _printable(_named(account["key"]), 30) + (" (closed)" if account["closed"] else "")
    calls = account.get("calls", 0)
    counts = (f"{calls:,}", f"{tokens:,}", f"{account['calls_in_flight']:,}")
    return (key, _cost(account, calls), *counts, usd(max(account["reserved_usd"], 0.0)))


def _named(key: str) -> str:
    """Name an account as people know it: `budget team-a, 1d`."""
    if (budget := budget_named(key)) is not None:
        name, window = budget
        return f"budget {name}, {window}" if window else f"budget {name}"
    return key.replace(":", " ", 1)


def _step_row(step: dict[str, Any]) -> tuple[str, ...]:
    ended = time.strftime("%H:%M:%S", time.localtime(step["ended_at"]))
    calls = step["llm_calls"]
    return (_printable(step["path"], 34), step["status"], _cost(step, calls), f"{calls:,}", ended)


def _cost(spent: dict[str, Any], calls: int) -> str:
    """Write a cost with what it is worth; a difference may have come to an account that was forgotten."""
    counts = {name: max(spent.get(name, 0), 0) for name in ("estimated_calls", "unpriced_calls")}
    return cost_of(Usage(calls=max(calls, 0), cost_usd=Decimal(str(max(spent["cost_usd"], 0.0))), **counts))


def _printable(text: str, width: int) -> str:
    shown = "".join(each if each.isprintable() else "?" for each in text)
    return shown if len(shown) <= width else f"{shown[: width - 1]}…"


def _fitted(lines: list[str]) -> list[str]:
    """Cut the picture to the terminal: what wraps or scrolls cannot be drawn over."""
    size = shutil.get_terminal_size()
    return [line[: size.columns - 1] for line in lines[: size.lines - 1]]


def _screen() -> Any:
    try:
        return _RichScreen()
    except ImportError:
        return _PlainScreen()


class _RichScreen:
    """Drawn over in place, on the terminal's other screen, by `rich`."""

    def __init__(self) -> None:
        from rich.console import Console  # noqa: PLC0415 - an extra
        from rich.live import Live  # noqa: PLC0415

        self._live = Live(console=Console(), screen=True, auto_refresh=False)

    def __enter__(self) -> None:
        self._live.start()

    def __exit__(self, *_: object) -> None:
        self._live.stop()

    def show(self, text: str) -> None:
        from rich.text import Text  # noqa: PLC0415

        self._live.update(Text(text, no_wrap=True), refresh=True)


class _PlainScreen:
    """Cleared and written again."""

    def __enter__(self) -> None:
        """Have nothing to prepare."""

    def __exit__(self, *_: object) -> None:
        """Leave the last picture there."""

    def show(self, text: str) -> None:
        sys.stdout.write(f"{_CLEAR}{text}\n")
        sys.stdout.flush()
