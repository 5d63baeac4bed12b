"""The tree that an exporter gets of a LangGraph run: steps around what the framework's own telemetry makes."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any, TypedDict

import litellm
import pytest
from langchain_openai import ChatOpenAI
from langchain_openai.chat_models import _client_utils
from langgraph.graph import END, START, StateGraph
from litellm.integrations.opentelemetry import OpenTelemetry, OpenTelemetryConfig

import steptrack_callbacks as steptrack
from fake_framework import until_async
from provider import Provider
from steptrack_callbacks import BudgetExhausted, opentelemetry, peek_completed_steps, step

pytestmark = [
    pytest.mark.filterwarnings("ignore::UserWarning:pydantic"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:coroutine '.*' was never awaited:RuntimeWarning"),
    pytest.mark.filterwarnings("ignore:[Uu]nclosed:ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]

ASK: dict[str, Any] = {
    "model": "gpt-4o-mini",
    "messages": [{"role": "user", "content": "hello"}],
    "mock_response": "hello there",
}


@pytest.fixture(autouse=True)
def _attached(_installed: None) -> Iterator[None]:
    steptrack.install()
    yield
    steptrack.uninstall()


@pytest.fixture
def provider() -> Iterator[Provider]:
    with Provider() as provider:
        yield provider
    _client_utils._cached_async_httpx_client.cache_clear()
    _client_utils._cached_sync_httpx_client.cache_clear()


@pytest.fixture
def _litellms_own(traces, monkeypatch) -> Iterator[None]:
    """LiteLLM's own telemetry, making a span of each request."""
    monkeypatch.setenv("USE_OTEL_LITELLM_REQUEST_SPAN", "true")
    config = OpenTelemetryConfig(exporter=traces.exporter)
    callback = OpenTelemetry(config=config, tracer_provider=traces.provider)
    litellm.callbacks.append(callback)
    yield
    for name in dir(litellm):
        if name == "callbacks" or name.endswith("_callback"):
            callbacks = getattr(litellm, name)
            if isinstance(callbacks, list) and callback in callbacks:
                callbacks.remove(callback)


class State(TypedDict):
    text: str


def graph(plan: Any, write: Any) -> Any:
    built = StateGraph(State)
    built.add_node("plan", plan)
    built.add_node("write", write)
    built.add_edge(START, "plan")
    built.add_edge("plan", "write")
    built.add_edge("write", END)
    return built.compile()


def model(provider: Provider) -> ChatOpenAI:
    return ChatOpenAI(model="gpt-4o", base_url=provider.url, api_key="none", max_retries=0)


def asked_in(traces):
    """Name the steps with requests of LiteLLM's, by its own telemetry."""
    return {traces.parent_of(span) for span in traces.all("litellm_request")} - {None}


def assert_equal_to_the_books(traces, measures):
    """Tokens and cost on the steps' spans, on the calls' and in the metrics are all those of the records.

    LiteLLM's worker may bring along what an earlier test left in its queue, which is in a trace of its own.
    """
    records = {record.name: record for record in peek_completed_steps()}
    for name, record in records.items():
        said = traces.said(f"step {name}")
        assert said["gen_ai.usage.input_tokens"] == record.usage.input_tokens
        assert said["gen_ai.usage.output_tokens"] == record.usage.output_tokens
        assert said["steptrack.cost_usd"] == float(record.usage.cost_usd) > 0
    books = records["run"].usage
    calls = [
        span.attributes
        for span in traces.together_with("step run")
        if span.name in ("chat gpt-4o", "litellm_request")
    ]
    assert len(calls) == books.calls
    assert sum(said["gen_ai.usage.input_tokens"] for said in calls) == books.input_tokens
    assert sum(said["gen_ai.usage.output_tokens"] for said in calls) == books.output_tokens
    costs = [said.get("steptrack.cost_usd", said.get("gen_ai.cost.total_cost")) for said in calls]
    assert sum(costs) == pytest.approx(float(books.cost_usd))
    tokens = "gen_ai.client.inference.usage"
    assert measures.total(f"{tokens}.input_tokens") == books.input_tokens
    assert measures.total(f"{tokens}.output_tokens") == books.output_tokens
    assert measures.total("steptrack.cost") == pytest.approx(float(books.cost_usd))


