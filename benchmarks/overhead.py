"""What a call costs with each contestant attached, interleaved over all of them in one run."""

from __future__ import annotations

import statistics
from typing import Any

from cases import CASES
from entrants import ALL
from upstream import Upstream
from workers import Worker, workers

ROUNDS = 11
NAMES = [name for name in ALL if name not in ("OursStrict", "OursWaiting")]
FIRST = ("langchain_invoke", "litellm_completion", "openai_create")
"""A case of each framework, to warm it up."""


def run(rounds: int = ROUNDS) -> dict[str, Any]:
    """Measure all cases; returns for each case and contestant the samples in microseconds."""
    with Upstream() as upstream, workers(NAMES, upstream.url) as started:
        for case in FIRST:
            for worker in started:
                worker.tell(do="warm up", case=case)
            for worker in started:
                worker.hear()
        return {case: _compare(case, started, rounds) for case in CASES}


def _compare(case: str, started: list[Worker], rounds: int) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for number in range(rounds + 1):
        for worker in started:
            if "cannot" in found.get(worker.name, {}):
                continue
            answer = worker.ask(do="time", case=case)
            if "cannot" in answer:
                found[worker.name] = answer
            elif number:  # the first round warms up
                _add(found.setdefault(worker.name, {"bare": [], "attached": []}), answer)
    print(f"{case}: {summary(found)}", flush=True)
    return found


def _add(samples: dict[str, Any], answer: dict[str, Any]) -> None:
    samples["bare"].append(round(answer["bare"], 3))
    samples["attached"].append(round(answer["attached"], 3))
    samples["seen"] = answer["seen"]


def added(samples: dict[str, Any]) -> tuple[float, float, float]:
    """Return the lower quartile, the median and the upper quartile of what is added to a bare call."""
    differences = [
        attached - bare for bare, attached in zip(samples["bare"], samples["attached"], strict=True)
    ]
    low, middle, high = statistics.quantiles(differences, n=4)
    return low, middle, high


def summary(found: dict[str, Any]) -> str:
    return ", ".join(
        f"{name} {added(samples)[1]:+.1f}" for name, samples in found.items() if "cannot" not in samples
    )
