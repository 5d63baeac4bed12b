"""What passes a budget, and what it leaves unused: the engine beside other rules, in virtual time.

python benchmarks/admission.py            # 60 draws of each cell, as in docs/benchmarks.md
python benchmarks/admission.py 4          # 4 draws of each, for a look
python benchmarks/admission.py 60 FILE    # and writes them there, too
"""

from __future__ import annotations

import json
import statistics
import sys
from collections.abc import Callable, Sequence
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any, NamedTuple

import admission_engine
import admission_rules
import page_admission
from admission_world import DRIFT, HISTORIES, KINDS, Case, Result

SEEDS = 60
FIRST_SEED = 10_000
"""Draws that were not used to choose anything."""
ASKS_FOR_FILE = 2


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


def summed_up(of: Class, rule: str, cells: Sequence[Sequence[Result]]) -> dict[str, Any]:
    """Say what a rule does in a class: shares of the limit, times beside perfect knowledge, answers cut."""
    spent = sorted(result.spent for cell in cells for result in cell)
    means = [statistics.mean(result.spent for result in cell) for cell in cells]
    times = [statistics.mean(result.seconds for result in cell) for cell in cells]
    cut = [result.cut for cell in cells for result in cell]
    return {
        "class": f"{of.title}, {of.budget}",
        "draws": len(cells[0]),
        "rule": rule,
        "spent": statistics.mean(spent),
        "cells": (min(means), max(means)),
        "p99": spent[int(0.99 * (len(spent) - 1))],
        "worst": spent[-1],
        "time": statistics.mean(times),
        "longest": max(times),
        "cut": max(cut),
        "cut_twice": sum(count > 1 for count in cut),
        "runs": len(cut),
    }


def run(seeds: int = SEEDS) -> list[dict[str, Any]]:
    """Let every rule go through all cells of every class."""
    found = []
    for of in CLASSES:
        cells = cases(of, seeds)
        for name in (ENGINE, STRICT, *admission_rules.RULES):
            found.append(summed_up(of, name, [run_cell(name, cell) for cell in cells]))
            print(page_admission.row(found[-1]), file=sys.stderr, flush=True)
    return found


if __name__ == "__main__":
    results = run(int(sys.argv[1]) if len(sys.argv) > 1 else SEEDS)
    if len(sys.argv) > ASKS_FOR_FILE:
        Path(sys.argv[ASKS_FOR_FILE]).write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
    print(page_admission.written(results))
