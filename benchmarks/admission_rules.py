"""Other rules of reserving, as they are or as they describe themselves, for the same world.

Each keeps what is settled and what is in flight by itself; `admit` says whether a call goes now.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Sequence

from admission_world import CALLERS, INPUT, LONGEST, Case, Job, Result, ideal_seconds


class Rule:
    """What all have in common.

    Attributes:
        left: What is left of the limit beside what is settled.
        flight: The `max_tokens` of calls in flight, and what each has produced so far.
        waits: Whether who is refused waits for room; else it is gone.
    """

    waits = True

    def __init__(self, limit: int) -> None:
        self.left = limit
        self.flight: dict[int, tuple[int, int]] = {}
        self.lengths: list[int] = []

    def learn(self, length: int) -> None:
        """See an answer."""
        self.lengths.append(length)

    def hold(self, most: int, produced: int) -> int:
        """Return what is held for the output of one call."""
        raise NotImplementedError

    def fits(self, most: int) -> bool:
        """Tell whether one more call goes."""
        held = sum(INPUT + self.hold(*each) for each in self.flight.values())
        return held + INPUT + self.hold(most, 0) <= self.left


class LargestOfTwenty(Rule):
    """The rule before: each holds the largest of the last twenty; who is alone goes if its input fits."""

    def hold(self, most: int, produced: int) -> int:
        """Hold the largest of the last twenty."""
        return min(most, max(self.lengths[-20:])) if self.lengths else most

    def fits(self, most: int) -> bool:
        """Let one go first while nothing was seen."""
        if not self.flight:
            return self.left >= INPUT
        return (bool(self.lengths) or most < LONGEST) and super().fits(most)


class WorstCase(Rule):
    """Everything at its `max_tokens`, or at the model's longest answer."""

    def hold(self, most: int, produced: int) -> int:
        """Hold the most."""
        return most


class RollingP95(Rule):
    """The 95th percentile of the answers, grown in steps of 64 tokens as a stream runs past it."""

    def hold(self, most: int, produced: int) -> int:
        """Hold the percentile."""
        ordered = sorted(self.lengths[-200:])
        usual = ordered[int(0.95 * (len(ordered) - 1))] if ordered else 1000
        return max(min(usual, most), 64 * math.ceil((produced + 1) / 64) if produced else 0)


class FloeGuard(Rule):
    """floe-guard's: the request at its `max_tokens`, else as the last call; nobody waits."""

    waits = False

    def hold(self, most: int, produced: int) -> int:
        """Hold the last one."""
        if most < LONGEST:
            return most
        return self.lengths[-1] if self.lengths else 0


RULES: dict[str, type[Rule]] = {
    "largest of 20 (before)": LargestOfTwenty,
    "worst case": WorstCase,
    "rolling p95, grown": RollingP95,
    "floe-guard": FloeGuard,
}


def run(name: str, case: Case) -> Result:
    """Run a case by one of the rules."""
    rule, jobs = RULES[name](case.limit), case.jobs()
    most = case.max_tokens or LONGEST
    for job in case.seen():
        rule.learn(min(job.length, most))
    flying: list[tuple[float, int]] = []
    begun: dict[int, float] = {}
    now, spent, sent, callers = 0.0, 0, 0, CALLERS
    while True:
        if case.streams:
            _look(rule, jobs, begun, now, most)
        while sent < len(jobs) and len(rule.flight) < callers:
            if rule.fits(most):
                begun[sent], rule.flight[sent] = now, (most, 0)
                heapq.heappush(flying, (now + jobs[sent].lasts(min(jobs[sent].length, most)), sent))
                sent += 1
            elif rule.waits:
                break
            else:
                callers -= 1
        if not flying:
            return Result(spent / case.limit, now / ideal_seconds(case, jobs), sent, 0)
        now, ended = heapq.heappop(flying)
        del rule.flight[ended], begun[ended]
        length = min(jobs[ended].length, most)
        spent += INPUT + length
        rule.left -= INPUT + length
        rule.learn(length)


def _look(rule: Rule, jobs: Sequence[Job], begun: dict[int, float], now: float, most: int) -> None:
    for index, since in begun.items():
        job = jobs[index]
        rule.flight[index] = most, max(0, int((now - since - job.first_s) / job.token_s))
