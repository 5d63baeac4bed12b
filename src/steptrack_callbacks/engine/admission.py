"""How a call is admitted: it asks until there is room, somebody grants more, or it is denied."""

from __future__ import annotations

from steptrack_callbacks import hooks
from steptrack_callbacks.concurrency.flow import Flow
from steptrack_callbacks.concurrency.lock import LOCK
from steptrack_callbacks.values.errors import BudgetExhausted, StepTrackError

from . import fast_path
from .account import Account
from .chain import AccountChain
from .escalation import consult
from .lease import Lease
from .open_call import OpenCall
from .outcomes import ADMITTED, Outcome, Refused
from .queue import Waiter
from .request import Request
from .reservation import Reservation
from .settlement import deny, emit
from .shared_reservation import reserve_everywhere
from .swapping import Swap, hinted, swapping_of


def admission(call: OpenCall, *, patient: bool) -> Flow[None]:
    """Reserve room for a call everywhere; then it may be sent.

    Raises:
        BudgetExhausted: There is no room, or it did not come free in time.
        UnpricedModel: A dollar limit is in force and the model's price is unknown.
    """
    __tracebackhide__ = True
    if call.lease is not None:
        try:
            if (yield from fast_path.let_through_by_ledger(call, call.lease, patient=patient)):
                return
        except StepTrackError as refusal:
            _deny(call, refusal)
            raise
    if call.reservation is None and call.accounts.limited:
        call.reservation = Reservation(call.accounts, call.request, call.wrapping)
    if call.accounts.listing:
        _choose_model(call)
    if call.accounts.watches_usd:
        _require_price(call)
    while isinstance(outcome := (yield from _ask(call, patient=patient)), Refused):
        swapping = call.swapping
        if swapping is not None and _turn_to(call, swapping.after(outcome)):
            continue
        error = hinted(outcome, swapping).error()
        if swapping is not None and swapping.is_left_to_framework:
            raise error
        yield from _ask_for_more(call, outcome.account, error)
        _turn_to(call, None if swapping is None else swapping.restart())


def tell_admitted(call: OpenCall, swap: Swap | None) -> None:
    """Let hooks know that a call is about to be sent, and with which model in place of which."""
    if hooks.wanted(hooks.CallAdmitted):
        emit(call, hooks.CallAdmitted, call_id=call.number, model=call.request.model)
    if swap is not None and hooks.wanted(hooks.CallSwapped):
        emit(call, hooks.CallSwapped, call_id=call.number, asked=swap.asked, model=swap.used, why=swap.why)


def _choose_model(call: OpenCall) -> None:
    """Look at the models that steps around name for a call, and begin with the next one if money runs low."""
    if call.reservation is None:
        return
    call.swapping = swapping_of(call.accounts, call.request, wraps_up=bool(call.reservation.wrapping))
    chosen = None if call.swapping is None else call.swapping.begin()
    if isinstance(chosen, Refused):
        raise chosen.error()
    _turn_to(call, chosen)


def _turn_to(call: OpenCall, request: Request | None) -> bool:
    """Go on with another request, if there is one."""
    if request is None:
        return False
    call.request = request
    if call.reservation is not None:
        call.reservation = call.reservation.of_another(call.accounts, request)
    return True


def _ask_for_more(call: OpenCall, account: Account, error: BudgetExhausted) -> Flow[None]:
    """Deny the call if nobody grants more, or if whoever was to be asked fails, which is raised then."""
    __tracebackhide__ = True
    try:
        granted = yield from more_is_granted(account, error)
    except Exception:
        account.blame(error)
        _deny(call, error)
        raise
    if not granted:
        _deny(call, error)
        raise error


def more_is_granted(account: Account, error: BudgetExhausted) -> Flow[bool]:
    """Ask whoever can grant more, if anybody can; the refusal stands if nobody does."""
    __tracebackhide__ = True
    granted = yield from consult(account, error)
    if not granted and error.phase not in ("busy", "closed"):
        account.blame(error)
    return granted


def raise_if_passed(accounts: AccountChain) -> Flow[None]:
    """Raise if what is settled has passed a limit, and nobody grants more.

    Raises:
        BudgetExhausted: It has (phase `settled`); the outermost account that is over owns it.
    """
    __tracebackhide__ = True
    while (overrun := accounts.overrun()) is not None:
        if not (yield from more_is_granted(*overrun)):
            raise overrun[1]


def _ask(call: OpenCall, *, patient: bool) -> Flow[Outcome]:
    """Ask for room, wait for it if it may come free, and begin if there is some."""
    reservation = call.reservation
    if reservation is None:
        return _begin(call, ADMITTED)
    if call.lease is not None and reservation.shared:
        return (yield from _reserve_everywhere(call, reservation, call.lease, patient=patient))
    reservation.prepare(patient=patient)
    with LOCK:
        answer = reservation.ask()
        if not isinstance(answer, Waiter):
            return _begin(call, answer)
    return _begin(call, (yield answer))


def _reserve_everywhere(
    call: OpenCall, reservation: Reservation, lease: Lease, *, patient: bool
) -> Flow[Outcome]:
    """Begin once the ledger has agreed as well."""
    try:
        outcome = _begin(call, (yield from reserve_everywhere(reservation, lease, patient=patient)))
    except StepTrackError as error:
        _deny(call, error)
        raise
    if isinstance(outcome, Refused):
        yield from lease.give_back()
    return outcome


def _begin(call: OpenCall, outcome: Outcome) -> Outcome:
    """Begin if there was room, and is still."""
    with LOCK:
        if outcome is ADMITTED and call.reservation is not None:
            outcome = call.reservation.confirm()
        if outcome is ADMITTED:
            call.begin()
            if call.swapping is not None:
                call.swapping.note()
    return outcome


def _require_price(call: OpenCall) -> None:
    """Refuse a model of unknown price where dollars are limited: fail closed."""
    error = None if call.request.is_priced else call.accounts.blindness(call.request)
    if error is not None:
        _deny(call, error)
        raise error


def _deny(call: OpenCall, error: StepTrackError) -> None:
    call.state = "denied"
    deny(call.accounts, call.number, call.request.model, error)
