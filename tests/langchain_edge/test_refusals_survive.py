"""What hosts do with a refusal: it is not retried, and whatever they try next must fit."""

from __future__ import annotations

from typing import Any, TypedDict

import pytest
from asking import FakeChat, chat
from langchain.agents import create_agent
from langchain.agents.middleware import ModelFallbackMiddleware, ModelRetryMiddleware, ToolRetryMiddleware
from langchain_core.runnables import RunnableLambda
from langchain_core.tools import tool
from langgraph.graph import START, StateGraph
from langgraph.types import RetryPolicy

from provider import Provider
from steptrack_callbacks import BudgetExhausted, step
from steptrack_callbacks.hooks import CallDenied, on
from steptrack_callbacks.langchain import budgeted


@pytest.fixture
def denied() -> Any:
    """The calls that were refused."""
    events: list[CallDenied] = []
    off = on(CallDenied, events.append)
    yield events
    off()


HELLO: Any = {"messages": [("user", "hello")]}


class State(TypedDict):
    answer: str


def graph_of(node: Any, **options: Any) -> Any:
    builder = StateGraph(State)
    builder.add_node("ask", node, **options)
    builder.add_edge(START, "ask")
    return builder.compile()


def test_a_graphs_retry_policy_does_not_retry_it(denied: Any) -> None:
    model = FakeChat()
    graph = graph_of(
        lambda _: {"answer": model.invoke("hello").text}, retry_policy=RetryPolicy(max_attempts=3)
    )
    with pytest.raises(BudgetExhausted), step("plan", max_usd=0):
        graph.invoke({"answer": ""})
    assert (model.sent, len(denied)) == (0, 1)


def test_an_error_handler_of_a_node_gets_it() -> None:
    model = FakeChat()

    def handle(state: Any, error: Any) -> Any:
        return {"answer": "instead"}

    from langgraph.errors import NodeError

    handle.__annotations__["error"] = NodeError
    graph = graph_of(lambda _: {"answer": model.invoke("hello").text}, error_handler=handle)
    with step("plan", max_usd=0):
        assert graph.invoke({"answer": ""}) == {"answer": "instead"}


def test_the_retry_middleware_for_models_does_not_retry_it(denied: Any) -> None:
    model = FakeChat()
    agent = create_agent(model, middleware=[ModelRetryMiddleware(max_retries=2, initial_delay=0)])
    with pytest.raises(BudgetExhausted), step("plan", max_usd=0):
        agent.invoke(HELLO)
    assert (model.sent, len(denied)) == (0, 1)


def test_the_retry_middleware_for_tools_does_not_retry_it(provider: Provider, denied: Any) -> None:
    provider.behave(tool="ask")
    inner = FakeChat()

    @tool
    def ask() -> str:
        """Ask."""
        with step("inner", max_usd=0):
            return inner.invoke("hello").text

    agent = create_agent(
        chat(provider), tools=[ask], middleware=[ToolRetryMiddleware(max_retries=2, initial_delay=0)]
    )
    with pytest.raises(BudgetExhausted):
        agent.invoke(HELLO)
    assert (inner.sent, len(denied)) == (0, 1)


def test_a_fallback_of_an_agent_is_admitted_only_if_it_fits(denied: Any) -> None:
    one, other = FakeChat(), FakeChat()
    agent = create_agent(one, middleware=[ModelFallbackMiddleware(other)])
    with pytest.raises(BudgetExhausted), step("plan", max_usd=0):
        agent.invoke(HELLO)
    assert (one.sent, other.sent, len(denied)) == (0, 0, 2)


def test_a_catch_all_that_goes_on_pays_nothing() -> None:
    model = FakeChat()

    def careless(_: Any) -> str:
        for _ in range(5):
            try:
                model.invoke("hello")
            except Exception:
                continue
        return "done"

    with step("plan", max_calls=2, error_boundary="continue") as plan:
        assert RunnableLambda(careless).invoke("hello") == "done"
    assert model.sent == plan.usage.calls == 2


def test_a_graph_inside_budgeted_ends_with_the_default() -> None:
    model = FakeChat()
    graph = graph_of(lambda _: {"answer": model.invoke("hello").text})
    ask = budgeted(graph, step="ask", max_usd=0, error_boundary="continue", default={"answer": "none"})
    assert ask.invoke({"answer": ""}) == {"answer": "none"}
    assert list(ask.stream({"answer": ""})) == [{"answer": "none"}]