def test_calls_of_a_graph_are_under_their_steps(traces, measures, provider):
    opentelemetry.install(traces.provider, measures.provider, call_spans=True)
    asked = model(provider)

    def plan(state):
        with step("plan", max_usd=1):
            return {"text": asked.invoke(state["text"]).text}

    async def write(state):
        async with step("write"):
            return {"text": (await asked.ainvoke(state["text"])).text}

    async def run():
        async with step("run", max_usd=1):
            await graph(plan, write).ainvoke({"text": "hello"})

    asyncio.run(run())
    tree = {(span.name, traces.parent_of(span)) for span in traces.spans}
    assert tree == {
        ("step run", None),
        ("step plan", "step run"),
        ("step write", "step run"),
        ("chat gpt-4o", "step plan"),
        ("chat gpt-4o", "step write"),
    }
    assert len({span.context.trace_id for span in traces.spans}) == 1
    assert_equal_to_the_books(traces, measures)


@pytest.mark.usefixtures("_litellms_own")
def test_what_litellm_itself_says_of_its_requests_in_a_graph_is_under_the_steps(traces, measures):
    def plan(state):
        with step("plan"):
            return {"text": litellm.completion(**ASK).choices[0].message.content}

    async def write(state):
        async with step("write"):
            return {"text": (await litellm.acompletion(**ASK)).choices[0].message.content}

    async def run():
        async with step("run", max_usd=1):
            await graph(plan, write).ainvoke({"text": "hello"})
        await until_async(lambda: asked_in(traces) == {"step plan", "step write"})

    asyncio.run(run())
    assert traces.parent("step plan") == traces.parent("step write") == "step run"
    assert_equal_to_the_books(traces, measures)


@pytest.mark.usefixtures("_litellms_own")
def test_what_litellm_says_of_an_async_stream_is_under_the_step_too(traces):
    async def run():
        async with step("run"):
            async for _ in await litellm.acompletion(stream=True, **ASK):
                pass
        await until_async(lambda: asked_in(traces))

    asyncio.run(run())
    assert asked_in(traces) == {"step run"}


def test_a_sync_stream_that_litellm_reports_without_context_is_under_its_step(traces, measures):
    opentelemetry.install(traces.provider, measures.provider, call_spans=True)
    with step("run"):
        for _ in litellm.completion(stream=True, **ASK):
            pass
    assert traces.parent("chat gpt-4o-mini") == "step run"


def test_a_graph_that_is_out_of_budget_says_where(traces, provider):
    asked = model(provider)

    def ask(state):
        return {"text": asked.invoke(state["text"]).text}

    with pytest.raises(BudgetExhausted), step("run", max_calls=1):
        graph(ask, ask).invoke({"text": "hello"})
    said = traces.said("step run")
    assert (said["steptrack.status"], said["steptrack.denied_calls"]) == ("failed", 1)
    assert [name for name, _ in traces.events("step run")] == [
        "steptrack.budget.threshold",
        "steptrack.budget.threshold",
        "steptrack.call.denied",
    ]


def test_embeddings_are_named_as_such(measures, traces):
    opentelemetry.install(traces.provider, measures.provider, call_spans=True)
    with step("run"):
        litellm.embedding(model="text-embedding-3-small", input=["hello"], mock_response=[[0.1, 0.2]])
        litellm.text_completion(model="gpt-3.5-turbo-instruct", prompt="hello", mock_response="there")
    operations = {said["gen_ai.operation.name"] for _, said in measures.points("steptrack.calls")}
    assert operations == {"embeddings", "text_completion"}
    assert traces.parent("embeddings text-embedding-3-small") == "step run"
