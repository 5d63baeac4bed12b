"""What is told of a call, to hooks, ledgers and callers: each detail where it belongs."""

from __future__ import annotations

import asyncio
import threading
from decimal import Decimal

import pytest

from fake_framework import CALL_USD, FakeFramework, ask_and_wait, open_elsewhere, until
from looking import record_of
from steptrack_callbacks import Budget, BudgetExhausted, Grant, LedgerError, UnpricedModel, Usage, hooks, step
from steptrack_callbacks.engine.request import Request
from steptrack_callbacks.ledgers import current
from steptrack_callbacks.steps.attribution import new_call
from steptrack_callbacks.testing import recorder
from steptrack_callbacks.tokens import InputCount


@pytest.fixture
def framework() -> FakeFramework:
    return FakeFramework()


def asked(model="gpt-4o", **details) -> Request:
    return Request(
        model=model,
        count_input=lambda: InputCount(tokens=100, upper_bound=100),
        max_output_tokens=200,
        **details,
    )


def listen(event):
    heard = []
    hooks.on(event, heard.append)
    return heard


# Calls


def test_a_call_knows_whether_it_went_through_admission(framework):
    with step("plan", max_usd=1):
        call, noted = new_call(framework.request()), new_call(framework.request(), sent=True)
        assert (call.admitted, noted.admitted) == (False, False)
        call.admit()
        noted.begin()
        assert (call.admitted, noted.admitted) == (True, False)


def test_a_call_that_waited_or_was_granted_room_went_through_admission_as_well(framework):
    with step("plan", max_tokens=599) as plan:
        first = open_elsewhere(framework)
        waiting = ask_and_wait(framework, plan)
        framework.answer(first, output_tokens=1)
        assert waiting.end().call.admitted
    grant = Grant(max_calls=1)
    with step("more", max_calls=0, error_boundary="escalate", escalation=lambda _: grant):
        assert framework.open().admitted


def test_a_call_waits_unless_it_is_told_otherwise(framework):
    with step("plan", max_tokens=599) as plan:
        first = open_elsewhere(framework)
        call = new_call(framework.request())
        waiting = threading.Thread(target=call.admit)
        waiting.start()
        until(lambda: plan.account.waiting)
        framework.answer(first, output_tokens=1)
        waiting.join(60)
        assert call.admitted


def test_a_stream_that_runs_past_its_limit_is_told_so_where_it_can_be_awaited(framework):
    async def main():
        async with step("plan", max_tokens=400):
            call = await framework.open_async()
            await call.progress_async(200)
            with pytest.raises(BudgetExhausted) as cut:
                await call.progress_async(301)
            call.abandon(301)
            return cut.value.phase

    assert asyncio.run(main()) == "stream"


def test_a_request_that_was_sent_once_is_one_call_and_each_more_a_failed_one(framework):
    with step("plan") as plan:
        call = framework.open()
        assert call.attempts == 0
        call.attempts += 1
        framework.answer(call)
        again = framework.open()
        again.attempts = 3
        framework.answer(again)
    assert (plan.usage.calls, plan.usage.failed_calls) == (4, 2)


def test_hooks_hear_which_call_was_admitted_and_why_one_was_not(framework):
    admitted, denied = listen(hooks.CallAdmitted), listen(hooks.CallDenied)
    with step("plan", max_usd=1):
        call = framework.open()
        with pytest.raises(UnpricedModel) as refusal:
            new_call(asked("no-such-model")).admit()
    assert [(event.call_id, event.model) for event in admitted] == [(call.number, "fake-model")]
    assert [(event.error, event.model) for event in denied] == [(refusal.value, "no-such-model")]


def test_hooks_hear_of_a_ledger_that_cannot_be_asked(framework):
    denied = listen(hooks.CallDenied)
    current.use("redis://127.0.0.1:1/0?timeout_s=0.05")
    with step("plan", budgets=[Budget("team-a", max_calls=9)]), pytest.raises(LedgerError) as refusal:
        framework.open()
    assert [event.error for event in denied] == [refusal.value]


def test_the_model_that_answered_is_the_one_that_is_priced_and_told():
    with recorder() as seen, step("plan", max_usd=1) as plan:
        call = new_call(asked("gpt-4o", provider="openai", operation="chat"))
        call.admit()
        call.settle(Usage(input_tokens=10**6), model="gpt-4o-mini")
    assert plan.cost_usd == Decimal("0.15")
    (event,) = seen.calls
    assert (event.model, event.response_model, event.provider) == ("gpt-4o", "gpt-4o-mini", "openai")
    assert (event.operation, event.instead_of) == ("chat", None)


def test_a_late_report_is_told_with_the_estimate_that_it_replaces(framework):
    settled = listen(hooks.CallSettled)
    with step("plan", max_usd=1):
        call = framework.open()
    framework.answer(call, output_tokens=10)
    estimate, report = settled
    assert (estimate.instead_of, report.usage.output_tokens) == (None, 10)
    assert report.instead_of == estimate.usage
    assert estimate.usage.estimated_calls == 1


