"""The views in a real terminal of 80 columns, and piped."""

from __future__ import annotations

import fcntl
import os
import pty
import select
import signal
import struct
import subprocess
import sys
import termios
import time
from pathlib import Path

import pyte
import pytest
from programs import COMMAND, environment, steptrack

from steptrack_callbacks import drain_completed_steps, record_usage, step
from steptrack_callbacks.ledgers import open_ledger

COLUMNS, LINES = 80, 24
PATIENCE_S = 60


class Terminal:
    """A command in a pseudo-terminal, and what stands on its screen."""

    def __init__(self, *arguments, **changes: str) -> None:
        self.screen = pyte.Screen(COLUMNS, LINES)
        self._stream = pyte.ByteStream(self.screen)
        self._side, other = pty.openpty()
        fcntl.ioctl(other, termios.TIOCSWINSZ, struct.pack("HHHH", LINES, COLUMNS, 0, 0))
        changes = {"TERM": "xterm-256color", "COLUMNS": "", "LINES": ""} | changes
        self.process = subprocess.Popen(
            [*COMMAND, *map(str, arguments)],
            stdin=other,
            stdout=other,
            stderr=other,
            env={name: value for name, value in environment(**changes).items() if value},
        )
        os.close(other)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.kill()
        self.process.wait()
        os.close(self._side)

    @property
    def text(self) -> str:
        return "\n".join(line.rstrip() for line in self.screen.display)

    def wait_for(self, words: str) -> str:
        """Read until these words stand on the screen."""
        deadline = time.monotonic() + PATIENCE_S
        while words not in self.text:
            assert self._read(deadline), f"{words!r} did not appear:\n{self.text}"
        return self.text

    def wait(self) -> int:
        """Read to the end, and return the exit code."""
        deadline = time.monotonic() + PATIENCE_S
        while self._read(deadline):
            pass
        return self.process.wait(timeout=PATIENCE_S)

    def press_ctrl_c(self) -> None:
        self.process.send_signal(signal.SIGINT)

    def _read(self, deadline: float) -> bool:
        ready, _, _ = select.select([self._side], [], [], max(0.0, deadline - time.monotonic()))
        try:
            data = os.read(self._side, 65536) if ready else b""
        except OSError:  # the other side is closed
            data = b""
        self._stream.feed(data)
        return bool(data)


def add_step(file, name: str) -> None:
    with step(name):
        record_usage("my-model", input_tokens=7, output_tokens=5, cost_usd=0.04)
    store = open_ledger(f"sqlite:///{file}")
    store.put_record(drain_completed_steps()[0].to_dict())
    store.close_connections()


@pytest.fixture
def without_rich(tmp_path):
    """An environment in which `rich` is not installed."""
    folder = tmp_path / "hidden"
    folder.mkdir()
    (folder / "rich.py").write_text("raise ImportError('not installed here')")
    return {"PYTHONPATH": os.pathsep.join([str(folder), os.environ.get("PYTHONPATH", "")])}


@pytest.mark.parametrize("plain", [False, True], ids=["rich", "plain"])
def test_top_shows_what_happens_until_ctrl_c(ledger, without_rich, plain):
    with Terminal("top", "--interval", "0.05", ledger, **(without_rich if plain else {})) as terminal:
        text = terminal.wait_for("nightly/plan")
        [account] = [line for line in text.splitlines() if line.startswith("budget team-a, 1d")]
        assert account.split()[3:] == ["$0.0300", "2", "1,155", "1", "$0.0050"]
        add_step(ledger, "while_watching")
        text = terminal.wait_for("while_watching")
        assert text.splitlines()[0].startswith("sqlite:///")
        terminal.press_ctrl_c()
        assert terminal.wait() == 0
        assert "Traceback" not in terminal.text


def test_top_goes_on_when_the_ledger_is_away_for_a_while(ledger):
    away = ledger.with_suffix(".away")
    with Terminal("top", "--interval", "0.05", f"sqlite:///{ledger}?mode=ro") as terminal:
        terminal.wait_for("nightly/plan")
        content = ledger.read_bytes()
        ledger.rename(away)
        ledger.write_bytes(b"nonsense" * 4096)
        assert "nightly/plan" in terminal.wait_for("! ledger sqlite:///")
        ledger.write_bytes(content)
        add_step(ledger, "back_again")
        terminal.wait_for("back_again")


def test_top_fits_in_the_terminal(ledger):
    for number in range(30):
        add_step(ledger, f"{'long' * 20}{number}")
    with Terminal("top", "--interval", "0.05", ledger) as terminal:
        terminal.wait_for("longlong")
        assert terminal.text.splitlines()[0].startswith("sqlite:///")
        assert all(len(line) < COLUMNS for line in terminal.text.splitlines())


def test_top_prints_once_where_it_is_piped_or_told_to(ledger):
    for done in (steptrack("top", ledger), steptrack("top", "--once", ledger)):
        assert (done.returncode, done.stderr) == (0, "")
        assert "\x1b" not in done.stdout
        assert [line.split()[0] for line in done.stdout.splitlines()[2:] if line][:2] == ["account", "budget"]
    with Terminal("top", "--once", ledger) as terminal:
        assert terminal.wait() == 0
        assert "nightly/plan" in terminal.text


@pytest.mark.parametrize("plain", [False, True], ids=["rich", "plain"])
def test_a_report_fits_in_80_columns(ledger, without_rich, plain):
    with Terminal("report", ledger, **(without_rich if plain else {})) as terminal:
        assert terminal.wait() == 0
        lines = terminal.text.splitlines()
    [plan] = [line for line in lines if line.split()[:1] == ["plan"]]
    assert plan.split()[:6] == ["plan", "completed", "1", "1,000", "50", "$0.0200"]


def test_a_report_that_is_piped_is_plain_text(ledger):
    done = steptrack("report", ledger, env={"FORCE_COLOR": "1"})
    assert (done.returncode, done.stderr, "\x1b" in done.stdout) == (0, "", False)


def test_a_run_prints_its_tree_in_the_terminal(tmp_path):
    (tmp_path / "program.py").write_text("print('working')\n")
    with Terminal("run", "--max-calls", "3", tmp_path / "program.py") as terminal:
        assert terminal.wait() == 0
        assert terminal.text.startswith("working\n")
        assert "0% of 3 calls" in terminal.text


def test_whoever_stops_reading_gets_no_traceback():
    ours, theirs = os.pipe()
    os.close(ours)
    try:
        done = subprocess.run(
            [*COMMAND, "check", "--schema"], stdout=theirs, stderr=subprocess.PIPE, text=True, check=False
        )
    finally:
        os.close(theirs)
    assert (done.returncode, done.stderr) == (141, "")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no /dev/full")
def test_a_full_disk_is_named_in_one_line():
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            [*COMMAND, "check", "--schema"], stdout=full, stderr=subprocess.PIPE, text=True, check=False
        )
    told = "steptrack check: its output could not be written: No space left on device\n"
    assert (done.returncode, done.stderr) == (2, told)


def test_the_light_commands_import_no_framework():
    code = """
import sys
from steptrack_callbacks.cli import main
for arguments in (["--help"], ["prices", "gpt-4o-mini"], ["check", "--schema"], ["prices", "no-such-model"]):
    try:
        main(arguments)
    except SystemExit:
        pass
frameworks = {"litellm", "langchain_core", "langgraph", "tiktoken", "rich", "redis", "IPython", "opentelemetry"}
sys.exit(str(sorted(set(sys.modules) & frameworks)))
"""
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False, env=environment()
    )
    assert done.stderr.splitlines()[-1] == "[]"
