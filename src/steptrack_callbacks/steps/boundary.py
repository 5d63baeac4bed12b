"""What a step does when it ends: its own exhaustion is its boundary's business, all else passes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from steptrack_callbacks.concurrency.flow import Flow
from steptrack_callbacks.engine.account import Account
from steptrack_callbacks.engine.budget_account import BudgetAccount
from steptrack_callbacks.engine.escalation import consult, why_not_granted
from steptrack_callbacks.values.errors import BudgetEscalated, BudgetExhausted
from steptrack_callbacks.values.statuses import Status


class Ending(NamedTuple):
    """How a step ended.

    Attributes:
        status: For the record.
        leaving: What must be raised now, or `None`.
        exhaustion: The step's own exhaustion that its boundary acted on, or `None`.
    """

    status: Status
    leaving: BaseException | None
    exhaustion: BudgetExhausted | None


def decide(
    account: Account,
    error: BaseException | None,
    *,
    finished: bool,
    result: Any,
    budgets: Sequence[BudgetAccount] = (),
) -> Flow[Ending]:
    """Decide what leaves a step, and what its record says.

    Args:
        account: The step's account, closed.
        error: What is leaving its body.
        finished: Whether a decorated function has returned.
        result: What it returned.
        budgets: The accounts of the budgets that hang on the step.
    """
    if error is None:
        own = yield from _overspent(account, [budget for budget in budgets if budget.charged_here])
        if own is None:
            return Ending("exhausted" if account.raised else "completed", None, None)
        own.response = account.response
        own.result = result if finished else None
        return _act(_owner(own, account, budgets), own, None)
    own, rest = _split(account, error)
    if own is None:
        return Ending(status_of(account, error), error, None)
    owner = _owner(own, account, budgets)
    if rest is not None:
        return _act_beside(owner, own, rest, error)
    return _act(owner, own, error if error is own else None)


def _overspent(account: Account, budgets: Sequence[Account]) -> Flow[BudgetExhausted | None]:
    """Return the exhaustion of a body that ended over its limit and was not told so, or `None`."""
    for each in (account, *budgets):
        while account.raised is None and each.enforce != "observe" and (names := each.passed_limits()):
            error = each.exhaustion("settled", each.breaches(names))
            if not (yield from consult(each, error)):
                return error
    return None


def _owner(own: BudgetExhausted, account: Account, budgets: Sequence[BudgetAccount]) -> Account:
    """Return whose limit it was: a budget's that hangs on the step, or the step's own."""
    return next((each for each in budgets if each.budget and each.budget.name == own.budget), account)


def _act(account: Account, own: BudgetExhausted, original: BaseException | None) -> Ending:
    boundary = account.ref.error_boundary
    if boundary == "continue":
        return Ending("continued", None, own)
    if boundary == "escalate":
        return Ending("escalated", escalated(own, why_not_granted(account, own)), own)
    return Ending("failed", original or own, own)


def _act_beside(account: Account, own: BudgetExhausted, rest: BaseException, error: BaseException) -> Ending:
    """Act on an exhaustion that left in a group with other errors, which are raised on."""
    boundary = account.ref.error_boundary
    if boundary == "continue":
        return Ending(status_of(account, rest), rest, own)
    if boundary == "escalate":
        handed_on = escalated(own, why_not_granted(account, own))
        group = BaseExceptionGroup("a step's exhaustion was escalated beside other errors", [handed_on, rest])
        return Ending("escalated", group, own)
    return Ending("failed", error, own)


def pass_on(leaving: BaseException | None, error: BaseException | None) -> None:
    """Raise what is leaving a step, if anything is; the body's own error keeps its cause."""
    __tracebackhide__ = True
    if leaving is not None and leaving is not error:
        raise leaving from error
    if leaving is not None:
        raise leaving


def leave(error: BaseException | None, leaving: BaseException | None) -> bool:
    """Raise what is leaving a step; returns whether its body's own error is swallowed."""
    __tracebackhide__ = True
    if leaving is not error:
        pass_on(leaving, error)
    return leaving is None


def escalated(error: BudgetExhausted, why: str = "") -> BudgetEscalated:
    """Return the same exhaustion, handed on, and say why nobody granted more."""
    hint = "; ".join(filter(None, (error.hint, why)))
    handed_on = BudgetEscalated(**error.fields() | {"hint": hint})
    handed_on.response, handed_on.result = error.response, error.result
    return handed_on


def _split(account: Account, error: BaseException) -> tuple[BudgetExhausted | None, BaseException | None]:
    """Tell a step's own exhaustion from the rest of what is leaving it."""
    if isinstance(error, BaseExceptionGroup):
        mine, rest = error.split(lambda leaf: _is_own(account, leaf))
        return (None, error) if mine is None else (_first_leaf(mine), rest)
    return (error, None) if isinstance(error, BudgetExhausted) and _is_own(account, error) else (None, error)


def _is_own(account: Account, error: BaseException) -> bool:
    return isinstance(error, BudgetExhausted) and not error.escalated and error.step_id == account.ref.step_id


def _first_leaf(group: BaseException) -> Any:
    while isinstance(group, BaseExceptionGroup):
        group = group.exceptions[0]
    return group


def status_of(account: Account, error: BaseException) -> Status:
    """Name what the record says of an error that is not the step's own exhaustion."""
    if isinstance(error, BaseExceptionGroup):
        statuses = {status_of(account, inner) for inner in error.exceptions}
        return statuses.pop() if len(statuses) == 1 else "error"
    if isinstance(error, BudgetExhausted) and account.ref.path.startswith(f"{error.path}/"):
        return "stopped"
    if any(kind.__name__ == "GraphBubbleUp" for kind in type(error).__mro__):
        return "interrupted"  # LangGraph's pause, told by name so as not to import it
    return "error" if isinstance(error, Exception) else "cancelled"
