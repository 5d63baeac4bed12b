"""One call: pinned where it was made, charged once, and never left holding a reservation."""

from decimal import Decimal

import pytest

from fake_framework import CALL_TOKENS, CALL_USD, TEN_CALLS_USD, FakeFramework, price
from internals import assert_nothing_left
from looking import record_of
from steptrack_callbacks import (
    BudgetExhausted,
    LostStepWarning,
    StepDenied,
    UnpricedModel,
    Usage,
    current_step,
    hooks,
    persona,
    record_usage,
    step,
)
from steptrack_callbacks.steps.attribution import new_call, unattributed_usage
from steptrack_callbacks.testing import recorder
from steptrack_callbacks.values.money import to_usd


@pytest.fixture
def framework() -> FakeFramework:
    return FakeFramework()


def test_a_call_goes_from_new_through_in_flight_to_settled(framework):
    with step("plan"):
        call = new_call(framework.request())
        assert (call.state, call.is_open) == ("new", False)
        call.admit()
        assert (call.state, call.is_open) == ("in flight", True)
        framework.answer(call)
        assert (call.state, call.is_open) == ("settled", False)


def test_a_refused_call_is_denied_and_charges_nothing(framework):
    with step("plan", max_usd=CALL_USD) as plan:
        framework.ask()
        call = new_call(framework.request())
        with pytest.raises(BudgetExhausted):
            call.admit()
        assert (call.state, call.is_open) == ("denied", False)
        framework.answer(call)
        assert plan.usage.calls == 1
    assert record_of("plan").denied_calls == 1
    assert_nothing_left(plan)


def test_a_call_is_charged_to_the_step_it_was_made_in_though_the_context_has_moved_on(framework):
    with step("outer") as outer:
        with step("first") as first:
            call = framework.open()
        with step("second") as second:
            assert current_step() is second
            framework.answer(call)
    assert (first.usage.calls, second.usage.calls, outer.usage.calls) == (1, 0, 1)
    assert first.cost_usd == outer.cost_usd == CALL_USD


def test_a_second_report_of_the_same_call_changes_nothing(framework):
    with step("plan") as plan:
        call = framework.open()
        framework.answer(call)
        framework.answer(call, output_tokens=100_000)
        call.fail()
        call.abandon(50)
        call.settle_free()
        call.withdraw()
        call.sweep()
    assert plan.usage == Usage(input_tokens=100, output_tokens=200, cost_usd=CALL_USD, calls=1)
    assert record_of("plan").revision == 0


def test_a_call_counts_in_every_step_and_persona_around_it_own_and_total_apart(framework):
    with persona("editor") as editor, step("outer") as outer:
        framework.ask()
        with step("inner") as inner:
            framework.ask()
            framework.ask()
    assert [scope.usage.calls for scope in (inner, outer, editor)] == [2, 3, 3]
    assert [scope.own_usage.calls for scope in (inner, outer, editor)] == [2, 1, 0]
    assert [scope.cost_usd for scope in (inner, outer, editor)] == [2 * CALL_USD, 3 * CALL_USD, 3 * CALL_USD]


def test_the_outer_total_is_right_while_the_inner_step_still_runs(framework):
    with step("outer") as outer, step("inner"):
        framework.ask()
        assert (outer.usage.calls, outer.cost_usd) == (1, CALL_USD)


def test_usage_is_kept_by_the_model_that_was_asked_for(framework):
    with step("plan", model="declared") as plan:
        framework.ask(model="small")
        framework.ask(model="large")
        framework.ask(model="small")
    models = record_of("plan").models
    assert {name: usage.calls for name, usage in models.items()} == {"small": 2, "large": 1}
    assert record_of("plan").model == "small"
    assert plan.usage.calls == 3


def test_a_stated_cost_goes_before_the_price(framework):
    with step("plan") as plan:
        framework.answer(framework.open(), cost_usd=Decimal("0.5"))
    assert plan.cost_usd == Decimal("0.5")


@pytest.mark.parametrize("cost", [float("nan"), float("inf"), -1, True])
def test_a_cost_that_is_no_amount_is_refused_and_the_call_stays_open(framework, cost):
    with step("plan") as plan:
        call = framework.open()
        with pytest.raises(ValueError, match="cost_usd"):
            framework.answer(call, cost_usd=cost)
        assert call.is_open
        framework.answer(call)
    assert plan.cost_usd == CALL_USD


def test_a_failed_call_is_charged_only_what_the_provider_reported(framework):
    with step("plan", max_usd=TEN_CALLS_USD) as plan:
        framework.open().fail()
        assert plan.usage == Usage(calls=1, failed_calls=1)
        framework.open().fail(Usage(input_tokens=100))
    assert plan.usage == Usage(input_tokens=100, cost_usd=Decimal("0.00025"), calls=2, failed_calls=2)
    assert_nothing_left(plan)


def test_an_abandoned_call_is_charged_what_was_seen_of_it_and_marked_estimated(framework):
    with step("plan", max_usd=TEN_CALLS_USD) as plan:
        framework.open().abandon(50)
    expected = Usage(
        input_tokens=100, output_tokens=50, cost_usd=Decimal("0.00075"), calls=1, estimated_calls=1
    )
    assert plan.usage == expected
    assert_nothing_left(plan)


def test_an_abandoned_call_of_which_nothing_was_seen_is_charged_what_was_expected(framework):
    with step("plan") as plan:
        framework.open(max_output_tokens=120).abandon()
    assert (plan.usage.output_tokens, plan.usage.estimated_calls) == (120, 1)


