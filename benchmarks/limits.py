"""How well each contestant's budget holds, through each of its doors: see `holding` for a trial."""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from itertools import product
from pathlib import Path
from typing import Any

from contestants.contestant import CALL_USD
from entrants import ALL
from upstream import SAME, SHORT_FIRST, VARIED, Upstream
from venvs import PYTHONS
from workers import Worker

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

ROWS = [
    *(
        ("langchain", name)
        for name in ("UsageHandler", "OpenAICallback", "Shekel", "AgentGuard", "AgentBudget")
    ),
    *(("langchain", name) for name in ("FloeGuard", "Ours", "OursWaiting", "OursStrict")),
    *(("litellm", name) for name in ("MaxBudget", "Shekel", "CostTracker", "FloeGuardCallback", "FloeGuard")),
    *(("litellm", name) for name in ("Ours", "OursStrict")),
    *(("openai", name) for name in ("Shekel", "AgentGuard", "Burnmap", "TokenCap", "AgentBudgetGuard")),
    ("openai", "FloeGuard"),
]
INPUT_USD, OUTPUT_USD = 2.5e-6, 1e-5
WORTH, CALLS, TRIES, PROCESSES = 10, 50, 30, 4
SLOW_S, FAST_S = 0.2, 0.01
Trial = dict[str, Any]


def trials() -> Iterator[tuple[str, Trial]]:
    """Name what every row goes through."""
    for mode, (warm, cap) in product(("tasks", "threads"), product((False, True), (200, None))):
        yield f"{mode}, {_state(warm=warm, cap=cap)}", {"mode": mode, "warm": warm, "max_tokens": cap}
    yield "one by one", {"mode": "one by one", "warm": False, "max_tokens": None, "calls": TRIES}
    for warm, cap in product((False, True), (200, None)):
        shared = {"mode": "tasks", "warm": warm, "max_tokens": cap, "processes": PROCESSES}
        yield f"{PROCESSES} processes, {_state(warm=warm, cap=cap)}", shared
    for (first, outputs), cap in product((("usual", VARIED), ("short", SHORT_FIRST)), (350, None)):
        varied = {"mode": "tasks", "warm": True, "max_tokens": cap, "outputs": outputs, "worth": 20}
        yield f"varied, {first} one first, {'max_tokens' if cap else 'none'}", varied


def _state(*, warm: bool, cap: int | None) -> str:
    return f"{'warm' if warm else 'cold'}, {'max_tokens' if cap else 'none'}"


def run(at_once: int | None = None) -> list[dict[str, Any]]:
    """Let every row go through all trials; a few rows at a time, since most of it is waiting."""
    rows = [row for row in ROWS if ALL[row[1]].package in PYTHONS]
    with ThreadPoolExecutor(at_once or 2 * (os.cpu_count() or 1)) as pool:
        return list(pool.map(lambda row: _row(*row), rows))


def _row(door: str, name: str) -> dict[str, Any]:
    found: dict[str, Any] = {}
    with Upstream() as upstream, places_to_share() as places:
        worker = Worker(name, upstream.url)
        worker.ask(do="prepare", door=door)
        for title, trial in trials():
            for kind, place in places().items() if "processes" in trial else [("", {})]:
                found[f"{title} {kind}".strip()] = try_out(worker, upstream, door, trial | place)
        worker.stop()
    print(f"{door} {name}: {[cell.get('sent', '-') for cell in found.values()]}", flush=True)
    return {"door": door, "name": name, "trials": found}


def try_out(worker: Worker, upstream: Upstream, door: str, trial: Trial) -> dict[str, Any]:
    given = {"calls": CALLS, "worth": WORTH} | trial
    outputs = given.pop("outputs", SAME)
    upstream.reset(delay=FAST_S if given["mode"] == "one by one" else SLOW_S, outputs=outputs)
    answer = worker.ask(do="hold", door=door, **given)
    if "cannot" in answer:
        return answer
    counted, before = upstream.counted(), answer.pop("warmed")
    spent = counted["input_tokens"] * INPUT_USD + counted["output_tokens"] * OUTPUT_USD
    worth = given["worth"] + given["warm"] * given.get("processes", 1)
    share = round(spent / (worth * CALL_USD), 3)
    return answer | {"sent": counted["requests"] - before, "spent of the limit": share}


@contextmanager
def places_to_share() -> Iterator[Callable[[], dict[str, dict[str, str]]]]:
    """Give a function that makes empty places where processes can share a budget."""
    from redis_servers import RedisServer

    with tempfile.TemporaryDirectory() as folder:
        server = RedisServer(folder).start()
        try:
            yield lambda: {"file": {"folder": tempfile.mkdtemp(dir=folder)}, "Redis": _emptied(server)}
        finally:
            server.stop()


def _emptied(server: Any) -> dict[str, str]:
    server.client().flushall()
    return {"redis_url": f"redis://127.0.0.1:{server.port}/0"}
