"""The engine itself in the same world: its calls, its queue and its books, on a clock of ours."""

from __future__ import annotations

import heapq
import itertools
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import patch

sys.path.insert(0, str(Path(__file__).parents[1] / "src"))

from admission_world import CALLERS, INPUT, Case, Job, Result, ideal_seconds

from steptrack_callbacks import BudgetExhausted, Step, StepDefinition, Usage
from steptrack_callbacks.engine import call, output_stats, reservation
from steptrack_callbacks.engine.request import Request
from steptrack_callbacks.testing import reset
from steptrack_callbacks.tokens import InputCount

MODEL = "gpt-4o"
ENGINE = "steptrack_callbacks.engine."


class Flight:
    """One call on its way."""

    def __init__(self, world: World, job: Job) -> None:
        case = world.case
        request = Request(
            model=MODEL,
            count_input=lambda: InputCount(tokens=INPUT, upper_bound=INPUT),
            max_output_tokens=case.max_tokens,
            can_clamp=case.clamps,
            price=lambda _: 0,
        )
        self.job = job
        self.call = call.Call(world.step.accounts, request)
        self.begun = 0.0
        self.admission: Any = self.call._admission(patient=True)
        self.waiter: Any = None

    @property
    def answer(self) -> int:
        """How long its answer is, by the `max_tokens` that it was sent with."""
        bounds = (self.job.length, self.call.request.max_output_tokens, self.call.max_output_tokens)
        return min(bound for bound in bounds if bound is not None)


class World:
    """A budget, who waits for it, and who is in flight."""

    def __init__(self, case: Case, enforce: Any) -> None:
        self.case = case
        self.now = 0.0
        self.jobs = case.jobs()
        self.flying: list[tuple[float, int, Flight]] = []
        self.waiting: list[Flight] = []
        self.sent = self.cut = self.refused = 0
        self._numbers = itertools.count()
        definition = StepDefinition(
            name="step", max_tokens=case.limit, enforce=enforce, cut_streams=False, error_boundary="continue"
        )
        self.step = Step(definition)
        self.step.begin()

    def run(self) -> Result:
        """Let all callers call until each is refused or there is no more to do."""
        to_come = iter(self.jobs)
        for job in itertools.islice(to_come, CALLERS):
            self._go(Flight(self, job), None)
        while self.flying:
            self.now, _, flight = heapq.heappop(self.flying)
            self._look()
            whole = min(flight.job.length, flight.call.request.max_output_tokens or flight.job.length)
            truncated = flight.answer < flight.job.length
            self.cut += flight.answer < whole
            flight.call.settle(Usage(input_tokens=INPUT, output_tokens=flight.answer), truncated=truncated)
            self._wake()
            if (job := next(to_come, None)) is not None:
                self._go(Flight(self, job), None)
        assert not self.waiting
        account = self.step.account
        assert account.enforce != "strict" or not account.passed_limits()
        ideal = ideal_seconds(self.case, self.jobs)
        return Result(account.settled.tokens / self.case.limit, self.now / ideal, self.sent, self.cut)

    def _go(self, flight: Flight, outcome: Any) -> None:
        try:
            flight.waiter = flight.admission.send(outcome)
            self.waiting.append(flight)
        except StopIteration:
            self.sent += 1
            flight.begun = self.now
            end = self.now + flight.job.lasts(flight.answer)
            heapq.heappush(self.flying, (end, next(self._numbers), flight))
        except BudgetExhausted:
            self.refused += 1

    def _wake(self) -> None:
        woken = [flight for flight in self.waiting if flight.waiter.outcome is not None]
        self.waiting = [flight for flight in self.waiting if flight.waiter.outcome is None]
        for flight in woken:
            self._go(flight, flight.waiter.outcome)

    def _look(self) -> None:
        if not self.case.streams:
            return
        for _, _, flight in self.flying:
            produced = int((self.now - flight.begun - flight.job.first_s) / flight.job.token_s)
            flight.call.progress(max(0, produced))


def run(case: Case, enforce: Any = "estimate") -> Result:
    """Run a case by the engine."""
    reset()
    for job in case.seen():
        length = min(job.length, case.max_tokens or job.length)
        output_stats.learn(
            MODEL,
            output_tokens=length,
            counted_input=INPUT,
            input_tokens=INPUT,
            took_s=job.lasts(length),
            truncated=length < job.length,
        )
    with _clock() as clock:
        world = World(case, enforce)
        clock.monotonic = lambda: world.now
        return world.run()


@contextmanager
def _clock() -> Iterator[SimpleNamespace]:
    """Put a clock of ours in the engine's place, and let each call count as made by a task of its own."""
    clock = SimpleNamespace(monotonic=lambda: 0.0, time=lambda: 0.0)
    with ExitStack() as patched:
        for name, module in list(sys.modules.items()):
            if name.startswith(ENGINE) and getattr(module, "time", None) is time:
                patched.enter_context(patch.object(module, "time", clock))
        patched.enter_context(patch.object(reservation, "current_owner", object))
        yield clock
