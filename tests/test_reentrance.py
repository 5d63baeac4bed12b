"""Code of ours that runs in the middle of other code of ours: collected garbage, and forked processes."""

import gc
import os
import subprocess
import sys
import threading
from decimal import Decimal
from pathlib import Path

import pytest

from fake_framework import CALL_USD, FakeFramework, price, run_all, until
from internals import assert_nothing_left
from steptrack_callbacks import Usage, bind, step
from steptrack_callbacks.engine.call import Call
from steptrack_callbacks.engine.queue import QUEUE, Waiter
from steptrack_callbacks.steps.attribution import new_call


@pytest.fixture
def framework() -> FakeFramework:
    return FakeFramework()


class Stream:
    """What a framework's stream does when it is thrown away half read."""

    def __init__(self, call: Call) -> None:
        self.call = call
        self.itself = self

    def __del__(self) -> None:
        self.call.abandon(0)


def stream_elsewhere(framework: FakeFramework, **details: object) -> Stream:
    """Open a stream in a thread of its own."""
    opened: list[Stream] = []
    run_all([bind(lambda: opened.append(Stream(framework.open(**details))))])
    opened[0].itself = None  # so that it ends with its last reference
    return opened.pop()


class Dropping:
    """A price that throws streams away when it is asked for under the lock."""

    def __init__(self) -> None:
        self.streams: list[Stream] = []

    def __call__(self, usage: Usage) -> int:
        if usage.input_tokens == 100:
            self.streams.clear()
        return price(usage)


def test_a_stream_collected_while_a_call_asks_makes_room_for_it_at_once(framework):
    dropping = Dropping()
    with step("plan", max_usd=2 * CALL_USD - Decimal("0.000001")) as plan:
        dropping.streams.append(stream_elsewhere(framework))
        call = framework.open(price=dropping)
        assert plan.usage == Usage(input_tokens=100, cost_usd=Decimal("0.00025"), calls=1, estimated_calls=1)
        assert plan.account.held_calls == 1
        framework.answer(call)
        assert_nothing_left(plan)


def test_a_stream_collected_while_the_line_moves_neither_blocks_nor_counts_twice(framework):
    dropping = Dropping()
    with step("plan", max_usd=3 * CALL_USD - Decimal("0.000001")) as plan:
        first = stream_elsewhere(framework)
        second = stream_elsewhere(framework)
        calls: list[Call] = []
        ask = bind(lambda: calls.append(framework.open(price=dropping)))
        threads = [threading.Thread(target=ask) for _ in range(3)]
        for thread in threads:
            thread.start()
        until(lambda: plan.account.waiting == 3)
        dropping.streams.append(second)
        del second
        framework.answer(
            first.call, output_tokens=20
        )  # what is expected changes, so prices are asked for again
        for _ in range(3):
            until(lambda: calls)
            framework.answer(calls.pop(), output_tokens=20)
        for thread in threads:
            thread.join(20)
            assert not thread.is_alive()
        assert_nothing_left(plan)
    assert plan.usage.calls == framework.sent == 5
    assert plan.usage.estimated_calls == 1


def test_a_waiter_that_is_collected_while_it_is_judged_leaves_no_trace(framework):
    waiters: list[Waiter] = []

    def dropping(usage):
        if waiters:
            QUEUE.drop(waiters.pop())
        return price(usage)

    with step("plan", max_usd=2 * CALL_USD - Decimal("0.000001")) as plan:
        stream = stream_elsewhere(framework)
        waiters.append(new_call(framework.request(price=dropping))._admission(patient=True).send(None))
        framework.answer(stream.call, output_tokens=20)
        assert not waiters
        assert_nothing_left(plan)


def test_collecting_garbage_at_every_allocation_loses_no_charge(framework):
    thresholds = gc.get_threshold()
    with step("plan", max_usd=1) as plan, step("inner", max_usd=1) as inner:
        framework.ask()
        gc.disable()
        for _ in range(200):
            Stream(framework.open())
        gc.enable()
        gc.set_threshold(1, 1, 1)
        try:
            for _ in range(100):
                Stream(framework.open())
                framework.ask()
        finally:
            gc.set_threshold(*thresholds)
        gc.collect()
        assert_nothing_left(plan, inner)
    assert plan.usage.calls == inner.usage.calls == framework.sent == 401
    assert plan.usage.estimated_calls == 300


# Fork

FORK = """
import os, sys, threading
sys.path.insert(0, {tests!r})
from fake_framework import FakeFramework, CALL_TOKENS, until
from steptrack_callbacks import bind, step

framework, stop = FakeFramework(), threading.Event()
def work():
    while not stop.is_set():
        framework.try_to_ask()
with step("plan", max_tokens=2 * CALL_TOKENS - 1) as plan:
    held = threading.Thread(target=bind(framework.open))
    held.start(), held.join()
    waiting = threading.Thread(target=bind(framework.try_to_ask), daemon=True)
    waiting.start()
    until(lambda: plan.account.waiting)
    workers = [threading.Thread(target=work) for _ in range(4)]
    for worker in workers:
        worker.start()
    for _ in range(30):
        child = os.fork()
        if not child:
            framework.open()  # what the parent's threads hold and wait for is none of this process's business
            os._exit(0)
        assert os.waitpid(child, 0)[1] == 0
    stop.set()
    for worker in workers:
        worker.join()
    os._exit(0)
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")
def test_a_child_forked_from_a_busy_process_does_not_get_stuck():
    script = FORK.format(tests=str(Path(__file__).parent))
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", script],
        timeout=120,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
