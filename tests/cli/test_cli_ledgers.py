"""`steptrack report` and `steptrack ledger` show, take along and forget what a ledger keeps."""

from __future__ import annotations

import csv
import io
import json
import re
import shutil
import sqlite3
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from urllib.parse import quote

import pytest
from programs import steptrack

from spending import open_call
from steptrack_callbacks import Budget, Usage, drain_completed_steps, install, record_usage, step, uninstall
from steptrack_callbacks.cli import main
from steptrack_callbacks.ledgers import open_ledger
from steptrack_callbacks.ledgers.protocol import AccountRequest, Asked, ReservationRequest


@pytest.fixture
def said(capsys):
    """Run a command in this process; returns its exit code, stdout and stderr."""

    def run(*arguments):
        try:
            code = main([str(argument) for argument in arguments])
        except SystemExit as leaving:
            code = leaving.code
        return code, *capsys.readouterr()

    return run


def test_a_report_is_the_tree_of_what_is_kept(ledger, said):
    code, out, err = said("report", ledger)
    assert (code, err) == (0, "")
    names = [line.split()[0] for line in out.splitlines()]
    assert [name for name in names if name in ("nightly", "plan", "=write", "total")] == [
        "nightly",
        "plan",
        "=write",
        "total",
    ]
    [total] = [line for line in out.splitlines() if line.split()[:1] == ["total"]]
    assert total.split() == ["total", "2", "1,100", "55", "$0.0300"]


@pytest.mark.parametrize("form", ["{}", "sqlite:///{}", "sqlite:///{}?mode=ro&timeout_s=2"])
def test_a_ledger_is_a_file_or_a_url(ledger, said, form):
    code, out, _ = said("report", form.format(ledger), "--json")
    assert (code, json.loads(out)["total"]["cost_usd"]) == (0, 0.03)


def test_a_ledger_may_be_named_as_it_is_for_run(ledger, said):
    assert said("report", "--ledger", ledger) == said("report", ledger)
    code, _, err = said("report", ledger, "--ledger", ledger)
    assert (code, err.partition(";")[0]) == (
        2,
        "steptrack report: argument --ledger: not allowed with argument FILE|URL",
    )


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ("report", "x.db", "--jsn"),
            "steptrack report: unrecognized arguments: --jsn; did you mean '--json'?",
        ),
        (("ledger", "info", "--csv", "x.db"), "steptrack ledger info: unrecognized arguments: --csv;"),
        (("--jsn", "report", "x.db"), "steptrack: unrecognized arguments: --jsn;"),
    ],
)
def test_an_unknown_option_is_refused_in_the_commands_own_name(said, arguments, message):
    code, out, err = said(*arguments)
    assert (code, out) == (2, "")
    assert err.startswith(message)


def test_a_file_may_have_any_name(ledger, said, tmp_path):
    odd = tmp_path / "a b?c#%41&ü.db"
    shutil.copy(ledger, odd)
    code, out, _ = said("report", odd, "--json")
    assert (code, json.loads(out)["total"]["calls"]) == (0, 2)
    code, out, _ = said("report", f"sqlite:///{quote(str(odd))}", "--json")
    assert (code, json.loads(out)["total"]["calls"]) == (0, 2)


def test_a_report_is_of_a_run_or_of_a_time(ledger, said):
    assert len(json.loads(said("report", ledger, "--run", "tonight", "--json")[1])["steps"]) == 3
    assert said("report", ledger, "--run", "yesternight") == (
        1,
        "",
        f"steptrack report: no step of a run 'yesternight' is kept in sqlite:///{ledger}\n",
    )
    for since, steps in (("1d", 3), ("2999-01-01", 0), ("2000-01-01T00:00:00+02:00", 3)):
        assert len(json.loads(said("report", ledger, "--since", since, "--json")[1])["steps"]) == steps
    nothing = f"no step that ended since 2999-01-01 00:00 UTC is kept in sqlite:///{ledger}\n"
    assert said("report", ledger, "--since", "2999-01-01") == (0, nothing, "")
    code, out, err = said("report", ledger, "--run", "tonight", "--since", "2999-01-01")
    assert (code, out) == (1, "")
    assert "no step of a run 'tonight' that ended since 2999-01-01 00:00 UTC is kept" in err
    assert len(json.loads(said("report", ledger, "--since", "999999w", "--json")[1])["steps"]) == 3


def test_an_empty_ledger_is_said_to_be_empty(said, tmp_path):
    file = tmp_path / "steps.db"
    open_ledger(f"sqlite:///{file}").accounts()
    assert said("report", file) == (0, f"no step is kept in sqlite:///{file}\n", "")


