"""Who may go: one sentence of the design a test."""

from decimal import Decimal

import pytest

from fake_framework import CALL_TOKENS, CALL_USD, TEN_CALLS_TOKENS, TEN_CALLS_USD, FakeFramework
from internals import assert_nothing_left, left_on
from steptrack_callbacks import BudgetExhausted, UnknownCostWarning, UnpricedModel, Usage, step
from steptrack_callbacks.steps.attribution import new_call


@pytest.fixture
def framework() -> FakeFramework:
    return FakeFramework()


# What is reserved


def test_estimate_reserves_the_input_and_the_mean_of_the_outputs_with_one_long_one_unseen(framework):
    with step("plan", max_tokens=100_000) as plan:
        for output in (900, *[10] * 18, 20):
            framework.answer(framework.open(2000), output)
        framework.open(2000)
        assert plan.account.held_tokens == 100 + 96  # 2,000 tokens over 21 answers, rounded up


def test_few_answers_make_a_reservation_wide_and_many_make_it_narrow(framework):
    with step("plan", max_tokens=1_000_000) as plan:
        held = []
        for count in range(1, 201):
            framework.answer(framework.open(2000), 200)
            call = framework.open(2000)
            held += [plan.account.held_tokens] if count in (1, 20, 200) else []
            call.withdraw()
    assert held == [100 + 400, 100 + 220, 100 + 202]


def test_estimate_caps_what_is_expected_by_the_requests_own_max_tokens(framework):
    framework.ask()
    with step("plan", max_tokens=100_000) as plan:
        framework.open(max_output_tokens=50)
        assert plan.account.held_tokens == 100 + 50


def test_an_answer_cut_short_by_its_own_max_tokens_says_nothing_about_the_next(framework):
    framework.answer(framework.open(max_output_tokens=5), truncated=True)
    with step("plan", max_tokens=100_000) as plan:
        framework.open(max_output_tokens=300)
        assert plan.account.held_tokens == 100 + 300


def test_estimate_learns_by_how_much_inputs_are_undercounted(framework):
    with step("plan", max_tokens=100_000) as plan:
        framework.open().settle(Usage(input_tokens=130, output_tokens=200))
        framework.open()
        assert plan.account.held_tokens == 130 + 200


def test_strict_reserves_the_input_bound_and_the_requests_max_tokens(framework):
    framework.ask()
    with step("plan", max_tokens=100_000, enforce="strict") as plan:
        framework.open(max_output_tokens=400, upper_bound=150)
        assert plan.account.held_tokens == 150 + 400


def test_observe_refuses_nothing_and_reserves_nothing(framework):
    with step("plan", max_usd=CALL_USD, max_calls=1, enforce="observe") as plan:
        for _ in range(5):
            framework.ask()
        assert left_on(plan.account) == {}
    assert (plan.usage.calls, plan.status) == (5, "completed")


def test_a_limit_that_is_only_observed_warns_once(framework, caplog):
    with step("plan", max_calls=1, enforce="observe"):
        for _ in range(4):
            framework.ask()
    assert caplog.text.count("observed, not enforced") == 1


def test_the_environment_puts_a_whole_process_in_observe(framework, monkeypatch):
    monkeypatch.setenv("STEPTRACK_ENFORCE", "observe")
    with step("plan", max_calls=1, enforce="strict"):
        framework.ask()
        framework.ask()
    assert framework.sent == 2


def test_the_environment_can_put_a_process_in_nothing_but_observe(monkeypatch):
    monkeypatch.setenv("STEPTRACK_ENFORCE", "strict")
    with pytest.raises(ValueError, match="STEPTRACK_ENFORCE"):
        step("plan").begin()


def test_every_account_judges_by_its_own_mode(framework):
    with (
        step("outer", max_tokens=100_000, enforce="strict") as outer,
        step("inner", max_tokens=100_000) as inner,
    ):
        framework.answer(framework.open(1000), 20)
        framework.open(1000)
        assert outer.account.held_tokens == 100 + 1000
        assert inner.account.held_tokens == 100 + (20 + 600) / 2


def test_a_call_is_reserved_on_all_accounts_or_on_none(framework):
    with step("outer", max_tokens=CALL_TOKENS) as outer, step("inner", max_tokens=100_000) as inner:
        framework.open()
        framework.refusal()
        assert outer.account.held_tokens == inner.account.held_tokens == CALL_TOKENS


@pytest.mark.parametrize(
    ("limit", "phase", "said"),
    [
        ({"max_calls": 1}, "denied", "0 calls spent and 1 reserved of 1"),
        ({"max_tokens": 400}, "busy", "0 tokens spent and 300 reserved of 400"),
        ({"max_usd": 0.003}, "busy", "$0.0000 spent and $0.00225 reserved of $0.0030"),
    ],
)
def test_a_refusal_tells_what_calls_in_flight_hold(framework, limit, phase, said):
    with step("plan", **limit):
        framework.open()
        refusal = framework.refusal()
    assert refusal.phase == phase
    assert said in str(refusal)


