"""`steptrack doctor`: what it says, and what it leaves alone."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from steptrack_callbacks.cli import doctor, loopback, probes_litellm, self_test
from steptrack_callbacks.cli.probes import Probe, Result
from steptrack_callbacks.integrations import all_seams, versions
from steptrack_callbacks.litellm.call_types import ENTRY_POINTS

SECRET = "sk-this-is-secret"
IN_PIECES = ("image_generation", "speech", "transcription", "moderation", "rerank")
PROGRAM = """
import sys
opened, connected = set(), set()

def note(event, arguments):
    if event == "open":
        opened.add(str(arguments[0]))
    elif event in ("socket.connect", "socket.sendto"):
        connected.add(f"{event} {arguments[1:]}")
    elif event == "socket.getaddrinfo":
        connected.add(f"{event} {arguments}")

sys.addaudithook(note)
from steptrack_callbacks.cli import main
code = main(["doctor", "--json"])
import json
print(json.dumps({"opened": sorted(opened), "connected": sorted(connected)}), file=sys.stderr)
sys.exit(code)
"""


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home with all that must not be read: files of other programs, and limits."""
    home = tmp_path_factory.mktemp("home")
    for name in (".env", ".netrc", "steptrack.toml"):
        (home / name).write_text(f'this is nobody\'s business = "{SECRET}"\n', encoding="utf-8")
    return home


@pytest.fixture(scope="module")
def done(home: Path) -> Any:
    theirs = {
        "HOME": str(home),
        "STEPTRACK_CONFIG": str(home / "steptrack.toml"),
        "STEPTRACK_LEDGER": f"sqlite:///{home / 'steps.db'}",
        "OPENAI_API_KEY": SECRET,
        "LANGSMITH_TRACING": "true",
        "LANGSMITH_API_KEY": SECRET,
    }
    command = [sys.executable, "-c", PROGRAM]
    return subprocess.run(
        command, cwd=home, env=os.environ | theirs, capture_output=True, text=True, check=False
    )


@pytest.fixture(scope="module")
def said(done: Any) -> dict[str, Any]:
    return json.loads(done.stdout)


@pytest.fixture(scope="module")
def touched(done: Any) -> dict[str, list[str]]:
    return json.loads(done.stderr.splitlines()[-1])


def test_all_is_well_with_what_is_installed_here(done: Any, said: dict[str, Any]) -> None:
    assert [call for call in said["calls"] if call["ok"] is False] == []
    assert [seam for seam in said["seams"] if seam["state"] in ("missing", "changed")] == []
    assert (done.returncode, said["ok"]) == (0, True)


def test_it_says_which_versions_are_installed_and_which_were_tested(said: dict[str, Any]) -> None:
    packages = {each["package"]: each for each in said["packages"]}
    for name, known in versions.TESTED.items():
        if versions.version_of(name) is not None:
            assert packages[name] == {
                "package": name,
                "version": versions.version_of(name),
                "tested": f"{known.oldest} to {known.newest}",
            }
    assert said["python"] == sys.version.partition(" ")[0]


def test_it_lists_each_seam_of_what_is_installed(said: dict[str, Any]) -> None:
    expected = [seam.place for seam in all_seams.SEAMS if versions.version_of(seam.package) is not None]
    assert [seam["place"] for seam in said["seams"]] == expected


def test_it_calls_each_entry_point_in_each_mode(said: dict[str, Any]) -> None:
    calls = {(call["entry"], call["mode"]) for call in said["calls"] if call["ok"]}
    assert len(calls) >= 65
    assert {
        ("litellm.completion", "async stream"),
        ("litellm.Router.completion", "sync on a loop"),
        *((f"litellm.{name}", mode) for name in IN_PIECES for mode in ("sync", "async")),
        ("litellm.anthropic.messages.create", "sync"),
        ("chat model", "abatch"),
        ("agent with StepBudgetMiddleware", "ainvoke"),
    } <= calls


def test_it_names_each_function_of_litellm_that_has_a_gate_with_the_reason_if_it_does_not_call_it(
    said: dict[str, Any],
) -> None:
    untried = {call["entry"]: call["detail"] for call in said["calls"] if call["ok"] is None}
    assert untried["litellm.create_batch"] == "it is billed later"
    assert set(untried.values()) == {"it is billed later", "it has no mock answer"}
    named = {call["entry"] for call in said["calls"]}
    for point in ENTRY_POINTS:
        entry, twin = (f"{point.place}.{name}" for name in (point.name, point.name.removeprefix("a")))
        assert probes_litellm._found(entry) is None or {entry, twin} & named, entry


