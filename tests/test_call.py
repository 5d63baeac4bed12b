"""One call: pinned where it was made, charged once, and never left holding a reservation."""

from decimal import Decimal

import pytest

from fake_host import CALL_TOKENS, CALL_USD, TEN_CALLS_USD, FakeHost, price
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
def host() -> FakeHost:
    return FakeHost()


def test_a_call_goes_from_new_through_in_flight_to_settled(host):
    with step("plan"):
        call = new_call(host.request())
        assert (call.state, call.is_open) == ("new", False)
        call.admit()
        assert (call.state, call.is_open) == ("in flight", True)
        host.answer(call)
        assert (call.state, call.is_open) == ("settled", False)


def test_a_refused_call_is_denied_and_charges_nothing(host):
    with step("plan", max_usd=CALL_USD) as plan:
        host.ask()
        call = new_call(host.request())
        with pytest.raises(BudgetExhausted):
            call.admit()
        assert (call.state, call.is_open) == ("denied", False)
        host.answer(call)
        assert plan.usage.calls == 1
    assert record_of("plan").denied_calls == 1
    assert_nothing_left(plan)


def test_a_call_is_charged_to_the_step_it_was_made_in_though_the_context_has_moved_on(host):
    with step("outer") as outer:
        with step("first") as first:
            call = host.open()
        with step("second") as second:
            assert current_step() is second
            host.answer(call)
    assert (first.usage.calls, second.usage.calls, outer.usage.calls) == (1, 0, 1)
    assert first.cost_usd == outer.cost_usd == CALL_USD


def test_a_second_report_of_the_same_call_changes_nothing(host):
    with step("plan") as plan:
        call = host.open()
        host.answer(call)
        host.answer(call, output_tokens=100_000)
        call.fail()
        call.abandon(50)
        call.settle_free()
        call.withdraw()
        call.sweep()
    assert plan.usage == Usage(input_tokens=100, output_tokens=200, cost_usd=CALL_USD, calls=1)
    assert record_of("plan").revision == 0


def test_a_call_counts_in_every_step_and_persona_around_it_own_and_total_apart(host):
    with persona("editor") as editor, step("outer") as outer:
        host.ask()
        with step("inner") as inner:
            host.ask()
            host.ask()
    assert [scope.usage.calls for scope in (inner, outer, editor)] == [2, 3, 3]
    assert [scope.own_usage.calls for scope in (inner, outer, editor)] == [2, 1, 0]
    assert [scope.cost_usd for scope in (inner, outer, editor)] == [2 * CALL_USD, 3 * CALL_USD, 3 * CALL_USD]


def test_the_outer_total_is_right_while_the_inner_step_still_runs(host):
    with step("outer") as outer, step("inner"):
        host.ask()
        assert (outer.usage.calls, outer.cost_usd) == (1, CALL_USD)


def test_usage_is_kept_by_the_model_that_was_asked_for(host):
    with step("plan", model="declared") as plan:
        host.ask(model="small")
        host.ask(model="large")
        host.ask(model="small")
    models = record_of("plan").models
    assert {name: usage.calls for name, usage in models.items()} == {"small": 2, "large": 1}
    assert record_of("plan").model == "small"
    assert plan.usage.calls == 3


def test_a_stated_cost_goes_before_the_price(host):
    with step("plan") as plan:
        host.answer(host.open(), cost_usd=Decimal("0.5"))
    assert plan.cost_usd == Decimal("0.5")


@pytest.mark.parametrize("cost", [float("nan"), float("inf"), -1, True])
def test_a_cost_that_is_no_amount_is_refused_and_the_call_stays_open(host, cost):
    with step("plan") as plan:
        call = host.open()
        with pytest.raises(ValueError, match="cost_usd"):
            host.answer(call, cost_usd=cost)
        assert call.is_open
        host.answer(call)
    assert plan.cost_usd == CALL_USD


def test_a_failed_call_is_charged_only_what_the_provider_reported(host):
    with step("plan", max_usd=TEN_CALLS_USD) as plan:
        host.open().fail()
        assert plan.usage == Usage(calls=1, failed_calls=1)
        host.open().fail(Usage(input_tokens=100))
    assert plan.usage == Usage(input_tokens=100, cost_usd=Decimal("0.00025"), calls=2, failed_calls=2)
    assert_nothing_left(plan)


def test_an_abandoned_call_is_charged_what_was_seen_of_it_and_marked_estimated(host):
    with step("plan", max_usd=TEN_CALLS_USD) as plan:
        host.open().abandon(50)
    expected = Usage(
        input_tokens=100, output_tokens=50, cost_usd=Decimal("0.00075"), calls=1, estimated_calls=1
    )
    assert plan.usage == expected
    assert_nothing_left(plan)


