"""Every way in which a ledger may be away, under both ways to treat it: what is sent, and the books after."""

import asyncio
import itertools
import sqlite3
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path

import pytest

from fake_framework import FakeFramework, run_all
from steptrack_callbacks import Budget, LedgerError, install, step
from steptrack_callbacks.ledgers import current
from steptrack_callbacks.ledgers.protocol import AccountRequest, Entry, ReservationRequest

FIVE = Budget("team-a", max_calls=5)
_numbers = itertools.count()
KEYS = {"budget": "budget::0:team-a", "run": "run:job:r"}


class Locked:
    """A file that another program holds."""

    def __init__(self, folder):
        self.path = folder / "books.db"
        self.url = f"sqlite:///{self.path}?timeout_s=0.05"

    def begin(self):
        self._other = sqlite3.connect(self.path, isolation_level=None, check_same_thread=False)
        self._other.execute("BEGIN EXCLUSIVE")

    def end(self):
        self._other.rollback()
        self._other.close()


class Full(Locked):
    """A disk without room for even a small charge."""

    def begin(self):
        store = current.ledger().store
        self._db = store._file._shelf.db
        self._db.execute(f"PRAGMA max_page_count = {self._db.execute('PRAGMA page_count').fetchone()[0]}")
        for size in (2000, 200, 1):
            with pytest.raises(LedgerError, match="disk is full"):
                while True:
                    name, detail = f"filling-{next(_numbers)}", {"text": "x" * size}
                    store.settle([Entry(id=name, keys=("other",), amounts={"calls": 1}, detail=detail)])
        with pytest.raises(LedgerError, match="disk is full"):
            while True:
                store.reserve(
                    ReservationRequest(
                        id=f"{next(_numbers)}", asks=(AccountRequest(key="other"),), lease_s=900
                    )
                )

    def end(self):
        self._db.execute("PRAGMA max_page_count = 1000000")


class Stopped:
    """A server that is not there, and keeps what it has."""

    def __init__(self, server):
        self._server = server
        self.url = server.url(timeout_s=1)

    def begin(self):
        self._server.stop()

    def end(self):
        self._server.start()


@pytest.fixture(params=["locked", "full", "stopped"])
def outage(request, tmp_path, serving):
    if request.param == "stopped":
        server = serving("--appendonly", "yes", "--appendfsync", "always").start()
        return Stopped(server)
    return {"locked": Locked, "full": Full}[request.param](tmp_path)


@contextmanager
def away(outage):
    outage.begin()
    try:
        yield
    finally:
        outage.end()


def job(what):
    """Begin a step whose five calls a ledger counts."""
    if what == "budget":
        return step("job", budgets=[FIVE], error_boundary="continue", wait_s=1)
    return step("job", max_calls=5, run_id="r", error_boundary="continue", wait_s=1)


def spent(what):
    (totals,) = current.ledger().store.look([KEYS[what]])
    return totals.settled.get("calls", 0), totals.held_calls


def back():
    """Tell what is owed, now that the ledger is there."""
    current.ledger().flush()
    assert current.ledger().owed == 0


@pytest.mark.parametrize("what", KEYS)
def test_with_refuse_nothing_is_sent_meanwhile_and_an_answer_is_told_later(outage, what):
    current.use(outage.url)
    framework = FakeFramework()
    with job(what):
        framework.ask()
        call = framework.open()
        with away(outage):
            framework.answer(call)
            with pytest.raises(LedgerError):
                framework.ask()
        assert framework.sent == 2
        framework.ask()
    with away(outage), pytest.raises(LedgerError), job(what):
        framework.ask()
    back()
    assert (framework.sent, spent(what)) == (3, (3, 0))


@pytest.mark.parametrize("what", KEYS)
def test_with_allow_steps_that_begin_meanwhile_share_what_this_process_knows_to_be_left(outage, what):
    current.use(outage.url, on_store_error="allow")
    framework = FakeFramework()
    with job(what):
        framework.ask()
        framework.ask()
    with away(outage):
        for _ in range(3):
            with job(what):
                for _ in range(10):
                    framework.ask()
        assert framework.sent == 5
    back()
    assert spent(what) == (5, 0)
    with job(what) as after:
        framework.ask()
    assert (after.status, framework.sent) == ("continued", 5)


