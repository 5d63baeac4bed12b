"""A budget worth ten calls, and fifty at once: no more than ten reach the provider, whoever serves them."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path

import openai
import pytest
from endpoints import ASK
from serving import Proxy, named, proxy

from provider import Provider
from redis_servers import RedisServer

CALL_USD = 100 * 1.5e-7 + 200 * 6e-7
TEN_CALLS = """
[budgets.ten-calls]
max_usd = {usd:.12f}
enforce = "strict"
scope = "key"

[steps.ten-calls]
max_calls = 10

[ledger]
url = "{ledger}"
{more}

[proxy]
budgets = ["ten-calls"]
"""
MANY_WORKERS = ("--num_workers", "4", "--timeout_worker_healthcheck", "120")


@contextmanager
def served(
    folder: Path, provider: Provider, ledger: str, *options: str, usd: float = 10.5 * CALL_USD, more: str = ""
) -> Iterator[Proxy]:
    limits = TEN_CALLS.format(usd=usd, ledger=ledger, more=more)
    with proxy(folder, provider.url, limits, *options) as running:
        yield running


async def _storm(
    proxies: list[Proxy], run: str, step: str, count: int, at_once: int, **options: object
) -> list[int]:
    """Send so many requests, some of them at once; returns their statuses."""
    clients = [each.async_client("sk-storm") for each in proxies]
    turns = asyncio.Semaphore(at_once)

    async def ask(number: int) -> int:
        async with turns:
            try:
                await clients[number % len(clients)].chat.completions.create(
                    model="lonely", messages=ASK, extra_headers=named(run=run, step=step), **options
                )
            except openai.APIStatusError as error:
                return error.status_code
            return 200

    try:
        return await asyncio.gather(*(ask(number) for number in range(count)))
    finally:
        for client in clients:
            await client.close()


def storm(proxies: list[Proxy], run: str, step: str = "free", count: int = 200, at_once: int = 50, **options):
    return asyncio.run(_storm(proxies, run, step, count, at_once, **options))


@pytest.fixture(scope="module")
def redis(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    server = RedisServer(tmp_path_factory.mktemp("redis")).start()
    yield server
    server.stop()


@pytest.fixture
def upstream() -> Iterator[Provider]:
    with Provider(input_tokens=100, output_tokens=200) as provider:
        yield provider


def check_dollars(proxies: list[Proxy], provider: Provider) -> None:
    statuses = storm(proxies, "dollars", max_tokens=200)
    assert set(statuses) == {200, 402}
    assert provider.count() == statuses.count(200) <= 10
    assert provider.count() >= 8  # a call's input may be reserved dearer than it is
    step = proxies[0].settled("dollars", "free", "sk-storm")
    assert step["calls"] == provider.count()
    assert step["cost_usd"] == pytest.approx(provider.count() * CALL_USD)


def test_with_one_worker_in_memory(tmp_path, upstream):
    with served(tmp_path, upstream, "memory:") as running:
        check_dollars([running], upstream)


def test_with_two_proxies_on_one_redis(tmp_path, upstream, redis):
    with ExitStack() as stack:
        proxies = [
            stack.enter_context(served(tmp_path / str(number), upstream, redis.url(prefix="two")))
            for number in range(2)
        ]
        check_dollars(proxies, upstream)


def test_with_four_workers_on_redis_one_of_which_is_killed_on_its_way(tmp_path, upstream, redis):
    """What a killed worker had reserved comes back when its lease ends, and nothing is spent twice."""
    ledger = redis.url(prefix="four")
    with served(tmp_path, upstream, ledger, *MANY_WORKERS, more="lease_s = 20") as running:
        check_dollars([running], upstream)
        check_kill(running, upstream)


def check_kill(running: Proxy, provider: Provider) -> None:
    before = provider.count()
    provider.hold()
    with ThreadPoolExecutor() as pool:
        answers = [pool.submit(_ask_once, running) for _ in range(16)]
        provider.wait_for(2)
        os.kill(_workers_of(running.process.pid)[0], signal.SIGKILL)
        provider.release()
        statuses = [answer.result() for answer in answers]
    step = running.settled("killed", "ten-calls", "sk-kill")  # once the lease is over
    assert step["calls"] == statuses.count(200)
    while (status := _ask_once(running)) != 402:
        statuses.append(status)
    step = running.settled("killed", "ten-calls", "sk-kill")
    assert step["calls"] == statuses.count(200) == 10
    assert 10 <= provider.count() - before <= 10 + statuses.count(0)


def _ask_once(running: Proxy) -> int:
    """Return the status of one request; 0 if the worker was gone."""
    body = {"model": "lonely", "messages": ASK, "max_tokens": 1}
    try:
        return running.send("/v1/chat/completions", body, key="sk-kill", run="killed", step="ten-calls")[0]
    except OSError:
        return 0


def _workers_of(supervisor: int) -> list[int]:
    children = Path(f"/proc/{supervisor}/task/{supervisor}/children").read_text().split()
    return [pid for pid in map(int, children) if b"spawn_main" in Path(f"/proc/{pid}/cmdline").read_bytes()]