def test_an_abandoned_call_of_which_nothing_was_seen_is_charged_what_was_expected(host):
    with step("plan") as plan:
        host.open(max_output_tokens=120).abandon()
    assert (plan.usage.output_tokens, plan.usage.estimated_calls) == (120, 1)


def test_what_a_provider_had_said_of_an_abandoned_call_counts_as_far_as_it_goes(host):
    begun = Usage(input_tokens=300, cache_read_tokens=200, output_tokens=1)
    with step("plan") as plan:
        host.open().abandon(50, reported=begun)
        host.open().abandon(3, reported=Usage(output_tokens=7))
    assert plan.usage.replace(cost_usd=Decimal(0)) == Usage(
        input_tokens=300 + 100, cache_read_tokens=200, output_tokens=50 + 7, calls=2, estimated_calls=2
    )


def test_an_estimate_is_never_less_than_what_the_stream_was_seen_to_produce(host):
    host.ask()  # 200 tokens are expected from now on
    with step("plan") as plan:
        call = host.open(max_output_tokens=None)
        call.progress(900)
    assert plan.usage.output_tokens == 900


def test_what_was_estimated_teaches_nothing_about_the_model(host):
    with step("plan", max_tokens=100_000) as plan:
        host.open(max_output_tokens=None).abandon(3)
        host.open(max_output_tokens=None).fail(Usage(input_tokens=100, output_tokens=1))
        call = host.open(max_output_tokens=None)
        assert plan.account.held_tokens == 100 + 500
        host.answer(call)
        host.open(max_output_tokens=None)
        assert plan.account.held_tokens == 100 + (200 + 1000) / 2  # one answer, and a long one unseen


def test_a_cached_answer_is_free_and_counts_no_call(host):
    with step("plan", max_usd=TEN_CALLS_USD, max_calls=1) as plan:
        host.open().settle_free()
        assert plan.usage == Usage()
        host.ask()
    assert plan.usage.calls == 1
    assert_nothing_left(plan)


def test_a_withdrawn_call_leaves_nothing_and_is_not_told_of(host):
    with recorder() as seen, step("plan", max_calls=1, max_usd=1) as plan:
        call = host.open()
        call.withdraw()
        assert (call.state, plan.usage) == ("withdrawn", Usage())
        host.ask()
    assert [event.usage.calls for event in seen.calls] == [1]
    assert_nothing_left(plan)


def test_attempts_before_the_last_count_as_failed_calls(host):
    with step("plan") as plan:
        call = host.open()
        call.attempts = 3
        host.answer(call)
    assert (plan.usage.calls, plan.usage.failed_calls, plan.usage.total_tokens) == (3, 2, CALL_TOKENS)


def test_a_call_refused_by_a_hook_holds_nothing(host):
    def refuse(_event):
        raise StepDenied("not today")

    with step("plan", max_usd=TEN_CALLS_USD) as plan:
        off = hooks.on(hooks.CallAdmitted, refuse)
        with pytest.raises(StepDenied, match="not today"):
            host.open()
        off()
        assert plan.usage == Usage()
        assert_nothing_left(plan)


def test_a_call_outside_of_all_steps_is_counted_as_unattributed(host):
    host.ask()
    assert unattributed_usage() == Usage(input_tokens=100, output_tokens=200, cost_usd=CALL_USD, calls=1)


def test_a_call_that_lost_its_step_warns_once_and_names_the_cure(host):
    plan = step("plan")
    plan.begin()  # running, but on no stack
    with pytest.warns(LostStepWarning, match="bind"):
        host.ask()
    host.ask()
    assert (unattributed_usage().calls, plan.usage.calls) == (2, 0)


def test_usage_recorded_by_hand_is_charged_even_where_there_is_no_room(host):
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


def test_a_call_of_unknown_price_is_counted_as_such_where_no_dollars_are_limited(host):
    with step("plan", max_tokens=CALL_TOKENS) as plan:
        host.ask(price=lambda _usage: None)
    assert (plan.usage.unpriced_calls, plan.cost_usd) == (1, 0)


def test_the_input_is_not_counted_where_no_limit_needs_it(host):
    with step("plan"):
        request = host.request()
        call = new_call(request)
        call.admit()
        call.settle(Usage(input_tokens=100, output_tokens=1))
    assert request.counted_input is None


def test_prices_of_the_fake_host_are_what_its_constants_say():
    assert to_usd(price(Usage(input_tokens=100, output_tokens=200))) == CALL_USD
