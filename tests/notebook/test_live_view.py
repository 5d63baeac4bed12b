"""The live view of a step: a card in a notebook, a bar in a terminal, one plain line in a pipe."""

from __future__ import annotations

import io
import os
import pty
import queue
import re
import select
import subprocess
import sys
import threading

import pytest

from spending import open_call, spend
from steptrack_callbacks import Usage, step
from steptrack_callbacks.reports import live

ANSWER_S = 60


class Screen:
    """A view that tells what it was asked to show, and when."""

    def __init__(self):
        self.drawn = queue.SimpleQueue()
        self.said = []

    def draw(self, step):
        self.drawn.put(live.line_of(step))

    def close(self, step):
        self.said.append(("close", live.line_of(step)))

    def hide(self):
        self.said.append(("hide", ""))


def next_with(screen, words):
    while words not in (line := screen.drawn.get(timeout=ANSWER_S)):
        pass
    return line


def test_what_is_in_flight_and_what_is_spent_is_shown_while_the_step_runs():
    screen = Screen()
    with step("plan", max_usd=100) as plan, live.watch(plan, screen, interval_s=0.001):
        call = open_call()
        assert (
            next_with(screen, "1 in flight") == "plan: open, $0.0000, 0 calls, 1 in flight; 0% of $100.0000"
        )
        call.settle(Usage(input_tokens=10, output_tokens=5))
        assert next_with(screen, "1 call;") == "plan: open, $15.0000, 1 call; 15% of $100.0000"
    assert screen.said == [("close", "plan: open, $15.0000, 1 call; 15% of $100.0000")]
    assert not [thread for thread in threading.enumerate() if thread.name == "steptrack-live"]


class ToldLock:
    """A lock that tells when a thread other than the test's wants it."""

    def __init__(self):
        self.lock, self.mine, self.wanted = threading.RLock(), threading.current_thread(), threading.Event()

    def __enter__(self):
        if threading.current_thread() is not self.mine:
            self.wanted.set()
        self.lock.acquire()

    def __exit__(self, *_):
        self.lock.release()


def test_nothing_is_drawn_while_somebody_is_asked(monkeypatch):
    monkeypatch.setattr(live, "_drawing", lock := ToldLock())
    screen = Screen()
    with step("plan") as plan, live.watch(plan, screen, interval_s=0.001):
        screen.drawn.get(timeout=ANSWER_S)
        with live.hidden():
            assert screen.said == [("hide", "")]
            while not screen.drawn.empty():
                screen.drawn.get()
            lock.wanted.clear()
            assert lock.wanted.wait(ANSWER_S) or not screen.drawn.empty()
            assert screen.drawn.empty()
            spend()
        next_with(screen, "1 call")


def test_a_view_that_breaks_is_logged_and_breaks_nobody_s_work(caplog):
    class Broken(Screen):
        def draw(self, step):
            self.drawn.put("")
            raise OSError("the screen is gone")

    screen = Broken()
    with step("plan") as plan, live.watch(plan, screen):
        screen.drawn.get(timeout=ANSWER_S)
        spend()
    assert plan.usage.calls == 1
    assert "the live view of step 'plan' failed, and is left" in caplog.text


def test_a_pipe_gets_one_plain_line(capsys):
    with step("plan", max_calls=4) as plan, live.watch(plan, interval_s=0.001):
        spend()
    assert capsys.readouterr().out == "plan: open, $15.0000, 1 call; 25% of 4 calls\n"


def test_a_terminal_without_rich_gets_a_line_that_is_written_over():
    stream = io.StringIO()
    with step("plan", max_calls=4) as plan:
        view = live.TerminalView(stream)
        view.draw(plan)
        spend()
        view.draw(plan)
        view.close(plan)
    lines = stream.getvalue().split("\r\x1b[K")
    assert lines[1:] == [
        "plan: open, $0.0000, 0 calls; 0% of 4 calls",
        "plan: open, $15.0000, 1 call; 25% of 4 calls",
        "plan: open, $15.0000, 1 call; 25% of 4 calls\n",
    ]


def test_refused_calls_are_said():
    with step("plan", max_calls=0, error_boundary="continue") as plan:
        open_call()
    assert live.line_of(plan) == "plan: continued, $0.0000, 0 calls, 1 refused; - of 0 calls"


def test_the_card_of_a_running_step_says_what_is_in_flight():
    with step("plan", max_usd=100) as plan:
        call = open_call()
        html = live.live_card(plan)
        call.withdraw()
    assert "1 call in flight" in html
    assert 'data-in-flight="1"' in html


PROGRAM = """
from steptrack_callbacks import record_usage, step
from steptrack_callbacks.reports.live import watch
with step("plan", max_calls=4, max_usd=1) as plan, watch(plan, interval_s=0.001):
    for _ in range(3):
        record_usage("m", input_tokens=10, output_tokens=5, cost_usd=0.1)
    input()
"""


@pytest.mark.parametrize("without", ["", "rich"], ids=["rich", "plain"])
def test_a_pseudo_terminal_of_80_columns_shows_the_bars_and_is_left_with_one_line(without):
    code = f"import sys; sys.modules.update(dict.fromkeys({without.split()!r}))\n{PROGRAM}"
    environment = os.environ | {"TERM": "xterm-256color", "COLUMNS": "80", "LINES": "24"}
    master, slave = pty.openpty()
    program = subprocess.Popen(
        [sys.executable, "-c", code], stdin=slave, stdout=slave, stderr=slave, env=environment, close_fds=True
    )
    os.close(slave)
    try:
        shown = read_until(master, "75% of 4 calls")
        os.write(master, b"\n")
        shown += read_to_end(master)
    finally:
        program.wait(timeout=ANSWER_S)
        os.close(master)
    assert program.returncode == 0, shown
    last = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", shown.rsplit("\r", 2)[0]).splitlines()
    assert all(len(line) < 160 for line in last)
    assert ("━" in shown) == (without == "")
    assert shown.rstrip().endswith("plan: open, $0.3000, 3 calls; 30% of $1.0000, 75% of 4 calls")


def read_until(descriptor, words):
    text = ""
    while words not in text:
        assert select.select([descriptor], [], [], ANSWER_S)[0], text
        text += os.read(descriptor, 4096).decode(errors="replace")
    return text


def read_to_end(descriptor):
    text = ""
    try:
        while chunk := os.read(descriptor, 4096):
            text += chunk.decode(errors="replace")
    except OSError:  # how Linux says that the other end is closed
        pass
    return text
