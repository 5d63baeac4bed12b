"""Fifty calls at once that end in every way in which calls end, on a budget in a ledger: the books are right."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import random
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import litellm
import pytest
from langchain_openai import ChatOpenAI

from fake_framework import run_all
from provider import Provider
from steptrack_callbacks import Budget, BudgetExhausted, bind, step
from steptrack_callbacks.ledgers import current

MANY, MOST = 50, 15
TEAM = Budget("team", max_calls=MOST)
ASK = [{"role": "user", "content": "hello"}]
ENDS = ("whole", "read", "left", "dropped", "cancelled")


class LangChain:
    """Calls of a chat model of LangChain."""

    def __init__(self, provider: Provider) -> None:
        self._model = ChatOpenAI(model="gpt-4o", base_url=provider.url, api_key="none", max_retries=0)

    def whole(self) -> Any:
        return self._model.invoke("hello")

    def stream(self) -> Iterator[Any]:
        return self._model.stream("hello")

    async def awhole(self) -> Any:
        return await self._model.ainvoke("hello")

    async def astream(self) -> AsyncIterator[Any]:
        async for chunk in self._model.astream("hello"):
            yield chunk


class LiteLLM:
    """Calls of LiteLLM's functions."""

    def __init__(self, provider: Provider) -> None:
        self._given = {
            "model": "openai/gpt-4o",
            "api_base": provider.url,
            "api_key": "none",
            "max_retries": 0,
        }

    def whole(self) -> Any:
        return litellm.completion(messages=ASK, **self._given)

    def stream(self) -> Iterator[Any]:
        return iter(litellm.completion(messages=ASK, stream=True, **self._given))

    async def awhole(self) -> Any:
        return await litellm.acompletion(messages=ASK, **self._given)

    async def astream(self) -> AsyncIterator[Any]:
        async for chunk in await litellm.acompletion(messages=ASK, stream=True, **self._given):
            yield chunk


@pytest.fixture(params=["sqlite", "redis"])
def ledger(request: pytest.FixtureRequest, tmp_path: Path) -> None:
    if request.param == "sqlite":
        current.use(f"sqlite:///{tmp_path}/steps.db?timeout_s=30")
    else:
        current.use(request.getfixturevalue("own_redis").url(timeout_s=30))


@pytest.fixture(params=[LangChain, LiteLLM])
def framework(request: pytest.FixtureRequest, provider: Provider) -> Any:
    return request.param(provider)


def end(framework: Any, how: str, draw: random.Random) -> None:
    """Make a call in a thread, and end it so."""
    if how in ("whole", "cancelled"):
        framework.whole()
        return
    stream = framework.stream()
    for number, _ in enumerate(stream):
        if how != "read" and number > draw.randrange(15):
            break
    if how == "left":
        stream.close()


async def end_async(framework: Any, how: str, draw: random.Random) -> None:
    """Do as `end`, on an event loop, where calls are cancelled as well."""
    if how == "whole":
        await framework.awhole()
    elif how == "cancelled":
        asked = asyncio.ensure_future(framework.awhole())
        for _ in range(draw.randrange(100)):
            await asyncio.sleep(0)
        asked.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await asked
    else:
        stream, least = framework.astream(), draw.randrange(15)
        async for _ in stream:
            if how != "read" and (least := least - 1) < 0:
                break
        if how == "left":
            await stream.aclose()


async def in_tasks(framework: Any) -> None:
    async def one(number: int) -> None:
        with contextlib.suppress(BudgetExhausted):
            await end_async(framework, ENDS[number % len(ENDS)], random.Random(number))

    await asyncio.gather(*map(one, range(MANY)))
    gc.collect()
    await litellm.close_litellm_async_clients()


def in_threads(framework: Any) -> None:
    def one(number: int) -> None:
        with contextlib.suppress(BudgetExhausted):
            end(framework, ENDS[number % len(ENDS)], random.Random(number))

    run_all([bind(lambda number=number: one(number)) for number in range(MANY)])


@pytest.mark.usefixtures("ledger")
@pytest.mark.parametrize("where", ["tasks", "threads", "both"])
def test_calls_that_end_in_every_way_are_charged_once_and_hold_nothing(
    where: str, framework: Any, provider: Provider
) -> None:
    with step("plan", budgets=[TEAM], wait_s=60):
        jobs = {"tasks": lambda: asyncio.run(in_tasks(framework)), "threads": lambda: in_threads(framework)}
        run_all([bind(job) for name, job in jobs.items() if where in (name, "both")])
        gc.collect()
    (books,) = current.ledger().store.look(["budget::0:team"])
    assert (books.held, books.held_calls, books.lapsed_calls) == ((0, 0), 0, 0)
    assert provider.count() <= books.settled["calls"] <= MOST
    assert books.settled["calls"] - provider.count() <= books.settled.get("estimated_calls", 0)
    cancelled = 0 if where == "threads" else MANY // len(ENDS)  # before they are sent, perhaps
    assert provider.count() >= MOST - cancelled
