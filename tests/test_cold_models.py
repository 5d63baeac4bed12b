"""Models of which nothing is known yet: one call goes first, and the others by what it taught."""

import pytest

from fake_framework import CALL_TOKENS, FakeFramework, ask_and_wait, open_elsewhere, until
from steptrack_callbacks import Usage, step
from steptrack_callbacks.engine import output_stats
from steptrack_callbacks.steps.attribution import new_call

TWO_CALLS = 2 * CALL_TOKENS


@pytest.fixture
def framework() -> FakeFramework:
    return FakeFramework()


def test_calls_of_a_cold_model_go_one_at_a_time_and_then_by_what_was_learned(framework):
    with step("plan", max_tokens=20_000) as plan:
        first = open_elsewhere(framework, max_output_tokens=None)
        assert plan.account.held_tokens == 100 + 500
        second, third = (ask_and_wait(framework, plan, max_output_tokens=None) for _ in range(2))
        assert framework.sent == 1
        framework.answer(first, output_tokens=20)
        assert second.end().call is not None
        assert third.end().call is not None
        assert plan.account.held_tokens == 2 * (100 + (20 + 1000) / 2)  # one answer, and a long one unseen


def test_a_cold_call_that_fails_lets_the_next_cold_one_through(framework):
    with step("plan", max_tokens=10_000) as plan:
        first = open_elsewhere(framework, max_output_tokens=None)
        second, third = (ask_and_wait(framework, plan, max_output_tokens=None) for _ in range(2))
        first.fail()
        until(lambda: framework.sent == 2)
        assert plan.account.in_flight.cold == {"fake-model": 1}
        calls = [asking.end() for asking in (second, third) if not asking.is_waiting]
        for asking in calls:
            framework.answer(asking.call)
        until(lambda: framework.sent == 3)
        second.end()
        third.end()


def test_a_cold_model_with_max_tokens_needs_no_one_to_go_first(framework):
    with step("plan", max_tokens=10 * CALL_TOKENS):
        open_elsewhere(framework)
        open_elsewhere(framework)
    assert framework.sent == 2


def test_strict_tries_the_input_bound_of_a_cold_model_before_it_trusts_it(framework):
    with step("plan", max_tokens=10 * CALL_TOKENS, enforce="strict") as plan:
        first = open_elsewhere(framework)
        second = ask_and_wait(framework, plan)
        first.settle(Usage(input_tokens=150, output_tokens=200))
        assert second.end().call is not None
        assert plan.account.held_tokens == 150 + 200


def test_one_cold_model_does_not_keep_another_one_waiting(framework):
    with step("plan", max_tokens=10_000):
        open_elsewhere(framework, max_output_tokens=None, model="one")
        open_elsewhere(framework, max_output_tokens=None, model="two")
    assert framework.sent == 2


def test_a_second_cold_call_beside_ones_own_stream_goes_at_once_by_the_start_value(framework):
    with step("plan", max_tokens=10_000) as plan:
        framework.open(max_output_tokens=None)
        with pytest.raises(StopIteration):  # it has gone, and waits for nothing
            new_call(framework.request(max_output_tokens=None))._admission(patient=True).send(None)
        assert plan.account.held_tokens == 2 * (100 + 500)


def test_where_nothing_can_wait_cold_calls_go_by_the_start_value(framework):
    with step("plan", max_tokens=10_000):
        open_elsewhere(framework, max_output_tokens=None, patient=False)
        open_elsewhere(framework, max_output_tokens=None, patient=False)
    with step("plan", max_tokens=10_000, wait_s=0):
        open_elsewhere(framework, max_output_tokens=None, model="other")
        open_elsewhere(framework, max_output_tokens=None, model="other")
    assert framework.sent == 4


def test_strict_lowers_max_tokens_to_what_others_have_left_instead_of_refusing(framework):
    framework.answer(framework.open(2000), output_tokens=600)
    with step("plan", max_tokens=1000, enforce="strict") as plan:
        plan.account.settled.add([(0, 500)])
        first = open_elsewhere(framework, max_output_tokens=None)
        asking = ask_and_wait(framework, plan, max_output_tokens=None)
        framework.answer(first, output_tokens=50)
        assert asking.end().call is not None
        assert asking.call.max_output_tokens == 1000 - 500 - 150 - 100


def test_what_few_answers_taught_goes_first_when_too_many_models_are_known():
    output_stats.reset()
    for _ in range(3):
        output_stats.learn("ours", output_tokens=5, counted_input=1, input_tokens=1)
    for number in range(3 * output_stats.MOST_MODELS):
        output_stats.learn(f"made-up-{number}", output_tokens=5, counted_input=1, input_tokens=1)
    assert len(output_stats._seen) <= output_stats.MOST_MODELS
    assert output_stats.of("ours").seen == 3
    assert output_stats.of(f"made-up-{number}").seen == 1
    output_stats.reset()
