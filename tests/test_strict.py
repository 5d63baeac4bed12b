"""Limits that hold to the last token: strict ones, what is kept back, and streams that run on."""

import time

import pytest

from fake_framework import CALL_TOKENS, CALL_USD, FakeFramework, open_elsewhere
from internals import assert_nothing_left
from steptrack_callbacks import BudgetExhausted, Usage, pricing, step
from steptrack_callbacks.engine import output_stats


@pytest.fixture
def framework() -> FakeFramework:
    return FakeFramework()


def test_strict_sets_max_tokens_to_what_is_left_where_none_was_given(framework):
    with step("plan", max_tokens=1000, enforce="strict") as plan:
        call = framework.open(max_output_tokens=None)
        assert call.max_output_tokens == 900
        framework.answer(call, output_tokens=5000)
    assert (plan.usage.total_tokens, plan.status) == (1000, "completed")


def test_strict_sets_max_tokens_by_the_price_where_dollars_are_limited(framework):
    with step("plan", max_usd=CALL_USD, enforce="strict") as plan:
        call = framework.open(max_output_tokens=None)
        assert call.max_output_tokens == 200
        framework.answer(call, output_tokens=5000)
    assert plan.cost_usd == CALL_USD


def test_strict_sets_no_more_than_the_model_can_answer(framework):
    pricing.set_prices(
        {"small": {"output_usd_per_mtok": 1, "input_usd_per_mtok": 1, "max_output_tokens": 64}}
    )
    with step("plan", max_tokens=1000, enforce="strict") as plan:
        call = framework.open(max_output_tokens=None, model="small")
        assert call.max_output_tokens == 64
        assert plan.account.held_tokens == 164


@pytest.mark.parametrize(("limits", "left"), [({"max_tokens": 1000}, 399), ({"max_usd": 0.01}, 624)])
def test_strict_sets_max_tokens_to_what_calls_in_flight_leave(framework, limits, left):
    with step("plan", enforce="strict", **limits):
        framework.ask(max_output_tokens=1)  # the model is known now
        open_elsewhere(framework, max_output_tokens=300)
        assert framework.open(max_output_tokens=None).max_output_tokens == left


def test_strict_leaves_max_tokens_alone_where_the_request_has_one(framework):
    with step("plan", max_tokens=1000, enforce="strict"):
        assert framework.open(max_output_tokens=300).max_output_tokens is None


@pytest.mark.parametrize(("clamp", "can_clamp"), [(False, True), (True, False)])
def test_strict_reserves_the_models_longest_answer_where_max_tokens_may_not_be_set(
    framework, clamp, can_clamp
):
    pricing.set_prices(
        {"small": {"output_usd_per_mtok": 1, "input_usd_per_mtok": 1, "max_output_tokens": 64}}
    )
    with step("plan", max_tokens=1000, enforce="strict", clamp=clamp) as plan:
        call = framework.open(max_output_tokens=None, model="small", can_clamp=can_clamp)
        assert call.max_output_tokens is None
        assert plan.account.held_tokens == 164
        framework.refusal(max_output_tokens=None, model="small", upper_bound=937)


def test_a_strict_refusal_of_a_request_without_max_tokens_says_which_would_fit(framework):
    pricing.set_prices(
        {"large": {"output_usd_per_mtok": 1, "input_usd_per_mtok": 1, "max_output_tokens": 5000}}
    )
    call = {"model": "large", "can_clamp": False}
    with step("plan", max_tokens=1000, max_usd=1, enforce="strict"):
        error = framework.refusal(max_output_tokens=None, **call)
        assert str(error) == (
            "step 'plan' has no room under max_tokens: 0 tokens spent of 1000, and the next call needs at least"
            " 5100; strict reserves the model's longest answer, 5000 tokens, for a request without max_tokens:"
            " give the model a max_tokens of at most 900"
        )
        assert framework.refusal(max_output_tokens=901, **call).hint == ""
        framework.open(max_output_tokens=900, **call).withdraw()


@pytest.mark.parametrize("limits", [{"max_tokens": 100}, {"max_tokens": 1000, "max_calls": 0}])
def test_a_strict_refusal_names_no_max_tokens_where_none_would_help(framework, limits):
    pricing.set_prices(
        {"large": {"output_usd_per_mtok": 1, "input_usd_per_mtok": 1, "max_output_tokens": 5000}}
    )
    with step("plan", enforce="strict", **limits):
        assert framework.refusal(max_output_tokens=None, model="large", can_clamp=False).hint == ""


def test_strict_refuses_what_could_overshoot_though_it_probably_would_not(framework):
    with step("plan", max_tokens=1000, enforce="strict"):
        assert framework.refusal(max_output_tokens=901).phase == "denied"
        framework.ask(max_output_tokens=900)


def test_strict_goes_by_the_stated_margin_of_the_input(framework):
    with step("plan", max_tokens=1000, enforce="strict"):
        framework.refusal(max_output_tokens=800, upper_bound=201)
        framework.ask(max_output_tokens=800, upper_bound=200)


def test_a_provider_that_passes_its_stated_bound_is_counted_as_a_breach(framework):
    with step("plan", max_tokens=CALL_TOKENS, enforce="strict", error_boundary="continue") as plan:
        framework.open().settle(Usage(input_tokens=101, output_tokens=200))
    assert plan.record().strict_breaches == 1


