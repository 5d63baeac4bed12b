"""The report: a tree of steps as text, HTML and dicts."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

from steptrack_callbacks.engine.call_log import in_flight, seen_calls
from steptrack_callbacks.engine.open_call import open_calls_of
from steptrack_callbacks.steps.active import running
from steptrack_callbacks.steps.attribution import (
    unattributed_account,
    unattributed_models,
    unattributed_usage,
)
from steptrack_callbacks.steps.recording import ledger
from steptrack_callbacks.values.usage import Usage

from . import dicts, text
from .tree import Tree


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class Report(Tree):
    """The steps of a process, as a tree; `str()` writes it as text, and a notebook shows it as HTML.

    Attributes:
        records: Ended and running steps, in any order.
        unattributed: Usage of calls that found no step.
        dropped_records: Records that the ledger let go to stay bounded; they are missing here.
        calls: The newest calls, for the timeline; there may have been more.
        unattributed_models: The unattributed usage by model.
        accounts: What a ledger's accounts say of runs, for those that still run or were killed.
    """

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
                own = {name: self.own_counts(name) for name in ("denied_calls", "late_calls")}
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
    outermost = [*(step.account for step in steps if step.parent is None), unattributed_account()]
    calls = seen_calls(in_flight(call) for account in outermost for call in open_calls_of(account))
    return Report(
        records=records,
        unattributed=unattributed_usage() if run_id is None else Usage(),
        dropped_records=ledger.dropped,
        calls=tuple(call for call in calls if call.step_id in known),
        unattributed_models=unattributed_models() if run_id is None else {},
    )
