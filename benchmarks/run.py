"""What the package costs, as ratios within one run, and how well its budgets hold.

Run it with `make bench`. Absolute times depend on the machine and its mood; the ratios less so.
"""

from __future__ import annotations

import asyncio
import json
import os
import statistics
import subprocess
import sys
import time
import warnings
from collections.abc import Callable
from decimal import Decimal
from itertools import product
from pathlib import Path
from typing import Any

os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"
sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

import litellm

import steptrack_callbacks as steptrack
from provider import Provider
from steptrack_callbacks import BudgetExhausted, LostStepWarning, record_usage, step
from steptrack_callbacks.testing import reset

ROUNDS = 15
MESSAGES = [{"role": "user", "content": "why is the sky blue? " * 20}]
CALL = {"model": "gpt-4o", "messages": MESSAGES, "mock_response": "Rayleigh scattering."}
PRICE = Decimal("0.00225")  # of 100 tokens in and 200 out
BUDGET_CALLS = 10
AT_ONCE = 50


def median_us(work: Callable[[], Any], *, times: int) -> float:
    start = time.perf_counter()
    for _ in range(times):
        work()
    return (time.perf_counter() - start) / times * 1e6


def interleaved(cases: dict[str, Callable[[], Any]], *, times: int) -> dict[str, float]:
    """Measure cases in turn, over and over, so that a change in the machine's mood hits all of them."""
    samples: dict[str, list[float]] = {name: [] for name in cases}
    for work in cases.values():
        work()
    for _ in range(ROUNDS):
        for name, work in cases.items():
            samples[name].append(median_us(work, times=times))
    return {name: statistics.median(values) for name, values in samples.items()}


def call_overhead() -> dict[str, float]:
    """LiteLLM's own mock call, bare and with everything attached."""
    bare = litellm.completion

    def attached(**limits: Any) -> Callable[[], Any]:
        def work() -> None:
            with step("bench", **limits):
                litellm.completion(**CALL)

        return work

    steptrack.install()
    try:
        cases = {
            "litellm.completion, not attached": lambda: bare(**CALL),
            "attached, no step": lambda: litellm.completion(**CALL),
            "attached, a step without limits": attached(),
            "attached, a step with max_usd": attached(max_usd=1000),
        }
        return interleaved(cases, times=30)
    finally:
        steptrack.uninstall()


def machine_overhead() -> dict[str, float]:
    def nested(depth: int) -> None:
        if depth:
            with step("deep", max_usd=1000):
                nested(depth - 1)
        else:
            record_usage("gpt-4o", input_tokens=10, output_tokens=5)

    def empty() -> None:
        with step("empty"):
            pass

    warnings.simplefilter("ignore", LostStepWarning)  # nothing is attached here on purpose
    cases: dict[str, Callable[[], Any]] = {"with step(): pass": empty}
    for depth in (1, 4, 16, 64):
        cases[f"record_usage() under {depth} steps"] = lambda depth=depth: nested(depth)
    return interleaved(cases, times=100)


def import_seconds(module: str) -> float:
    def once() -> float:
        start = time.perf_counter()
        subprocess.run([sys.executable, "-c", f"import {module}"], check=True)
        return time.perf_counter() - start

    return statistics.median(once() for _ in range(3))


def import_ratio() -> dict[str, float]:
    nothing = import_seconds("sys")
    ours, hosts = (import_seconds(name) - nothing for name in ("steptrack_callbacks", "litellm"))
    return {"steptrack_callbacks_s": ours, "litellm_s": hosts, "ratio": ours / hosts}


def overshoot() -> list[dict[str, Any]]:
    """Fifty calls at once on a budget of ten, against a provider that counts what reaches it."""
    steptrack.install()
    try:
        return [
            asyncio.run(_fifty(enforce, max_tokens, warm=warm))
            for enforce, max_tokens, warm in product(("estimate", "strict"), (200, None), (False, True))
        ]
    finally:
        steptrack.uninstall()


async def _fifty(enforce: str, max_tokens: int | None, *, warm: bool) -> dict[str, Any]:
    reset()
    with Provider(input_tokens=100, output_tokens=200) as provider:
        options: dict[str, Any] = {"model": "openai/gpt-4o", "messages": MESSAGES, "api_base": provider.url}
        options |= {"api_key": "none", **({"max_tokens": max_tokens} if max_tokens else {})}
        if warm:
            await litellm.acompletion(**options)
        before = provider.count()
        async with step("fifty", max_usd=PRICE * BUDGET_CALLS, enforce=enforce) as fifty:
            results = await asyncio.gather(
                *(litellm.acompletion(**options) for _ in range(AT_ONCE)), return_exceptions=True
            )
        failures = [result for result in results if isinstance(result, Exception)]
        assert all(isinstance(failure, BudgetExhausted) for failure in failures)
        return {
            "enforce": enforce,
            "max_tokens": max_tokens or "-",
            "model": "warm" if warm else "cold",
            "sent of 50": provider.count() - before,
            "spent of the limit": f"{float(fifty.cost_usd / (PRICE * BUDGET_CALLS)):.0%}",
        }


def table(rows: list[dict[str, Any]]) -> str:
    names = list(rows[0])
    lines = ["| " + " | ".join(names) + " |", "| " + " | ".join("---" for _ in names) + " |"]
    return "\n".join(lines + ["| " + " | ".join(str(row[name]) for name in names) + " |" for row in rows])


def ratios(figures: dict[str, float]) -> list[dict[str, Any]]:
    first = next(iter(figures.values()))
    return [
        {"case": name, "us": f"{us:.1f}", "added us": f"{us - first:+.1f}", "ratio": f"{us / first:.2f}"}
        for name, us in figures.items()
    ]


def main() -> None:
    calls, machine, imports, held = call_overhead(), machine_overhead(), import_ratio(), overshoot()
    print(f"\nA call\n\n{table(ratios(calls))}")
    print(f"\nThe machine alone\n\n{table(ratios(machine))}")
    print(f"\n{AT_ONCE} calls at once on a budget of {BUDGET_CALLS}\n\n{table(held)}")
    print(f"\nimport: {imports['steptrack_callbacks_s'] * 1000:.0f} ms, {imports['ratio']:.1%} of LiteLLM's")
    results = {"calls_us": calls, "machine_us": machine, "import": imports, "fifty": held}
    Path(__file__).with_name("results.json").write_text(
        json.dumps(results, indent=2) + "\n", encoding="utf-8"
    )


if __name__ == "__main__":
    main()
