"""What runs have spent beyond their records: in starts that still run, were killed, or have no record now."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple
from urllib.parse import unquote

from steptrack_callbacks.ledgers.protocol import COST, Totals, pico_to_usd
from steptrack_callbacks.values.formatting import difference, plural, printable, spent
from steptrack_callbacks.values.records import CompletedStep
from steptrack_callbacks.values.usage import Usage, count_names

_RUN = "run:"


class RunName(NamedTuple):
    """Which run: the name of its outermost step, and the id by which it is resumed."""

    step: str
    run_id: str

    def __str__(self) -> str:
        return f"{printable(self.step)} (run {printable(self.run_id)})"


@dataclass(frozen=True, slots=True, kw_only=True)
class RunAccount:
    """What a ledger's account of a run says, whatever became of the processes that charged it.

    Attributes:
        usage: All that was charged.
        calls_in_flight: Calls that have room reserved now.
    """

    usage: Usage
    calls_in_flight: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Unrecorded:
    """What a run has spent that is in no record.

    Attributes:
        run: Which run.
        usage: What is missing in its records.
        account: The ledger's account that says so; `None` if only a later record does.
    """

    run: RunName
    usage: Usage
    account: RunAccount | None

    def remark(self) -> str:
        """Say it in a line."""
        said = f"{self.run}: another {spent(self.usage)}, in attempts without a record here"
        if self.account is None:
            return said
        if self.account.calls_in_flight:
            return f"{said}; {plural(self.account.calls_in_flight, 'call')} in flight"
        return f"{said}: still running, killed, or its record was pruned"


def run_account(totals: Totals) -> RunAccount:
    """Read a ledger's account of a run.

    A difference may have come to an account that was forgotten meanwhile: less than nothing is nothing.
    """
    counts: dict[str, Any] = {name: max(0, totals.settled.get(name, 0)) for name in count_names()}
    cost_usd = pico_to_usd(max(0, totals.settled.get(COST, 0)))
    return RunAccount(usage=Usage(**counts, cost_usd=cost_usd), calls_in_flight=totals.held_calls)


def run_named(key: str) -> RunName | None:
    """Read the key of a run's account in a ledger; `None` for any other account."""
    name, colon, run_id = key.removeprefix(_RUN).partition(":")
    return RunName(unquote(name), run_id) if colon and key.startswith(_RUN) else None


def unrecorded(
    records: Iterable[CompletedStep], accounts: Iterable[tuple[RunName, RunAccount]] = ()
) -> Iterator[Unrecorded]:
    """Yield the runs that have spent more than their records tell."""
    records, known = list(records), dict(accounts)
    starts, orphans = _starts_of(records)
    for run in dict.fromkeys([*starts, *known]):
        account, begun = known.get(run), starts.get(run, [])
        said = [record.usage for record in begun] + ([account.usage] if account else [])
        whole = max(said, key=lambda usage: (usage.calls, usage.cost_usd))
        told = sum((record.here_usage for record in begun), orphans.get(run.run_id, Usage()))
        rest = difference(whole, told)
        if rest.calls or rest.cost_usd:
            yield Unrecorded(run=run, usage=rest, account=account)


def _starts_of(
    records: list[CompletedStep],
) -> tuple[dict[RunName, list[CompletedStep]], dict[str, Usage]]:
    """Find the starts of named runs, and by run what inner steps spent whose outermost is missing."""
    run_of = {record.id: record.run_id for record in records}
    starts: dict[RunName, list[CompletedStep]] = {}
    orphans: dict[str, Usage] = {}
    for record in records:
        run = record.run_id
        if record.parent_id is not None and record.parent_id not in run_of:
            orphans[run] = orphans.get(run, Usage()) + record.here_usage
        elif run != run_of.get(record.parent_id or "", record.id):  # somebody has named it
            starts.setdefault(RunName(record.name, run), []).append(record)
    return starts, orphans