def keep(file):
    """Put the records of this process into a ledger, as its process did."""
    store = open_ledger(f"sqlite:///{file}")
    for record in drain_completed_steps():
        store.put_record(record.to_dict())
    store.close_connections()


def test_a_call_that_was_settled_late_is_said_to_be_late(said, tmp_path):
    with step("nightly"), step("plan"):
        call = open_call()
    call.settle(Usage(input_tokens=10, output_tokens=3))
    keep(tmp_path / "steps.db")
    out = said("report", tmp_path / "steps.db")[1]
    assert "nightly/plan: 1 call settled late" in out
    assert out.count("settled late") == 1
    rows = json.loads(said("report", tmp_path / "steps.db", "--json")[1])["steps"]
    assert [(row["name"], row["late_calls"], row["own_late_calls"]) for row in rows] == [
        ("nightly", 1, 0),
        ("plan", 1, 1),
    ]
    page = tmp_path / "out.html"
    said("report", tmp_path / "steps.db", "--html", page)
    text = page.read_text(encoding="utf-8")
    assert "<dt>Late</dt><dd>1 call</dd>" in text
    assert "When 1 call ran is not kept" in text


def test_top_marks_what_is_uncertain_as_a_report_does(said, tmp_path):
    install(ledger=f"sqlite:///{tmp_path / 'steps.db'}")
    try:
        for name, price in (("guessed", 2 * 10**22), ("unknown", None)):
            with step(name, budgets=[Budget(f"{name}-team", max_calls=9)]):
                open_call(price=lambda _, price=price: price).abandon(5)
    finally:
        uninstall()
    out = said("top", "--once", tmp_path / "steps.db")[1]
    lines = [
        line.removeprefix("budget ").split()
        for line in out.splitlines()
        if "guessed" in line or "unknown" in line
    ]
    shown = {name: rest for name, *rest in lines}
    assert (shown["guessed-team"][0], shown["guessed"][1]) == ("~$0.0200", "~$0.0200")
    assert (shown["unknown-team"][0], shown["unknown"][1]) == ("unknown", "unknown")


def test_a_report_can_be_a_page(ledger, said, tmp_path):
    page = tmp_path / "out.html"
    assert said("report", ledger, "--html", page) == (0, f"written to {page}\n", "")
    assert "=write" in page.read_text(encoding="utf-8")
    code, _, err = said("report", ledger, "--html", tmp_path / "no" / "out.html")
    assert code == 2
    assert err.endswith("cannot be written: No such file or directory\n")


def test_to_look_changes_nothing(ledger, said):
    before = ledger.read_bytes()
    for command in (["report"], ["ledger", "info"], ["ledger", "export"], ["top", "--once"]):
        assert said(*command, ledger)[0] == 0
    assert ledger.read_bytes() == before


def test_to_look_into_an_empty_file_leaves_it_empty(said, tmp_path):
    file = tmp_path / "empty.db"
    file.touch()
    for command in (["report"], ["ledger", "info"], ["ledger", "export"], ["top", "--once"]):
        code, _, err = said(*command, file)
        assert (code, len(err.splitlines())) in ((0, 0), (2, 1))
    assert file.read_bytes() == b""


@pytest.mark.parametrize(
    "command", [["report"], ["top"], ["ledger", "info"], ["ledger", "prune", "--before", "1d"]]
)
@pytest.mark.parametrize(
    ("place", "why"),
    [
        ("no-such.db", "'no-such.db' is not there; a ledger is made by install(ledger='sqlite:///steps.db')"),
        ("sqlite:///no-such.db", "'no-such.db' is not there"),
        (".", "'.' is a directory: name the file in it"),
        ("memory:", "'memory:' is a process's own memory, so there is nothing in it"),
        ("mysql://me:hunter2@host/db", "'mysql://me:***@host/db' is not a ledger: use memory:"),
        ("a\0b", "is not there"),
    ],
)
def test_what_is_no_ledger_is_one_line_and_nothing_is_made(said, tmp_path, monkeypatch, command, place, why):
    monkeypatch.chdir(tmp_path)
    code, out, err = said(*command, place)
    assert (code, out) == (2, "")
    assert why in err
    assert len(err.splitlines()) == 1
    assert list(tmp_path.iterdir()) == []


def test_a_file_of_another_kind_is_one_line(said, tmp_path):
    (tmp_path / "notes.txt").write_text("notes")
    database = sqlite3.connect(tmp_path / "other.db")
    database.execute("create table t (x)")
    database.commit()
    database.close()
    for name in ("notes.txt", "other.db"):
        code, out, err = said("report", tmp_path / name)
        assert (code, out, len(err.splitlines())) == (2, "", 1)
        assert "not a steptrack ledger" in err