def test_each_call_is_listed_once(said: dict[str, Any]) -> None:
    calls = [(call["entry"], call["mode"]) for call in said["calls"]]
    assert len(set(calls)) == len(calls)


def test_it_reads_no_file_of_the_users_and_writes_none(touched: dict[str, list[str]], home: Path) -> None:
    assert touched["opened"]
    assert [name for name in touched["opened"] if name.startswith(str(home)) or name == ".env"] == []
    assert sorted(path.name for path in home.iterdir()) == [".env", ".netrc", "steptrack.toml"]


def test_it_sends_nothing_but_to_itself(touched: dict[str, list[str]]) -> None:
    assert touched["connected"]
    assert [event for event in touched["connected"] if "'127.0.0.1'" not in event] == []


def test_what_it_prints_can_be_shown_to_anybody(done: Any, home: Path) -> None:
    for private in (SECRET, str(home), str(Path.home()), sys.prefix):
        assert private not in done.stdout


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        (
            "cannot import name 'x' from 'm' (/home/ada/.venv/lib/m/__init__.py)",
            "cannot import name 'x' from 'm' (__init__.py)",
        ),
        (r"No such file: 'C:\Users\ada\m.py'", "No such file: 'm.py'"),
        ("langchain_core/callbacks is gone", "langchain_core/callbacks is gone"),
        ("one line\nand another", "one line"),
        ("x" * 1000, "x" * 300),
    ],
)
def test_texts_of_errors_lose_their_folders(text: str, shown: str) -> None:
    assert doctor._discreet(text) == shown


def found(mode: str, **what: str) -> Result:
    return Result("litellm", "litellm.completion", mode, **what)


def test_a_call_that_is_not_refused_is_said_and_fails(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    results = [
        found("sync"),
        found("sync stream", untried="it has no mock answer"),
        found("async", wrong="is not refused at max_calls=0"),
        found("async stream", wrong="has no gate", untried="it has no mock answer"),
    ]
    monkeypatch.setattr(self_test, "run", lambda: results)
    from steptrack_callbacks.cli import main

    assert main(["doctor"]) == 1
    text = capsys.readouterr().out
    assert "- litellm.completion, async: is not refused at max_calls=0" in text
    assert "- litellm.completion, async stream: has no gate" in text
    assert "- litellm.completion, sync" not in text
    assert "not called: it has no mock answer" in text
    assert text.count("NO: ") == 2


@pytest.mark.parametrize("form", [[], ["--json"]], ids=["as text", "as JSON"])
def test_what_packages_print_meanwhile_is_no_part_of_it(
    form: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(self_test, "run", lambda: [print("Give Feedback / Get Help")][:0])
    from steptrack_callbacks.cli import main

    assert main(["doctor", *form]) == 0
    said = capsys.readouterr()
    assert "Feedback" not in said.out + said.err


def test_where_a_program_may_not_listen_on_loopback_what_has_no_mock_answer_is_not_called(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def refuse(*_: Any) -> None:
        raise PermissionError("not here")

    monkeypatch.setattr(loopback, "ThreadingHTTPServer", refuse)
    with loopback.provider() as url:
        probes = list(probes_litellm.of_litellm(url))
    entries = {probe.entry for probe in probes}
    assert "litellm.completion" in entries
    assert "litellm.speech" not in entries
    assert ("litellm.speech", "it has no mock answer") in {
        (result.entry, result.untried) for result in probes_litellm.not_called(probes)
    }


def test_a_function_that_has_lost_its_gate_is_said_though_it_is_not_called() -> None:
    assert {result.wrong for result in probes_litellm.not_called([])} == {"has no gate"}


def test_a_probe_tells_a_call_that_nobody_sees_from_one_that_fails() -> None:
    def fail() -> None:
        raise OSError("broken")

    async def pass_by() -> None:
        """Call nobody."""

    with asyncio.Runner() as runner:
        unseen = self_test.wrong_with(Probe("p", "e", "async", pass_by), runner)
        failed = self_test.wrong_with(Probe("p", "e", "sync", fail), runner)
    assert unseen == "is not refused at max_calls=0"
    assert failed == "raises OSError: broken"
