"""Who waits for what other processes hold asks the ledger again, and those in line behind are told as well."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Callable
from itertools import pairwise
from time import monotonic
from typing import Any

import pytest

from fake_framework import CALL_TOKENS, FakeFramework, until_async
from internals import assert_nothing_left
from steptrack_callbacks import Budget, step
from steptrack_callbacks.engine import shared_reservation
from steptrack_callbacks.engine.queue import LOOK_EVERY_S, QUEUE
from steptrack_callbacks.ledgers import current
from steptrack_callbacks.ledgers.protocol import AccountRequest, Asked, Entry, ReservationRequest
from steptrack_callbacks.ledgers.sqlite import SqliteStore

MANY = 20
ROOM = 2 * MANY * CALL_TOKENS
KEY = "budget::0:team-a"


class Watched(SqliteStore):
    """Notes when it was looked at.

    Attributes:
        looks: When.
        hangs: What looks wait for.
    """

    def __init__(self, path: Any) -> None:
        super().__init__(path)
        self.looks: list[float] = []
        self.hangs: asyncio.Event | None = None

    async def look_async(self, keys: Any) -> Any:
        self.looks.append(monotonic())
        if self.hangs is not None:
            hangs, self.hangs = self.hangs, None
            await hangs.wait()
        return self.look(keys)


@pytest.fixture
def store(tmp_path):
    """A ledger on which another process has a call in flight."""
    store = Watched(tmp_path / "steps.db")
    current.use(store)
    ask = AccountRequest(key=KEY, held=Asked(0, ROOM))
    store.reserve(ReservationRequest(id="elsewhere", asks=(ask,), lease_s=900))
    return store


def come_back(store: SqliteStore) -> None:
    store.settle([Entry(id="elsewhere", keys=(KEY,))])


def many_at_once(meanwhile: Callable[[list[Any]], Any], answered: int = MANY) -> None:
    async def main() -> None:
        host = FakeFramework()
        budget = Budget("team-a", max_tokens=ROOM)

        async def ask() -> None:
            host.answer(await host.open_async())

        async with step("job", budgets=[budget]) as job:
            tasks = [asyncio.create_task(ask()) for _ in range(MANY)]
            await until_async(lambda: len(QUEUE.waiters) == MANY)
            await meanwhile(tasks)
            await asyncio.gather(*tasks, return_exceptions=True)
            assert_nothing_left(job)
        assert host.answered == answered

    asyncio.run(main())


def test_one_of_many_that_wait_for_an_account_asks_for_all(store):
    async def meanwhile(_tasks: list[Any]) -> None:
        await until_async(lambda: len(store.looks) >= MANY + 5)
        come_back(store)

    many_at_once(meanwhile)
    asked_while_waiting = store.looks[MANY:]  # each has looked once before it stood in line
    assert all(
        b - a >= LOOK_EVERY_S - 2 * shared_reservation.ROUNDING_S for a, b in pairwise(asked_while_waiting)
    )


def test_when_the_one_who_asked_is_gone_the_next_one_asks(store):
    async def meanwhile(tasks: list[Any]) -> None:
        await until_async(lambda: len(store.looks) >= MANY + 2)
        for task in tasks[:5]:
            task.cancel()
        come_back(store)

    many_at_once(meanwhile, answered=MANY - 5)


def test_when_the_one_who_asks_gets_no_answer_another_one_asks(store, monkeypatch):
    monkeypatch.setattr(shared_reservation, "LONGEST_LOOK_S", LOOK_EVERY_S)

    async def meanwhile(_tasks: list[Any]) -> None:
        answer = store.hangs = asyncio.Event()
        await until_async(lambda: store.hangs is None)
        come_back(store)
        looked = len(store.looks)
        await until_async(lambda: len(store.looks) > looked)
        answer.set()

    many_at_once(meanwhile)


def test_nothing_is_kept_of_accounts_that_nobody_waits_for(store):
    async def meanwhile(_tasks: list[Any]) -> None:
        await until_async(lambda: len(store.looks) > MANY)
        come_back(store)

    many_at_once(meanwhile)
    gc.collect()
    assert not current.ledger().replicas
