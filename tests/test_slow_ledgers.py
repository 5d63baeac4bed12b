"""A ledger that is merely slow refuses nobody: a trip that was late is made again, for as long as calls wait."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from fake_framework import FakeFramework
from internals import assert_nothing_left
from steptrack_callbacks import Budget, LedgerError, step
from steptrack_callbacks.ledgers import current
from steptrack_callbacks.ledgers.sqlite import SqliteStore

TEN = Budget("team-a", max_calls=10)


class Slow(SqliteStore):
    """Does what it is asked, and answers so many times too late.

    Attributes:
        late: By verb, how many times.
        asked: Every verb that it was asked.
        why: What the error says.
    """

    def __init__(self, path: Any, *, is_late: bool = True, **late: int) -> None:
        super().__init__(path)
        self.late = late
        self.asked: list[str] = []
        self._is_late = is_late

    def reserve(self, reservation: Any) -> Any:
        return self._answered("reserve", super().reserve(reservation))

    async def reserve_async(self, reservation: Any) -> Any:
        return self._answered("reserve", await super().reserve_async(reservation))

    def look(self, keys: Any) -> Any:
        return self._answered("look", super().look(keys))

    def _answered(self, verb: str, answer: Any) -> Any:
        self.asked.append(verb)
        self.late[verb] = self.late.get(verb, 0) - 1
        if self.late[verb] < 0:
            return answer
        error = LedgerError(ledger=self.url, why="as the test wants")
        error.is_late = self._is_late
        raise error


@pytest.fixture
def slow(tmp_path):
    """Put a slow ledger in use."""

    def use(on_error: Any = "refuse", **options: Any) -> Slow:
        store = Slow(tmp_path / "slow.db", **options)
        current.use(store, on_store_error=on_error)
        return store

    return use


def spent() -> tuple[int, int]:
    (totals,) = current.ledger().store.look(["budget::0:team-a"])
    return totals.settled.get("calls", 0), totals.held_calls


def test_a_trip_that_was_late_is_made_again_and_counts_once(slow):
    store, framework = slow(reserve=3), FakeFramework()
    with step("job", budgets=[TEN]) as job:
        framework.ask()
        assert_nothing_left(job)
    assert store.asked.count("reserve") == 4
    assert spent() == (1, 0)


def test_a_trip_of_an_event_loop_is_made_again_too(slow):
    slow(reserve=3)
    framework = FakeFramework()

    async def main() -> None:
        async with step("job", budgets=[TEN]):
            framework.answer(await framework.open_async())

    asyncio.run(main())
    assert spent() == (1, 0)


def test_a_look_before_a_refusal_is_made_again_too(slow):
    store, framework = slow(), FakeFramework()
    with step("job", budgets=[Budget("team-a", max_calls=1)], error_boundary="continue"):
        framework.ask()
        store.late["look"] = 2
        framework.ask()
    assert framework.sent == 1
    assert spent() == (1, 0)


def test_who_does_not_wait_for_room_does_not_wait_for_a_slow_ledger(slow):
    store, framework = slow(reserve=3), FakeFramework()
    with step("job", budgets=[Budget("team-a", max_calls=10)], wait_s=0), pytest.raises(LedgerError):
        framework.ask()
    assert (framework.sent, store.asked.count("reserve")) == (0, 1)


def test_a_ledger_that_is_away_is_not_asked_again(slow):
    store, framework = slow(reserve=3, is_late=False), FakeFramework()
    with step("job", budgets=[TEN]), pytest.raises(LedgerError):
        framework.ask()
    assert (framework.sent, store.asked.count("reserve")) == (0, 1)


def test_where_calls_go_on_without_the_ledger_nobody_waits_for_it(slow):
    store, framework = slow("allow", reserve=3), FakeFramework()
    with step("job", budgets=[TEN]):
        framework.ask()
    assert (framework.sent, store.asked.count("reserve")) == (1, 1)
