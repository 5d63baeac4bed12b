"""Who enters a step with a budget on Redis is connected before its first call, and is told of trouble there only."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from fake_framework import FakeFramework, until, until_async
from steptrack_callbacks import Budget, LedgerError, step
from steptrack_callbacks.ledgers import current
from steptrack_callbacks.ledgers.redis_link import RedisLink
from steptrack_callbacks.ledgers.redis_loop import LoopTrips

TEN = Budget("team-a", max_calls=10)


class Watched:
    """A server, and who is connected to it beside who looks."""

    def __init__(self, server: Any) -> None:
        self.url: str = server.url()
        self._looking = server.client()
        self._before = self.connected_ever(since=0)

    def connected(self) -> int:
        return len(self._looking.client_list()) - 1

    def connected_ever(self, since: int | None = None) -> int:
        count: int = self._looking.info("stats")["total_connections_received"]
        return count - (self._before if since is None else since)

    def commands(self) -> set[str]:
        return {name.split("|")[0] for name in self._looking.info("commandstats")} - {"cmdstat_info"}

    def close(self) -> None:
        self._looking.close()


@pytest.fixture
def redis(own_redis: Any) -> Iterator[Watched]:
    watched = Watched(own_redis)
    yield watched
    watched.close()


def connecting() -> list[threading.Thread]:
    """Return the threads that are about to connect."""
    return [thread for thread in threading.enumerate() if thread.name == "steptrack-redis"]


def test_a_thread_that_enters_a_step_is_connected_before_its_first_call(redis: Watched) -> None:
    current.use(redis.url)
    framework = FakeFramework()
    with step("job", budgets=[TEN]):
        until(lambda: not connecting())
        assert redis.connected() == 1
        framework.ask()
        with step("inner", budgets=[Budget("team-b", max_calls=10)]):
            framework.ask()
        assert not connecting()
    assert redis.connected_ever() == 1


def test_an_event_loop_that_enters_a_step_is_connected_before_its_first_call(redis: Watched) -> None:
    current.use(redis.url)
    framework = FakeFramework()

    async def main() -> None:
        async with step("job", budgets=[TEN]):
            await until_async(lambda: len(asyncio.all_tasks()) == 1 and not connecting())
            assert redis.connected() == 2  # one to await, and one for functions that cannot
            for _ in range(3):
                framework.answer(await framework.open_async())
        assert redis.connected_ever() == 2

    asyncio.run(main())


def test_to_connect_beforehand_asks_the_server_nothing(redis: Watched) -> None:
    current.use(redis.url)
    with step("job", budgets=[TEN]):
        until(lambda: not connecting())
        assert redis.commands() <= {"cmdstat_select", "cmdstat_hello", "cmdstat_client"}


def test_to_install_a_ledger_and_to_declare_a_budget_connects_nobody(redis: Watched) -> None:
    program = f"""
import steptrack_callbacks as steptrack
steptrack.install(ledger={redis.url!r})
team = steptrack.Budget("team", max_calls=3)
step = steptrack.step("job", budgets=[team])
"""
    subprocess.run([sys.executable, "-c", program], check=True)
    assert redis.connected_ever() == 0


def test_a_loop_that_ends_before_it_is_connected_ends_quietly(redis: Watched, capfd: Any) -> None:
    current.use(redis.url)

    async def main() -> None:
        async with step("job", budgets=[TEN]):
            pass

    asyncio.run(main())
    until(lambda: redis.connected() == 1)  # that of threads, which outlives the loop
    assert capfd.readouterr().err == ""


def _noting(done: list[str], work: Callable[..., Any]) -> Callable[..., Any]:
    """Note each time that something is done."""

    def noting(*args: Any) -> Any:
        done.append(work.__qualname__)
        return work(*args)

    return noting


@pytest.mark.parametrize("on_a_loop", [False, True])
def test_a_server_that_is_away_is_tried_once_and_told_of_by_the_first_call(
    on_a_loop: bool, own_redis: Any, capfd: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    tried: list[str] = []
    for whose in (RedisLink, LoopTrips):
        monkeypatch.setattr(whose, "_connect", _noting(tried, whose._connect))
    current.use(own_redis.url())
    own_redis.stop()
    framework = FakeFramework()

    async def main() -> None:
        for _ in range(3):
            async with step("job", budgets=[TEN]):
                await asyncio.sleep(0)
        with pytest.raises(LedgerError):
            async with step("job", budgets=[TEN]):
                await framework.open_async()

    if on_a_loop:
        asyncio.run(main())
    else:
        for _ in range(3):
            with step("job", budgets=[TEN]):
                pass
        with step("job", budgets=[TEN]), pytest.raises(LedgerError):
            framework.ask()
    assert framework.sent == 0
    until(lambda: not connecting())
    assert len(tried) == 1 + on_a_loop
    assert "Traceback" not in capfd.readouterr().err


def test_where_no_thread_can_be_started_the_first_call_connects(
    redis: Watched, monkeypatch: pytest.MonkeyPatch
) -> None:
    def start(_: threading.Thread) -> None:
        raise RuntimeError("can't create new thread at interpreter shutdown")

    current.use(redis.url)
    framework = FakeFramework()
    monkeypatch.setattr(threading.Thread, "start", start)
    with step("job", budgets=[TEN]):
        framework.ask()
    assert redis.connected_ever() == 1


def test_a_process_that_forks_while_it_connects_and_its_child_both_charge(redis: Watched) -> None:
    current.use(redis.url)
    framework = FakeFramework()
    with step("job", budgets=[TEN]):
        child = os.fork()
        if not child:
            code = 1
            try:
                framework.ask()
                code = 0
            finally:
                os._exit(code)
        framework.ask()
        assert os.waitpid(child, 0)[1] == 0
    assert TEN.spent().calls == 2
