"""What the handler costs a LiteLLM proxy: with it, on each ledger, against the bare proxy, in one run.

    python benchmarks/proxy.py

Three proxies run side by side and are asked in turn, one request at a time and fifty at once. Mock
models answer, so that nothing but the proxy is measured.
"""

from __future__ import annotations

import asyncio
import json
import os
import statistics
import sys
import tempfile
import time
from contextlib import ExitStack
from itertools import pairwise
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "proxy"))
os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"

import httpx
from serving import Proxy, proxy

from provider import Provider
from redis_servers import RedisServer

ROUNDS = 8
ONE_BY_ONE, AT_ONCE, IN_A_ROUND = 20, 50, 100
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
    told = Path(f"/proc/{running.process.pid}/stat")
    if not told.exists():
        return 0.0
    user, system = told.read_text().rpartition(")")[2].split()[11:13]
    return (int(user) + int(system)) / os.sysconf("SC_CLK_TCK")


async def measure(proxies: dict[str, Proxy]) -> dict[str, dict[str, list[float]]]:
    limits = httpx.Limits(max_connections=AT_ONCE, keepalive_expiry=1)
    clients = {
        name: httpx.AsyncClient(base_url=each.url, headers=HEADERS, limits=limits, timeout=60)
        for name, each in proxies.items()
    }
    found = {name: nothing_yet() for name in proxies}
    for number in range(ROUNDS + 1):
        for name, client in clients.items():
            times = found[name] if number else nothing_yet()  # the first warms up
            found[name]["computed"].append(computed_s(proxies[name]))
            for _ in range(ONE_BY_ONE):
                await ask(client, times["one"])
            start = time.perf_counter()
            await asyncio.gather(*(ask(client, times["many"]) for _ in range(IN_A_ROUND)))
            times["rate"].append(IN_A_ROUND / (time.perf_counter() - start))
    for name, client in clients.items():
        marks = [*found[name]["computed"][1:], computed_s(proxies[name])]
        found[name]["computed"] = [after - before for before, after in pairwise(marks)]
        await client.aclose()
    return found


def nothing_yet() -> dict[str, list[float]]:
    return {"one": [], "many": [], "rate": [], "computed": []}


def ms(times: list[float], share: float) -> float:
    return sorted(times)[int(share * (len(times) - 1))] * 1e3


def row(name: str, found: dict[str, list[float]], bare: dict[str, list[float]]) -> dict[str, float]:
    rate = statistics.median(found["rate"]) / statistics.median(bare["rate"])
    computed = statistics.median(found["computed"]) / (statistics.median(bare["computed"]) or 1)
    added = {
        f"p{round(share * 100)} added, {how}": ms(found[key], share) - ms(bare[key], share)
        for how, key in (("one at a time", "one"), (f"{AT_ONCE} at once", "many"))
        for share in (0.5, 0.99)
    }
    print(f"{name:12} throughput at {AT_ONCE} at once: {rate:.2f} of the bare proxy's")
    for what, value in added.items():
        print(f"{'':12} {what}: {value:+.1f} ms")
    print(f"{'':12} computed in its process: {computed:.2f} of the bare proxy's")
    return {
        "throughput": round(rate, 2),
        "computed": round(computed, 2),
        **{what: round(value, 1) for what, value in added.items()},
    }


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


def main() -> None:
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        (folder / "redis").mkdir()
        redis = RedisServer(folder / "redis").start()
        stack.callback(redis.stop)
        ledgers = {
            "memory": "memory:",
            "sqlite": f"sqlite:///{folder}/steps.db?timeout_s=10",
            "redis": redis.url(timeout_s=10),
        }
        proxies = {"bare": stack.enter_context(proxy(folder / "bare", "", "", models=MODELS))}
        for name, url in ledgers.items():
            limits = LIMITS.format(ledger=url)
            proxies[name] = stack.enter_context(proxy(folder / name, "", limits, models=MODELS + HANDLER))
        found = asyncio.run(measure(proxies))
    bare = found["bare"]
    print(f"bare: {ms(bare['one'], 0.5):.1f} ms a request, {statistics.median(bare['rate']):.0f}/s")
    rows = {name: row(name, found[name], bare) for name in ledgers}
    with tempfile.TemporaryDirectory() as holding:
        rows |= how_budgets_hold(Path(holding))
    if sys.argv[1:]:
        Path(sys.argv[1]).write_text(json.dumps(rows, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
