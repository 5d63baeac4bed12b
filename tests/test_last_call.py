"""The last call of a budget is given what is left as its `max_tokens`, where the request can be changed."""

from __future__ import annotations

import contextlib
import random
import time
from typing import Any

import pytest

from fake_framework import FakeFramework, ask_and_wait, open_elsewhere
from internals import assert_nothing_left
from steptrack_callbacks import BudgetExhausted, Grant, Usage, report, step
from steptrack_callbacks.engine.call import Call
from steptrack_callbacks.steps.attribution import new_call


@pytest.fixture
def framework() -> FakeFramework:
    """Twenty answers were seen: of 150, 200 and 250 tokens."""
    framework = FakeFramework()
    for output in (*[150] * 5, *[200] * 10, *[250] * 5):
        framework.answer(framework.open(None), output)
    return framework


def cap_of(framework: FakeFramework, **details: Any) -> int | None:
    """Return the `max_tokens` that a call is given which names none."""
    call = framework.open(None, **details)
    call.withdraw()
    return call.max_tokens_to_set


def test_a_call_that_takes_the_last_is_given_what_is_left(framework):
    with step("plan", max_tokens=450):
        assert cap_of(framework) == 350


def test_a_call_far_from_the_limit_is_left_alone(framework):
    with step("plan", max_tokens=100_000):
        assert cap_of(framework) is None


def test_a_stream_alone_needs_room_for_its_input_only_as_it_is_cut_at_the_limit(framework):
    with step("plan", max_tokens=130):
        framework.open(None, streams=True).withdraw()


@pytest.mark.parametrize("within", [{}, {"max_tokens": 130}])
def test_a_stream_that_is_not_cut_needs_room_for_a_part_of_its_answer_as_any_call_does(framework, within):
    with step("outer", **within), step("plan", max_tokens=130, cut_streams=False):
        assert framework.refusal(None, streams=True).limit == "max_tokens"
    with step("plan", max_tokens=250, cut_streams=False):
        framework.open(None, streams=True).withdraw()


def test_a_limit_of_calls_alone_caps_no_answer(framework):
    with step("plan", max_calls=1):
        assert cap_of(framework) is None


def test_it_is_given_the_least_of_all_that_is_left_around_it(framework):
    with step("outer", max_tokens=450), step("inner", max_tokens=1000):
        assert cap_of(framework) == 350


def test_it_is_never_given_less_than_its_usual_answer(framework):
    with step("plan", max_tokens=300):
        assert cap_of(framework) == 200
    with step("plan", max_tokens=299):
        assert framework.refusal(None).phase == "denied"


@pytest.mark.parametrize("model", ["fake-model", "never-seen"])
def test_it_is_never_given_less_than_providers_take(model):
    framework = FakeFramework()
    if model == "fake-model":
        framework.answer(framework.open(None), 1)
    with step("plan", max_tokens=116):
        assert cap_of(framework, model=model) == 16
    with step("plan", max_tokens=115):
        assert framework.refusal(None, model=model).phase == "denied"


@pytest.mark.parametrize(
    "details", [{"can_clamp": False}, {"needs_whole_answer": True}, {"streams": True}], ids=str
)
def test_what_may_not_be_cut_is_left_alone(framework, details):
    with step("plan", max_tokens=450):
        assert cap_of(framework, **details) is None


def test_what_says_its_own_max_tokens_keeps_it(framework):
    with step("plan", max_tokens=450):
        call = framework.open(400)
        assert call.max_tokens_to_set is None
        call.withdraw()


def test_a_model_whose_answers_think_is_left_alone(framework):
    framework.open(None).settle(Usage(input_tokens=100, output_tokens=200, reasoning_tokens=150))
    with step("plan", max_tokens=450):
        assert cap_of(framework) is None


@pytest.mark.parametrize("where", ["inner", "outer"])
def test_clamp_false_turns_it_off(framework, where):
    with (
        step("outer", max_tokens=450, clamp=where != "outer"),
        step("inner", max_tokens=450, clamp=where != "inner"),
    ):
        assert cap_of(framework) is None


def test_several_answers_share_what_is_left(framework):
    with step("plan", max_tokens=450):
        assert cap_of(framework, answers=3) == 350 // 3


def test_strict_shares_what_is_left_among_several_answers(framework):
    with step("plan", max_tokens=450, enforce="strict") as plan:
        call = framework.open(None, answers=3)
        assert call.max_tokens_to_set == 350 // 3
        assert plan.account.held_tokens <= 450
        call.withdraw()


