"""Half an hour of mixed load on LangChain, LiteLLM and the proxy: nothing grows, and the books are right.

    python benchmarks/soak.py [MINUTES]

All of it is on loopback, against the tests' own provider and a real Redis server, at a bounded rate.
What must not grow: the memory and the open files of this process and of the proxy, and what Redis keeps but
for charges and records, which it keeps for days by design, one for each call and step. The provider counts
what it was sent; so do the books, and at the end they must agree to the last call, token and dollar.
"""

from __future__ import annotations

import asyncio
import gc
import itertools
import json
import os
import random
import sys
import tempfile
import threading
import time
import traceback
import urllib.error
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from decimal import Decimal
from pathlib import Path
from typing import Any

os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"
TESTS = Path(__file__).parents[1] / "tests"
sys.path[:0] = [str(TESTS), str(TESTS / "proxy"), str(TESTS / "ledgers")]

import litellm  # noqa: E402
import openai  # noqa: E402
from langchain_openai import ChatOpenAI  # noqa: E402
from serving import MODELS, Proxy, proxy  # noqa: E402

import steptrack_callbacks as steptrack  # noqa: E402
from provider import Provider, Request  # noqa: E402
from redis_servers import RedisServer  # noqa: E402
from steptrack_callbacks import Budget, BudgetExhausted, Step, drain_completed_steps, step  # noqa: E402
from steptrack_callbacks.ledgers import current  # noqa: E402

CALLS_A_SECOND = 4  # of each worker
INPUT, OUTPUT = 100, 20
MODEL = "gpt-4o-mini"
CALL_USD = INPUT * Decimal("1.5e-7") + OUTPUT * Decimal("6e-7")
ASK = [{"role": "user", "content": "hello"}]
FAIL = {"role": "user", "content": "fail, please"}
CLIENTS_RUNS = 40  # of each key of the proxy, used again and again
MOST_ACCOUNTS = 3 * CLIENTS_RUNS + 6  # their steps, our five budgets, and the proxy's own
MOST_MB_A_MINUTE = 1.0
WARM_UP_MINUTES = 10  # before that the frameworks' own caches fill, and growth says nothing
MOST_MORE_FILES = 25

LIMITS = """
[ledger]
url = "{redis}"

[budgets.everything]
max_usd = 1000
enforce = "observe"

[steps.tight]
max_calls = 3

[proxy]
budgets = ["everything"]
max_open_steps = 500
"""


class CountingProvider(Provider):
    """A provider that counts requests and forgets them."""

    def __init__(self, **behaviour: Any) -> None:
        super().__init__(**behaviour)
        self.ends: Counter[str] = Counter()
        self.arrived = self.failed = 0

    def _receive(self, request: Request) -> Any:
        behaviour, status = super()._receive(request)
        if FAIL in request.body["messages"]:
            status = 500
        with self._changed:
            self.requests.remove(request)
            self.arrived += 1
            self.failed += status != 200
        return behaviour, status

    def _note(self, request: Request, **changes: Any) -> None:
        super()._note(request, **changes)
        if "end" in changes:
            with self._changed:
                self.ends[changes["end"]] += 1


