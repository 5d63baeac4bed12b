"""Each kind of stream, left in each way: charged once, marked, and no room reserved when the step closes."""

from __future__ import annotations

import asyncio
import gc
import inspect
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import pytest
from asking import Q, in_generator, prompted
from every_mode import Completion, quick
from langchain_core.runnables import RunnableLambda, RunnableParallel
from langgraph.graph import END, START, MessagesState, StateGraph

from provider import Provider
from steptrack_callbacks import Step, step
from steptrack_callbacks.langchain import budgeted


def graph(model: Any) -> Any:
    """Put a model in the only node of a graph."""

    def ask(state: MessagesState) -> Any:
        return {"messages": model.invoke(state["messages"])}

    async def ask_async(state: MessagesState) -> Any:
        return {"messages": await model.ainvoke(state["messages"])}

    nodes = StateGraph(MessagesState)
    nodes.add_node("ask", RunnableLambda(ask, afunc=ask_async))
    nodes.add_edge(START, "ask")
    nodes.add_edge("ask", END)
    return nodes.compile()


ASKED = {"messages": [("user", "hello")]}

STREAMS: dict[str, Callable[[Any], Any]] = {
    "model": lambda m: m.stream("hello"),
    "sequence": lambda m: prompted(m).stream(Q),
    "generator": lambda m: in_generator(m).stream("hello"),
    "parallel": lambda m: RunnableParallel(a=m).stream("hello"),
    "with_retry": lambda m: m.with_retry().stream("hello"),
    "with_fallbacks": lambda m: m.with_fallbacks([m]).stream("hello"),
    "stream_events v3": lambda m: iter(m.stream_events("hello", version="v3")),
    "graph, messages": lambda m: graph(m).stream(ASKED, stream_mode="messages"),
    "budgeted": lambda m: budgeted(m, step="ask").stream("hello"),
}
ASYNC_STREAMS: dict[str, Callable[[Any], Any]] = {
    "model": lambda m: m.astream("hello"),
    "sequence": lambda m: prompted(m).astream(Q),
    "generator": lambda m: in_generator(m).astream("hello"),
    "parallel": lambda m: RunnableParallel(a=m).astream("hello"),
    "with_retry": lambda m: m.with_retry().astream("hello"),
    "with_fallbacks": lambda m: m.with_fallbacks([m]).astream("hello"),
    "astream_events v1": lambda m: m.astream_events("hello", version="v1"),
    "astream_events v2": lambda m: m.astream_events("hello", version="v2"),
    "astream_events v3": lambda m: m.astream_events("hello", version="v3"),
    "sequence astream_events v2": lambda m: prompted(m).astream_events(Q, version="v2"),
    "astream_log": lambda m: m.astream_log("hello"),
    "graph, messages": lambda m: graph(m).astream(ASKED, stream_mode="messages"),
    "graph astream_events v2": lambda m: graph(m).astream_events(ASKED, version="v2"),
    "budgeted": lambda m: budgeted(m, step="ask").astream("hello"),
    "budgeted astream_events v2": lambda m: budgeted(m, step="ask").astream_events("hello", version="v2"),
}
MODELS: dict[str, Callable[[Provider], Any]] = {"chat": quick, "completion": lambda p: Completion(url=p.url)}
A_FEW = ("model", "sequence", "generator", "astream_events v1", "astream_events v2", "budgeted")
WAYS = ("broken off", "closed", "left by an error")

SYNC = [("chat", kind) for kind in STREAMS] + [("completion", kind) for kind in A_FEW if kind in STREAMS]
ASYNC = [("chat", kind) for kind in ASYNC_STREAMS] + [("completion", kind) for kind in A_FEW]

READS_ON = ("sequence", "graph, messages")
"""Where LangChain itself reads a sync stream to its end once its reader is gone."""

READS_AHEAD = ("astream_events", "astream_log", "graph")
"""Where LangChain reads in a task of its own, which may be anywhere when the reader goes away."""

WHOLE, LEFT_AFTER = 60, 5
in_every_way = pytest.mark.parametrize("way", WAYS)


@pytest.fixture
def provider(provider: Provider) -> Provider:
    provider.behave(output_tokens=WHOLE)
    return provider


@in_every_way
@pytest.mark.parametrize(("model", "kind"), SYNC)
def test_a_stream_is_charged_by_the_time_that_its_step_closes(
    model: str, kind: str, way: str, provider: Provider
) -> None:
    with step("plan", max_usd=1) as plan:
        stream = STREAMS[kind](MODELS[model](provider))
        with suppress(ZeroDivisionError):
            for number, _ in enumerate(stream, 1):
                if number == LEFT_AFTER:
                    leave(way)
                    break
        if way == "closed":
            stream.close()
        del stream
        gc.collect()
    assert provider.count() == 1
    assert_charged_and_nothing_reserved(plan)
    assert (plan.usage.output_tokens == WHOLE) == (kind in READS_ON)


@in_every_way
@pytest.mark.parametrize(("model", "kind"), ASYNC)
def test_an_async_stream_is_charged_by_the_time_that_its_step_closes(
    model: str, kind: str, way: str, provider: Provider
) -> None:
    async def main() -> Step:
        async with step("plan", max_usd=1) as plan:
            started = ASYNC_STREAMS[kind](MODELS[model](provider))
            stream = await started if inspect.isawaitable(started) else started
            await read(stream, way)
        assert_charged_and_nothing_reserved(plan)
        return plan

    plan = asyncio.run(main())
    gc.collect()
    assert provider.count() == 1
    assert_charged_and_nothing_reserved(plan)
    if not any(name in kind for name in READS_AHEAD):
        assert plan.usage.output_tokens <= LEFT_AFTER


async def read(stream: Any, way: str) -> None:
    """Read the beginning of a stream, and leave it."""
    number = 0
    with suppress(ZeroDivisionError):
        async for _ in stream:
            if (number := number + 1) == LEFT_AFTER:
                leave(way)
                break
    if way == "closed":
        await stream.aclose()


def leave(way: str) -> None:
    """Fail, if this is the way."""
    if way == "left by an error":
        raise ZeroDivisionError


def assert_charged_and_nothing_reserved(plan: Step) -> None:
    """Look at a step that has closed: a charge is exact, or marked as an estimate."""
    usage = plan.usage
    assert usage.calls == 1
    assert usage.estimated_calls == 1 or (usage.input_tokens, usage.output_tokens) == (100, WHOLE)
    assert plan.cost_usd > 0
    assert plan.remaining("max_usd") == 1 - plan.cost_usd
