"""Runs with a name: who begins one again goes on at what it has spent."""

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from fake_framework import CALL_USD, FakeFramework, run_all
from spending import spend
from steptrack_callbacks import BudgetExhausted, peek_completed_steps, persona, step
from steptrack_callbacks.ledgers import current


@pytest.fixture(autouse=True)
def ledger(tmp_path):
    url = f"sqlite:///{tmp_path}/books.db"
    current.use(url)
    return url


def test_a_run_that_is_begun_again_finds_what_it_has_spent():
    framework = FakeFramework()
    with step("nightly", max_calls=3, run_id="2026-11-22"):
        framework.ask()
        framework.ask()
    with step("nightly", max_calls=3, run_id="2026-11-22") as again:
        assert again.usage.calls == 2
        assert again.cost_usd == 2 * CALL_USD
        framework.ask()
        framework.refusal()
    first, second = peek_completed_steps()
    assert (first.resumed_usage.calls, first.usage.calls) == (0, 2)
    assert (second.resumed_usage.calls, second.usage.calls) == (2, 3)


def test_another_run_begins_at_zero():
    framework = FakeFramework()
    with step("nightly", max_calls=1, run_id="2026-11-22"):
        framework.ask()
    with step("nightly", max_calls=1, run_id="2026-11-23"):
        framework.ask()


def test_names_with_colons_are_kept_apart():
    framework = FakeFramework()
    for name, run_id in (("a:b", "c"), ("a", "b:c"), ("a%3Ab", "c")):
        with step(name, max_calls=1, run_id=run_id):
            framework.ask()
    assert len(current.ledger().store.accounts()) == 3


@pytest.mark.parametrize("run_id", ["", "  ", 5])
@pytest.mark.parametrize("make", [step, persona])
def test_a_run_without_a_name_that_could_be_found_again_is_refused(make, run_id):
    with pytest.raises(ValueError, match="run_id must be a non-empty string"):
        make("nightly", run_id=run_id)


@pytest.mark.parametrize("make", [step, persona])
def test_a_run_that_no_ledger_could_keep_is_refused_where_it_is_declared(make):
    with pytest.raises(ValueError, match=r"run_id 'tuesday\\ud800' has a lone surrogate.*: leave it out"):
        make("nightly", run_id="tuesday\ud800")
    with pytest.raises(ValueError, match=r"the name of a step with a run_id, '\\ud800' has a lone surrogate"):
        make("\ud800", run_id="tuesday")
    assert make("\ud800").name == "\ud800"  # as of a file; without a run_id nothing is kept under it


KILLED = """
import os, signal, sys
from steptrack_callbacks import install, step
from spending import open_call
install(ledger=sys.argv[1])
with step("nightly", max_calls=1, run_id="r"):
    open_call()
    os.kill(os.getpid(), signal.SIGKILL)
"""


def test_room_that_a_dead_process_holds_is_reserved_and_not_spent(ledger):
    dead = subprocess.run([sys.executable, "-c", KILLED, ledger], cwd=Path(__file__).parent, check=False)
    assert dead.returncode == -signal.SIGKILL
    with step("nightly", max_calls=1, run_id="r"):
        refusal = FakeFramework().refusal()
    assert (refusal.phase, refusal.breaches[0].consumed, refusal.breaches[0].reserved) == ("busy", 0, 1)
    assert str(refusal) == (
        "step 'nightly' has no room under max_calls beside calls in flight: 0 calls spent and 1 reserved of 1;"
        " calls of others count; those of a process that has died come back 900 s after they began"
    )


def test_inner_steps_begin_at_zero_and_roll_up():
    framework = FakeFramework()
    for _ in range(2):
        with step("nightly", max_calls=10, run_id="r") as nightly, step("plan", max_calls=1) as plan:
            framework.ask()
            assert plan.usage.calls == 1
    assert nightly.usage.calls == 2


def test_two_steps_with_one_run_id_at_once_share_the_account(plain_threads):
    framework = FakeFramework()

    def other():
        with step("nightly", max_calls=3, run_id="r"):
            framework.ask()
            framework.ask()
            framework.refusal()

    with step("nightly", max_calls=3, run_id="r") as one:
        framework.ask()
        run_all([other])
        framework.refusal()
    assert one.usage.calls == 3


SCRIPT = """
import sys
from steptrack_callbacks import BudgetExhausted, install, record_usage, step
install(ledger=sys.argv[1])
try:
    with step("nightly", max_calls=3, run_id="r") as nightly:
        record_usage("m", input_tokens=1, output_tokens=1, cost_usd=0.1)
        record_usage("m", input_tokens=1, output_tokens=1, cost_usd=0.1)
        print(nightly.usage.calls, nightly.cost_usd, flush=True)
except BudgetExhausted as error:
    print(error.phase, error.limit)
"""


def test_a_new_process_finds_what_the_run_has_spent(ledger):
    def run():
        return subprocess.run(
            [sys.executable, "-c", SCRIPT, ledger], capture_output=True, text=True, check=True
        ).stdout.strip()

    assert [run(), run()] == ["2 0.2", "settled max_calls"]
    with step("nightly", max_calls=3, run_id="r") as nightly:
        assert nightly.usage.calls == 4
        FakeFramework().refusal()


def test_a_run_that_a_process_died_in_counts_what_it_had_settled(ledger):
    script = SCRIPT.replace("        print(nightly", "        import os; os._exit(9)\n        print(nightly")
    assert subprocess.run([sys.executable, "-c", script, ledger], check=False).returncode == 9
    with step("nightly", max_calls=3, run_id="r") as nightly:
        assert nightly.usage.calls == 2


def test_a_run_without_a_name_leaves_nothing_in_the_ledger():
    with step("job", max_calls=3):
        spend()
    assert current.ledger().store.accounts() == []


def test_records_reach_the_ledger_and_a_late_report_puts_the_whole_record_back():
    framework = FakeFramework()
    with step("job"):
        call = framework.open()
    framework.answer(call, 17)
    (record,) = current.ledger().store.records()
    assert (record["output_tokens"], record["revision"]) == (17, 1)


def test_a_run_that_is_spent_refuses_whoever_begins_it_again():
    with step("nightly", max_usd=1, run_id="r"), pytest.raises(BudgetExhausted):
        spend(cost_usd=2)
    with step("nightly", max_usd=1, run_id="r", error_boundary="continue") as again:
        FakeFramework().ask()
    assert again.status == "continued"
    assert again.usage.calls == 1