def test_info_says_what_is_kept(ledger, said):
    info = json.loads(said("ledger", "info", ledger, "--json")[1])
    assert (info["kind"], info["records"], info["accounts"], info["reservations"]) == ("sqlite", 3, 1, 1)
    assert f"records          {3}" in said("ledger", "info", ledger)[1]


@pytest.mark.parametrize("form", ["{}", "sqlite:///{}"])
def test_info_counts_the_calls_of_processes_that_died(ledger, said, form):
    store = open_ledger(f"sqlite:///{ledger}")
    asks = (AccountRequest(key="budget:::team-b", max_calls=9, held=Asked(0, 70)),)
    store.reserve(ReservationRequest(id="dead", asks=asks, lease_s=1e-9))
    store.close_connections()
    info = json.loads(said("ledger", "info", form.format(ledger), "--json")[1])
    assert (info["accounts"], info["reservations"], info["lapsed_calls"]) == (2, 1, 1)
    assert "lapsed_calls     1" in said("ledger", "info", form.format(ledger))[1]
    accounts = json.loads(said("ledger", "export", form.format(ledger), "--of", "accounts")[1])
    assert [(each["calls_in_flight"], each["lapsed_calls"]) for each in accounts] == [(1, 0), (0, 1)]


STARTS = """
import sys
from steptrack_callbacks import install, record_usage, step
install(ledger=sys.argv[1])
spend = lambda: record_usage("m", input_tokens=1, output_tokens=1, cost_usd=0.1)
with step("nightly", run_id="r"):
    with step("plan"):
        spend()
    print("spent", flush=True)
    sys.stdin.readline()
    spend()
    print("spent", flush=True)
    sys.stdin.readline()
"""


def test_starts_of_a_run_in_many_processes_at_once_are_counted_once(said, tmp_path):
    file = tmp_path / "steps.db"
    command = [sys.executable, "-c", STARTS, f"sqlite:///{file}"]
    starts = [
        subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) for _ in range(3)
    ]
    for _ in range(2):
        for start in starts:  # all are at the same place before one goes on
            assert start.stdout.readline() == "spent\n"
        for start in starts:
            start.stdin.write("go\n")
            start.stdin.flush()
    for start in starts:
        start.communicate(timeout=60)
    shown = json.loads(said("report", file, "--json")[1])
    assert (shown["total"]["calls"], shown["total"]["cost_usd"]) == (6, 0.6)
    assert sum(model["calls"] for model in shown["models"]) == 6
    whole = [each["llm_calls"] for each in shown["steps"] if each["name"] == "nightly"]
    assert (len(whole), max(whole)) == (3, 6)
    assert "no record here" not in said("report", file)[1]


def test_what_a_run_spent_in_a_start_without_a_record_is_said(said, tmp_path):
    file = tmp_path / "steps.db"
    for script, code in ((f"{STARTS}    import os; os._exit(9)", 9), (STARTS, 0)):
        command = [sys.executable, "-c", script, f"sqlite:///{file}"]
        assert subprocess.run(command, input="go\n" * 2, text=True, check=False).returncode == code
    out = said("report", file)[1]
    assert " nightly/plan " in out  # of the start that was lost, where it is no longer inside anything
    [total] = [line.split() for line in out.splitlines() if line.split()[:1] == ["total"]]
    assert (total[1], total[-1]) == ("4", "$0.4000")  # with the inner step that had ended before the loss
    assert "nightly: of which $0.2000 in 2 calls before this start" in out
    assert "nightly (run r): another $0.1000 in 1 call, in attempts without a record here: still" in out
    shown = json.loads(said("report", file, "--json")[1])
    assert (
        shown["total"]["cost_usd"]
        == sum(each["here_cost_usd"] for each in shown["steps"] if not each["depth"]) + 0.1
    )


def test_a_run_that_was_killed_is_a_row_of_its_own_with_all_that_its_account_holds(said, tmp_path):
    file = tmp_path / "steps.db"
    script = f"{STARTS}    import os, signal; os.kill(os.getpid(), signal.SIGKILL)"
    subprocess.run(
        [sys.executable, "-c", script, f"sqlite:///{file}"], input="go\n" * 2, text=True, check=False
    )
    code, out, _ = said("report", file)
    assert code == 0
    [row] = [line for line in out.splitlines() if " no record " in line]
    assert row.split()[:3] == ["nightly", "(run", "r)"]
    assert said("report", file, "--run", "r")[0] == 0
    page = tmp_path / "report.html"
    said("report", file, "--html", page)
    assert ">no record<" in page.read_text()