@pytest.mark.parametrize("what", KEYS)
def test_with_allow_fifty_threads_with_a_step_each_send_no_more_than_is_left(outage, what):
    current.use(outage.url, on_store_error="allow")
    framework = FakeFramework()

    def one():
        with job(what):
            framework.ask()

    one()
    with away(outage):
        run_all([one] * 50)
        assert framework.sent == 5
    back()
    assert spent(what) == (5, 0)


def test_with_allow_tasks_of_an_event_loop_send_no_more_than_is_left(outage):
    current.use(outage.url, on_store_error="allow")
    framework = FakeFramework()

    async def one():
        async with job("budget"):
            await framework.try_to_ask_async()

    async def main():
        await one()
        with away(outage):
            await asyncio.gather(*(one() for _ in range(20)))

    asyncio.run(main())
    assert framework.sent == 5
    back()
    assert spent("budget") == (5, 0)


def test_with_allow_calls_in_flight_as_it_begins_count_for_steps_that_begin_meanwhile(outage):
    current.use(outage.url, on_store_error="allow")
    framework = FakeFramework()

    def one_is_sent():  # in a thread of its own, which is in no step yet
        with job("budget"):
            framework.ask()
            framework.refusal()

    def none_is_sent():
        with job("budget"):
            framework.refusal()

    with job("budget"):
        calls = [framework.open() for _ in range(4)]
        with away(outage):
            run_all([one_is_sent])
            for call in calls:
                framework.answer(call)
            run_all([none_is_sent])
    back()
    assert (framework.sent, spent("budget")) == (5, (5, 0))


def test_with_allow_what_is_granted_meanwhile_and_not_sent_gives_its_room_back(outage):
    current.use(outage.url, on_store_error="allow")
    framework = FakeFramework()
    with job("budget"):
        framework.ask()
        with away(outage):
            for _ in range(10):
                framework.open().withdraw()
        framework.ask()
    assert spent("budget") == (2, 0)


def test_with_allow_what_is_in_flight_as_it_ends_is_reserved_on_the_ledger_for_others_to_see(outage):
    current.use(outage.url, on_store_error="allow")
    framework = FakeFramework()
    with job("budget"):
        framework.ask()
        with away(outage):
            calls = [framework.open() for _ in range(3)]
        back()
        assert spent("budget") == (1, 3)
        framework.answer(calls.pop())
        assert spent("budget") == (2, 2)
        for call in calls:
            call.withdraw()
    assert spent("budget") == (2, 0)


DYING = """
import logging, sqlite3, sys
from steptrack_callbacks import Budget, install, step
from fake_framework import FakeFramework
logging.basicConfig(format="%(levelname)s %(message)s")
install(ledger=f"sqlite:///{sys.argv[1]}?timeout_s=0.05", on_store_error=sys.argv[2])
framework, team = FakeFramework(), Budget("team-a", max_calls=10)
with step("job", budgets=[team]):
    call = framework.open()
    other = sqlite3.connect(sys.argv[1], isolation_level=None)
    other.execute("BEGIN EXCLUSIVE")
    framework.answer(call)
"""


@pytest.mark.parametrize("on_error", ["refuse", "allow"])
def test_what_is_still_owed_as_the_process_ends_is_said_to_be_lost(tmp_path, on_error):
    books = str(tmp_path / "books.db")
    done = subprocess.run(
        [sys.executable, "-c", DYING, books, on_error],
        cwd=Path(__file__).parent,
        capture_output=True,
        text=True,
        check=True,
    )
    said = [line for line in done.stderr.splitlines() if line.startswith("ERROR")]
    [line] = said
    assert line.removeprefix(f"ERROR ledger sqlite:///{books}") == (
        " could not be told all before the process ended; it lacks 1 charge of $0.00225 in all and 1 record"
    )


def test_a_ledger_that_was_replaced_while_it_was_away_is_told_once_it_is_back(tmp_path):
    outage = Locked(tmp_path)
    install(ledger=outage.url)
    framework = FakeFramework()
    with job("budget"):
        framework.ask()
    with job("budget"):
        call = framework.open()
        with away(outage):
            framework.answer(call)
            install(ledger="memory:")
        old = current._used[outage.url]
        assert old.owed == 1
        old._away_until = 0.0  # as if the moment in which it is left alone had passed
        run_all([step("another")(lambda: None)])
    assert old.owed == 0