def test_what_a_provider_had_said_of_an_abandoned_call_counts_as_far_as_it_goes(framework):
    begun = Usage(input_tokens=300, cache_read_tokens=200, output_tokens=1)
    with step("plan") as plan:
        framework.open().abandon(50, reported=begun)
        framework.open().abandon(3, reported=Usage(output_tokens=7))
    assert plan.usage.replace(cost_usd=Decimal(0)) == Usage(
        input_tokens=300 + 100, cache_read_tokens=200, output_tokens=50 + 7, calls=2, estimated_calls=2
    )


def test_an_estimate_is_never_less_than_what_the_stream_was_seen_to_produce(framework):
    framework.ask()  # 200 tokens are expected from now on
    with step("plan") as plan:
        call = framework.open(max_output_tokens=None)
        call.progress(900)
    assert plan.usage.output_tokens == 900


def test_what_was_estimated_teaches_nothing_about_the_model(framework):
    with step("plan", max_tokens=100_000) as plan:
        framework.open(max_output_tokens=None).abandon(3)
        framework.open(max_output_tokens=None).fail(Usage(input_tokens=100, output_tokens=1))
        call = framework.open(max_output_tokens=None)
        assert plan.account.held_tokens == 100 + 500
        framework.answer(call)
        framework.open(max_output_tokens=None)
        assert plan.account.held_tokens == 100 + (200 + 1000) / 2  # one answer, and a long one unseen


def test_a_cached_answer_is_free_and_counts_no_call(framework):
    with step("plan", max_usd=TEN_CALLS_USD, max_calls=1) as plan:
        framework.open().settle_free()
        assert plan.usage == Usage()
        framework.ask()
    assert plan.usage.calls == 1
    assert_nothing_left(plan)


def test_a_withdrawn_call_leaves_nothing_and_is_not_told_of(framework):
    with recorder() as seen, step("plan", max_calls=1, max_usd=1) as plan:
        call = framework.open()
        call.withdraw()
        assert (call.state, plan.usage) == ("withdrawn", Usage())
        framework.ask()
    assert [event.usage.calls for event in seen.calls] == [1]
    assert_nothing_left(plan)


def test_attempts_before_the_last_count_as_failed_calls(framework):
    with step("plan") as plan:
        call = framework.open()
        call.attempts = 3
        framework.answer(call)
    assert (plan.usage.calls, plan.usage.failed_calls, plan.usage.total_tokens) == (3, 2, CALL_TOKENS)


def test_a_call_refused_by_a_hook_holds_nothing(framework):
    def refuse(_event):
        raise StepDenied("not today")

    with step("plan", max_usd=TEN_CALLS_USD) as plan:
        off = hooks.on(hooks.CallAdmitted, refuse)
        with pytest.raises(StepDenied, match="not today"):
            framework.open()
        off()
        assert plan.usage == Usage()
        assert_nothing_left(plan)


def test_a_call_whose_hook_is_interrupted_is_not_sent_and_holds_and_costs_nothing(framework):
    def interrupt(_event):
        raise KeyboardInterrupt

    with step("plan", max_usd=TEN_CALLS_USD) as plan:
        off = hooks.on(hooks.CallAdmitted, interrupt)
        with pytest.raises(KeyboardInterrupt):
            framework.open()
        off()
        assert_nothing_left(plan)
    assert (plan.usage, plan.record().in_flight_calls) == (Usage(), 0)


def test_a_call_outside_of_all_steps_is_counted_as_unattributed(framework):
    framework.ask()
    assert unattributed_usage() == Usage(input_tokens=100, output_tokens=200, cost_usd=CALL_USD, calls=1)


def test_a_call_that_lost_its_step_warns_once_and_names_the_cure(framework):
    plan = step("plan")
    plan.begin()  # running, but on no stack
    with pytest.warns(LostStepWarning, match="bind"):
        framework.ask()
    framework.ask()
    assert (unattributed_usage().calls, plan.usage.calls) == (2, 0)


def test_usage_recorded_by_hand_is_charged_even_where_there_is_no_room(framework):
    with step("plan", max_tokens=CALL_TOKENS, error_boundary="continue") as plan:
        record_usage("fake-model", input_tokens=100, output_tokens=200)
        with pytest.raises(BudgetExhausted) as refusal:
            record_usage("fake-model", input_tokens=1, output_tokens=0)
    assert refusal.value.phase == "settled"
    assert (plan.usage.calls, plan.usage.total_tokens) == (2, CALL_TOKENS + 1)


def test_usage_recorded_by_hand_needs_the_models_name():
    with pytest.raises(ValueError, match="needs the model's name, not None"):
        record_usage(None, input_tokens=1, output_tokens=1)


def test_usage_of_unknown_price_recorded_by_hand_is_charged_before_it_is_refused():
    with step("plan", max_usd=1) as plan, pytest.raises(UnpricedModel):
        record_usage("no-such-model", input_tokens=10, output_tokens=5)
    assert (plan.usage.total_tokens, plan.usage.unpriced_calls) == (15, 1)


def test_a_call_of_unknown_price_is_counted_as_such_where_no_dollars_are_limited(framework):
    with step("plan", max_tokens=CALL_TOKENS) as plan:
        framework.ask(price=lambda _usage: None)
    assert (plan.usage.unpriced_calls, plan.cost_usd) == (1, 0)


def test_the_input_is_not_counted_where_no_limit_needs_it(framework):
    with step("plan"):
        request = framework.request()
        call = new_call(request)
        call.admit()
        call.settle(Usage(input_tokens=100, output_tokens=1))
    assert request.input_count is None


def test_prices_of_the_fake_framework_are_what_its_constants_say():
    assert to_usd(price(Usage(input_tokens=100, output_tokens=200))) == CALL_USD
