"""Budgets on a Redis that goes away, comes back, and comes back empty."""

import asyncio

import pytest

from fake_framework import FakeFramework
from steptrack_callbacks import Budget, LedgerError, step
from steptrack_callbacks.ledgers import current

TEN = Budget("team-a", max_calls=10)


def spent():
    (totals,) = current.ledger().store.look(["budget::0:team-a"])
    return totals.settled.get("calls", 0), totals.held_calls


def test_a_run_does_not_begin_and_no_call_is_sent_while_the_server_is_away(own_redis):
    current.use(own_redis.url())
    framework = FakeFramework()
    own_redis.stop()
    with pytest.raises(LedgerError), step("nightly", run_id="r"):
        pytest.fail("it must not begin")
    with step("job", budgets=[TEN]), pytest.raises(LedgerError):
        framework.ask()
    own_redis.start()
    with step("nightly", run_id="r"), step("job", budgets=[TEN]):
        framework.ask()
    assert framework.sent == 1
    assert spent() == (1, 0)


def test_an_answer_that_came_while_it_was_away_is_charged_when_it_is_back(own_redis):
    current.use(own_redis.url())
    framework = FakeFramework()
    with step("job", budgets=[TEN]):
        framework.ask()
        call = framework.open()
        own_redis.stop()
        framework.answer(call)
        assert current.ledger().owed == 1
        own_redis.start()
        framework.ask()
    assert spent() == (3, 0)


def test_a_server_that_comes_back_empty_grants_no_budget_twice(own_redis):
    current.use(own_redis.url())
    framework = FakeFramework()
    with step("job", budgets=[TEN], error_boundary="continue"):
        for _ in range(6):
            framework.ask()
        own_redis.stop()
        own_redis.start()
        for _ in range(6):
            framework.ask()
    assert framework.sent == 10
    assert spent() == (10, 0)


def test_on_an_event_loop_tasks_share_a_budget_and_await_the_server(own_redis):
    current.use(own_redis.url(timeout_s=5))
    framework = FakeFramework()

    async def main():
        async with step("job", budgets=[TEN], error_boundary="continue"):
            await asyncio.gather(*(framework.try_to_ask_async() for _ in range(50)))

    asyncio.run(main())
    assert framework.sent == 10
    assert spent() == (10, 0)
