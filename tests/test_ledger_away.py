"""A ledger that cannot be reached: refused or allowed as was said, and told later what it missed."""

import asyncio
import logging
import sqlite3
from contextlib import contextmanager, suppress

import pytest

from fake_framework import FakeFramework
from steptrack_callbacks import Budget, LedgerError, StepTrackError, hooks, peek_completed_steps, step
from steptrack_callbacks.ledgers import current

TEN = Budget("team-a", max_calls=10)


@pytest.fixture
def books(tmp_path):
    path = tmp_path / "books.db"
    current.use(f"sqlite:///{path}?timeout_s=0.05")
    current.ledger().store.info()  # the file is there before anybody locks it
    return path


@contextmanager
def locked(path):
    """Hold the file as another program might."""
    connection = sqlite3.connect(path, isolation_level=None)
    connection.execute("BEGIN EXCLUSIVE")
    try:
        yield
    finally:
        connection.rollback()
        connection.close()


def allow():
    current.use(current.ledger().store, on_store_error="allow")


def spent():
    (totals,) = current.ledger().store.look(["budget::0:team-a"])
    return totals.settled.get("calls", 0), totals.held_calls


def test_a_call_is_refused_before_it_is_sent_and_nothing_stays_reserved(books):
    framework = FakeFramework()
    with step("job", max_calls=5, budgets=[TEN], wait_s=0.1) as job:
        with locked(books), pytest.raises(LedgerError) as away:
            framework.ask()
        assert framework.sent == 0
        assert job.account.held_calls == 0
        assert isinstance(away.value.__cause__, sqlite3.OperationalError)
        assert str(books) in str(away.value)
        framework.ask()
    assert spent() == (1, 0)
    assert peek_completed_steps()[0].denied_calls == 1


def test_a_refusal_for_want_of_the_ledger_is_announced_as_one(books):
    framework, seen = FakeFramework(), []
    hook = hooks.on(hooks.CallDenied, lambda event: seen.append(type(event.error)))
    with step("job", budgets=[TEN], wait_s=0.1), locked(books), pytest.raises(StepTrackError):
        framework.ask()
    del hook
    assert seen == [LedgerError]


def test_an_answer_is_not_lost_when_the_ledger_is_and_its_charge_is_told_later(books, caplog):
    framework = FakeFramework()
    with step("job", budgets=[TEN]) as job:
        call = framework.open()
        with locked(books):
            framework.answer(call)
            assert job.usage.calls == 1
            assert job.budgets[0].settled.calls == 1
            assert current.ledger().owed == 1
        framework.ask()
    assert current.ledger().owed == 0
    assert spent() == (2, 0)
    assert [record.levelno for record in caplog.records] == [logging.WARNING] * 2


def test_what_is_owed_is_told_when_a_step_ends(books):
    framework = FakeFramework()
    with step("job", budgets=[TEN]):
        call = framework.open()
        with locked(books):
            framework.answer(call)
    assert spent() == (1, 0)


def test_with_allow_calls_go_on_by_what_is_known_here_and_are_told_later(books):
    allow()
    framework = FakeFramework()
    with step("job", budgets=[Budget("team-a", max_calls=3)]):
        framework.ask()
        with locked(books):
            framework.ask()
            framework.ask()
            framework.refusal()
        current.ledger().flush()
        assert spent() == (3, 0)
        framework.refusal()


def test_with_allow_what_others_spent_meanwhile_counts_as_soon_as_the_ledger_is_back(books):
    allow()
    framework = FakeFramework()
    with step("job", budgets=[Budget("team-a", max_calls=3)]):
        with locked(books):
            framework.ask()
        current.ledger().flush()
        with step("other", parent=None):
            framework.ask()
        framework.ask()
        framework.refusal()
    assert spent() == (3, 0)


def test_a_record_that_could_not_be_kept_is_kept_later(books):
    with locked(books), step("job"):
        pass
    current.ledger().flush()
    assert [record["name"] for record in current.ledger().store.records()] == ["job"]


def test_a_task_that_is_cancelled_while_it_waits_for_the_ledger_leaves_no_room_reserved(books):
    current.use(f"sqlite:///{books}?timeout_s=20")
    framework = FakeFramework()

    async def main():
        async with step("job", budgets=[TEN]):
            with locked(books):
                asking = asyncio.create_task(framework.open_async())
                await asyncio.sleep(0)
                await asyncio.sleep(0)
                asking.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await asking
            framework.ask()

    asyncio.run(main())
    assert spent() == (1, 0)


@pytest.mark.parametrize(
    ("url", "says"),
    [("oracle://x", "oracle"), ("sqlite://", "sqlite"), ("", "ledger")],
)
def test_a_url_that_is_none_of_ours_is_refused_at_once(url, says):
    with pytest.raises(ValueError, match=says):
        current.use(url)


def test_a_word_that_is_no_way_to_treat_errors_is_refused():
    with pytest.raises(ValueError, match="on_store_error must be one of 'refuse', 'allow', not 'ignore'"):
        current.use("memory:", on_store_error="ignore")
    with pytest.raises(ValueError, match="lease_s"):
        current.use("memory:", lease_s=0)


def test_the_environment_may_name_the_ledger(monkeypatch, tmp_path):
    monkeypatch.setenv("STEPTRACK_LEDGER", f"sqlite:///{tmp_path}/env.db")
    with step("job", budgets=[TEN]):
        FakeFramework().ask()
    assert spent() == (1, 0)
    assert (tmp_path / "env.db").exists()


@pytest.mark.parametrize("on_error", ["refuse", "allow"])
def test_that_it_is_away_is_said_once_however_many_steps_end_meanwhile(books, caplog, on_error):
    current.use(current.ledger().store, on_store_error=on_error)
    with locked(books):
        for _ in range(3):
            with step("job", budgets=[TEN], wait_s=0.1), suppress(LedgerError):
                FakeFramework().ask()
        assert len(caplog.records) == 1
    with step("job", budgets=[TEN]):
        FakeFramework().ask()
    assert [record.message.split()[-3:] for record in caplog.records][1:] == [["it", "was", "owed"]]
