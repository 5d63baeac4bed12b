"""To whom a call is charged: the steps around it when it is made, or nobody, and then it says so."""

from __future__ import annotations

from collections.abc import Callable

from steptrack_callbacks import hooks
from steptrack_callbacks.concurrency.flow import Flow, run_async, run_sync
from steptrack_callbacks.engine import call_log
from steptrack_callbacks.engine.account import Account
from steptrack_callbacks.engine.admission import more_is_granted
from steptrack_callbacks.engine.call import Call, next_number
from steptrack_callbacks.engine.chain import AccountChain
from steptrack_callbacks.engine.request import UNKNOWN_MODEL, Request
from steptrack_callbacks.engine.settlement import deny
from steptrack_callbacks.engine.step_ref import StepRef
from steptrack_callbacks.values import user_warnings
from steptrack_callbacks.values.definitions import LimitName, StepDefinition
from steptrack_callbacks.values.errors import BudgetExhausted, LostStepWarning
from steptrack_callbacks.values.usage import Usage

from . import active, recording
from .active import innermost, running, stack
from .step import Step, wrapping


def _new_bucket() -> Account:
    return Account(StepRef(name="", path=""), StepDefinition(name="unattributed"))


_unattributed = _new_bucket()
_warned_of: set[str] = set()


def unattributed_usage() -> Usage:
    """Return what was charged to calls that found no step."""
    return _unattributed.settled.usage()


def unattributed_models() -> dict[str, Usage]:
    """Return the same by model."""
    return {model: tally.usage() for model, tally in list(_unattributed.models.items())}


def unattributed_account() -> Account:
    """Return the account that calls without a step are charged to."""
    return _unattributed


def new_call(request: Request, *, sent: bool = False, within: Step | None = None) -> Call:
    """Pin a call to the steps that are active here, or to the unattributed bucket if there are none.

    Args:
        request: What is sent.
        sent: Whether it was sent already, so that it must be charged whatever has become of the step.
        within: A step that is not on the stack and is charged as well, outside of the steps that
            began in it.

    Raises:
        BudgetExhausted: The call was started from the context of a step that has ended exhausted
            (phase `closed`): what it left running may not go on spending.
    """
    for step in reversed(stack.entries()):
        if step.status == "open":
            accounts = step.chain if step.chain_until is None else step.accounts
            if within is not None:
                accounts = _joined(step, within)
            if entries := wrapping.entries():
                return Call(accounts, request, wrapping=frozenset(entries) & frozenset(step.accounts))
            return Call(accounts, request)
        if stack.is_started_in(step):
            break  # the thread has outlived it, and may work for others now
        enforced = step.account.enforce != "observe" and not step.left_elsewhere
        if enforced and not sent and step.exhausted:
            raise _left_behind(step, request.model)
    if within is not None:
        return Call(within.accounts, request)
    _warn_of_lost_step()
    return Call((_unattributed,), request)


def _joined(here: Step, within: Step) -> AccountChain:
    inner = tuple(account for account in here.accounts if account not in within.accounts)
    return AccountChain(inner + within.accounts) if inner else within.accounts


def refuse_if_exhausted(model: str | None = None) -> None:
    """Refuse where a limit around is reached already; for seams that know too little to reserve.

    Args:
        model: What would be called; `None` if nobody has told.

    Raises:
        BudgetExhausted: A limit is reached (phase `denied`); the outermost such step owns it.
    """
    __tracebackhide__ = True
    run_sync(_refusal_if_exhausted(model or UNKNOWN_MODEL))


async def refuse_if_exhausted_async(model: str | None = None) -> None:
    """Do as `refuse_if_exhausted`, where an escalation may be awaited.

    Raises:
        BudgetExhausted: As there.
    """
    __tracebackhide__ = True
    await run_async(_refusal_if_exhausted(model or UNKNOWN_MODEL))


def _refusal_if_exhausted(model: str) -> Flow[None]:
    __tracebackhide__ = True
    step = innermost()
    while step is not None and (full := step.accounts.full()) is not None:
        if not (yield from more_is_granted(*full)):
            deny(step.accounts, next_number(), model, full[1])
            raise full[1]


def _left_behind(step: Step, model: str) -> BudgetExhausted:
    error = _exhaustion_of_ended(step)
    deny(step.accounts, next_number(), model, error)
    return error


def _exhaustion_of_ended(step: Step) -> BudgetExhausted:
    for account in (step.account, *step.budgets):
        if names := _spent_limits(account):
            return account.exhaustion("closed", account.breaches(names))
    error = step.exhaustion or step.account.raised
    assert error is not None  # else it would not have ended exhausted
    return step.account.exhaustion("closed", error.breaches) if error.breaches else error


def _spent_limits(account: Account) -> list[LimitName]:
    """Name the limits of an account that are reached, else the one that has refused a call."""
    error = account.raised
    if (names := account.full_limits()) or error is None:
        return names
    is_its_own = error.budget == account.exhaustion_fields().get("budget")
    return [error.limit] if is_its_own and error.limit in account.limits.as_dict() else []


def _warn_of_lost_step() -> None:
    # One that was left in another context is still on the stack here, though nobody means it any more.
    if outlived := [step for step in stack.entries() if stack.is_started_in(step)]:
        _warn_once(
            "outlived",
            f"a model call was made in a thread that has outlived step {outlived[-1].path!r}, which it was"
            " started in: it is counted as unattributed, and no limit holds it. Begin a step of its own in"
            " the thread, or join it inside the step's block",
        )
    elif ended := [step for step in stack.entries() if not step.left_elsewhere]:
        _warn_once(
            "ended",
            f"a model call was made in the context of step {ended[-1].path!r}, which has ended: it is"
            " counted as unattributed, and no limit holds it. Make the call inside the step's block: await"
            " tasks and join threads there, or begin a step of their own in them",
        )
    elif others := running():
        _warn_once(
            "lost",
            f"a model call found no step here, though {others[-1].path!r} is running elsewhere; it is counted"
            " as unattributed. Threads begin in the step of whoever starts them after install(), which is"
            " install(threads=True); elsewhere use bind(function) or step(..., parent=outer)",
        )


def _warn_once(cause: str, message: str) -> None:
    if cause not in _warned_of:
        _warned_of.add(cause)
        user_warnings.warn(message, LostStepWarning)


def _run_hook(name: str, handle: Callable[[], None]) -> None:
    """Run a hook's handler in a root step of its own, so that it can speak for an exhausted step."""
    __tracebackhide__ = True
    before = stack.entries()
    stack.replace(())
    try:
        with Step(StepDefinition(name=f"hook:{name.replace('/', '.')}"), kind="hook"):
            handle()
    finally:
        stack.replace(before)


hooks.set_isolation(_run_hook)


def reset() -> None:
    """Forget all records, running steps and unattributed calls, for tests."""
    global _unattributed
    active.reset()
    recording.reset()
    call_log.reset()
    wrapping.replace(())
    _warned_of.clear()
    _unattributed = _new_bucket()
