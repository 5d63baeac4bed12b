"""`steptrack prices` says what models cost and who says so; `steptrack check` what is wrong with a file."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from programs import COMMAND, environment, steptrack

from steptrack_callbacks import Usage, pricing
from steptrack_callbacks.cli import main
from steptrack_callbacks.cli.prices import priced
from steptrack_callbacks.config import schema

MODELS = [
    "gpt-4o-mini",
    "gemini-2.5-pro",
    "claude-sonnet-4-5",
    "gpt-4o-audio-preview",
    "mistral-small-latest",
    "o3-mini",
]
OWN = """
[prices.mine]
input_cost_per_token = 1e-6
output_cost_per_token = 2e-6
input_cost_per_token_above_128k_tokens = 3e-6
output_cost_per_token_above_128k_tokens = 4e-6
input_cost_per_request = 0.5
"""


def test_rates_are_per_million_tokens_with_their_source(capsys):
    assert main(["prices", "gpt-4o-mini"]) == 0
    head, row, *_, last = capsys.readouterr().out.splitlines()
    assert head.split()[:3] == ["model", "input", "output"]
    assert row.split()[:4] == ["gpt-4o-mini", "0.15", "0.6", "0.075"]
    assert "LiteLLM's table" in row
    assert last == "US dollars per million tokens"


@pytest.mark.parametrize("model", MODELS)
def test_the_rates_shown_are_those_that_calls_are_priced_at(model):
    for tier in priced(model)["tiers"]:
        prompt = tier["from_input_tokens"] + 1000
        expected = (prompt * tier["input"] + 100 * tier["output"]) / 1e6
        cost = pricing.cost_usd(model, Usage(input_tokens=prompt, output_tokens=100))
        assert float(cost) == pytest.approx(expected)


def test_thresholds_and_fees_are_found(tmp_path, capsys):
    file = tmp_path / "steptrack.toml"
    file.write_text(OWN)
    assert main(["prices", "mine", "--config", str(file), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["source"], found["source_version"]) == ("user", None)
    low, high = found["tiers"]
    assert (low["input"], low["output"], low["request_usd"]) == (1, 2, 0.5)
    assert (high["from_input_tokens"], high["input"], high["output"]) == (128_001, 3, 4)
    assert main(["prices", "mine", "--config", str(file)]) == 0
    assert "  from 128,001 input tokens" in capsys.readouterr().out


def test_a_usage_is_priced(capsys):
    counts = "input_tokens=1000,output_tokens=200"
    assert main(["prices", "gpt-4o-mini", "claude-sonnet-4-5", "--usage", counts, "--json"]) == 0
    costs = [each["cost_usd"] for each in json.loads(capsys.readouterr().out)]
    assert costs == [0.00027, 0.006]
    assert main(["prices", "gpt-4o-mini", "--usage", counts]) == 0
    assert "$0.00027" in capsys.readouterr().out


def test_what_nobody_knows_is_said_so_with_code_1(capsys):
    assert main(["prices", "gpt-4o-mimi", "gpt-4o-mini"]) == 1
    out, err = capsys.readouterr()
    assert err.startswith(
        "steptrack prices: nobody knows the price of 'gpt-4o-mimi': did you mean 'gpt-4o-mini'?"
    )
    assert "gpt-4o-mini" in out
    assert main(["prices", "gpt-4o-mini", "--provider", "my-own-server", "--json"]) == 1
    out, err = capsys.readouterr()
    assert (json.loads(out)["known"], "tiers" in json.loads(out)) == (False, False)
    assert "at provider 'my-own-server'" in err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "the following arguments are required: MODEL"),
        (
            ["m", "--usage", "tokens=3"],
            "must be counts such as input_tokens=1000,output_tokens=200, not 'tokens=3'",
        ),
        (["m", "--usage", "input_tokens=many"], "must be a whole number, such as 20, not 'many'"),
        (["m", "--config", "no-such.toml"], "no-such.toml: there is no such file"),
    ],
)
def test_bad_input_is_one_line(arguments, message):
    done = steptrack("prices", *arguments)
    assert (done.returncode, done.stdout, len(done.stderr.splitlines())) == (2, "", 1)
    assert message in done.stderr


def test_a_good_file_is_ok_with_its_warnings(tmp_path, capsys):
    file = tmp_path / "steptrack.toml"
    file.write_text("[steps.plan]\nmax_usd = 1\n[proxy]\n")
    assert main(["check", str(file)]) == 0
    ok, warning = capsys.readouterr().out.splitlines()
    assert ok == f"{file}: OK"
    assert warning.startswith('  warning: line 3: proxy: no budget with scope = "key" is used')
    assert main(["check", str(file), "--json"]) == 0
    verdict = json.loads(capsys.readouterr().out)
    assert (verdict["ok"], [each["key"] for each in verdict["warnings"]]) == (True, ["proxy"])


def test_a_bad_file_is_code_2_with_all_its_problems(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "steptrack.toml").write_text("[steps.plan]\nmax_usd = -1\nclamp = 1\n")
    assert main(["check"]) == 2
    out, err = capsys.readouterr()
    assert (out, err.splitlines()[0]) == ("", "steptrack.toml: 2 problems")
    assert main(["check", "--json"]) == 2
    problems = json.loads(capsys.readouterr().out)["problems"]
    assert [(each["key"], each["line"]) for each in problems] == [
        ("steps.plan.max_usd", 2),
        ("steps.plan.clamp", 3),
    ]
    assert main(["check", "no-such.toml"]) == 2
    assert capsys.readouterr().err == "no-such.toml: there is no such file\n"


def test_check_prints_the_schema(capsys):
    assert main(["check", "--schema"]) == 0
    assert json.loads(capsys.readouterr().out) == schema()


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("steptrack pri", {"prices"}),
        ("steptrack ledger ", {"info", "prune", "export"}),
        ("steptrack run --enforce s", {"strict"}),
        ("steptrack prices gpt-4o-mini-2024", {"gpt-4o-mini-2024-07-18"}),
    ],
)
def test_shells_are_told_what_could_come_next(tmp_path, line, expected):
    answer = tmp_path / "answer"
    asking = {"_ARGCOMPLETE": "1", "COMP_LINE": line, "COMP_POINT": str(len(line)), "_ARGCOMPLETE_IFS": "\n"}
    asking |= {"_ARGCOMPLETE_STDOUT_FILENAME": str(answer), "COMP_TYPE": "9"}
    subprocess.run(COMMAND, env=environment(**asking), check=False, stdin=subprocess.DEVNULL, timeout=60)
    assert expected <= {word.strip() for word in answer.read_text().splitlines()}


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_each_shell_has_its_script(shell):
    done = steptrack("completion", shell)
    assert (done.returncode, done.stderr) == (0, "")
    assert "steptrack" in done.stdout


@pytest.mark.skipif(shutil.which("bash") is None, reason="there is no bash here")
def test_bash_takes_its_script():
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    script = 'eval "$(steptrack completion bash)" && complete -p steptrack'
    done = subprocess.run(
        ["bash", "-c", script], env=environment(PATH=path), capture_output=True, text=True, check=False
    )
    assert (done.returncode, "-F _python_argcomplete" in done.stdout) == (0, True), done.stderr


def test_without_argcomplete_the_extra_is_named(monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "argcomplete.shell_integration", None)
    assert main(["completion", "bash"]) == 2
    assert "pip install 'steptrack-callbacks[completion]'" in capsys.readouterr().err
