"""What the handler costs a LiteLLM proxy: with it, on each ledger, against the bare proxy, in one run.

    python benchmarks/proxy.py [--before SOURCE] [RESULTS]

`SOURCE` is the `src` folder of another checkout, such as an earlier version: it is measured in the same run.
The proxies run side by side and are asked in turn, fifty requests at once, in many short rounds: what is
told are medians and quartiles of what was found within a round, as another program changes times by more
than we do. A second bare proxy tells how much of that is noise. Mock models answer, so that nothing but the
proxy is measured.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "proxy"))
os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"

import httpx
from serving import Proxy, proxy

from provider import Provider
from redis_servers import RedisServer

ROUNDS, WARMING_UP = 60, 2
ONE_BY_ONE, AT_ONCE = 2, 50
MODELS = """
model_list:
  - model_name: mock
    litellm_params: {{model: openai/gpt-4o-mini, api_key: none, mock_response: "Rayleigh scattering."}}
general_settings: {{master_key: sk-master}}
"""
HANDLER = "litellm_settings: {{callbacks: steptrack_callbacks.litellm_proxy.proxy_handler_instance}}\n"
LIMITS = """
[budgets.per-key]
max_usd = 1000
scope = "key"
[steps.answer]
max_usd = 1000
[proxy]
budgets = ["per-key"]
[ledger]
url = "{ledger}"
"""
STORM, BUDGET_CALLS, CALL_USD = 200, 10, 100 * 1.5e-7 + 200 * 6e-7
STORM_MODELS = """
model_list:
  - model_name: real
    litellm_params: {{model: openai/gpt-4o-mini, api_base: "{provider}", api_key: none}}
