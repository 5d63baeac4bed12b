"""What frameworks do with a refusal: it is not retried, and whatever they try next must fit."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, TypedDict

import pytest
from asking import FakeChat, chat
from langchain.agents import create_agent, middleware
from langchain.agents.middleware import ModelFallbackMiddleware, ModelRetryMiddleware, ToolRetryMiddleware
from langchain_core.exceptions import ModelError
from langchain_core.runnables import RunnableLambda
from langchain_core.tools import BaseTool, tool
from langgraph.graph import START, MessagesState, StateGraph
from langgraph.prebuilt import ToolNode, tools_condition
from langgraph.types import RetryPolicy

from left_out import RETRIES
from provider import Provider
from steptrack_callbacks import BudgetEscalated, BudgetExhausted, record_usage, step
from steptrack_callbacks.hooks import CallDenied, on
from steptrack_callbacks.langchain import attach, budgeted


@pytest.fixture
def denied() -> Any:
    """The calls that were refused."""
    events: list[CallDenied] = []
    off = on(CallDenied, events.append)
    yield events
    off()


HELLO: Any = {"messages": [("user", "hello")]}
FEW_TURNS: Any = {"recursion_limit": 20}


def run(agent: Any, method: str = "invoke") -> Any:
    if method == "ainvoke":
        return asyncio.run(agent.ainvoke(HELLO, FEW_TURNS))
    return agent.invoke(HELLO, FEW_TURNS)


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


@RETRIES
def test_the_retry_middleware_for_models_does_not_retry_it(denied: Any) -> None:
    model = FakeChat()
    agent = create_agent(model, middleware=[ModelRetryMiddleware(max_retries=2, initial_delay=0)])
    with pytest.raises(BudgetExhausted), step("plan", max_usd=0):
        agent.invoke(HELLO)
    assert (model.sent, len(denied)) == (0, 1)


def tool_of(body: Callable[[], Any]) -> BaseTool:
    """Make a tool of a function, sync and async."""

    @tool
    def ask() -> str:
        """Ask."""
        return str(body())

    async def ask_async() -> str:
        return str(body())

    ask.coroutine = ask_async
    return ask


def refused(model: FakeChat) -> Any:
    with step("inner", max_usd=0):
        return model.invoke("hello")


def over_at_the_end_of_a_block(model: FakeChat) -> Any:
    with step("inner", max_tokens=12):
        return model.invoke("hello")


def over_at_the_end_of_a_function(model: FakeChat) -> Any:
    return step("inner", max_tokens=12)(model.invoke)("hello")


def over_at_the_end_of_budgeted(model: FakeChat) -> Any:
    return budgeted(model, step="inner", max_tokens=12).invoke("hello")


def over_by_hand(model: FakeChat) -> None:
    with step("inner", max_tokens=12):
        model.invoke("hello")
        record_usage(model.model, input_tokens=1, output_tokens=1)


def escalated(model: FakeChat) -> Any:
    with step("inner", max_usd=0, error_boundary="escalate"):
        return model.invoke("hello")


ENDS = pytest.mark.parametrize(
    ("body", "paid"),
    [
        (refused, 0),
        (over_at_the_end_of_a_block, 1),
        (over_at_the_end_of_a_function, 1),
        (over_at_the_end_of_budgeted, 1),
        (over_by_hand, 1),
        (escalated, 0),
    ],
)


@RETRIES
@ENDS
@pytest.mark.parametrize("method", ["invoke", "ainvoke"])
def test_the_retry_middleware_for_tools_does_not_retry_it(
    provider: Provider, body: Callable[[FakeChat], Any], paid: int, method: str
) -> None:
    provider.behave(tool="ask")
    inner, runs = FakeChat(model="gpt-4o-mini"), []  # whose answers are not those of the agent's model

    def counted() -> Any:
        runs.append(1)
        return body(inner)

    agent = create_agent(
        chat(provider),
        tools=[tool_of(counted)],
        middleware=[ToolRetryMiddleware(max_retries=2, initial_delay=0)],
    )
    with pytest.raises(BudgetExhausted) as refusal:
        run(agent, method)
    assert (inner.sent, len(runs)) == (paid, 1)
    assert isinstance(refusal.value, BudgetEscalated) == (body is escalated)


@RETRIES
def test_what_budgeted_raises_in_a_tool_is_not_retried_though_nothing_is_attached(provider: Provider) -> None:
    provider.behave(tool="ask")
    inner = FakeChat()
    agent = create_agent(
        chat(provider),
        tools=[tool_of(lambda: over_at_the_end_of_budgeted(inner))],
        middleware=[ToolRetryMiddleware(max_retries=2, initial_delay=0)],
    )
    attach()()
    with pytest.raises(BudgetExhausted):
        run(agent)
    assert inner.sent == 1


CALLS: Any = {
    "invoke": lambda ask: ask.invoke("hello"),
    "ainvoke": lambda ask: asyncio.run(ask.ainvoke("hello")),
    "stream": lambda ask: list(ask.stream("hello")),
    "astream": lambda ask: asyncio.run(all_of(ask.astream("hello"))),
    "transform": lambda ask: list(ask.transform(iter(["hello"]))),
    "atransform": lambda ask: asyncio.run(all_of(ask.atransform(one("hello")))),
}


async def one(item: str) -> Any:
    yield item


async def all_of(stream: Any) -> list[Any]:
    return [item async for item in stream]


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
def test_what_leaves_budgeted_must_not_be_retried(call: Callable[[Any], Any]) -> None:
    ask = budgeted(FakeChat(), step="ask", max_tokens=12, cut_streams=False)
    with pytest.raises(BudgetExhausted) as refusal:
        call(ask)
    assert isinstance(refusal.value, ModelError)
    assert not refusal.value.is_retryable


@RETRIES
def test_a_model_that_runs_out_of_a_step_of_its_own_is_not_retried() -> None:
    class Careful(FakeChat):
        def _generate(self, *args: Any, **kwargs: Any) -> Any:
            answer = super()._generate(*args, **kwargs)
            with step("careful", max_tokens=12):
                record_usage(self.model, input_tokens=10, output_tokens=4)
            return answer

    model = Careful()
    agent = create_agent(model, middleware=[ModelRetryMiddleware(max_retries=2, initial_delay=0)])
    with pytest.raises(BudgetExhausted, match="careful"):
        agent.invoke(HELLO)
    assert model.sent == 1


def caught_by_a_tool_node(model: Any, ask: BaseTool) -> Any:
    builder = StateGraph(MessagesState)
    builder.add_node("model", lambda state: {"messages": [model.bind_tools([ask]).invoke(state["messages"])]})
    builder.add_node("tools", ToolNode([ask], handle_tool_errors=True))
    builder.add_edge(START, "model").add_conditional_edges("model", tools_condition)
    return builder.add_edge("tools", "model").compile()


CATCHES = pytest.mark.needs("langchain>=1.4", "before, it has no ToolErrorMiddleware")


def caught_by_a_middleware(model: Any, ask: BaseTool) -> Any:
    return create_agent(
        model, tools=[ask], middleware=[middleware.ToolErrorMiddleware(lambda error, request: str(error))]
    )


@pytest.mark.parametrize("method", ["invoke", "ainvoke"])
@pytest.mark.parametrize(
    "agent_of", [caught_by_a_tool_node, pytest.param(caught_by_a_middleware, marks=CATCHES)]
)
def test_behind_tool_handlers_that_catch_all_only_what_fits_is_sent(
    provider: Provider, agent_of: Callable[[Any, BaseTool], Any], method: str
) -> None:
    provider.behave(tool="ask")
    inner = FakeChat()
    told: list[str] = []

    def ask() -> Any:
        with step("inner", max_calls=1):
            try:
                return [inner.invoke("hello") for _ in range(2)]
            except BudgetExhausted as error:
                told.append(error.path)
                raise

    agent = agent_of(chat(provider), tool_of(ask))
    with pytest.raises(BudgetExhausted) as refusal, step("plan", max_calls=5):
        run(agent, method)
    assert refusal.value.path == "plan"
    assert told == ["plan/inner", "plan/inner", "plan"]
    assert (provider.count(), inner.sent) == (3, 2)


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