@pytest.fixture
def steady(monkeypatch) -> FakeFramework:
    """Two hundred answers of 200 tokens were seen, each of a second; no time passes any more."""
    now = [0.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    framework = FakeFramework()
    for _ in range(200):
        call = framework.open(None)
        now[0] += 1
        framework.answer(call)
    return framework


def test_beside_others_only_an_answer_that_nobody_reckons_with_takes_the_last(steady):
    for limit, left in ((1700, 1250), (1100, 5 * 200)):
        with step("plan", max_tokens=limit):
            first = open_elsewhere(steady, None, can_clamp=False)
            second = open_elsewhere(steady, None)
            assert second.max_tokens_to_set == left
            first.withdraw()
            second.withdraw()


def test_beside_one_that_has_the_last_a_call_goes_as_it_is_if_the_longest_answer_has_room(steady):
    with step("plan", max_tokens=1800):
        first, second = open_elsewhere(steady, None), open_elsewhere(steady, None)
        assert first.max_tokens_to_set == 1700
        assert second.max_tokens_to_set is None
        first.withdraw()
        second.withdraw()


def test_without_such_room_it_waits_until_it_can_have_the_last_itself(steady):
    with step("plan", max_tokens=1300) as plan:
        first = open_elsewhere(steady, None)
        waiting = ask_and_wait(steady, plan, None)
        steady.answer(first, 50)
        assert waiting.end().call.max_tokens_to_set == 1300 - 150 - 100
        waiting.call.withdraw()


def test_if_the_answer_that_had_the_last_was_cut_the_one_that_waits_is_refused(steady):
    with step("plan", max_tokens=1700, error_boundary="continue") as plan:
        other = open_elsewhere(steady, None, can_clamp=False)
        first = open_elsewhere(steady, None)
        waiting = ask_and_wait(steady, plan, None)
        steady.answer(first, 3000, truncated=True)
        assert waiting.end().refusal.phase == "denied"
        other.withdraw()
    assert plan.record().cut_calls == 1


def test_a_call_does_not_wait_for_its_own_tasks_call_that_has_the_last(steady):
    with step("plan", max_tokens=1300):
        first, second = steady.open(None), steady.open(None)
        assert first.max_tokens_to_set == 1200
        assert second.max_tokens_to_set is None
        first.withdraw()
        second.withdraw()


def test_beside_others_a_call_of_a_model_never_seen_is_left_alone(steady):
    with step("plan", max_tokens=4000):
        first, second = open_elsewhere(steady, None), open_elsewhere(steady, None, model="never-seen")
        assert second.max_tokens_to_set is None
        first.withdraw()
        second.withdraw()


def test_once_an_answer_was_cut_no_other_is_until_there_is_more(steady):
    grant = Grant(max_tokens=3000)
    with step("plan", max_tokens=1700, error_boundary="escalate", escalation=lambda _: grant) as plan:
        first, second = open_elsewhere(steady, None, can_clamp=False), open_elsewhere(steady, None)
        steady.answer(second, 3000, truncated=True)
        steady.answer(first, 5)
        assert plan.account.grants == ()
        assert cap_of(steady) == 4700 - plan.usage.total_tokens - 100
        assert plan.account.grants == (grant,)
    assert plan.record().cut_calls == 1


def test_an_answer_that_was_cut_says_so_in_its_record_and_in_the_report(framework):
    with step("outer") as outer, step("plan", max_tokens=450, error_boundary="continue") as plan:
        call = framework.open(None)
        framework.answer(call, 900, truncated=True)
        assert framework.refusal(None).phase == "denied"
    assert plan.usage.total_tokens == 450
    assert plan.record().cut_calls == outer.record().cut_calls == 1
    assert "1 call cut short by what was left" in str(report())


def test_an_answer_that_ended_by_itself_was_not_cut(framework):
    with step("plan", max_tokens=450) as plan:
        framework.answer(framework.open(None), 250)
    assert plan.record().cut_calls == 0


def test_an_answer_cut_by_the_requests_own_max_tokens_was_not_cut_by_us(framework):
    with step("plan", max_tokens=450) as plan:
        framework.answer(framework.open(250), 900, truncated=True)
    assert plan.record().cut_calls == 0


@pytest.mark.parametrize("seed", range(40))
def test_no_more_than_one_answer_of_a_budget_is_cut_and_none_passes_it_one_after_another(framework, seed):
    draw = random.Random(seed)
    limit = draw.randint(500, 5000)
    with step("plan", max_tokens=limit, error_boundary="continue") as plan:
        for _ in range(60):
            _ask(framework, draw.choice((5, 50, 200, 400, 3000)))
        assert_nothing_left(plan)
    assert plan.usage.total_tokens <= limit
    assert plan.record().cut_calls <= 1


@pytest.mark.parametrize("seed", range(40))
def test_nor_is_more_than_one_cut_of_many_that_are_in_flight_together(framework, seed):
    draw = random.Random(seed)
    with step("plan", max_tokens=draw.randint(1500, 8000), error_boundary="continue") as plan:
        in_flight: list[Call] = []
        for _ in range(80):
            if in_flight and draw.random() < 0.5:
                _answer(
                    framework, in_flight.pop(draw.randrange(len(in_flight))), draw.choice((50, 200, 3000))
                )
            else:
                in_flight += _open_if_it_fits(framework)
        for call in in_flight:
            _answer(framework, call, 3000)
        assert_nothing_left(plan)
    assert plan.record().cut_calls <= 1


def _open_if_it_fits(framework: FakeFramework) -> list[Call]:
    with contextlib.suppress(BudgetExhausted):
        return [framework.open(None, patient=False, together=object())]
    return []


def _answer(framework: FakeFramework, call: Call, length: int) -> None:
    most = call.max_tokens_to_set
    framework.answer(call, length, truncated=most is not None and most < length)


def _ask(framework: FakeFramework, length: int) -> None:
    call = new_call(framework.request(None))
    call.admit()
    _answer(framework, call, length)
