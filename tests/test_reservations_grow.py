"""What is held for a call follows what is seen of it and of those beside it."""

import pytest

from fake_host import FakeHost, ask_and_wait, open_elsewhere
from internals import assert_nothing_left
from steptrack_callbacks import step
from steptrack_callbacks.engine import balance
from steptrack_callbacks.engine.forecasts import LONGEST_KNOWN

LONG = 2000


@pytest.fixture
def clock(monkeypatch):
    """Time that can be let pass."""
    real, ahead = balance.time.monotonic, [0.0]
    monkeypatch.setattr(balance.time, "monotonic", lambda: real() + ahead[0])

    def pass_by(seconds: float) -> None:
        ahead[0] += seconds

    return pass_by


@pytest.fixture
def host(clock) -> FakeHost:
    """Twenty answers of 200 tokens were seen, each of which took two minutes."""
    host = FakeHost()
    for _ in range(20):
        call = host.open(None)
        clock(120)
        host.answer(call, 200)
    return host


def test_a_stream_takes_the_room_that_it_has_used_as_it_goes(host):
    with step("plan", max_tokens=100_000) as plan:
        stream = host.open(None, streams=True)
        before = plan.remaining("max_tokens")
        for produced in (1, 100, 1000, LONG):
            stream.progress(produced)
        assert before - plan.remaining("max_tokens") >= LONG - 300
        stream.abandon(LONG)
        assert plan.remaining("max_tokens") == 100_000 - plan.usage.total_tokens
        assert_nothing_left(plan)


def test_a_stream_that_runs_past_its_hold_takes_room_from_those_who_ask_after_it(host):
    with step("plan", max_tokens=LONG + 400, wait_s=0) as plan:
        stream = open_elsewhere(host, None, streams=True)
        host.open(None).withdraw()
        stream.progress(LONG)
        assert host.refusal(None).phase == "busy"
        stream.settle_free()
        host.open(None).withdraw()
        assert_nothing_left(plan)


def test_a_stream_longer_than_anybody_reckoned_with_takes_its_room_though_the_limit_was_far(host):
    with step("plan", max_tokens=20_000, wait_s=0):
        stream = open_elsewhere(host, None, streams=True)
        stream.progress(15_000)  # and as much again is expected of it
        assert host.refusal(None).phase == "busy"
        stream.abandon(15_000)


def test_a_stream_waits_for_no_room_as_it_grows(host):
    with step("plan", max_tokens=LONG) as plan:
        stream = open_elsewhere(host, None, streams=True)
        for produced in range(0, 1800, 100):
            stream.progress(produced)
        assert plan.account.waiting == 0
        stream.abandon(1700)


def test_a_call_that_ends_short_lets_the_next_one_through_at_once(host):
    with step("plan", max_tokens=1600) as plan:
        first, second = open_elsewhere(host, None), open_elsewhere(host, None)
        third = ask_and_wait(host, plan, None)
        host.answer(first, 5)
        host.answer(third.end().call, 5)
        host.answer(second, 5)
        assert_nothing_left(plan)


def test_a_call_in_flight_for_longer_than_any_answer_took_is_held_at_more(host, clock):
    with step("plan", max_tokens=1600, wait_s=0):
        long, short = open_elsewhere(host, None), open_elsewhere(host, None)
        clock(600)  # at the pace of the others it has written 1,000 tokens by now
        host.answer(short, 10)
        assert host.refusal(None).phase == "busy"
        host.answer(long, 10)
        host.open(None).withdraw()


def test_a_call_that_hangs_is_held_at_no_more_than_its_model_can_write(host, clock):
    with step("plan", max_tokens=1_000_000) as plan:
        open_elsewhere(host, None)
        clock(1e9)
        plan.account.in_flight.refresh(balance.time.monotonic())
        assert 100 + 1000 < plan.account.held_tokens <= 100 + LONGEST_KNOWN


def test_a_call_to_come_is_expected_to_be_like_those_in_flight_too(host):
    with step("plan", max_tokens=1_000_000) as plan:
        streams = [open_elsewhere(host, None, streams=True) for _ in range(20)]
        usual = _expected_of_one_more(host, plan)
        for stream in streams:
            stream.progress(LONG)
        plan.account.in_flight.refresh(0.0)
        assert _expected_of_one_more(host, plan) > 3 * usual


def _expected_of_one_more(host, plan) -> int:
    before = plan.account.held_tokens
    call = host.open(None)
    after = plan.account.held_tokens
    call.withdraw()
    plan.account.in_flight.refresh(0.0)
    return after - before