general_settings: {{master_key: sk-master}}
"""
STORM_LIMITS = """
[budgets.per-key]
max_usd = {usd:.12f}
enforce = "{enforce}"
scope = "key"
[proxy]
budgets = ["per-key"]
"""
WORST_CASE_LIMITS = """
[steps.answer]
max_usd = {usd:.12f}
enforce = "strict"
clamp = false
"""
BODY = {"model": "mock", "messages": [{"role": "user", "content": "why is the sky blue? " * 20}]}
HEADERS = {
    "authorization": "Bearer sk-master",
    "x-steptrack-run": "bench",
    "x-steptrack-step": "answer/write",
}


async def ask(client: httpx.AsyncClient, times: list[float]) -> None:
    start = time.perf_counter()
    answer = await client.post("/v1/chat/completions", json=BODY)
    answer.raise_for_status()
    times.append(time.perf_counter() - start)


def computed_s(running: Proxy) -> float:
    """Seconds that a proxy has computed so far; 0 where the system does not tell."""
    if sys.platform != "linux":
        return 0.0
    clock = (~running.process.pid << 3) | 2  # as `clock_getcpuclockid(3)` names it
    return time.clock_gettime(clock)


async def measure(proxies: dict[str, Proxy]) -> dict[str, dict[str, list[float]]]:
    """Ask all proxies in turn, in short rounds; every other round goes the other way around."""
    limits = httpx.Limits(max_connections=AT_ONCE, keepalive_expiry=1)
    clients = {
        name: httpx.AsyncClient(base_url=each.url, headers=HEADERS, limits=limits, timeout=60)
        for name, each in proxies.items()
    }
    found = {name: nothing_yet() for name in proxies}
    for number in range(-WARMING_UP, ROUNDS):
        for name in sorted(proxies, key=list(proxies).index, reverse=number % 2 == 1):
            told = found[name] if number >= 0 else nothing_yet()
            await round_of(clients[name], proxies[name], told)
    for client in clients.values():
        await client.aclose()
    return found


async def round_of(client: httpx.AsyncClient, running: Proxy, found: dict[str, list[float]]) -> None:
    for _ in range(ONE_BY_ONE):
        await ask(client, found["one"])
    many: list[float] = []
    computed, start = computed_s(running), time.perf_counter()
    await asyncio.gather(*(ask(client, many) for _ in range(AT_ONCE)))
    found["rate"].append(AT_ONCE / (time.perf_counter() - start))
    found["computed"].append((computed_s(running) - computed) / AT_ONCE)
    found["p50"].append(ms(many, 0.5))
    found["many"] += many


def nothing_yet() -> dict[str, list[float]]:
    return {"one": [], "many": [], "rate": [], "computed": [], "p50": []}


def ms(times: list[float], share: float) -> float:
    return sorted(times)[int(share * (len(times) - 1))] * 1e3


def ratios(found: list[float], beside: list[float]) -> list[float]:
    return [one / other for one, other in zip(found, beside, strict=True) if other] or [0.0, 0.0]


def told(values: list[float], digits: int = 2) -> str:
    """Tell the median of what was found in each round, and the quartiles."""
    low, middle, high = (f"{each:.{digits}f}" for each in statistics.quantiles(values, n=4))
    return f"{middle} ({low} to {high})"


def row(name: str, found: dict[str, list[float]], beside: dict[str, list[float]]) -> dict[str, str]:
    """Compare a proxy with another, round by round."""
    longer = [one - other for one, other in zip(found["p50"], beside["p50"], strict=True)]
    figures = {
        f"throughput, {AT_ONCE} at once": told(ratios(found["rate"], beside["rate"])),
        "computed in its process": told(ratios(found["computed"], beside["computed"])),
        f"p50 added, ms, {AT_ONCE} at once": told(longer, 0),
        f"p99 added, ms, {AT_ONCE} at once": f"{ms(found['many'], 0.99) - ms(beside['many'], 0.99):.0f}",
        "p50 added, ms, one at a time": f"{ms(found['one'], 0.5) - ms(beside['one'], 0.5):.1f}",
    }
    print(name)
    for what, value in figures.items():
        print(f"{'':12} {what}: {value}")
    return figures


async def storm(running: Proxy) -> None:
    limits = httpx.Limits(max_connections=AT_ONCE, keepalive_expiry=1)
    async with httpx.AsyncClient(base_url=running.url, headers=HEADERS, limits=limits, timeout=120) as client:
        turns = asyncio.Semaphore(AT_ONCE)

        async def once() -> None:
            async with turns:
                await client.post("/v1/chat/completions", json={**BODY, "model": "real"})

        await asyncio.gather(*(once() for _ in range(STORM)))


def how_budgets_hold(folder: Path) -> dict[str, dict[str, float]]:
    """Send requests without `max_tokens`, fifty at once, against a budget that is worth ten."""
    worth = BUDGET_CALLS * CALL_USD
    ways = {
        "estimate": STORM_LIMITS.format(usd=worth, enforce="estimate"),
        "strict": STORM_LIMITS.format(usd=worth, enforce="strict"),
        "worst case": WORST_CASE_LIMITS.format(usd=worth),  # reserves all output that the model can make
    }
    rows = {}
    for way, limits in ways.items():
        with Provider(input_tokens=100, output_tokens=200) as provider:
            models = STORM_MODELS + HANDLER
            with proxy(folder / way.replace(" ", "-"), provider.url, limits, models=models) as running:
                asyncio.run(storm(running))
                spent = running.settled("bench", "answer/write").get("cost_usd", 0) if provider.count() else 0
        rows[way] = {"calls sent": provider.count(), "spent of the budget": round(spent / worth, 2)}
        print(f"{way}, {STORM} requests without max_tokens, {AT_ONCE} at once: {rows[way]}")
    return rows


def compared(found: dict[str, dict[str, list[float]]]) -> dict[str, dict[str, str]]:
    """Compare each proxy with the bare one, which tells of the noise beside itself, and Redis with memory.

    What was measured of an earlier version is compared with the bare one, too.
    """
    bare = found["bare"]
    computed_ms = statistics.median(bare["computed"]) * 1e3
    print(f"bare: {ms(bare['one'], 0.5):.1f} ms a request, of which it computes {computed_ms:.1f}")
    print(f"bare: {statistics.median(bare['rate']):.0f}/s and p50 {told(bare['p50'], 0)} ms at once")
    rows = {name: row(name, each, bare) for name, each in found.items() if each is not bare}
    return rows | {"redis beside memory": row("redis beside memory", found["redis"], found["memory"])}


def all_proxies(stack: ExitStack, folder: Path, before: str | None) -> dict[str, Proxy]:
    """Start two bare proxies and one for each ledger, and the latter with an earlier version, too."""
    (folder / "redis-server").mkdir()
    redis = RedisServer(folder / "redis-server").start()
    stack.callback(redis.stop)
    ledgers = {
        "memory": "memory:",
        "sqlite": f"sqlite:///{folder}/{{version}}.db?timeout_s=10",
        "redis": redis.url(timeout_s=10, prefix="{version}"),
    }
    proxies = {
        name: stack.enter_context(proxy(folder / name.replace(" ", "-"), "", "", models=MODELS))
        for name in ("bare", "bare again")
    }
    versions = {"now": None, "before": before} if before else {"now": None}
    for version, source in versions.items():
        for name, url in ledgers.items():
            limits = LIMITS.format(ledger=url.format(version=version))
            with imported_from(source):
                started = proxy(folder / f"{name}-{version}", "", limits, models=MODELS + HANDLER)
                proxies[name if source is None else f"{name} {version}"] = stack.enter_context(started)
    return proxies


@contextmanager
def imported_from(source: str | None) -> Iterator[None]:
    """Let programs that are started here import the package from there."""
    known = dict(os.environ)
    os.environ.update({} if source is None else {"PYTHONPATH": source})
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(known)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--before", metavar="SOURCE", help="the src folder of an earlier version")
    parser.add_argument("results", nargs="?", type=Path, help="a JSON file to write")
    options = parser.parse_args()
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        proxies = all_proxies(stack, folder, options.before)
        rows: dict[str, dict[str, Any]] = dict(compared(asyncio.run(measure(proxies))))
    with tempfile.TemporaryDirectory() as holding:
        rows |= how_budgets_hold(Path(holding))
    if options.results:
        options.results.write_text(json.dumps(rows, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
