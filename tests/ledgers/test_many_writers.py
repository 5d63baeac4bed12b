"""Processes that share an account never pass its limit, and a death at any moment loses nothing settled."""

import multiprocessing
import os
import random
import signal
import threading

import pytest
from ledger_words import ask, at, calling, charge

from steptrack_callbacks.ledgers import open_ledger
from steptrack_callbacks.ledgers.protocol import COST

PROCESSES, CALLS, WORTH = 4, 200, 100
KILLS, AT_ONCE = {"sqlite": 200, "redis": 40}, 20
forking = multiprocessing.get_context("fork")


def compete(url, limits, number, barrier, granted):
    store = open_ledger(url)
    barrier.wait()
    for turn in range(CALLS):
        call = f"{number}-{turn}"
        if store.reserve(calling(ask(cost=3, **limits), call=call)).granted:
            with granted.get_lock():
                granted.value += 1
            store.settle([charge(call, cost=3)])
    store.close_connections()


@pytest.mark.parametrize("limits", [{"max_calls": WORTH}, {"max_cost": 3 * WORTH}], ids=["calls", "cost"])
def test_processes_are_admitted_as_often_as_an_account_is_worth_and_no_more(shared_url, limits):
    barrier, granted = forking.Barrier(PROCESSES), forking.Value("i", 0)
    workers = [
        forking.Process(target=compete, args=(shared_url, limits, number, barrier, granted))
        for number in range(PROCESSES)
    ]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert [worker.exitcode for worker in workers] == [0] * PROCESSES
    store = open_ledger(shared_url)
    shown = at(store)
    store.close_connections()
    assert granted.value == shown.settled["calls"] == WORTH
    assert (shown.settled[COST], shown.held_calls) == (3 * WORTH, 0)


def write_until_killed(url, name, acknowledged):
    store = open_ledger(url)
    number = 0
    while True:
        number += 1
        call = f"{name}-{number}"
        store.reserve(calling(ask(cost=1), ask("other", cost=1), call=call, lease_s=3600))
        store.settle([charge(call, "team", "other", cost=1)])
        os.write(acknowledged, b"x")


class Writer:
    """A process of its own, forked before any ledger was opened, which waits until it is let go."""

    def __init__(self, url, name):
        self.name = name
        waiting, self.go = os.pipe()
        self.acknowledged, writing = os.pipe()
        self.process = os.fork()
        if not self.process:
            try:
                if os.read(waiting, 1):  # and nothing, if the test has failed meanwhile
                    write_until_killed(url, name, writing)
            finally:
                os._exit(1)
        os.close(waiting)
        os.close(writing)

    def settle_until_killed(self, after_s):
        """Let it settle some, kill it, and return how many calls it has acknowledged."""
        os.write(self.go, b"x")
        count = len(os.read(self.acknowledged, 1))
        threading.Event().wait(after_s)
        os.kill(self.process, signal.SIGKILL)
        assert os.waitpid(self.process, 0)[1] == signal.SIGKILL
        os.close(self.go)
        while more := os.read(self.acknowledged, 65536):
            count += len(more)
        os.close(self.acknowledged)
        return count


def test_a_writer_that_is_killed_at_any_moment_loses_nothing_and_charges_nothing_twice(shared_url):
    rng, books = random.Random(2026), open_ledger(shared_url)
    before, in_doubt, held, charged = 0, 0, 0, []
    for batch in range(KILLS[shared_url.split(":")[0]] // AT_ONCE):
        for writer in [Writer(shared_url, f"{batch}-{number}") for number in range(AT_ONCE)]:
            acknowledged = writer.settle_until_killed(rng.random() * 0.004)
            team, other = books.look(["team", "other"])
            calls = team.settled["calls"]
            assert before + acknowledged <= calls <= before + acknowledged + 1
            assert team.settled == other.settled
            assert team.settled[COST] == calls
            assert team.held_calls == other.held_calls
            assert held <= team.held_calls <= held + 1  # it comes back with its lease
            charged += [f"{writer.name}-{number + 1}" for number in range(calls - before)]
            in_doubt += calls - before - acknowledged
            before, held = calls, team.held_calls
    # The last call of each may be in the books without an answer; sent again it is charged once.
    books.settle([charge(call, "team", "other", cost=1) for call in charged])
    assert at(books).settled["calls"] == before
    assert in_doubt + held > 0, "no writer was ever killed in the middle of a call"
    books.close_connections()
