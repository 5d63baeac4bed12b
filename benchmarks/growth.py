"""Whether things grow dearer: see `growing` for what is measured."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from entrants import ALL
from venvs import PYTHONS
from workers import Worker

PLAN: list[tuple[str, str, int]] = [
    ("Ours", "records", 1_000_000),
    *((name, "steps", 100_000) for name in ("Ours", "Shekel", "FloeGuard", "AgentBudget", "Burnmap")),
    *(("UsageHandler", what, upto) for what, upto in (("steps", 100_000), ("calls", 100_000))),
    *((name, "calls", 100_000) for name in ("Ours", "FloeGuard", "AgentBudget", "AgentGuard")),
    *((name, "depth", 0) for name in ("Ours", "Shekel", "FloeGuard", "UsageHandler")),
]


def run(at_once: int | None = None) -> list[dict[str, Any]]:
    """Measure each in a process of its own, a few at a time: each is compared with itself only."""
    plan = [entry for entry in PLAN if ALL[entry[0]].package in PYTHONS]
    with ThreadPoolExecutor(at_once or os.cpu_count() or 1) as pool:
        return list(pool.map(_grown, plan))


def _grown(entry: tuple[str, str, int]) -> dict[str, Any]:
    name, what, upto = entry
    worker = Worker(name, "http://127.0.0.1:9")
    found = worker.ask(do="grow", what=what, upto=upto)
    worker.stop()
    print(f"growth with {what}, {name}: {found}", flush=True)
    return {"name": name, "what": what, **found}