def test_a_run_whose_record_was_pruned_is_not_said_to_be_unfinished(said, tmp_path):
    file = tmp_path / "steps.db"
    command = [sys.executable, "-c", STARTS, f"sqlite:///{file}"]
    subprocess.run(command, input="go\n" * 2, text=True, check=True)
    tomorrow = datetime.now(UTC).date() + timedelta(days=1)
    said("ledger", "prune", "--before", str(tomorrow), file)
    out = said("report", file)[1]
    [row] = [line for line in out.splitlines() if " no record " in line]
    assert row.split()[:3] == ["nightly", "(run", "r)"]
    assert (
        "2 calls, in attempts without a record here: still running, killed, or its record was pruned" in out
    )
    assert "unfinished" not in out


def test_prune_forgets_what_is_older(ledger, said):
    assert json.loads(said("ledger", "prune", "--before", "1d", ledger, "--json")[1])["pruned"] == 0
    code, out, _ = said("ledger", "prune", "--before", "2999-01-01", ledger)
    assert (code, out.endswith(" from before 2999-01-01 00:00 UTC forgotten\n")) == (0, True)
    assert json.loads(said("report", ledger, "--json")[1])["steps"] == []
    assert said("ledger", "prune", ledger)[0] == 2


def test_export_writes_records_and_accounts_as_json_and_csv(ledger, said):
    records = json.loads(said("ledger", "export", ledger)[1])
    assert [record["name"] for record in records] == ["plan", "=write", "nightly"]
    rows = list(csv.DictReader(io.StringIO(said("ledger", "export", ledger, "--csv")[1])))
    assert [row["cost_usd"] for row in rows] == ["0.02", "0.01", "0.03"]
    assert json.loads(rows[0]["limits"]) == {"max_calls": 9}
    [account] = json.loads(said("ledger", "export", ledger, "--of", "accounts", "--json")[1])
    assert (account["cost_usd"], account["calls"], account["reserved_usd"]) == (0.03, 2, 0.005)
    assert (account["calls_in_flight"], account["reserved_tokens"], account["closed"]) == (1, 70, False)
    [row] = csv.DictReader(io.StringIO(said("ledger", "export", ledger, "--of", "accounts", "--csv")[1]))
    assert row["key"] == "budget:1d:1795305600:team-a"
    assert said("ledger", "export", ledger, "--since", "2999-01-01")[1] == "[]\n"
    assert said("ledger", "export", ledger, "--csv", "--json")[0] == 2


def test_a_spreadsheet_runs_no_formula_from_an_export(ledger, said):
    rows = list(csv.DictReader(io.StringIO(said("ledger", "export", ledger, "--csv")[1])))
    assert rows[1]["name"] == "'=write"


def test_a_damaged_record_in_a_ledger_is_told_in_one_line(said, tmp_path):
    file = tmp_path / "steps.db"
    with step("plan"):
        pass
    store = open_ledger(f"sqlite:///{file}")
    store.put_record(drain_completed_steps()[0].to_dict() | {"models": 3})
    store.close_connections()
    code, out, err = said("report", file)
    assert (code, out, len(err.splitlines())) == (2, "", 1)
    assert "Traceback" not in err


def test_names_that_a_terminal_would_act_on_are_harmless(said, tmp_path):
    file = tmp_path / "steps.db"
    with step("\x1b[31mred\x07"):
        pass
    store = open_ledger(f"sqlite:///{file}")
    store.put_record(drain_completed_steps()[0].to_dict())
    store.close_connections()
    for command in (["report"], ["top", "--once"]):
        code, out, _ = said(*command, file)
        assert (code, "\x1b" in out, "\x07" in out) == (0, False, False)


def test_a_terminal_without_the_letters_is_no_reason_to_fail(ledger, tmp_path):
    odd = tmp_path / "ü.db"
    shutil.copy(ledger, odd)
    done = steptrack("ledger", "info", odd, env={"PYTHONIOENCODING": "ascii"})
    assert (done.returncode, "Traceback" in done.stderr) == (0, False)


def test_top_says_how_much_of_its_limits_a_budget_has_used_and_when_it_starts_again(said, tmp_path):
    install(ledger=f"sqlite:///{tmp_path / 'steps.db'}")
    team, always = Budget("team-a", max_usd=0.05, max_calls=4, window="1d"), Budget("ever", max_calls=2)
    with step("job", budgets=[team, always]):
        record_usage("m", input_tokens=7, output_tokens=5, cost_usd=0.04)
    out = said("top", "--once", tmp_path / "steps.db")[1]
    rows = [line for line in out.splitlines() if "% of " in line]
    assert re.fullmatch(r"80% of \$0.0500, 25% of 4 calls +team-a +\d{4}-\d\d-\d\d 00:00 UTC", rows[0])
    assert re.fullmatch(r"50% of 2 calls +ever +never", rows[1])
    uninstall()
