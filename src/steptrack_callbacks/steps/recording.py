"""What a step leaves behind: its record, and a new revision of it for each report that comes late."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from steptrack_callbacks.concurrency.flow import Flow, run_sync
from steptrack_callbacks.concurrency.lock import LOCK
from steptrack_callbacks.engine.account import Account
from steptrack_callbacks.engine.budget_binding import BudgetBinding
from steptrack_callbacks.ledgers import current
from steptrack_callbacks.ledgers.client import LedgerClient
from steptrack_callbacks.ledgers.memory import MemoryLedger
from steptrack_callbacks.values.records import CompletedStep, Kind
from steptrack_callbacks.values.statuses import Status
from steptrack_callbacks.values.usage import Usage

ledger = MemoryLedger()
"""The records of this process."""

_NOTHING = Usage()


@dataclass(slots=True, kw_only=True)
class Recording:
    """What a record says of a step that its account does not know.

    An account that is charged late has to find it, and it has to go with the account. So it knows no step, or
    each step would hang on itself and be left to the garbage collector.

    Attributes:
        error, kept_error: What left the step or was handled by its boundary: for people, and for a ledger.
        bindings: The budgets that hang on the step.
        client: The ledger that its record goes to as well, if any.
    """

    kind: Kind
    parent_id: str | None
    function: str | None
    status: Status
    error: str | None
    kept_error: str | None
    tool_calls: int
    started_at: float
    duration_s: float
    bindings: tuple[BudgetBinding, ...]
    client: LedgerClient | None
    revision: int = 0

    def revise(self, account: Account) -> None:
        """Put the whole record back after a late settlement."""
        made = self._keep(account, is_late=True)
        if self.client is not None:
            run_sync(self._tell(self.client, made))

    def put(self, account: Account) -> Flow[None]:
        """Put the record where records are kept."""
        made = self._keep(account)
        if self.client is not None:
            yield from self._tell(self.client, made)

    def _keep(self, account: Account, *, is_late: bool = False) -> Callable[[], CompletedStep]:
        """Take the record down and put it in its place at one instant: of two at once the newer one stays."""
        with LOCK:
            self.revision += is_late
            revision, made = self.revision, self.build(account)
            ledger.put(account.ref.step_id or "", made, revision)
        return made

    def _tell(self, client: LedgerClient, made: Callable[[], CompletedStep]) -> Flow[None]:
        if client.is_durable:
            yield from client.put_record(made().to_dict() | {"error": self.kept_error})
        else:
            yield from client.catch_up()
        yield from current.catch_up_others()

    def build(self, account: Account) -> Callable[[], CompletedStep]:
        """Take down what the record says now, and return what makes it: that takes time, and few are read."""
        revision, ref, usage = self.revision, account.ref, account.settled.usage()
        budgets = [binding.account() for binding in self.bindings]
        return partial(
            CompletedStep,
            id=ref.step_id or "",
            run_id=ref.run_id,
            parent_id=self.parent_id,
            path=ref.path,
            name=ref.name,
            kind=self.kind,
            function=self.function,
            persona=ref.persona,
            model=account.model,
            models={model: tally.usage() for model, tally in list(account.models.items())},
            limits=account.limits.as_dict() if account.limited else {},
            own_usage=account.own.usage() if account.models else _NOTHING,
            usage=usage,
            denied_calls=account.denied,
            busy_calls=account.busy,
            cut_calls=account.cut,
            in_flight_calls=account.in_flight_calls,
            late_calls=account.late_calls,
            strict_breaches=account.breached,
            tool_calls=self.tool_calls,
            status=self.status,
            error=self.error,
            grants=account.grants,
            swaps=account.swaps(),
            budgets={each.budget.name: each.to_dict() for each in budgets if each.budget},
            resumed_usage=account.resumed,
            here_usage=account.here_of(usage),
            started_at=self.started_at,
            ended_at=self.started_at + self.duration_s,
            duration_s=self.duration_s,
            revision=revision,
        )


def peek_completed_steps(run_id: str | None = None) -> list[CompletedStep]:
    """Return the records of the steps that have ended, inner ones first; `None` means all runs."""
    return ledger.peek(run_id)


def drain_completed_steps(run_id: str | None = None) -> list[CompletedStep]:
    """Return the records of the steps that have ended, and forget them; `None` means all runs.

    A late settlement puts the whole record back, with its next `revision`.
    """
    return ledger.drain(run_id)


def records_inside(step_id: str, run_id: str | None, open_steps: Sequence[Any]) -> list[CompletedStep]:
    """Return the records of a step and of the steps inside it, in the order of ending.

    Args:
        step_id: The step's.
        run_id: The run that they belong to; `None` for any.
        open_steps: The steps that are running, which may stand between them.
    """
    records = ledger.peek(run_id)
    parents = {step.id: step.parent.id for step in open_steps if step.parent}
    parents |= {record.id: record.parent_id for record in records if record.parent_id}

    def is_inside(inner: str | None) -> bool:
        while inner is not None and inner != step_id:
            inner = parents.get(inner)
        return inner is not None

    return [record for record in records if is_inside(record.id)]


def reset() -> None:
    """Forget all records, for tests."""
    ledger.clear()
    current.reset()
