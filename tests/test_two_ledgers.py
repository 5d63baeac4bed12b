"""One process and several ledgers: each keeps what is its own, and a call has room on all of them or on none."""

import asyncio
import os
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from fake_framework import FakeFramework
from steptrack_callbacks import Budget, LedgerError, install, step
from steptrack_callbacks.ledgers import open_ledger
from steptrack_callbacks.ledgers.protocol import Entry
from steptrack_callbacks.ledgers.sqlite import SqliteStore

OUTER, INNER = Budget("outer", max_calls=5), Budget("inner", max_calls=2)


@pytest.fixture
def urls(tmp_path):
    return [f"sqlite:///{tmp_path}/{name}.db?timeout_s=0.05" for name in ("a", "b")]


def spent(url, name):
    (totals,) = open_ledger(url).look([f"budget::0:{name}"])
    return totals.settled.get("calls", 0), totals.held_calls


def test_a_budget_is_kept_in_the_ledger_that_was_in_force_when_its_step_began(urls):
    framework = FakeFramework()
    install(ledger=urls[0])
    with step("job", budgets=[OUTER]):
        install(ledger=urls[1])
        with step("part", budgets=[INNER]):
            framework.ask()
        framework.ask()
    assert [spent(url, name) for url in urls for name in ("outer", "inner")] == [
        (2, 0),
        (0, 0),
        (0, 0),
        (1, 0),
    ]


def test_a_no_of_one_ledger_leaves_nothing_reserved_on_another(urls):
    framework = FakeFramework()
    install(ledger=urls[0])
    with step("job", budgets=[OUTER]) as job:
        install(ledger=urls[1])
        with step("part", budgets=[INNER]):
            others = Entry(id="of another process", keys=("budget::0:outer",), amounts={"calls": 5})
            open_ledger(urls[0]).settle([others])
            refusal = framework.refusal()
    assert (refusal.step_id, refusal.budget) == (job.id, "outer")
    assert [spent(urls[0], "outer"), spent(urls[1], "inner")] == [(5, 0), (0, 0)]


@pytest.mark.parametrize("away", [0, 1])
def test_while_one_of_them_is_away_nothing_is_reserved_on_the_other(urls, away, tmp_path):
    framework = FakeFramework()
    install(ledger=urls[0])
    with step("job", budgets=[OUTER], wait_s=0.1):
        install(ledger=urls[1])
        with step("part", budgets=[INNER], wait_s=0.1):
            framework.ask()
            other = sqlite3.connect(tmp_path / f"{'ab'[away]}.db", isolation_level=None)
            other.execute("BEGIN EXCLUSIVE")
            with pytest.raises(LedgerError):
                framework.ask()
            other.rollback()
            other.close()
            framework.ask()
    assert [spent(urls[0], "outer"), spent(urls[1], "inner")] == [(2, 0), (2, 0)]


def test_a_charge_that_is_interrupted_at_one_of_them_is_owed_to_the_other(urls, monkeypatch):
    framework = FakeFramework()

    def interrupted(_store, _entries):
        raise KeyboardInterrupt

    install(ledger=urls[0])
    with step("job", budgets=[OUTER]):
        install(ledger=urls[1])
        with step("part", budgets=[INNER]):
            call = framework.open()
            with monkeypatch.context() as patched:
                patched.setattr(SqliteStore, "try_settle", interrupted)
                with pytest.raises(KeyboardInterrupt):
                    framework.answer(call)
        framework.ask()
    assert [spent(urls[0], "outer"), spent(urls[1], "inner")] == [(2, 0), (1, 0)]


def test_tasks_await_both(urls, own_redis):
    urls[1] = own_redis.url()
    framework = FakeFramework()

    async def main():
        install(ledger=urls[0])
        async with step("job", budgets=[OUTER]):
            install(ledger=urls[1])
            async with step("part", budgets=[INNER], error_boundary="continue"):
                await asyncio.gather(*(framework.try_to_ask_async() for _ in range(10)))

    asyncio.run(main())
    assert [spent(urls[0], "outer"), spent(urls[1], "inner")] == [(2, 0), (2, 0)]


SCRIPT = """
import sys
from fake_framework import FakeFramework
from steptrack_callbacks import Budget, install, step
install(ledger=sys.argv[1])
framework = FakeFramework()
with step("job", budgets=[Budget("inner", max_calls=2)], error_boundary="continue"):
    for _ in range(5):
        framework.ask()
"""


@pytest.mark.parametrize("of_the_run", [[], ["--run-id", "night-1"], ["--run-id", "night-1", "--ledger"]])
def test_a_program_under_steptrack_run_keeps_its_budgets_in_its_own_ledger(urls, of_the_run, tmp_path):
    script = tmp_path / "script.py"
    script.write_text(SCRIPT)
    options = [*of_the_run, urls[0]] if "--ledger" in of_the_run else of_the_run
    for _ in range(2):
        subprocess.run(
            [sys.executable, "-m", "steptrack_callbacks", "run", *options, str(script), urls[1]],
            env={**os.environ, "PYTHONPATH": str(Path(__file__).parent)},
            capture_output=True,
            check=True,
        )
    assert spent(urls[1], "inner") == (2, 0)


def test_installing_the_same_ledger_again_keeps_its_books():
    framework = FakeFramework()
    for _ in range(3):
        install(ledger="memory:")
        with step("job", budgets=[INNER], error_boundary="continue"):
            framework.ask()
            framework.ask()
    assert framework.sent == 2


def test_coming_back_to_a_ledger_finds_its_books(urls):
    framework = FakeFramework()
    for ledger in ("memory:", urls[0], "memory:", urls[0]):
        install(ledger=ledger)
        with step("job", budgets=[INNER], error_boundary="continue"):
            framework.ask()
            framework.ask()
    assert framework.sent == 4
