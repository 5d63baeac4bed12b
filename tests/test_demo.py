"""The main job runs offline, as a stranger runs it, and says so if anything goes wrong."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

import steptrack_callbacks as steptrack
from steptrack_callbacks import cli, demo

EXAMPLES = sorted((Path(__file__).parents[1] / "examples").glob("*.py"))
SAYS = {
    "agent_loop": "last word: So far, so good.",
    "agent_with_a_person": "answer: Sunny, and nothing new.",
    "batch_csv": "25 of 40 rows summarised",
    "fan_out": "4 answered, 16 refused",
    "lcel_chain": "answer/outline: 1 call refused",
    "proxy_client": "call 3: 402, step 'write' has no room under max_calls: 2 calls spent of 2",
    "quickstart": "spent $0.000027 of $0.50 in 2 calls",
    "send_fan_out": "4 of 10 pages summarised",
    "web_app": "the next request: 402",
    "worker": "second start: continued, 8 calls of this run so far",
}


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *arguments], capture_output=True, text=True, timeout=180, check=False
    )


@pytest.fixture(scope="module")
def told():
    """What the demo prints in a terminal."""
    done = run("-m", "steptrack_callbacks", "demo")
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_the_demo_runs_offline_and_prints_the_tree(told):
    for path, (status, calls) in demo.EXPECTED.items():
        name = path.split("/")[-1]
        assert re.search(rf"^ *{name} +{status}(, \d denied)? +{calls} ", told, re.MULTILINE)


def test_the_demo_tells_what_is_asked_what_is_refused_and_what_happens_then(told):
    beginning, _, rest = told.partition("\nplan: ")
    assert "nothing leaves this machine" in beginning
    story, _, rest = rest.partition("\nSpending per step")
    assert story.count("answered") == 4
    assert story.count("streamed") == 2
    assert (
        story.index("refused before it was sent") < story.index("publish: ") < story.index("grants one call")
    )
    assert "steptrack run --max-usd 5" in rest.partition("What to type next:")[2]


def test_the_demo_through_a_proxy_tells_the_same(told):
    done = run("-m", "steptrack_callbacks", "demo", "--proxy")
    assert done.returncode == 0, done.stdout + done.stderr
    lines, by_proxy = told.splitlines(), done.stdout.splitlines()
    assert [line for line in by_proxy if line not in lines] == [by_proxy[1]]
    assert "A LiteLLM proxy at http://127.0.0.1:" in by_proxy[1]


def test_the_demo_prints_json_and_nothing_else_if_asked_to():
    done = run("-m", "steptrack_callbacks", "demo", "--json")
    said = json.loads(done.stdout)
    assert (done.returncode, said["ok"], said["wrong"], said["total"]["calls"]) == (0, True, [], 6)
    found = {row["path"]: (row["status"], row["llm_calls"]) for row in said["steps"]}
    assert found == demo.EXPECTED
    assert "refused before it was sent" in done.stderr


def test_the_demo_ends_in_non_zero_if_a_step_ends_otherwise_than_it_must(monkeypatch, capsys):
    monkeypatch.setitem(demo.EXPECTED, "writer/plan", ("failed", 7))
    try:
        assert cli.main(["demo"]) == 1
    finally:
        steptrack.uninstall()
    assert "writer/plan: ('completed', 2) instead of ('failed', 7)" in capsys.readouterr().out


def test_a_proxy_that_does_not_start_is_an_error_with_its_own_words(monkeypatch):
    monkeypatch.setattr(demo, "_CONFIG", "model_list: [not a model]")
    with pytest.raises(RuntimeError, match="the LiteLLM proxy did not start"):
        demo.run(proxy=True)


def test_every_example_says_here_what_it_prints():
    assert {path.stem for path in EXAMPLES} == set(SAYS)


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_every_example_runs_offline(path):
    done = run(str(path))
    assert done.returncode == 0, done.stderr
    assert SAYS[path.stem] in done.stdout
