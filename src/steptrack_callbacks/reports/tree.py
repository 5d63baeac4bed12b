"""The report: the steps of a process as a tree, collected once and looked at in several ways."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, get_args

from steptrack_callbacks.engine.call_log import SeenCall, seen_calls
from steptrack_callbacks.steps.activation import ledger, running
from steptrack_callbacks.steps.attribution import (
    unattributed_account,
    unattributed_models,
    unattributed_usage,
)
from steptrack_callbacks.values.records import CompletedStep
from steptrack_callbacks.values.usage import Usage

from . import dicts, text
from .folding import Branch, Line, branches_of
from .marks import counted_once, difference, doubts_about, remarks_on
from .unfinished import RunAccount, RunName, Unrecorded, unrecorded


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class Report:
    """The steps of a process, as a tree; `str()` writes it as text, and a notebook shows it as HTML.

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
        refused, late = self._own("denied_calls"), self._own("late_calls")
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
            yield f"(unattributed): calls {', '.join(doubts)}"
        yield from (each.remark() for each in unrecorded(self.records, self.accounts.items()))
        if self.dropped_records:
            yield f"{self.dropped_records} older records were let go and are missing here"

    def to_dicts(self, of: dicts.Table = "steps") -> list[dict[str, Any]]:
        """Return flat dicts, one per step unless another table is asked for; made for `pandas.DataFrame`.

        A step's `cost_usd` contains the steps inside it; the columns `own_...` do not, so that these
        may be summed up. A cost that nobody knows is `None`, and `cost_is` says what a cost is
        worth: `exact`, `estimated`, `lower bound` or `unknown`.

        Args:
            of: `steps` in the order of the tree, the newest `calls` in the order in which they
                began, `models` with the dearest first, or the shared `budgets` and the `grants` of
                each step, with its `step_id`.

        Raises:
            ValueError: There are no dicts of that name.
        """
        match of:
            case "steps":
                own = {name: self._own(name) for name in ("denied_calls", "late_calls")}
                return [dicts.of_step(record, depth, own) for depth, record in self.lines()]
            case "calls":
                return [call.to_dict() for call in self.calls]
            case "models":
                return [dicts.of_model(model, used) for model, used in self.models.items()]
            case "budgets":
                return [row for _, record in self.lines() for row in dicts.of_budgets(record)]
            case "grants":
                return [row for _, record in self.lines() for row in dicts.of_grants(record)]
        raise ValueError(f"there are no dicts of {of!r}; use one of {', '.join(get_args(dicts.Table))}")

    def to_html(self, *, title: str = "Step report") -> str:
        """Return a page of its own: no script, and nothing that is fetched from elsewhere.

        Args:
            title: The page's heading.

        Example:
            >>> from steptrack_callbacks import report, step
            >>> with step("plan", max_calls=4):
            ...     pass
            >>> report().to_html().startswith("<!doctype html>")
            True
        """
        from .page import page_of  # noqa: PLC0415 - only once somebody wants HTML

        return page_of(self, title)

    def write_html(self, path: str | Path, *, title: str = "Step report") -> Path:
        """Write the page of `to_html` to a file, and return the file.

        Raises:
            OSError: It cannot be written.
        """
        target = Path(path)
        target.write_text(self.to_html(title=title), encoding="utf-8")
        return target

    def _repr_html_(self) -> str:
        from .page import fragment_of  # noqa: PLC0415

        return fragment_of(self)

    def __rich__(self) -> Any:
        return text.rich_report(self)

    def __str__(self) -> str:
        return text.text_of(self)

    __repr__ = __str__

    def _own(self, name: Literal["denied_calls", "late_calls"]) -> dict[str, int]:
        """Count such calls by the id of their very step, leaving out those of steps inside it."""
        inside: Counter[str | None] = Counter()
        for record in self.records:
            inside[record.parent_id] += getattr(record, name)
        return {record.id: max(0, getattr(record, name) - inside[record.id]) for record in self.records}

    def _roots(self) -> list[CompletedStep]:
        known = {record.id for record in self.records}
        return [record for record in self.records if record.parent_id not in known]


def report(run_id: str | None = None) -> Report:
    """Collect the steps of this process, running ones included.

    Args:
        run_id: Only the steps of this run, and nothing unattributed; `None` means all.

    Returns:
        The tree: print it, show it in a notebook, or take `to_html()` or `to_dicts()`.

    Example:
        >>> from steptrack_callbacks import record_usage, report, step
        >>> with step("plan", max_calls=4) as plan:
        ...     record_usage("my-model", input_tokens=10, output_tokens=5, cost_usd=0.02)
        >>> report(plan.run_id).total.cost_usd
        Decimal('0.02')
    """
    steps = [step for step in running() if step.kind != "hook"]
    unfinished = [step.record() for step in steps]
    records = tuple(record for record in [*unfinished, *ledger.peek()] if run_id in (None, record.run_id))
    known = {record.id for record in records} | ({None} if run_id is None else set())
    calls = seen_calls([*(step.account for step in steps if step.parent is None), unattributed_account()])
    return Report(
        records=records,
        unattributed=unattributed_usage() if run_id is None else Usage(),
        dropped_records=ledger.dropped,
        calls=tuple(call for call in calls if call.step_id in known),
        unattributed_models=unattributed_models() if run_id is None else {},
    )
