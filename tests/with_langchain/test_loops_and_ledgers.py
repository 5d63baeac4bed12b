"""What a ledger is told of an answer is awaited where LangChain runs on an event loop, and holds up nobody."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from asking import FakeChat, prompted
from langchain_core.tools import tool

import steptrack_callbacks as steptrack
from fake_framework import until_async
from steptrack_callbacks import Budget, step
from steptrack_callbacks.langchain import awaited
from steptrack_callbacks.ledgers import current
from steptrack_callbacks.ledgers.protocol import Entry, Totals
from steptrack_callbacks.ledgers.sqlite import SqliteStore

TEN = Budget("team", max_calls=10)


class Slow(SqliteStore):
    """Answers charges of an event loop once it may.

    Attributes:
        told: By whom it was told of charges.
        may_answer: What those wait for who await it.
    """

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.told: list[str] = []
        self.may_answer = asyncio.Event()

    def settle(self, entries: Sequence[Entry]) -> tuple[Totals, ...]:
        self.told.append("blocking")
        return super().settle(entries)

    async def settle_async(self, entries: Sequence[Entry]) -> tuple[Totals, ...]:
        self.told.append("awaiting")
        await self.may_answer.wait()
        return super().settle(entries)


@pytest.fixture
def slow(tmp_path: Path) -> Slow:
    store = Slow(tmp_path / "steps.db")
    current.use(store)
    return store


async def read(stream: AsyncIterator[Any]) -> list[Any]:
    return [chunk async for chunk in stream]


WAYS: dict[str, Callable[[Any], Any]] = {
    "ainvoke": lambda m: m.ainvoke("hello"),
    "abatch": lambda m: m.abatch(["hello"]),
    "astream": lambda m: read(m.astream("hello")),
    "sequence ainvoke": lambda m: prompted(m).ainvoke({"question": "hello"}),
}


@pytest.mark.parametrize("way", WAYS)
def test_an_answer_that_a_slow_ledger_is_told_of_holds_up_no_other_task(way: str, slow: Slow) -> None:
    async def main() -> None:
        async with step("plan", budgets=[TEN]) as plan:
            asked = asyncio.create_task(WAYS[way](FakeChat()))
            await until_async(lambda: slow.told)  # which goes round the loop while the ledger is told
            assert not asked.done()
            slow.may_answer.set()
            await asked
            assert (plan.usage.calls, (await TEN.aspent()).calls) == (1, 1)

    asyncio.run(main())
    assert slow.told == ["awaiting"]


@tool
async def search(query: str) -> str:
    """Search, unless there is nothing to search for."""
    if not query:
        raise ValueError("there is nothing to search for")
    return "found"


@pytest.mark.parametrize("query", ["sky", ""])
def test_a_paid_tool_that_a_slow_ledger_is_told_of_holds_up_no_other_task(query: str, slow: Slow) -> None:
    async def main() -> None:
        async with step("look", budgets=[Budget("tools", max_usd=1)]):
            used = asyncio.create_task(search.ainvoke({"query": query}))
            await until_async(lambda: slow.told)
            assert not used.done()
            slow.may_answer.set()
            await asyncio.wait([used])
            assert (used.exception() is None) is bool(query)

    steptrack.install(tools={"search": {"usd": 0.01}})
    asyncio.run(main())
    assert slow.told == ["awaiting"]


class Unreadable(FakeChat):
    """Has an answer that nobody can read."""

    async def _agenerate(self, *args: Any, **kwargs: Any) -> Any:
        raise ValueError("cannot parse the answer")


def test_an_answer_that_failed_holds_up_no_other_task_either(slow: Slow) -> None:
    async def main() -> None:
        async with step("plan", budgets=[TEN]):
            asked = asyncio.create_task(Unreadable().ainvoke("hello"))
            await until_async(lambda: slow.told)
            assert not asked.done()
            slow.may_answer.set()
            with pytest.raises(ValueError, match="cannot parse"):
                await asked
            spent = await TEN.aspent()
            assert (spent.calls, spent.estimated_calls) == (1, 1)

    asyncio.run(main())
    assert slow.told == ["awaiting"]


def test_a_stream_that_is_closed_early_holds_up_no_other_task_either(slow: Slow) -> None:
    async def main() -> None:
        async with step("plan", budgets=[TEN]):
            stream = FakeChat().astream("hello")
            await anext(stream)
            closing = asyncio.create_task(stream.aclose())
            await until_async(lambda: slow.told)
            assert not closing.done()
            slow.may_answer.set()
            await closing
            assert (await TEN.aspent()).calls == 1

    asyncio.run(main())
    assert slow.told == ["awaiting"]


def test_a_task_that_is_cancelled_while_a_ledger_is_told_has_told_it(slow: Slow) -> None:
    async def main() -> None:
        async with step("plan", budgets=[TEN]):
            asked = asyncio.create_task(FakeChat().ainvoke("hello"))
            await until_async(lambda: slow.told)
            asked.cancel()
            with pytest.raises(asyncio.CancelledError):
                await asked
            slow.may_answer.set()
            await until_async(lambda: len(asyncio.all_tasks()) == 1)
            assert (await TEN.aspent()).calls == 1

    asyncio.run(main())


def test_where_langchain_awaits_no_handler_the_ledger_is_told_at_once(
    slow: Slow, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(awaited, "_asking", None)

    async def main() -> None:
        async with step("plan", budgets=[TEN]):
            await FakeChat().ainvoke("hello")
            assert (await TEN.aspent()).calls == 1

    asyncio.run(main())
    assert slow.told == ["blocking"]