class Books:
    """What the steps of this process say that they used."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.calls = self.failed = self.refused = self.steps = 0
        self.whole: Counter[str] = Counter()
        self.cost = Decimal(0)

    def add(self, done: Step, *, whole: bool) -> None:
        used = done.usage
        with self._lock:
            self.steps += 1
            self.calls += used.calls
            self.failed += used.failed_calls
            if whole:
                self.whole.update(
                    calls=used.calls - used.failed_calls, input=used.input_tokens, output=used.output_tokens
                )
                self.cost += used.cost_usd


class Load:
    """Workers that go on until they are told to stop."""

    def __init__(self, provider: CountingProvider, served: Proxy) -> None:
        self.provider, self.served = provider, served
        self.books = Books()
        self.stop = threading.Event()
        self.errors: list[BaseException] = []
        self.proxied: Counter[str] = Counter()
        self._numbers = itertools.count()
        self._loop = asyncio.new_event_loop()
        self._where = {"api_base": provider.url, "api_key": "none", "max_retries": 0}
        self._model = ChatOpenAI(
            model=MODEL,
            base_url=provider.url,
            api_key="none",
            max_retries=0,
            stream_usage=True,  # type: ignore[arg-type]
        )

    def start(self) -> list[threading.Thread]:
        bodies = [
            self.litellm_sync,
            self.langchain_sync,
            self.langchain_batch,
            self.litellm_async,
            self.proxy_client,
            self.proxy_client,
        ]
        threads = [threading.Thread(target=self._run, args=(body,), name=body.__name__) for body in bodies]
        for thread in threads:
            thread.start()
        return threads

    def _run(self, body: Callable[[random.Random], None]) -> None:
        choice = random.Random(next(self._numbers))
        while not self.stop.wait(choice.random() * 2 / CALLS_A_SECOND):
            try:
                body(choice)
            except Exception as error:  # told at the end: one error ends the soak
                self.errors.append(error)
                traceback.print_exception(error)
                self.stop.set()

    @contextmanager
    def _step(self, name: str, *, whole: bool = True, **limits: Any) -> Iterator[Step]:
        budgets = [Budget(f"soak-{next(self._numbers) % 5}", max_usd=1000)]
        with step(name, error_boundary="continue", budgets=budgets, **limits) as outer, step("inner"):
            yield outer
        self.books.add(outer, whole=whole)

    def litellm_sync(self, choice: random.Random) -> None:
        kind = choice.choice(["call", "stream", "fail", "refuse"])
        limits = {"max_calls": 1} if kind == "refuse" else {"max_usd": 1}
        with self._step("litellm", **limits):
            given = {"model": f"openai/{MODEL}", "messages": ASK, **self._where}
            if kind == "stream":
                list(litellm.completion(**given, stream=True))
            elif kind == "fail":
                with _expected(openai.APIError):
                    litellm.completion(**given | {"messages": [FAIL]})
            else:
                litellm.completion(**given)
            if kind == "refuse":
                with _expected(BudgetExhausted):
                    litellm.completion(**given)
                self.books.refused += 1

    def langchain_sync(self, choice: random.Random) -> None:
        if choice.random() < 0.2:
            with self._step("broken", whole=False, max_usd=1):
                stream = self._model.stream("hello")
                next(stream)
                stream.close()
            return
        with self._step("langchain", max_tokens=100_000):
            if choice.random() < 0.5:
                self._model.invoke("hello")
            else:
                list(self._model.stream("hello"))

    def langchain_batch(self, _: random.Random) -> None:
        with self._step("batch", max_calls=3):
            self._model.batch(["one", "two", "three"])

    def litellm_async(self, choice: random.Random) -> None:
        async def main() -> None:
            given = {"model": f"openai/{MODEL}", "messages": ASK, **self._where}
            await asyncio.gather(*(litellm.acompletion(**given) for _ in range(choice.randint(1, 4))))

        with self._step("async", max_usd=1):
            self._loop.run_until_complete(main())

    def proxy_client(self, choice: random.Random) -> None:
        number = choice.randrange(CLIENTS_RUNS)
        name = choice.choice(["plan", "plan/write", "tight"])
        body = {"model": "fast", "messages": ASK, "stream": choice.random() < 0.5}
        try:
            status, _, _ = self.served.send(
                "/v1/chat/completions", body, key=f"sk-{number % 3}", run=f"run-{number}", step=name
            )
        except urllib.error.URLError as error:
            raise RuntimeError("the proxy is gone") from error
        self.proxied[f"{status}"] += 1
        if status not in (200, 402):
            raise RuntimeError(f"the proxy answered {status}")


@contextmanager
def _expected(*errors: type[BaseException]) -> Iterator[None]:
    try:
        yield
    except errors:
        return
    raise AssertionError(f"expected one of {errors}")


class Gauge:
    """What is measured again and again."""

    def __init__(self, load: Load, server: RedisServer) -> None:
        self._load, self._server = load, server
        self._redis = server.client()
        self.samples: list[dict[str, float]] = []
        self._began = time.monotonic()

    def read(self) -> dict[str, float]:
        gc.collect()
        sample: dict[str, float] = {"minute": round((time.monotonic() - self._began) / 60, 2)}
        for name, pid in (
            ("here", os.getpid()),
            ("proxy", self._load.served.process.pid),
            ("redis", self._server.process.pid),
        ):
            sample[f"{name}_mb"] = round(_memory_mb(pid), 1)
            sample[f"{name}_files"] = len(list(Path(f"/proc/{pid}/fd").iterdir()))
        kinds = Counter(key.split("}:")[-1].split(":")[0] for key in self._redis.scan_iter(count=1000))
        sample |= {f"redis_{kind}": number for kind, number in sorted(kinds.items())}
        sample["sent"] = self._load.provider.arrived
        sample["threads"] = threading.active_count()
        self.samples.append(sample)
        return sample


def _memory_mb(pid: int) -> float:
    status = Path(f"/proc/{pid}/status").read_text(encoding="utf-8")
    return int(status.split("VmRSS:")[1].split()[0]) / 1024


def slope(samples: list[dict[str, float]], name: str) -> float:
    """Growth a minute over the later half, by least squares."""
    half = samples[len(samples) // 2 :]
    if len(half) < 2:
        return 0.0
    xs, ys = [each["minute"] for each in half], [each[name] for each in half]
    mean_x, mean_y = sum(xs) / len(xs), sum(ys) / len(ys)
    spread = sum((x - mean_x) ** 2 for x in xs)
    return sum((x - mean_x) * (y - mean_y) for x, y in zip(xs, ys, strict=True)) / spread if spread else 0.0


def proxy_books(served: Proxy) -> Counter[str]:
    """Add up what the proxy says of all runs: of the outermost steps, which hold the inner ones."""
    sums: Counter[str] = Counter()
    for number in range(CLIENTS_RUNS):
        for key in range(3):
            status, _, tree = served.send(f"/steptrack/runs/run-{number}", key=f"sk-{key}")
            for top in tree["steps"] if status == 200 else ():
                sums.update(calls=top["calls"], input=top["input_tokens"], output=top["output_tokens"])
                sums.update(held=top["in_flight_calls"], pico=round(top["cost_usd"] * 1e12))
    return sums


def verdict(load: Load, gauge: Gauge, server: RedisServer) -> list[str]:
    """Say what is wrong; nothing, if all is well."""
    books, on_proxy, provider = load.books, proxy_books(load.served), load.provider
    whole = books.whole
    expected = {
        "every request is in the books": (books.calls + on_proxy["calls"], provider.arrived),
        "every failure, too": (books.failed, provider.failed),
        "input tokens": (whole["input"], whole["calls"] * INPUT),
        "output tokens": (whole["output"], whole["calls"] * OUTPUT),
        "dollars": (books.cost, whole["calls"] * CALL_USD),
        "answers by way of the proxy": (on_proxy["calls"], load.proxied["200"]),
        "its input tokens": (on_proxy["input"], on_proxy["calls"] * INPUT),
        "its output tokens": (on_proxy["output"], on_proxy["calls"] * OUTPUT),
        "its dollars, in millionths of a millionth": (
            on_proxy["pico"],
            on_proxy["calls"] * int(CALL_USD * 10**12),
        ),
        "nothing is reserved": (
            on_proxy["held"] + sum(t.held_calls for t in current.ledger().store.accounts()),
            0,
        ),
        "nothing is owed to the ledger": (current.ledger().owed + current.ledger().unkept, 0),
    }
    wrong = [f"{what}: {left} is not {right}" for what, (left, right) in expected.items() if left != right]
    first, last = gauge.samples[len(gauge.samples) // 2], gauge.samples[-1]
    for name in ("here", "proxy", "redis"):
        growth = slope(gauge.samples, f"{name}_mb")
        if growth > MOST_MB_A_MINUTE and name != "redis" and last["minute"] > WARM_UP_MINUTES:
            wrong.append(f"memory of {name} grows by {growth:.2f} MB a minute")
        if last[f"{name}_files"] - first[f"{name}_files"] > MOST_MORE_FILES:
            wrong.append(f"open files of {name} grow: {first[f'{name}_files']} to {last[f'{name}_files']}")
    if last["redis_account"] > MOST_ACCOUNTS:
        wrong.append(f"{last['redis_account']} accounts, where there can be {MOST_ACCOUNTS}")
    if last.get("redis_holds", 0):
        wrong.append(f"{last['redis_holds']} accounts have reservations left")
    return wrong + [f"a worker ended with {error!r}" for error in load.errors]


def main(minutes: float) -> int:
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        server = RedisServer(folder).start()
        stack.callback(server.stop)
        provider = stack.enter_context(CountingProvider(output_tokens=OUTPUT))
        url = server.url(timeout_s=5)
        limits = LIMITS.format(redis=server.url(timeout_s=5, prefix="proxy"))
        models = MODELS.replace("num_retries: 1", "num_retries: 0")
        served = stack.enter_context(proxy(folder / "proxy", provider.url, limits, models=models))
        steptrack.install(ledger=url)
        stack.callback(steptrack.uninstall)
        load = Load(provider, served)
        gauge = Gauge(load, server)
        threads = load.start()
        end = time.monotonic() + minutes * 60
        every = max(5.0, minutes * 60 / 60)
        while time.monotonic() < end and not load.stop.wait(every):
            print(json.dumps(gauge.read()), flush=True)
            drain_completed_steps()
        load.stop.set()
        for thread in threads:
            thread.join(60)
        current.ledger().flush()
        gauge.read()
        wrong = verdict(load, gauge, server)
        print(
            json.dumps(
                {
                    "seconds": round(minutes * 60),
                    "sent": provider.arrived,
                    "failed": provider.failed,
                    "ends": provider.ends,
                    "steps": load.books.steps,
                    "refused_here": load.books.refused,
                    "proxy": load.proxied,
                    "usd": str(load.books.cost),
                    "mb_a_minute": {
                        n: round(slope(gauge.samples, f"{n}_mb"), 3) for n in ("here", "proxy", "redis")
                    },
                }
            )
        )
        print("\n".join(wrong) or "all is well")
    return len(wrong) > 0


if __name__ == "__main__":
    sys.exit(main(float(sys.argv[1]) if len(sys.argv) > 1 else 30))
