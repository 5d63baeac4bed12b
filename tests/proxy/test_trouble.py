"""What goes wrong around a proxy: a ledger that is away, steps that nobody closed."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from endpoints import ENDPOINTS, error_in
from serving import Proxy, proxy

from provider import Provider
from redis_servers import RedisServer

LIMITS = """
[steps.twice]
max_calls = 2

[ledger]
url = "{ledger}"
on_store_error = "{on_store_error}"

[proxy]
max_open_steps = 2
step_ttl_s = 3.0
"""
CHAT = ENDPOINTS["chat"]


@pytest.fixture(scope="module")
def redis(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    server = RedisServer(tmp_path_factory.mktemp("redis")).start()
    yield server
    server.stop()


@pytest.fixture(scope="module")
def short_lived(redis, _provider: Provider, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Proxy]:
    limits = LIMITS.format(ledger=redis.url(timeout_s=0.5), on_store_error="refuse")
    with proxy(tmp_path_factory.mktemp("proxy"), _provider.url, limits) as running:
        CHAT.ask(running, "warm", "up", key="sk-warm")  # the first request takes seconds
        running.run("warm", "sk-warm")  # so does the first look at a run
        yield running


def test_what_the_file_probably_does_not_mean_is_in_the_proxys_log(short_lived):
    assert 'no budget with scope = "key" is used for all requests' in short_lived.log()


def test_steps_that_nobody_closed_make_room_when_their_time_is_over(short_lived, provider, run, key):
    for step in ("one", "two"):
        assert CHAT.ask(short_lived, run, step, key=key)[0] == 200
    assert CHAT.ask(short_lived, run, "three", key=key)[0] == 403
    while CHAT.ask(short_lived, run, "three", key=key)[0] == 403:
        pass  # until the first is three seconds old; the second is younger by as long as its request took
    statuses = {path: step["status"] for path, step in short_lived.run(run, key).items()}
    assert (statuses["one"], statuses["three"]) == ("closed", "open")
    assert CHAT.ask(short_lived, run, "one", key=key)[0] == 402
    assert provider.count() == 3


def test_while_the_ledger_is_away_nothing_is_sent_and_afterwards_nothing_is_missing(
    short_lived, redis, provider, run
):
    assert CHAT.ask(short_lived, run, "twice")[0] == 200
    redis.kill()
    status, _, body = CHAT.ask(short_lived, run, "twice")
    assert (status, error_in(body)["type"]) == (503, "ledger_unavailable")
    assert short_lived.send(f"/steptrack/runs/{run}")[0] == 503
    assert provider.count() == 1
    redis.start()
    assert CHAT.ask(short_lived, run, "twice")[0] == 200
    assert CHAT.ask(short_lived, run, "twice")[0] == 402
    assert provider.count() == 2


def test_an_answer_that_comes_while_the_ledger_is_away_is_charged_later(short_lived, redis, provider, run):
    provider.hold()
    from concurrent.futures import ThreadPoolExecutor

    with ThreadPoolExecutor() as pool:
        answer = pool.submit(CHAT.ask, short_lived, run, "twice")
        provider.wait_for(1)
        redis.kill()
        provider.release()
        assert answer.result()[0] == 200
    redis.start()
    assert CHAT.ask(short_lived, run, "twice")[0] == 200
    assert short_lived.run(run)["twice"]["calls"] == 2


def test_with_allow_requests_go_on_by_what_is_known_here(redis, provider, tmp_path, run):
    limits = LIMITS.format(ledger=redis.url(timeout_s=0.5, prefix="allow"), on_store_error="allow")
    with proxy(tmp_path, provider.url, limits) as running:
        assert CHAT.ask(running, run, "twice")[0] == 200
        redis.kill()
        try:
            assert CHAT.ask(running, run, "twice")[0] == 200
            assert CHAT.ask(running, run, "twice")[0] == 402
        finally:
            redis.start()
        assert provider.count() == 2
