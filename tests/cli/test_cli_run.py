"""`steptrack run` runs a program as Python does, under a budget, and says what became of it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
from programs import COMMAND, SPENDER, environment, steptrack

from provider import Provider

LITELLM_SCRIPT = """
import litellm

for number in range(10):
    answer = litellm.completion(
        model="gpt-4o-mini", messages=[{"role": "user", "content": "Go on."}], mock_response="Further."
    )
    print("answer", number, answer.choices[0].message.content)
"""

LANGCHAIN_SCRIPT = """
import sys
from langchain_core.prompts import ChatPromptTemplate
from langchain_openai import ChatOpenAI

model = ChatOpenAI(model="gpt-4o-mini", base_url=sys.argv[1], api_key="none", max_retries=0)
chain = ChatPromptTemplate.from_template("Go on with {number}.") | model
for number in range(10):
    print("answer", number, chain.invoke({"number": number}).text[:5])
"""


def write(folder: Path, text: str, name: str = "program.py") -> Path:
    file = folder / name
    file.write_text(textwrap.dedent(text), encoding="utf-8")
    return file


def spender(folder: Path, text: str) -> Path:
    return write(folder, SPENDER + textwrap.dedent(text))


def summary(done: subprocess.CompletedProcess[str]) -> dict:
    return json.loads(done.stderr.splitlines()[-1])


def test_an_unmodified_litellm_script_stops_at_its_budget(tmp_path):
    done = steptrack("run", "--max-calls", "3", write(tmp_path, LITELLM_SCRIPT))
    assert done.returncode == 3
    assert [line.split()[1] for line in done.stdout.splitlines()] == ["0", "1", "2"]
    assert "100% of 3 calls" in done.stderr
    assert done.stderr.splitlines()[-1] == (
        "steptrack run: step 'program' has no room under max_calls: 3 calls spent of 3"
    )


def test_an_unmodified_langchain_script_stops_at_its_budget(tmp_path):
    with Provider(input_tokens=100, output_tokens=50) as provider:
        done = steptrack(
            "run", "--max-tokens", "400", "--json", write(tmp_path, LANGCHAIN_SCRIPT), provider.url
        )
        assert done.returncode == 3, done.stderr
        said = summary(done)
        assert len(provider.requests) == said["total"]["calls"] == len(done.stdout.splitlines())
    assert 0 < said["total"]["input_tokens"] + said["total"]["output_tokens"] <= 450
    assert (said["exit_code"], said["exhausted"]["limit"]) == (3, "max_tokens")


LOOK = """
import json, sys
main = sys.modules["__main__"]
print(json.dumps({
    "argv": sys.argv, "path": sys.path, "name": __name__, "file": __file__, "package": __package__,
    "spec": getattr(__spec__, "name", None), "loader": type(__loader__).__name__, "doc": __doc__,
    "cached": __cached__, "is_main": vars(main) is globals(), "names": sorted(globals()),
    "builtins": type(__builtins__).__name__,
}))
"""


def as_python(folder: Path, *arguments: str) -> object:
    done = subprocess.run(
        [sys.executable, *arguments],
        cwd=folder,
        capture_output=True,
        text=True,
        check=True,
        env=environment(),
    )
    return json.loads(done.stdout)


def as_steptrack(folder: Path, *arguments: str) -> object:
    done = steptrack("run", "--max-calls", "5", *arguments, cwd=folder)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.mark.parametrize(
    "arguments",
    [
        ["program.py"],
        ["program.py", "--max-usd", "x", "--", "-m", "--help"],
        ["inner/program.py", "a b"],
        ["./linked.py"],
        ["no_ending", "--json"],
        ["-m", "program", "--json", "x"],
        ["-m", "pack", "--", "y"],
        ["-m", "pack.inside"],
    ],
    ids=" ".join,
)
def test_a_program_sees_what_it_sees_under_python(tmp_path, arguments):
    for folder in ("inner", "pack"):
        (tmp_path / folder).mkdir()
    for name in ("program.py", "inner/program.py", "no_ending", "pack/__main__.py", "pack/inside.py"):
        write(tmp_path, LOOK, name)
    (tmp_path / "linked.py").symlink_to(tmp_path / "inner" / "program.py")
    assert as_steptrack(tmp_path, *arguments) == as_python(tmp_path, *arguments)


def test_a_folder_and_an_archive_run_as_programs(tmp_path):
    (tmp_path / "app").mkdir()
    write(tmp_path / "app", "import sys, part; print(part.VALUE, sys.argv[1:], __name__)", "__main__.py")
    write(tmp_path / "app", "VALUE = 7", "part.py")
    subprocess.run([sys.executable, "-m", "zipapp", "app", "-o", "app.pyz"], cwd=tmp_path, check=True)
    for program in ("app", "app.pyz"):
        done = steptrack("run", program, "x", cwd=tmp_path)
        assert (done.returncode, done.stdout) == (0, "7 ['x'] __main__\n"), done.stderr


def test_what_is_defined_in_the_program_can_be_pickled_and_sent_to_processes(tmp_path):
    file = write(
        tmp_path,
        """
        import multiprocessing, pickle

        class Thing:
            pass

        def double(number):
            return 2 * number

        if __name__ == "__main__":
            assert type(pickle.loads(pickle.dumps(Thing()))) is Thing
            with multiprocessing.get_context("spawn").Pool(1) as pool:
                print(pool.map(double, [1, 2]))
        """,
    )
    done = steptrack("run", file)
    assert (done.returncode, done.stdout) == (0, "[2, 4]\n"), done.stderr


ENDINGS = {
    "finishes": ("spend(1)", 0, 1),
    "spends all that it has": ("spend(2)", 0, 2),
    "lets the exhaustion escape": ("spend(9)", 3, 3),
    "swallows it": ("try:\n    spend(9)\nexcept Exception:\n    print('so what')", 3, 3),
    "swallows it and exits": ("try:\n    spend(9)\nexcept Exception:\n    sys.exit(7)", 3, 3),
    "wraps it": ("try:\n    spend(9)\nexcept Exception as error:\n    raise KeyError('x') from error", 3, 3),
    "has it in a group": (
        "try:\n    spend(9)\nexcept Exception as e:\n    raise ExceptionGroup('g', [e])",
        3,
        3,
    ),
    "exits with a number": ("sys.exit(7)", 7, 0),
    "exits with nothing": ("sys.exit()", 0, 0),
    "exits with words": ("sys.exit('no way')", 1, 0),
    "exits with a number too large": ("sys.exit(256 + 9)", 9, 0),
    "fails": ("1 / 0", 1, 0),
    "is interrupted": ("raise KeyboardInterrupt", 130, 0),
    "spends in a thread": ("import threading\nthreading.Thread(target=spend, args=(9,)).start()", 3, 3),
    "spends in a pool": (
        "from concurrent.futures import ThreadPoolExecutor\nThreadPoolExecutor().submit(spend, 2)",
        0,
        2,
    ),
    "spends in a coroutine": (
        "import asyncio\nasync def work():\n    await asyncio.to_thread(spend, 9)\nasyncio.run(work())",
        3,
        3,
    ),
    "handles a step of its own": (
        "from steptrack_callbacks import step\nwith step('s', max_calls=1, error_boundary='continue'):\n    spend(9)",
        0,
        2,
    ),
    "lets a step of its own escape": (
        "from steptrack_callbacks import step\nwith step('s', max_calls=1):\n    spend(9)",
        3,
        2,
    ),
    "leaves after a step of its own": (
        """
        from steptrack_callbacks import step
        try:
            with step("s", max_calls=1):
                spend(9)
        except Exception:
            sys.exit(5)
        """,
        5,
        2,
    ),
    "wraps that of a step of its own": (
        """
        from steptrack_callbacks import step
        try:
            with step("s", max_calls=1):
                spend(9)
        except Exception as error:
            raise KeyError("x") from error
        """,
        3,
        2,
    ),
    "fails on after a step of its own": (
        """
        from steptrack_callbacks import step
        try:
            with step("s", max_calls=1):
                spend(9)
        except Exception as error:
            raise KeyError("x") from None
        """,
        1,
        2,
    ),
    "closes its output": ("sys.stdout.close()", 0, 0),
}


@pytest.mark.parametrize(("text", "code", "calls"), ENDINGS.values(), ids=ENDINGS)
def test_the_exit_code_is_3_on_exhaustion_and_the_programs_own_else(tmp_path, text, code, calls):
    done = steptrack("run", "--max-usd", "0.02", "--json", spender(tmp_path, text))
    said = summary(done)
    assert (done.returncode, said["exit_code"], said["total"]["calls"]) == (code, code, calls), done.stderr
    assert (said["exhausted"] is not None) == (code == 3)


@pytest.mark.parametrize("gone", ["sys.stderr.close()", "sys.stdout.close(); sys.stderr.close()"])
@pytest.mark.parametrize(
    ("then", "code"), [("", 0), ("sys.exit(7)", 7), ("sys.exit('no')", 1), ("1 / 0", 1), ("spend(9)", 3)]
)
def test_a_program_that_closes_stderr_keeps_its_exit_code(tmp_path, gone, then, code):
    done = steptrack("run", "--max-usd", "0.02", spender(tmp_path, f"{gone}\n{then}"))
    assert (done.returncode, done.stdout) == (code, "")


@pytest.mark.parametrize("instead", ["None", "Writer()"])
@pytest.mark.parametrize(("then", "code"), [("", 0), ("sys.exit(7)", 7), ("spend(9)", 3)])
def test_the_report_of_a_program_that_replaces_stderr_is_printed_on_stderr(tmp_path, instead, then, code):
    text = f"""
    class Writer:
        def write(self, text): sys.__stderr__.write(text)
        def flush(self): sys.__stderr__.flush()
    sys.stderr = {instead}
    {then}
    """
    done = steptrack("run", "--max-usd", "0.02", spender(tmp_path, text))
    assert (done.returncode, done.stdout) == (code, "")
    assert "used of limit" in done.stderr


def test_a_traceback_is_pythons_own(tmp_path):
    file = write(tmp_path, "def inner():\n    return 1 / 0\n\ninner()\n")
    plain = subprocess.run([sys.executable, file], capture_output=True, text=True, check=False)
    done = steptrack("run", file)
    assert done.stderr.startswith(plain.stderr)
    assert "program  error" in " ".join(done.stderr.split("\n")).replace("   ", "  ")


@pytest.mark.parametrize("text", ["a b", "# coding: nonsense\n", "x = '\\x'"])
def test_what_cannot_be_compiled_is_told_as_python_tells_it(tmp_path, text):
    file = write(tmp_path, text)
    plain = subprocess.run([sys.executable, file], capture_output=True, text=True, check=False)
    done = steptrack("run", file)
    assert (done.returncode, plain.returncode) == (1, 1)
    assert plain.stderr.splitlines()[-1].split(":")[0] == "SyntaxError"
    assert "SyntaxError: " in done.stderr
    assert "steptrack_callbacks" not in done.stderr


def test_a_programs_own_excepthook_is_used(tmp_path):
    file = write(
        tmp_path, "import sys\nsys.excepthook = lambda *what: print('hooked', what[0].__name__)\n1 / 0\n"
    )
    done = steptrack("run", file)
    assert (done.returncode, done.stdout) == (1, "hooked ZeroDivisionError\n")
    assert "Traceback" not in done.stderr


def test_ctrl_c_ends_the_program_and_the_tree_is_printed_all_the_same(tmp_path):
    file = spender(
        tmp_path, "import time\nspend(1)\nprint('ready', flush=True)\nwhile True:\n    time.sleep(60)\n"
    )
    process = subprocess.Popen(
        [*COMMAND, "run", str(file)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment(),
    )
    try:
        assert process.stdout.readline() == "ready\n"
        process.send_signal(signal.SIGINT)
        _, stderr = process.communicate(timeout=60)
    finally:
        process.kill()
    assert process.returncode == 130
    assert "program" in stderr
    assert "$0.0100" in stderr


def test_calls_that_find_no_step_are_in_the_tree_too(tmp_path):
    text = "import contextvars\ncontextvars.Context().run(spend, 2)\n"
    done = steptrack("run", "--json", spender(tmp_path, text), env={"PYTHONWARNINGS": "ignore"})
    assert summary(done)["total"]["calls"] == 2


def test_a_run_with_an_id_finds_again_what_it_has_spent(tmp_path):
    file = spender(tmp_path, "spend(int(sys.argv[1]))")
    how = [
        "run",
        "--max-usd",
        "0.03",
        "--ledger",
        f"sqlite:///{tmp_path / 'l.db'}",
        "--run-id",
        "tonight",
        file,
    ]
    assert [steptrack(*how, times).returncode for times in ("2", "1", "1")] == [0, 0, 3]


def test_a_ledger_may_be_named_by_its_file_as_in_report(tmp_path):
    file = spender(tmp_path, "spend(1)")
    assert steptrack("run", "--ledger", "l.db", file, cwd=tmp_path).returncode == 0
    assert "total" in steptrack("report", "l.db", cwd=tmp_path).stdout


def test_a_run_with_an_id_and_no_ledger_that_outlives_it_says_so(tmp_path):
    file = spender(tmp_path, "spend(1)")
    said = "--run-id goes on with nothing without a ledger that outlives the process"
    assert said in steptrack("run", "--run-id", "tonight", file).stderr
    url = f"sqlite:///{tmp_path / 'l.db'}"
    done = steptrack("run", "--run-id", "tonight", file, env={"STEPTRACK_LEDGER": url})
    assert (done.returncode, said in done.stderr) == (0, False)


def test_a_program_that_names_its_run_itself_goes_on_there_under_the_runs_own_budget(tmp_path):
    text = """
        from steptrack_callbacks import current_step, step
        with step("nightly", run_id="tonight", max_calls=3) as nightly:
            with step("plan"):
                spend(int(sys.argv[1]))
        print(nightly.run_id, nightly.usage.calls, len(nightly.records()), len(current_step().records()))
    """
    file = spender(tmp_path, text)
    how = ["run", "--max-calls", "2", "--ledger", f"sqlite:///{tmp_path / 'l.db'}", "--json"]
    first, second, third = (steptrack(*how, file, times) for times in ("2", "1", "1"))
    assert (first.returncode, first.stdout) == (0, "tonight 2 2 2\n"), first.stderr
    assert (second.returncode, second.stdout) == (0, "tonight 3 2 2\n"), second.stderr
    assert summary(second)["total"]["calls"] == 1
    assert (third.returncode, summary(third)["exhausted"]["step"]) == (3, "nightly")
    done = steptrack(*how, "--run-id", "tonight", file, "1")
    assert (done.returncode, summary(done)["total"]["calls"]) == (1, 0)
    assert "run_id 'tonight' of 'nightly' is that of 'program' too: give it to one" in done.stderr


def test_a_config_gives_prices_and_is_checked_before_anything_runs(tmp_path):
    config = tmp_path / "steptrack.toml"
    config.write_text("[prices.my-own]\ninput_usd_per_mtok = 10\noutput_usd_per_mtok = 0\n", encoding="utf-8")
    file = write(
        tmp_path,
        "from steptrack_callbacks import record_usage\nrecord_usage('my-own', input_tokens=1000, output_tokens=1)\n",
    )
    done = steptrack("run", "--config", config, "--json", file)
    assert (done.returncode, summary(done)["total"]["cost_usd"]) == (0, 0.01), done.stderr
    config.write_text("[step.plan]\n", encoding="utf-8")
    done = steptrack("run", "--config", config, file)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == f'steptrack run: {config}: line 1: step: is unknown; did you mean "steps"?\n'


def test_the_outermost_step_has_the_programs_name_or_the_one_given(tmp_path):
    file = write(
        tmp_path, "from steptrack_callbacks import current_step\nprint(current_step())\n", "night.ly.py"
    )
    assert steptrack("run", "--max-calls", "2", file).stdout.startswith("<step 'night.ly': open")
    assert steptrack("run", "--name", "nightly", file).stdout.startswith("<step 'nightly': open")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "name a program: steptrack run SCRIPT, or steptrack run -m MODULE"),
        (["-m"], "name a program"),
        (["no-such.py"], "there is no file 'no-such.py'; for a module, write -m 'no-such.py'"),
        (
            ["."],
            "'.' is a folder without a __main__.py: name the file in it that is to run, such as 'program.py'",
        ),
        (
            ["--max-usd", "lots", "x.py"],
            "argument --max-usd: must be a number of US dollars, such as 0.05, not 'lots'",
        ),
        (["--max-usd", "nan", "x.py"], "not 'nan'"),
        (["--max-calls", "-1", "x.py"], "argument --max-calls: must be a whole number, such as 20, not '-1'"),
        (
            ["--max-calls", str(2**63), "x.py"],
            f"must be a whole number up to {2**63 - 1}, such as 20, not '{2**63}'",
        ),
        (["--max-tokens", "0", __file__], "max_tokens must be at least 1, not 0"),
        (["--max-seconds", "0", "x.py"], "must be a number of seconds above 0, such as 60, not '0'"),
        (["--enforce", "hard", "x.py"], "argument --enforce: invalid choice: 'hard'"),
        (["--name", "a/b", "x.py"], "argument --name: step name 'a/b' must not contain '/'"),
        (["--ledger", "mysql://x", __file__], "'mysql://x' is not a ledger: use memory:"),
        (["--config", "no-such.toml", __file__], "no-such.toml: there is no such file"),
        (["--max-dollars", "1", "x.py"], "arguments: --max-dollars; here it is '--max-usd'; see"),
        (["--max-cost=1", "x.py"], "arguments: --max-cost=1; here it is '--max-usd'; see"),
        (["--max", "1", "x.py"], "steptrack run: unrecognized arguments: --max; did you mean"),
    ],
)
def test_bad_input_is_one_line_and_exit_code_2(arguments, message, tmp_path):
    done = steptrack("run", *arguments, cwd=tmp_path)
    assert (done.returncode, done.stdout) == (2, "")
    assert message in done.stderr
    assert len(done.stderr.splitlines()) == 1


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads everything")
def test_a_file_that_cannot_be_read_is_bad_input(tmp_path):
    file = write(tmp_path, "")
    file.chmod(0)
    done = steptrack("run", file)
    assert (done.returncode, len(done.stderr.splitlines())) == (2, 1)


def test_a_ledger_that_is_not_ours_is_one_line(tmp_path):
    (tmp_path / "other.db").write_text("no database")
    done = steptrack(
        "run", "--ledger", f"sqlite:///{tmp_path}/other.db", "--run-id", "x", write(tmp_path, "")
    )
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.splitlines()[-1].startswith("steptrack run: ledger sqlite:///")
    assert "Traceback" not in done.stderr