def test_a_refusal_tells_how_many_calls_it_would_have_come_to(framework):
    with step("plan", max_calls=1):
        framework.ask()
        (breach,) = framework.refusal().breaches
    assert (breach.limit, breach.consumed, breach.projected) == ("max_calls", 1, 2)


# Who is admitted


def test_with_nothing_in_flight_only_the_certain_part_must_fit(framework):
    with step("plan", max_tokens=CALL_TOKENS + 101, error_boundary="continue") as plan:
        framework.ask()
        framework.ask()  # 101 tokens are left: enough for the input
        assert plan.usage.calls == 2
        framework.refusal()


def test_with_nothing_in_flight_a_call_is_refused_if_its_input_alone_overshoots(framework):
    with step("plan", max_tokens=CALL_TOKENS + 99):
        framework.ask()
        assert framework.refusal().phase == "denied"


def test_beside_a_call_in_flight_all_that_is_expected_must_fit(framework):
    with step("plan", max_tokens=2 * CALL_TOKENS - 1):
        framework.open()
        assert framework.refusal().phase == "busy"


def test_exactly_at_a_limit_is_within_it_and_admits_no_further_call(framework):
    with step("plan", max_usd=TEN_CALLS_USD, error_boundary="continue") as plan:
        for _ in range(10):
            framework.ask()
        assert plan.remaining("max_usd") == 0
        assert framework.refusal().phase == "denied"
    assert plan.cost_usd == TEN_CALLS_USD


def test_a_free_call_is_refused_at_a_full_limit_too(framework):
    with step("plan", max_usd=CALL_USD):
        framework.ask()
        framework.refusal(price=lambda _usage: 0)


def test_a_limit_of_no_dollars_admits_nothing(framework):
    with step("plan", max_usd=0):
        assert framework.refusal().limit == "max_usd"


@pytest.mark.parametrize(
    ("limit", "value"), [("max_usd", TEN_CALLS_USD), ("max_tokens", TEN_CALLS_TOKENS), ("max_calls", 10)]
)
@pytest.mark.parametrize("enforce", ["estimate", "strict"])
def test_a_budget_of_ten_calls_is_worth_ten_calls(framework, limit, value, enforce):
    with step("plan", **{limit: value}, enforce=enforce, error_boundary="continue") as plan:
        for _ in range(30):
            framework.try_to_ask()
    assert (framework.sent, framework.answered, len(framework.refused)) == (10, 10, 20)
    assert {error.phase for error in framework.refused} == {"denied"}
    assert {error.limit for error in framework.refused} == {limit}
    assert plan.exhausted
    assert_nothing_left(plan)


def test_max_calls_counts_failed_and_abandoned_calls_but_no_denials_and_no_cache_hits(framework):
    with step("plan", max_calls=3):
        framework.open().settle_free()
        framework.open().withdraw()
        framework.open().fail()
        framework.open().abandon(5)
        framework.open()
        assert framework.refusal().limit == "max_calls"
        assert framework.refusal().limit == "max_calls"


def test_max_tokens_counts_input_and_output_together(framework):
    with step("plan", max_tokens=CALL_TOKENS):
        framework.ask()
        error = framework.refusal()
    assert (error.limit, error.limit_value, error.consumed_tokens) == ("max_tokens", CALL_TOKENS, CALL_TOKENS)


def test_max_seconds_refuses_calls_and_cuts_streams_and_does_not_raise_at_the_end(framework):
    with step("plan", max_seconds=3600) as plan:
        stream = framework.open()
        stream.progress(1)
        plan.account.started -= 3601
        assert framework.refusal().limit == "max_seconds"
        with pytest.raises(BudgetExhausted) as cut:
            stream.progress(2)
        assert (cut.value.phase, cut.value.limit) == ("stream", "max_seconds")
        stream.abandon(2)
    assert plan.exhausted


def test_a_step_that_ended_in_time_is_not_exhausted_by_the_time_that_passes_afterwards():
    with step("plan", max_seconds=3600) as plan:
        pass
    plan.account.started -= 7200
    plan.account.ended -= 7200
    assert not plan.exhausted


# What a refusal says


def test_a_refusal_is_denied_if_the_call_would_not_fit_with_nothing_in_flight(framework):
    with step("plan", max_tokens=CALL_TOKENS + 50):
        framework.ask()
        assert framework.refusal().phase == "denied"


def test_a_refusal_is_busy_if_its_room_was_merely_reserved(framework):
    with step("plan", max_usd=CALL_USD) as plan:
        call = framework.open()
        assert framework.refusal().phase == "busy"
        call.withdraw()
        framework.ask()
    assert plan.status == "completed"


