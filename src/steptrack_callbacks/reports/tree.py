"""The steps of a process as a tree, collected once: what all views look at."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Literal

from steptrack_callbacks.engine.call_log import SeenCall
from steptrack_callbacks.values.formatting import difference, doubts_about, of_calls
from steptrack_callbacks.values.records import CompletedStep
from steptrack_callbacks.values.usage import Usage

from .folding import Branch, Line, branches_of
from .marks import counted_once, remarks_on
from .unfinished import RunAccount, RunName, Unrecorded, unrecorded


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class Tree:
    """The steps of a process, as a tree: values only, whoever shows them.

    Attributes:
        records: Ended and running steps, in any order.
        unattributed: Usage of calls that found no step.
        dropped_records: Records that the ledger let go to stay bounded; they are missing here.
        calls: The newest calls, for the timeline; there may have been more.
        unattributed_models: The unattributed usage by model.
        accounts: What a ledger's accounts say of runs, for those that still run or were killed.
    """

    records: tuple[CompletedStep, ...]
    unattributed: Usage = field(default_factory=Usage)
    dropped_records: int = 0
    calls: tuple[SeenCall, ...] = ()
    unattributed_models: Mapping[str, Usage] = field(default_factory=dict)
    accounts: Mapping[RunName, RunAccount] = field(default_factory=dict)

    @property
    def unfinished(self) -> tuple[Unrecorded, ...]:
        """What runs have spent by their accounts in the ledger, and no record tells."""
        found = unrecorded(self.records, self.accounts.items())
        return tuple(each for each in found if each.account is not None)

    @property
    def total(self) -> Usage:
        """All that was charged here: to the outermost steps, what is unattributed, and what is unfinished.

        What a run had spent before one of its starts is in the start that spent it, and only there.
        """
        recorded = sum((record.here_usage for record in self._roots()), Usage())
        return sum((each.usage for each in self.unfinished), recorded + self.unattributed)

    @property
    def denied_calls(self) -> int:
        """Calls that were refused in these steps; nothing was sent for them."""
        return sum(record.denied_calls for record in self._roots())

    @property
    def late_calls(self) -> int:
        """Calls whose usage came only after their step had ended."""
        return sum(record.late_calls for record in self._roots())

    @property
    def models(self) -> dict[str, Usage]:
        """Usage by model, the dearest first; together with `unbroken` it is the total."""
        sums: dict[str, Usage] = {}
        for models in [*(record.models for record in self.records), self.unattributed_models]:
            for model, used in models.items():
                sums[model] = sums.get(model, Usage()) + used
        return dict(sorted(sums.items(), key=lambda item: (-item[1].cost_usd, -item[1].calls, item[0])))

    @property
    def unbroken(self) -> Usage:
        """What is in the total, and in no model's sum: of records that were let go or drained."""
        return difference(self.total, sum(self.models.values(), Usage()))

    def lines(self) -> Iterator[Line]:
        """Yield the tree from the top, with depths from 0."""
        for branch in self.branches():
            yield from branch.lines()

    def branches(self) -> tuple[Branch, ...]:
        """Return the trees, one for each outermost step, in the order in which they began."""
        return branches_of(self.records)

    def remarks(self, *, extras: bool = True) -> Iterator[str]:
        """Yield what a table cannot show, once for all steps that share it.

        Args:
            extras: Whether to tell of grants, and of what was spent before a step began, for views
                that have no place of their own for them.
        """
        refused, late = self.own_counts("denied_calls"), self.own_counts("late_calls")
        yield from counted_once(
            Counter(
                note
                for _, record in self.lines()
                for note in remarks_on(
                    record,
                    refused=refused[record.id],
                    late=late[record.id],
                    extras=extras,
                )
            )
        )
        if doubts := doubts_about(self.unattributed):
            yield f"(unattributed): {of_calls(doubts)}"
        yield from (each.remark() for each in unrecorded(self.records, self.accounts.items()))
        if self.dropped_records:
            yield f"{self.dropped_records} older records were let go and are missing here"

    def own_counts(self, name: Literal["denied_calls", "late_calls"]) -> dict[str, int]:
        """Count such calls by the id of their very step, leaving out those of steps inside it."""
        inside: Counter[str | None] = Counter()
        for record in self.records:
            inside[record.parent_id] += getattr(record, name)
        return {record.id: max(0, getattr(record, name) - inside[record.id]) for record in self.records}

    def _roots(self) -> list[CompletedStep]:
        known = {record.id for record in self.records}
        return [record for record in self.records if record.parent_id not in known]
