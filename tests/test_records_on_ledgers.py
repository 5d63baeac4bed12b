"""How the record of a step gets to a ledger: without a block of the event loop, once, and later if it must."""

import asyncio
import sqlite3
import threading

import pytest

from looking import record_of
from steptrack_callbacks import LedgerError, hooks, step
from steptrack_callbacks.ledgers import current, owed_records
from steptrack_callbacks.ledgers.memory import MemoryStore


class Remote(MemoryStore):
    """A ledger that event loops have to wait for.

    Attributes:
        asked: Set when it is asked to keep a record.
        may_answer: What it waits for then.
    """

    url = "remote:"

    def __init__(self):
        super().__init__()
        self.asked, self.may_answer = asyncio.Event(), asyncio.Event()

    def put_record(self, record):
        raise AssertionError("the event loop is blocked")

    async def put_record_async(self, record):
        self.asked.set()
        await self.may_answer.wait()
        super().put_record(record)


class Away(MemoryStore):
    """A ledger that cannot be reached, while it `is_away`."""

    url = "far-away:"
    is_away, trips = True, 0

    def put_record(self, record):
        self.trips += 1
        if self.is_away:
            raise LedgerError(ledger=self.url, why="as the test wants")
        super().put_record(record)


def names(store):
    return [record["name"] for record in store.records()]


async def end_a_step():
    async with step("plan"):
        pass


def test_an_event_loop_goes_on_while_the_record_of_a_step_is_on_its_way():
    async def main():
        store = Remote()
        current.use(store)
        ending = asyncio.create_task(end_a_step())
        await asyncio.wait_for(store.asked.wait(), 60)
        assert (ending.done(), names(store)) == (False, [])
        store.may_answer.set()
        await ending
        return names(store)

    assert asyncio.run(main()) == ["plan"]


def test_an_event_loop_goes_on_while_another_program_writes_the_file(tmp_path):
    async def main():
        ending = asyncio.create_task(end_a_step())
        while threading.active_count() == threads and not ending.done():  # until it waits in a thread
            await asyncio.sleep(0)
        assert not ending.done()
        other.rollback()
        await ending

    current.use(f"sqlite:///{tmp_path}/steps.db?timeout_s=60")
    current.ledger().store.info()  # the file is there before anybody locks it
    other = sqlite3.connect(tmp_path / "steps.db", isolation_level=None)
    other.execute("BEGIN EXCLUSIVE")
    threads = threading.active_count()
    asyncio.run(main())
    other.close()
    assert names(current.ledger().store) == ["plan"]


def test_a_step_whose_end_is_cancelled_on_the_way_to_a_ledger_is_announced_and_told_later():
    async def main():
        store = Remote()
        current.use(store)
        ending = asyncio.create_task(end_a_step())
        await asyncio.wait_for(store.asked.wait(), 60)
        ending.cancel()
        with pytest.raises(asyncio.CancelledError):
            await ending
        assert (record_of("plan").status, ended, names(store)) == ("completed", ["plan"], [])
        store.may_answer.set()
        async with step("next"):
            pass
        return names(store)

    ended = []
    hooks.on(hooks.StepEnded, lambda event: ended.append(event.record.name))
    assert asyncio.run(main()) == ["plan", "next"]


def test_a_ledger_that_is_away_is_asked_once_as_a_step_ends(caplog):
    store = Away()
    current.use(store)
    for ended in range(1, 4):
        with step(f"step-{ended}"):
            pass
        assert store.trips == ended
    store.is_away = False
    with step("last"):
        pass
    assert names(store) == ["step-1", "step-2", "step-3", "last"]


def test_records_that_are_too_many_to_be_owed_are_counted_and_said_to_be_lost(monkeypatch, caplog):
    monkeypatch.setattr(owed_records, "MOST_OWED_RECORDS", 2)
    store = Away()
    current.use(store)
    for number in range(5):
        with step(f"step-{number}"):
            pass
    assert current.ledger().unkept == 3
    current.ledger().flush_for_good()
    assert "it lacks 5 records" in caplog.text
    store.is_away = False
    current.ledger().flush()
    assert names(store) == ["step-3", "step-4"]
