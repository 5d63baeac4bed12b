"""A program that is killed at any moment: what it was told is in the books, and nothing is in them twice."""

import os
import random
import select
import signal
import threading

from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage
from langchain_core.outputs import ChatGeneration, ChatResult

import steptrack_callbacks as steptrack
from steptrack_callbacks import Budget, step
from steptrack_callbacks.ledgers import current, open_ledger
from steptrack_callbacks.ledgers.protocol import COST

KILLS, AT_ONCE, LONGEST_S = 30, 5, 0.03
CALL_PICO_USD = 10 * 2_000_000 + 5 * 4_000_000
PRICES = {"killed-model": {"input_usd_per_mtok": 2, "output_usd_per_mtok": 4}}
TEAM = Budget("team", max_usd=1000, enforce="strict")


class Model(BaseChatModel):
    """Answers at once: 10 tokens in, 5 out."""

    model_name: str = "killed-model"

    @property
    def _llm_type(self):
        return "killed"

    def _generate(self, messages, stop=None, run_manager=None, **kwargs):
        usage = {"input_tokens": 10, "output_tokens": 5, "total_tokens": 15}
        return ChatResult(generations=[ChatGeneration(message=AIMessage("yes", usage_metadata=usage))])


def program(url, answered):
    """Ask on and on, in steps of a run under a budget, and tell of every answer."""
    steptrack.install(ledger=url)
    model = Model()
    while True:
        with step("nightly", max_tokens=10**9, run_id="tonight", budgets=[TEAM]), step("plan", max_calls=3):
            for _ in range(3):
                model.invoke("hello", max_tokens=5)
                os.write(answered, b"x")


class Killed:
    """A process that runs the program from now on."""

    def __init__(self, url):
        self.answered, telling = os.pipe()
        self.process = os.fork()
        if not self.process:
            try:
                program(url, telling)
            finally:
                os._exit(1)
        os.close(telling)

    def kill_after(self, seconds):
        """Kill it a while after its first answer, and return how many there were."""
        select.select([self.answered], [], [])
        threading.Event().wait(seconds)
        os.kill(self.process, signal.SIGKILL)
        assert os.waitpid(self.process, 0)[1] == signal.SIGKILL
        answers = 0
        while more := os.read(self.answered, 65536):
            answers += len(more)
        os.close(self.answered)
        return answers


def test_a_program_that_is_killed_at_any_moment_finds_in_its_books_what_it_was_answered(tmp_path):
    url, rng, answers = f"sqlite:///{tmp_path}/books.db?timeout_s=30", random.Random(2027), 0
    steptrack.install(prices=PRICES)
    with step("warming up", max_tokens=100):
        Model().invoke("hello", max_tokens=5)  # what is slow the first time is inherited by all
    for _ in range(KILLS // AT_ONCE):
        programs = [Killed(url) for _ in range(AT_ONCE)]
        answers += sum(each.kill_after(rng.random() * LONGEST_S) for each in programs)
    books = open_ledger(url)
    run, team = books.look(["run:nightly:tonight", "budget::0:team"])
    books.close_connections()
    calls = team.settled["calls"]
    assert answers <= calls <= answers + KILLS  # of each the last answer may have been on its way
    assert run.settled == team.settled
    assert team.settled[COST] == calls * CALL_PICO_USD
    assert team.settled["input_tokens"] == 2 * team.settled["output_tokens"] == 10 * calls
    assert run.held_calls == team.held_calls <= KILLS  # it comes back with its lease
    assert calls - answers + team.held_calls > 0, "no program was ever killed in the middle of a call"
    current.use(url)
    with step("nightly", run_id="tonight") as again:
        assert again.usage.calls == calls
