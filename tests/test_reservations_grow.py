"""What is held for a call follows what is seen of it and of those beside it."""

import pytest

from fake_framework import FakeFramework, ask_and_wait, open_elsewhere
from internals import assert_nothing_left
from steptrack_callbacks import step
from steptrack_callbacks.engine import account
from steptrack_callbacks.engine.forecasts import LONGEST_KNOWN

LONG = 2000


@pytest.fixture
def clock(monkeypatch):
    """Time that can be let pass."""
    real, ahead = account.time.monotonic, [0.0]
    monkeypatch.setattr(account.time, "monotonic", lambda: real() + ahead[0])

    def pass_by(seconds: float) -> None:
        ahead[0] += seconds

    return pass_by


@pytest.fixture
def framework(clock) -> FakeFramework:
    """Twenty answers of 200 tokens were seen, each of which took two minutes."""
    framework = FakeFramework()
    for _ in range(20):
        call = framework.open(None)
        clock(120)
        framework.answer(call, 200)
    return framework


def test_a_stream_takes_the_room_that_it_has_used_as_it_goes(framework):
    with step("plan", max_tokens=100_000) as plan:
        stream = framework.open(None, streams=True)
        before = plan.remaining("max_tokens")
        for produced in (1, 100, 1000, LONG):
            stream.progress(produced)
        assert before - plan.remaining("max_tokens") >= LONG - 300
        stream.abandon(LONG)
        assert plan.remaining("max_tokens") == 100_000 - plan.usage.total_tokens
        assert_nothing_left(plan)


def test_a_stream_that_runs_past_its_hold_takes_room_from_those_who_ask_after_it(framework):
    with step("plan", max_tokens=LONG + 400, wait_s=0) as plan:
        stream = open_elsewhere(framework, None, streams=True)
        framework.open(None).withdraw()
        stream.progress(LONG)
        assert framework.refusal(None).phase == "busy"
        stream.settle_free()
        framework.open(None).withdraw()
        assert_nothing_left(plan)


def test_a_stream_longer_than_anybody_reckoned_with_takes_its_room_though_the_limit_was_far(framework):
    with step("plan", max_tokens=20_000, wait_s=0):
        stream = open_elsewhere(framework, None, streams=True)
        stream.progress(15_000)  # and as much again is expected of it
        assert framework.refusal(None).phase == "busy"
        stream.abandon(15_000)


def test_a_stream_waits_for_no_room_as_it_grows(framework):
    with step("plan", max_tokens=LONG) as plan:
        stream = open_elsewhere(framework, None, streams=True)
        for produced in range(0, 1800, 100):
            stream.progress(produced)
        assert plan.account.waiting == 0
        stream.abandon(1700)


def test_a_call_that_ends_short_lets_the_next_one_through_at_once(framework):
    with step("plan", max_tokens=2200) as plan:
        first, second = open_elsewhere(framework, None), open_elsewhere(framework, None)
        third = ask_and_wait(framework, plan, None)
        framework.answer(first, 5)
        framework.answer(third.end().call, 5)
        framework.answer(second, 5)
        assert_nothing_left(plan)


def test_a_call_in_flight_for_longer_than_any_answer_took_is_held_at_more(framework, clock):
    with step("plan", max_tokens=2200, wait_s=0):
        long, short = open_elsewhere(framework, None), open_elsewhere(framework, None)
        clock(600)  # at the pace of the others it has written 1,000 tokens by now
        framework.answer(short, 10)
        assert framework.refusal(None).phase == "busy"
        framework.answer(long, 10)
        framework.open(None).withdraw()


def test_a_call_of_which_only_its_age_is_known_is_expected_to_become_three_times_as_long(framework, clock):
    with step("plan", max_tokens=1_000_000) as plan:
        long = open_elsewhere(framework, None)
        clock(
            600
        )  # at the pace of the others it has written 1,000 tokens by now, five times the usual answer
        plan.account.in_flight.refresh(account.time.monotonic())
        assert plan.account.held_tokens == pytest.approx(100 + 3 * 1000, abs=2)
        framework.answer(long, 2000)


def test_a_call_that_hangs_is_held_at_no_more_than_its_model_can_write(framework, clock):
    with step("plan", max_tokens=1_000_000) as plan:
        open_elsewhere(framework, None)
        clock(1e9)
        plan.account.in_flight.refresh(account.time.monotonic())
        assert 100 + 1000 < plan.account.held_tokens <= 100 + LONGEST_KNOWN


def test_a_call_to_come_is_expected_to_be_like_those_in_flight_too(framework):
    with step("plan", max_tokens=1_000_000) as plan:
        streams = [open_elsewhere(framework, None, streams=True) for _ in range(20)]
        usual = _expected_of_one_more(framework, plan)
        for stream in streams:
            stream.progress(LONG)
        plan.account.in_flight.refresh(0.0)
        assert _expected_of_one_more(framework, plan) > 3 * usual


def _expected_of_one_more(framework, plan) -> int:
    before = plan.account.held_tokens
    call = framework.open(None)
    after = plan.account.held_tokens
    call.withdraw()
    plan.account.in_flight.refresh(0.0)
    return after - before
