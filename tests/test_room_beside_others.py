"""How much room calls in flight leave: what all of them together may come to, by the answers that were seen."""

from __future__ import annotations

import time

import pytest

from fake_framework import FakeFramework, open_elsewhere
from steptrack_callbacks import BudgetExhausted, step


@pytest.fixture
def framework(monkeypatch: pytest.MonkeyPatch) -> FakeFramework:
    """Each answer takes a second; else no time passes, so that all that are in flight are of one age."""
    framework = FakeFramework()
    monkeypatch.setattr(time, "monotonic", lambda: float(framework.answered))
    return framework


def seen(framework: FakeFramework, outputs: list[int], model: str = "fake-model") -> None:
    for output in outputs:
        call = framework.open(None, model=model)
        framework.answered += 1
        framework.answer(call, output)


def fits(framework: FakeFramework, limit: int, in_flight: int, most: int | None, model: str) -> bool:
    """Tell whether a call fits beside so many of the usual model."""
    with step("plan", max_tokens=10**9, clamp=False) as plan:
        calls = [open_elsewhere(framework, most) for _ in range(in_flight)]
        plan.account.limits.tokens = limit
        try:
            calls.append(framework.open(most, patient=False, model=model))
        except BudgetExhausted as refusal:
            assert refusal.phase == "busy"
        for call in calls:
            call.withdraw()
    return len(calls) > in_flight


def test_calls_of_a_model_of_which_little_is_known_may_all_be_long_together(framework):
    seen(framework, [10, 2000])
    seen(framework, [200] * 200, "well-known")
    assert not fits(framework, 32_000, 10, None, "well-known")
    assert fits(framework, 40_000, 10, None, "well-known")


def test_the_most_that_calls_in_flight_can_come_to_is_added_up(framework):
    seen(framework, [*[10] * 9, 2000])
    assert not fits(framework, 4700, 3, 2000, "fake-model")
    assert fits(framework, 5300, 3, 2000, "fake-model")


def test_behind_others_one_unseen_long_answer_is_counted_once(framework):
    seen(framework, [*[100] * 10, *[300] * 10])
    assert not fits(framework, 2280, 4, None, "fake-model")
    assert fits(framework, 2300, 4, None, "fake-model")


def test_the_usual_answers_of_all_in_flight_have_to_fit(framework):
    seen(framework, [200] * 200)
    assert not fits(framework, 9100, 30, None, "fake-model")
    assert fits(framework, 9250, 30, None, "fake-model")


def test_the_doubt_about_a_model_does_not_go_back_to_what_was_known_before(framework):
    with step("plan", max_tokens=10**9) as plan:
        held = plan.account.in_flight
        old = open_elsewhere(framework, 200)
        seen(framework, [10, 2000, 30, 600])
        new = open_elsewhere(framework, 200)
        plan.remaining("max_tokens")  # so that both are counted
        doubt = held._doubts["fake-model"]
        known = (doubt.variance, doubt.seen)
        old.withdraw()
        assert (doubt.variance, doubt.seen) == known
        new.withdraw()
