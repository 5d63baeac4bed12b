"""What a charge does to the accounts around a call, and who is told of it."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from steptrack_callbacks import hooks
from steptrack_callbacks.concurrency.lock import LOCK
from steptrack_callbacks.pricing import Terms
from steptrack_callbacks.values.errors import BudgetExhausted, StepTrackError
from steptrack_callbacks.values.usage import Usage

from . import call_log, output_stats
from .amounts import NOTHING, Charge, Sums, Tally
from .chain import AccountChain
from .open_call import OpenCall
from .thresholds import announce_thresholds, warn_if_observed

Lesson = Callable[[], None]
"""What an answer teaches of its model; to be called under the lock."""


def note_cut(call: OpenCall) -> None:
    """Count an answer that was cut short, if it was by what was left of a budget."""
    if call.reservation is None or call.max_output_tokens is None:
        return
    with LOCK:
        for account in call.accounts:
            account.cut += 1
        if (capped_by := call.reservation.cap.capped_by) is not None:
            capped_by.last_is_taken = True


def estimated_usage(call: OpenCall, output_tokens: int | None, reported: Usage | None = None) -> Usage:
    """Estimate the usage of a call that nobody reports."""
    if output_tokens is None:
        expected, cap = call.request.expected_output(), call.max_output_tokens
        output_tokens = max(expected if cap is None else min(expected, cap), call.produced)
    return call.request.estimated_usage(output_tokens, reported)


def swept(call: OpenCall, duration_s: float | None) -> tuple[Usage, int | None]:
    """Return what a call is charged whose step ends before its answer has come, and what that costs.

    Under a strict limit it is the most that the call can come to, so that the later report cannot
    pass the limit.
    """
    request, most = call.request, None if call.reservation is None else call.reservation.cap.most
    if most is None:
        usage = estimated_usage(call, None)
        return usage, request.cost_of(usage, duration_s=duration_s)
    usage = request.most(max(most, call.produced))
    cost = request.most_cost(usage.input_tokens, usage.output_tokens)
    return usage, cost if request.is_priced else None


def lesson_of(
    call: OpenCall, usage: Usage, terms: Terms | None, took_s: float | None, *, cut: bool
) -> Lesson:
    """Return what remembers an answer, for the estimates of those to come."""
    request, counted = call.request, call.request.input_count
    seen = output_stats.find(request.model)
    if counted is None and call.bound is not None and seen is not None:
        tokens, sent = usage.input_tokens, call.bound.sent
        if tokens * seen.densest[1] > sent * seen.densest[0]:  # denser than any input that was counted
            seen.densest, counted = (tokens, sent), request.counted
    tier = terms.service_tier if terms and request.service_tier is None else None
    if seen is not None and counted is None and tier is None and not usage.reasoning_tokens:
        return partial(seen.add_output, usage.output_tokens, took_s or 0.0, whole=not cut)  # nearly always
    return partial(
        output_stats.learn,
        request.model,
        output_tokens=usage.output_tokens,
        took_s=took_s or 0.0,
        truncated=cut,
        counted_input=None if counted is None else counted.tokens,
        input_tokens=usage.input_tokens,
        service_tier=tier,
        thought=usage.reasoning_tokens > 0,
    )


def put_on(accounts: AccountChain, charge: Charge, instead_of: Charge, model: str) -> tuple[Sums, Sums]:
    """Charge all accounts around a call, in place of what it was charged so far; under the lock.

    Returns:
        What was added, and what was taken off for it.
    """
    amounts, before = charge.sums(), () if instead_of is NOTHING else instead_of.sums()
    adding = accounts.adding
    if amounts or before:
        innermost = accounts[0]
        by_model = innermost.models.get(model) or innermost.models.setdefault(model, Tally())
        adding = (*adding, by_model.sums)
        if charge.calls:  # the use of a tool is no call of a model
            innermost.model = model
    for account in accounts.judging:
        account.charge(amounts, before)
    for index, value in before:
        for sums in adding:
            sums[index] -= value
    for index, value in amounts:
        for sums in adding:
            sums[index] += value
    for account in accounts.limited:
        for allowance in account.in_flight.allowances:  # written out, as each call comes here: see `revoke`
            allowance.calls_left = 0
    return amounts, before


def deny(accounts: AccountChain, number: int, model: str, error: StepTrackError) -> None:
    """Count a call that is refused, and let those know of it who want to."""
    busy = isinstance(error, BudgetExhausted) and error.phase == "busy"
    with LOCK:
        for account in accounts:
            account.denied += 1
            account.busy += busy
    call_log.note_denial(number, accounts[0].ref, model, error)
    accounts.revise_ended()
    if hooks.wanted(hooks.CallDenied):
        hooks.emit(hooks.CallDenied(**accounts[0].ref.event_fields(), model=model, error=error))


def tell_of(call: OpenCall, charge: Charge, instead_of: Charge | None) -> None:
    """Let hooks and thresholds know of a charge, and warn of limits that are only observed."""
    accounts = call.accounts
    for account in accounts.observed:
        warn_if_observed(account)
    if hooks.wanted(hooks.CallSettled):
        _emit_settled(call, charge, instead_of)
    if shares := hooks.thresholds():
        for account in accounts:
            announce_thresholds(account, sorted(shares))


def emit(call: OpenCall, event: Any, **fields: Any) -> None:
    """Tell hooks of something that happened to a call."""
    hooks.emit(event(**call.accounts[0].ref.event_fields(), **fields))


def _emit_settled(call: OpenCall, charge: Charge, instead_of: Charge | None) -> None:
    emit(
        call,
        hooks.CallSettled,
        call_id=call.number,
        model=call.request.model,
        usage=charge.as_usage(),
        instead_of=None if instead_of is None else instead_of.as_usage(),
        operation=call.request.operation,
        provider=call.request.provider,
        response_model=call.answered_by,
    )
