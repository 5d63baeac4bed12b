"""A stream that is read on after its step has ended is held to what is still open around that step."""

import asyncio
import time

import pytest

from fake_framework import FakeFramework
from forking import in_child, needs_fork
from internals import assert_nothing_left
from spending import spend
from steptrack_callbacks import Budget, BudgetExhausted, Grant, Usage, hooks, step
from steptrack_callbacks.engine import account
from steptrack_callbacks.ledgers import current


@pytest.fixture
def framework() -> FakeFramework:
    return FakeFramework()


def left_by_its_step(framework, **limits):
    """Return a stream of which 100 tokens were sent, and that its step was charged 300 for."""
    with step("inner", **limits):
        return framework.open()


def settle(call, output_tokens):
    call.settle(Usage(input_tokens=100, output_tokens=output_tokens))


@pytest.mark.parametrize("limits", [{"max_tokens": 600}, {"max_usd": 0.00525}], ids=str)
def test_it_is_cut_where_it_passes_a_limit_of_the_step_around(framework, limits):
    with step("outer", error_boundary="continue", **limits) as outer:
        call = left_by_its_step(framework)
        for produced in range(10, 501, 10):
            call.progress(produced)
        with pytest.raises(BudgetExhausted) as raised:
            call.progress(501)
        call.abandon(501)
        raise raised.value
    assert (raised.value.phase, raised.value.step) == ("stream", "outer")
    assert (outer.status, outer.usage.total_tokens, outer.usage.calls) == ("continued", 601, 1)
    assert_nothing_left(outer)


def test_what_is_charged_for_it_and_not_used_so_far_does_not_cut_it(framework):
    with step("outer", max_tokens=350) as outer:
        call = left_by_its_step(framework)
        with pytest.raises(BudgetExhausted, match="400 tokens spent of 350"):  # as is estimated of the stream
            spend(input_tokens=100, output_tokens=0)
        call.progress(10)
        settle(call, 20)
    assert outer.usage.total_tokens == 220


def test_it_is_cut_when_the_time_of_the_step_around_is_over(framework, monkeypatch):
    with step("outer", max_seconds=9, error_boundary="continue") as outer:
        call = left_by_its_step(framework)
        call.progress(10)
        later = time.monotonic() + 10
        monkeypatch.setattr(account.time, "monotonic", lambda: later)
        with pytest.raises(BudgetExhausted, match="max_seconds") as raised:
            call.progress(11)
        call.abandon(11)
        raise raised.value
    assert outer.status == "continued"


@pytest.mark.parametrize("kind", ["memory", "sqlite"])
@pytest.mark.parametrize("mode", ["sync", "async"])
def test_it_is_cut_where_it_passes_a_budget_of_the_step_that_has_ended(framework, kind, mode, tmp_path):
    if kind == "sqlite":
        current.use(f"sqlite:///{tmp_path}/steps.db?timeout_s=5")
    budget = Budget("team", max_tokens=600)
    call = left_by_its_step(framework, budgets=[budget])

    def go_on(produced):
        return asyncio.run(call.progress_async(produced)) if mode == "async" else call.progress(produced)

    for produced in (100, 300, 500):
        go_on(produced)
    with pytest.raises(BudgetExhausted) as raised:
        go_on(501)
    call.abandon(501)
    assert (raised.value.budget, raised.value.phase) == ("team", "stream")
    (totals,) = current.ledger().store.look(["budget::0:team"])
    assert (totals.settled["output_tokens"], totals.settled["calls"], totals.held_calls) == (501, 1, 0)


def test_a_step_around_may_grant_it_more(framework):
    grants = [Grant(max_tokens=100)]
    options = {"error_boundary": "escalate", "escalation": lambda _: grants.pop() if grants else None}
    with step("outer", max_tokens=400, **options) as outer:
        call = left_by_its_step(framework)
        call.progress(400)
        settle(call, 400)
    assert (grants, outer.usage.total_tokens) == ([], 500)


def test_hooks_are_told_each_change_of_its_charge_once(framework):
    used = [Usage()]
    off = hooks.on(hooks.CallSettled, lambda event: used.append(_change(event)))
    with step("outer", max_tokens=10_000) as outer:
        call = left_by_its_step(framework)
        for produced in (150, 250, 350):
            call.progress(produced)
        settle(call, 400)
    off()
    assert sum(each.output_tokens for each in used) == outer.usage.output_tokens == 400
    assert sum(each.calls for each in used) == outer.usage.calls == 1


def _change(event: hooks.CallSettled) -> Usage:
    before = event.instead_of or Usage()
    return Usage(
        output_tokens=max(0, event.usage.output_tokens - before.output_tokens),
        calls=event.usage.calls - before.calls,
    )


def test_without_anything_open_around_it_is_read_to_its_end(framework):
    call = left_by_its_step(framework, max_tokens=310)
    for produced in (100, 1_000, 9_000):
        call.progress(produced)
    settle(call, 9_000)
    assert call.charge.usage.output_tokens == 9_000


@needs_fork
@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded, use of fork:DeprecationWarning")
def test_a_forked_child_that_reads_on_leaves_it_to_the_process_that_has_sent_it_to_tell_the_ledger(
    framework, tmp_path
):
    current.use(f"sqlite:///{tmp_path}/steps.db?timeout_s=5")
    call = left_by_its_step(framework, budgets=[Budget("team", max_tokens=10_000)])
    assert in_child(lambda: call.progress(900)) == 0
    (totals,) = current.ledger().store.look(["budget::0:team"])
    assert totals.settled["output_tokens"] == 200
    call.progress(900)
    (totals,) = current.ledger().store.look(["budget::0:team"])
    assert totals.settled["output_tokens"] == 900
    settle(call, 900)