def test_a_stated_cost_that_is_none_is_refused_by_its_name(framework):
    with step("plan"), pytest.raises(ValueError, match="cost_usd"):
        framework.open().settle(Usage(input_tokens=1), cost_usd=Decimal("NaN"))


@pytest.mark.parametrize("usage", [Usage(input_tokens=5), Usage(input_tokens=5, estimated_calls=1)])
def test_a_usage_is_estimated_if_either_side_says_so(framework, usage):
    with step("plan") as plan:
        framework.open().settle(usage, estimated=not usage.estimated_calls)
    assert plan.usage.estimated_calls == 1


def test_a_failed_call_that_used_nothing_costs_nothing_though_its_model_has_no_price(framework):
    with step("plan") as plan:
        framework.open(price=None).fail()
    assert (plan.usage.failed_calls, plan.usage.unpriced_calls, plan.cost_usd) == (1, 0, 0)


def test_a_call_left_open_in_a_strict_step_is_marked_as_one_estimate(framework):
    framework.ask()
    with step("plan", max_usd=1, enforce="strict"):
        framework.open(max_output_tokens=900, upper_bound=150)
    usage = record_of("plan").usage
    assert (usage.estimated_calls, usage.cost_usd) == (1, 150 * Decimal("2.5e-6") + 900 * Decimal("1e-5"))


def test_every_call_that_is_left_open_is_counted(framework):
    with step("plan") as plan:
        for _ in range(3):
            framework.open()
    assert (record_of("plan").in_flight_calls, plan.usage.calls) == (3, 3)


def test_a_step_that_ends_leaves_the_calls_of_others_open(framework):
    with step("job") as job:
        around = framework.open()
        with step("part"):
            own = framework.open()
        assert (own.state, around.state) == ("swept", "in flight")
        framework.answer(around)
    assert (job.usage.calls, record_of("job").in_flight_calls) == (2, 1)


def test_an_embedding_that_is_lost_is_estimated_to_have_made_nothing(framework):
    with step("plan") as plan:
        framework.open(max_output_tokens=0, operation="embeddings").abandon()
    assert (plan.usage.input_tokens, plan.usage.output_tokens) == (100, 0)


def test_a_call_of_unknown_price_that_is_left_open_in_a_strict_step_has_none(framework):
    with step("plan", max_usd=1, max_tokens=1000, enforce="strict", unpriced="free"):
        new_call(asked("no-such-model")).admit()
    usage = record_of("plan").usage
    assert (usage.calls, usage.unpriced_calls, usage.cost_usd) == (1, 1, 0)


@pytest.mark.parametrize("estimated", [0, 1])
def test_what_a_failed_call_is_said_to_have_used_is_an_estimate_only_if_it_is_called_one(
    framework, estimated
):
    with step("plan") as plan:
        framework.open().fail(Usage(input_tokens=5, estimated_calls=estimated))
    assert (plan.usage.failed_calls, plan.usage.estimated_calls) == (1, estimated)


def test_hooks_hear_which_call_was_settled_what_it_was_for_and_of_no_model_that_nobody_named(framework):
    settled = listen(hooks.CallSettled)
    with step("plan"):
        call = framework.open(operation="embeddings")
        call.abandon()
    (event,) = settled
    assert (event.call_id, event.operation, event.response_model) == (call.number, "embeddings", None)


def test_an_answer_is_kept_only_where_a_limit_may_have_to_hand_it_back(framework):
    answer = object()
    with step("plan", max_usd=1) as plan, step("part") as part:
        framework.answer(framework.open(), response=answer)
        assert (plan.account.response, part.account.response) == (answer, None)


# The ledger


def test_the_ledger_keeps_model_path_and_run_of_a_charge(framework, tmp_path):
    current.use(f"sqlite:///{tmp_path}/books.db")
    with step("job", run_id="night-1", budgets=[Budget("team-a", max_calls=9)]), step("part"):
        framework.ask()
    details = [charge["detail"] for charge in current.ledger().store.charges()]
    assert details == [{"model": "fake-model", "path": "job/part", "run_id": "night-1"}]


def test_a_budget_that_is_only_watched_has_no_say_in_a_call_that_another_limit_holds(framework):
    with step("plan", max_usd=1, budgets=[Budget("team-a", max_calls=1, enforce="observe")]) as plan:
        framework.ask()
        framework.ask()
        assert plan.usage.calls == 2
    (totals,) = current.ledger().store.look(["budget::0:team-a"])
    assert totals.settled["calls"] == 2


def test_what_the_ledger_is_to_be_told_may_be_awaited(framework):
    async def main():
        async with step("job", budgets=[Budget("team-a", max_calls=9)]):
            call = await framework.open_async()
            async with call.telling_ledger():
                framework.answer(call)
            (totals,) = current.ledger().store.look(["budget::0:team-a"])
            assert (totals.settled["calls"], totals.held_calls) == (1, 0)

    current.use("memory:")
    asyncio.run(main())


def test_prices_of_calls_are_those_that_the_tests_go_by(framework):
    with step("plan") as plan:
        framework.ask()
    assert plan.cost_usd == CALL_USD