def test_a_breach_that_a_late_report_confirms_is_counted_once(framework):
    with step("plan", max_tokens=CALL_TOKENS, enforce="strict", error_boundary="continue") as plan:
        call = framework.open()
        with pytest.raises(BudgetExhausted):
            call.progress(250)  # by a provider that ignores max_tokens
    assert plan.record().strict_breaches == 1
    call.settle(Usage(input_tokens=100, output_tokens=260))
    assert plan.record().strict_breaches == 1


# Wrap-up


def test_ordinary_calls_do_not_see_what_is_kept_back_for_wrapping_up(framework):
    with step("plan", max_usd=3 * CALL_USD, wrap_up_usd=CALL_USD, error_boundary="continue") as plan:
        framework.ask()
        framework.ask()
        assert plan.remaining("max_usd") == 0
        framework.refusal()
        with plan.wrap_up():
            assert plan.remaining("max_usd") == CALL_USD
            framework.ask()
            framework.refusal()
    assert plan.usage.calls == 3


def test_strict_sets_max_tokens_by_what_is_kept_back_while_wrapping_up(framework):
    with step("plan", max_usd=2 * CALL_USD, wrap_up_usd=CALL_USD, enforce="strict") as plan:
        framework.ask()
        with plan.wrap_up():
            assert framework.open(max_output_tokens=None).max_output_tokens == 200


def test_a_strict_refusal_says_what_would_fit_of_what_is_kept_back(framework):
    pricing.set_prices(
        {"large": {"output_usd_per_mtok": 1, "input_usd_per_mtok": 1, "max_output_tokens": 5000}}
    )
    call = {"model": "large", "can_clamp": False, "price": None}
    with step("plan", max_usd=0.001, wrap_up_usd=0.0005, enforce="strict") as plan:
        assert framework.refusal(max_output_tokens=None, **call).hint.endswith("at most 400")
        with plan.wrap_up():
            assert framework.refusal(max_output_tokens=None, **call).hint.endswith("at most 900")


def test_wrapping_up_one_step_does_not_open_what_another_keeps_back(framework):
    with (
        step("outer", max_usd=2 * CALL_USD, wrap_up_usd=CALL_USD),
        step("inner", max_usd=2 * CALL_USD, wrap_up_usd=CALL_USD) as inner,
    ):
        framework.ask()
        with inner.wrap_up():
            assert framework.refusal().step == "outer"


def test_a_stream_runs_until_max_seconds_and_is_cut_then(framework, monkeypatch):
    now = [0.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    with step("plan", max_seconds=60):
        stream = framework.open(streams=True)
        now[0] = 59.5
        stream.progress(1)
        now[0] = 60.0
        with pytest.raises(BudgetExhausted, match="max_seconds"):
            stream.progress(2)
        stream.abandon(2)


def test_an_ordinary_stream_is_cut_before_it_eats_what_is_kept_back(framework):
    with step("plan", max_usd=2 * CALL_USD, wrap_up_usd=CALL_USD) as plan:
        stream = framework.open(max_output_tokens=400)
        stream.progress(200)
        with pytest.raises(BudgetExhausted):
            stream.progress(201)
        stream.abandon(201)
        with plan.wrap_up():
            framework.open(max_output_tokens=400).progress(199)


# Streams


def test_a_stream_that_passes_the_limit_is_cut_and_charged_what_it_produced(framework):
    with step("outer", max_tokens=350, error_boundary="continue") as outer, step("inner") as inner:
        stream = framework.open(max_output_tokens=None)
        stream.progress(250)
        with pytest.raises(BudgetExhausted) as cut:
            stream.progress(251)
        stream.abandon(251)
    assert (cut.value.phase, cut.value.step) == ("stream", "outer")
    assert (inner.usage.total_tokens, outer.usage.total_tokens) == (351, 351)
    assert_nothing_left(inner, outer)


def test_what_streams_have_produced_counts_together(framework):
    with step("plan", max_tokens=800, enforce="estimate"):
        first, second = framework.open(), framework.open()
        first.progress(300)
        second.progress(300)
        with pytest.raises(BudgetExhausted):
            second.progress(301)


def test_the_error_of_a_stream_tells_what_it_has_come_to(framework):
    with step("plan", max_tokens=700):
        framework.ask()
        stream = framework.open()
        with pytest.raises(BudgetExhausted) as cut:
            stream.progress(301)
        stream.abandon(301)
    (breach,) = cut.value.breaches
    assert cut.value.consumed_tokens == breach.consumed == CALL_TOKENS + 100 + 301
    assert breach.reserved == 0


def test_a_stream_is_not_cut_where_the_step_says_so(framework):
    with step("plan", max_tokens=350, cut_streams=False, error_boundary="continue") as plan:
        stream = framework.open(max_output_tokens=None, can_clamp=False)
        stream.progress(10_000)
        framework.answer(stream, 10_000)
    assert plan.exhaustion is not None
    assert plan.exhaustion.phase == "settled"


def test_the_estimate_of_a_strict_call_is_no_more_than_the_max_tokens_that_was_set_on_it(framework):
    framework.answer(framework.open(2000), output_tokens=600)
    with step("plan", max_tokens=400, enforce="strict") as plan:
        call = framework.open(max_output_tokens=None)
        assert call.max_output_tokens == 300
        call.abandon()
    assert (plan.usage.output_tokens, plan.usage.estimated_calls) == (300, 1)


def test_the_estimate_of_a_call_is_no_more_input_than_its_bound_whatever_others_taught(framework):
    with step("plan", max_tokens=310, enforce="strict") as plan:
        call = framework.open(upper_bound=110)
        output_stats.learn("fake-model", output_tokens=200, counted_input=100, input_tokens=200)
        call.abandon(200)
    assert plan.usage.input_tokens == 110
