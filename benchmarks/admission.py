"""What passes a budget, and what it leaves unused: the engine beside other rules, in virtual time.

python benchmarks/admission.py            # 60 draws of each cell, as in docs/exactness.md
python benchmarks/admission.py 4          # 4 draws of each, for a look
"""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from itertools import product
from typing import NamedTuple

import admission_engine
import admission_rules
from admission_world import DRIFT, HISTORIES, KINDS, Case, Result

SEEDS = 60
FIRST_SEED = 10_000
"""Draws that were not used to choose anything."""
AT_ONCE = 2


class Class(NamedTuple):
    """A class of cases, which is a line of the table."""

    title: str
    budget: int
    max_tokens: tuple[int | None, ...]
    clamps: bool = False
    streams: bool = False
    share_of_seeds: int = 1
    kinds: tuple[str, ...] = KINDS


CLASSES = [
    Class("`max_tokens` known, cheap", 20, (350,)),
    Class("`max_tokens` known, cheap", 200, (350, 1000), share_of_seeds=5),
    Class("`max_tokens` known, dearer", 20, (1000,)),
    Class("none, may be clamped", 20, (None,), clamps=True),
    Class("none, may be clamped", 200, (None,), clamps=True, share_of_seeds=5),
    Class("none at all", 20, (None,)),
    Class("none at all", 200, (None,), share_of_seeds=5),
    Class("none, streams", 20, (None,), streams=True, share_of_seeds=5),
    Class("drift, none at all", 20, (None,), kinds=(DRIFT,)),
]
STRICT = "the engine, `strict`"
ENGINE = "the engine"


def cases(of: Class, seeds: int) -> list[list[Case]]:
    """List the cells of a class, each with its draws."""
    count = max(1, seeds // of.share_of_seeds)
    return [
        [
            Case(kind, history, of.budget, most, of.clamps, of.streams, FIRST_SEED + seed)
            for seed in range(count)
        ]
        for kind, history, most in product(of.kinds, HISTORIES, of.max_tokens)
    ]


def run_cell(name: str, cell: Sequence[Case]) -> list[Result]:
    """Run all draws of a cell."""
    run: Callable[[Case], Result] = partial(admission_rules.run, name)
    if name == ENGINE:
        run = admission_engine.run
    elif name == STRICT:
        run = partial(admission_engine.run, enforce="strict")
    return [run(case) for case in cell]


def line(title: str, cells: Iterable[Sequence[Result]]) -> str:
    """Put a class in a line of the table."""
    cells = list(cells)
    spent = sorted(result.spent for cell in cells for result in cell)
    means = [statistics.mean(result.spent for result in cell) for cell in cells]
    times = [statistics.mean(result.seconds for result in cell) for cell in cells]
    cut = [result.cut for cell in cells for result in cell]
    p99 = spent[int(0.99 * (len(spent) - 1))]
    numbers = (
        f"{statistics.mean(spent):.0%}",
        f"{min(means):.0%} to {max(means):.0%}",
        f"{p99:.0%}",
        f"{spent[-1]:.0%}",
        f"{statistics.mean(times):.1f}",
        f"{max(times):.1f}",
        f"{max(cut)}",
    )
    return f"| {title} | {' | '.join(numbers)} |"


HEAD = """\
| rule | spent of the limit | means of the cells | p99 | worst | time | time, worst cell | cut at most |
| --- | --- | --- | --- | --- | --- | --- | --- |"""


def main(seeds: int) -> None:
    """Print a table for each class."""
    began = time.monotonic()
    with ProcessPoolExecutor(AT_ONCE) as workers:
        for of in CLASSES:
            cells = cases(of, seeds)
            print(
                f"\n{of.title}, a budget of {of.budget} mean answers, {len(cells[0])} draws a cell\n\n{HEAD}"
            )
            for name in (ENGINE, STRICT, *admission_rules.RULES):
                found = workers.map(partial(run_cell, name), cells)
                print(line(name, found), flush=True)
    print(f"\n{time.monotonic() - began:.0f} s", file=sys.stderr)


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else SEEDS)
