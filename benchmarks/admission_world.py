"""Fifty callers and one budget, in virtual time: calls, how long their answers are, and what was seen before.

A unit is a token of output; a call's input is 25 of them. A budget is worth so many mean answers.
"""

from __future__ import annotations

import heapq
import math
import random
from collections.abc import Sequence
from typing import NamedTuple

INPUT, MEAN, LONGEST = 25, 200, 16_384
CALLERS = 50
DEMAND = 2.5
KINDS = ("constant", "uniform", "bimodal", "lognormal", "pareto", "rare long")
DRIFT = "drift"
HISTORIES = ("cold", "one short", "one usual", "20", "200")


class Job(NamedTuple):
    """A call to come: the length of its answer, seconds to its first token, and for each one."""

    length: int
    first_s: float
    token_s: float

    def lasts(self, tokens: int) -> float:
        """Return how long it takes to answer so much."""
        return self.first_s + self.token_s * tokens


class Case(NamedTuple):
    """One cell of the matrix, and which draw of it.

    Attributes:
        kind: How long answers are.
        history: What was seen before.
        budget: What the budget is worth, in mean answers.
        max_tokens: What the requests say; `None` if they say nothing.
        clamps: Whether a request may be given a `max_tokens`.
        streams: Whether what an answer has produced so far is seen.
        seed: Which draw.
    """

    kind: str
    history: str
    budget: int
    max_tokens: int | None
    clamps: bool
    streams: bool
    seed: int

    @property
    def limit(self) -> int:
        """The budget in tokens."""
        return self.budget * (MEAN + INPUT)

    def jobs(self) -> list[Job]:
        """Draw the calls to come."""
        draw = random.Random(self.seed * 7919 + self.budget)
        count = int(DEMAND * self.budget)
        return [_job(self.kind, draw, late=index >= count // 2) for index in range(count)]

    def seen(self) -> list[Job]:
        """Draw the calls that were made before."""
        draw = random.Random(self.seed + 99_991)
        lengths = {"cold": [], "one short": [50], "one usual": [100 if self.kind == DRIFT else MEAN]}
        if self.history in lengths:
            return [_job(self.kind, draw)._replace(length=length) for length in lengths[self.history]]
        return [_job(self.kind, draw) for _ in range(int(self.history))]


class Result(NamedTuple):
    """What came of a case: the share of the limit that was spent, seconds, calls sent, and answers cut."""

    spent: float
    seconds: float
    sent: int
    cut: int


def _job(kind: str, draw: random.Random, *, late: bool = False) -> Job:
    return Job(
        _length(kind, draw, late=late),
        0.3 * math.exp(draw.gauss(0, 0.3)),
        0.01 * math.exp(draw.gauss(0, 0.25)),
    )


def _length(kind: str, draw: random.Random, *, late: bool) -> int:
    match kind:
        case "constant":
            return MEAN
        case "uniform":
            return draw.randint(50, 350)
        case "bimodal":
            return draw.choice((50, 350))
        case "lognormal":
            return max(1, min(LONGEST, int(draw.lognormvariate(math.log(MEAN) - 0.5, 1))))
        case "pareto":
            return max(1, min(LONGEST, int(100 * draw.paretovariate(2))))
        case "rare long":
            return 2000 if draw.random() < 0.05 else 105
        case _:  # drift
            return 400 if late else 100


def ideal_seconds(case: Case, jobs: Sequence[Job]) -> float:
    """Return how long it takes with perfect knowledge: all callers busy until the limit is spent."""
    busy: list[float] = []
    spent, end = 0, 0.0
    for job in jobs:
        if spent >= case.limit:
            break
        length = min(job.length, case.max_tokens or job.length)
        spent += INPUT + length
        begin = heapq.heappop(busy) if len(busy) >= CALLERS else 0.0
        heapq.heappush(busy, begin + job.lasts(length))
        end = max(end, begin + job.lasts(length))
    return end