def test_the_outermost_account_without_room_owns_the_exhaustion_and_breaches_lists_all(framework):
    with step("a", max_tokens=CALL_TOKENS, max_calls=1), step("b"), step("c", max_calls=1) as inner:
        framework.ask()
        error = framework.refusal()
        assert (error.path, error.limit) == ("a", "max_tokens")
        assert [(breach.path, breach.limit) for breach in error.breaches] == [
            ("a", "max_tokens"),
            ("a", "max_calls"),
            ("a/b/c", "max_calls"),
        ]
        assert error.step_id != inner.id


def test_the_inner_account_owns_the_exhaustion_if_the_outer_one_has_room(framework):
    with step("outer", max_calls=9), step("inner", max_calls=1) as inner:
        framework.ask()
        assert framework.refusal().step_id == inner.id


def test_an_account_that_can_never_have_room_owns_before_an_outer_one_that_is_merely_busy(framework):
    with step("outer", max_tokens=CALL_TOKENS + 1, enforce="strict"):
        framework.open()
        with step("inner", max_tokens=50):
            error = framework.refusal()
    assert (error.step, error.phase) == ("inner", "denied")


def test_a_refusal_says_what_the_call_would_have_brought_it_to_at_the_least(framework):
    with step("plan", max_usd=CALL_USD):
        framework.ask()
        error = framework.refusal()
    assert error.projected_cost_usd == CALL_USD + Decimal("0.00025")
    assert error.consumed_cost_usd == error.limit_value == CALL_USD
    assert str(error) == (
        "step 'plan' has no room under max_usd: $0.00225 spent of $0.00225, and the next call needs at least $0.00025"
    )


def test_refused_calls_are_counted_in_their_step_and_in_those_around_it(framework):
    with step("outer") as outer, step("inner", max_calls=0) as inner:
        framework.refusal()
        assert (inner.account.denied, outer.account.denied) == (1, 1)
        assert inner.usage.calls == 0


# No latch


def test_swallowing_a_refusal_buys_nothing(framework):
    with step("plan", max_calls=1, error_boundary="continue"):
        for _ in range(30):
            framework.try_to_ask()
    assert (framework.sent, len(framework.refused)) == (1, 29)


def test_a_cheaper_fallback_that_fits_may_go_after_a_refusal(framework):
    with step("plan", max_usd=CALL_USD, enforce="strict") as plan:
        assert framework.refusal(max_output_tokens=5000).phase == "denied"
        framework.ask()
    assert (plan.usage.calls, plan.account.denied) == (1, 1)


def test_the_last_answer_is_not_thrown_away_and_the_next_call_is_refused(framework):
    with pytest.raises(BudgetExhausted) as raised, step("plan", max_tokens=250) as plan:
        framework.ask()
        assert plan.usage.total_tokens == CALL_TOKENS
    assert raised.value.phase == "settled"
    with step("plan", max_tokens=250, error_boundary="continue"):
        framework.ask()
        assert framework.refusal().phase == "denied"


# Prices


def test_a_model_of_unknown_price_is_refused_before_it_is_sent(framework):
    with step("plan", max_usd=1) as plan, pytest.raises(UnpricedModel, match="no-such-model"):
        framework.open(model="no-such-model", price=None)
    assert (framework.sent, plan.account.denied) == (0, 1)
    assert_nothing_left(plan)


def test_a_model_of_unknown_price_goes_where_no_dollars_are_limited(framework):
    with step("plan", max_tokens=1000) as plan:
        framework.ask(model="no-such-model", price=None)
    assert plan.usage.unpriced_calls == 1


def test_unpriced_warn_sends_the_call_and_warns(framework):
    with step("plan", max_usd=1, unpriced="warn") as plan, pytest.warns(UnknownCostWarning, match="'plan'"):
        framework.ask(model="no-such-model", price=None)
    assert plan.usage.unpriced_calls == 1


def test_unpriced_free_sends_the_call_in_silence(framework):
    with step("plan", max_usd=1, unpriced="free") as plan:
        framework.ask(model="no-such-model", price=None)
    assert plan.usage.unpriced_calls == 1


def test_an_outer_limit_refuses_an_unknown_price_though_the_inner_step_is_free(framework):
    with step("outer", max_usd=1), step("inner", max_usd=1, unpriced="free"):
        with pytest.raises(UnpricedModel) as refusal:
            framework.open(model="no-such-model", price=None)
        assert refusal.value.step == "outer"


def test_what_is_left_is_what_is_neither_settled_nor_reserved(framework):
    with step("plan", max_tokens=1000, max_calls=5, max_usd=1) as plan:
        framework.ask()
        call = framework.open()
        assert (plan.remaining("max_tokens"), plan.remaining("max_calls")) == (400, 3)
        assert plan.remaining("max_usd") == 1 - 2 * CALL_USD
        call.withdraw()
        assert (plan.remaining("max_tokens"), plan.remaining("max_calls")) == (700, 4)
        assert plan.remaining("max_usd") == 1 - CALL_USD


def test_a_call_needs_no_step(framework):
    call = new_call(framework.request())
    call.admit()
    framework.answer(call)
    assert call.state == "settled"
