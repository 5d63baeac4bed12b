"""Steps that are named by graph node, with no change to the graph."""

from __future__ import annotations

import asyncio
import operator
from collections.abc import Callable
from decimal import Decimal
from typing import Annotated, Any, TypedDict

import pytest
from agents import by_path, gated, paths, scripted, thread
from langchain_core.documents import Document
from langchain_core.retrievers import BaseRetriever
from langchain_core.runnables import RunnableLambda
from langchain_core.tools import tool
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.graph import START, StateGraph
from langgraph.types import Command, RetryPolicy, Send, interrupt

import steptrack_callbacks as steptrack
from internals import declare, declare_nodes
from steptrack_callbacks import BudgetExhausted, ToolDenied, step

Invoke = Any


class State(TypedDict):
    answers: Annotated[list[str], operator.add]


EMPTY: Any = {"answers": []}


def asking(model: Any, times: int = 1) -> Callable[[Any], Any]:
    """Make a node that calls a model."""
    return lambda _: {"answers": [model.invoke("hello").text for _ in range(times)]}


def graph_of(*, checkpointer: Any = None, **nodes: Any) -> Any:
    """Make a graph of nodes in a row."""
    builder = StateGraph(State)
    before = START
    for name, node in nodes.items():
        builder.add_node(name, node)
        builder.add_edge(before, name)
        before = name
    return builder.compile(checkpointer=checkpointer)


def test_a_node_is_named_wherever_it_is(invoke: Invoke) -> None:
    declare_nodes({"research": {"max_calls": 1}})
    model = scripted()
    for graph in (
        graph_of(research=asking(model, 2)),
        graph_of(outer=graph_of(research=asking(model, 2))),
    ):
        with pytest.raises(BudgetExhausted) as refusal:
            invoke(graph, EMPTY)
        assert refusal.value.path == "research"
        assert by_path()["research"].status == "failed"
    assert len(model.sent) == 2


def test_a_node_is_named_by_its_path_through_subgraphs(invoke: Invoke) -> None:
    declare_nodes({"outer/research": {"max_calls": 1}})
    model = scripted()
    invoke(graph_of(research=asking(model, 2)), EMPTY)
    assert paths() == []
    with pytest.raises(BudgetExhausted) as refusal:
        invoke(graph_of(first=asking(model), outer=graph_of(research=asking(model, 2))), EMPTY)
    assert refusal.value.path == "outer/research"
    assert {path: record.status for path, record in by_path().items()} == {
        "outer/research": "failed",
        "outer": "error",
    }


def test_a_node_that_is_called_as_the_node_around_it_has_its_own_limit(invoke: Invoke) -> None:
    declare_nodes({"ask": {"max_calls": 9}, "ask/ask": {"max_calls": 1}})
    model = scripted()
    with pytest.raises(BudgetExhausted) as refusal:
        invoke(graph_of(ask=graph_of(first=asking(model), ask=asking(model, 2))), EMPTY)
    assert refusal.value.path == "ask/ask"
    assert len(model.sent) == 2
    assert {path: record.usage.calls for path, record in by_path().items()} == {"ask": 2, "ask/ask": 1}


def test_only_the_node_that_fails_is_said_to_have_failed(invoke: Invoke) -> None:
    declare_nodes({"one": {}, "two": {}, "outer": {"max_calls": 3}, "outer/three": {"max_calls": 1}})
    graph = graph_of(
        one=asking(scripted()), outer=graph_of(three=asking(scripted(), 2)), two=asking(scripted())
    )
    with pytest.raises(BudgetExhausted):
        invoke(graph, EMPTY)
    statuses = {path: record.status for path, record in by_path().items()}
    assert statuses == {"outer/three": "failed", "outer": "error", "one": "completed"}


def test_all_visits_of_a_node_in_one_run_are_one_step(invoke: Invoke) -> None:
    declare_nodes({"ask": {"max_calls": 3}})
    model = scripted()
    builder = StateGraph(State)
    builder.add_node("ask", asking(model))
    builder.add_edge(START, "ask")
    builder.add_conditional_edges("ask", lambda state: "ask", ["ask"])
    with pytest.raises(BudgetExhausted):
        invoke(builder.compile(), EMPTY)
    assert len(model.sent) == by_path()["ask"].usage.calls == 3


def fan_out(node: Any) -> Any:
    builder = StateGraph(State)
    builder.add_node("work", node)
    builder.add_conditional_edges(START, lambda _: [Send("work", {}) for _ in range(5)], ["work"])
    return builder.compile()


def test_branches_of_a_fan_out_share_the_nodes_step(invoke: Invoke) -> None:
    declare_nodes({"work": {"max_calls": 3}})
    model = scripted()

    def work(_: Any) -> Any:
        try:
            return {"answers": [model.invoke("hello").text]}
        except BudgetExhausted:
            return {"answers": ["none"]}

    assert sorted(invoke(fan_out(work), EMPTY)["answers"]) == ["done"] * 3 + ["none"] * 2
    record = by_path()["work"]
    assert (len(model.sent), record.usage.calls, record.status) == (3, 3, "exhausted")


def test_branches_of_a_fan_out_share_the_step_around_the_graph(invoke: Invoke) -> None:
    model = scripted()
    with pytest.raises(BudgetExhausted), step("answer", max_calls=3):
        invoke(fan_out(asking(model)), EMPTY)
    assert len(model.sent) == by_path()["answer"].usage.calls == 3


def test_a_pause_is_no_failure_and_the_resumed_run_begins_a_step_of_its_own(invoke: Invoke) -> None:
    declare_nodes({"outer/careful": {"max_calls": 2}, "first": {}})
    model = scripted()

    def careful(_: Any) -> Any:
        model.invoke("hello")
        return {"answers": [interrupt("may I?")]}

    graph = graph_of(first=asking(model), outer=graph_of(careful=careful), checkpointer=InMemorySaver())
    invoke(graph, EMPTY, thread())
    statuses = {path: record.status for path, record in by_path().items()}
    assert statuses == {"outer/careful": "interrupted", "outer": "interrupted", "first": "completed"}
    invoke(graph, Command(resume="yes"), thread())
    assert (by_path()["outer/careful"].status, len(model.sent)) == ("completed", 3)


def test_a_node_that_is_tried_again_has_the_outcome_of_its_last_try(invoke: Invoke) -> None:
    declare_nodes({"shaky": {"max_calls": 5}})
    model = scripted()

    def shaky(_: Any) -> Any:
        model.invoke("hello")
        if len(model.sent) == 1:
            raise ConnectionError
        return {"answers": []}

    builder = StateGraph(State)
    builder.add_node("shaky", shaky, retry_policy=RetryPolicy(initial_interval=0, jitter=False))
    builder.add_edge(START, "shaky")
    invoke(builder.compile(), EMPTY)
    assert (by_path()["shaky"].status, by_path()["shaky"].usage.calls) == ("completed", 2)


def test_a_retry_policy_does_not_retry_a_refusal(invoke: Invoke) -> None:
    declare_nodes({"ask": {"max_calls": 0}})
    tries: list[Any] = []

    def ask(_: Any) -> Any:
        tries.append(1)
        return {"answers": [scripted().invoke("hello").text]}

    builder = StateGraph(State)
    builder.add_node("ask", ask, retry_policy=RetryPolicy(initial_interval=0, retry_on=RuntimeError))
    builder.add_edge(START, "ask")
    with pytest.raises(BudgetExhausted):
        invoke(builder.compile(), EMPTY)
    default = StateGraph(State)
    default.add_node("ask", ask, retry_policy=RetryPolicy(initial_interval=0))
    default.add_edge(START, "ask")
    tries.clear()
    with pytest.raises(BudgetExhausted):
        invoke(default.compile(), EMPTY)
    assert len(tries) == 1


def test_any_other_error_ends_the_step_with_it(invoke: Invoke) -> None:
    declare_nodes({"ask": {"max_calls": 1}})
    with pytest.raises(ZeroDivisionError):
        invoke(graph_of(ask=lambda _: 1 / 0), EMPTY)
    assert by_path()["ask"].status == "error"


def test_a_cancelled_run_ends_its_steps() -> None:
    declare_nodes({"ask": {"max_calls": 1}})

    async def main() -> None:
        model = gated()

        async def ask(_: Any) -> Any:
            return {"answers": [(await model.ainvoke("hello")).text]}

        task = asyncio.create_task(graph_of(ask=ask).ainvoke(EMPTY))
        await model.asked.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(main())
    record = by_path()["ask"]
    assert (record.status, record.usage.calls, record.usage.estimated_calls) == ("cancelled", 1, 1)


def test_such_a_step_ends_with_the_outermost_run(invoke: Invoke) -> None:
    declare_nodes({"ask": {"max_calls": 2}})
    model = scripted()
    graph = graph_of(ask=asking(model))
    twice = RunnableLambda(lambda _: [graph.invoke(EMPTY) for _ in range(2)])
    with step("answer"):
        invoke(twice, EMPTY)
    assert by_path()["answer/ask"].usage.calls == 2


@pytest.mark.parametrize("mode", ["values", "updates", "messages", "custom"])
def test_streams_of_a_graph_are_charged_once(mode: str) -> None:
    declare_nodes({"ask": {"max_calls": 1}})
    graph = graph_of(ask=asking(scripted()))
    list(graph.stream(EMPTY, stream_mode=mode))

    async def read() -> None:
        async for _ in graph.astream(EMPTY, stream_mode=mode):
            pass

    asyncio.run(read())
    assert by_path()["ask"].usage.calls == 1
    assert paths() == ["ask", "ask"]


def test_an_agents_own_nodes_can_be_named(invoke: Invoke) -> None:
    from langchain.agents import create_agent

    declare_nodes({"model": {"max_calls": 0}})
    with pytest.raises(BudgetExhausted):
        invoke(create_agent(scripted()), {"messages": [("user", "hello")]})


@pytest.mark.parametrize(
    "options",
    [{"error_boundary": "continue"}, {"error_boundary": "escalate"}, {"default": ""}, {"escalation": print}],
)
def test_such_a_step_can_only_fail_and_the_error_names_what_can_do_more(options: Any) -> None:
    with pytest.raises(
        ValueError, match=r"use budgeted\(...\) .* StepBudgetMiddleware .* budget_error_handler\(...\)"
    ):
        steptrack.install(nodes={"fine": {"max_calls": 0}, "research": options})
    graph_of(fine=asking(scripted())).invoke(EMPTY)
    assert paths() == []


@pytest.mark.parametrize("path", ["", "/research", "outer/", "a//b", None])
def test_a_malformed_path_is_an_error_that_names_it(path: Any) -> None:
    with pytest.raises(ValueError, match="named by its path"):
        declare_nodes({path: {"max_calls": 1}})


def test_a_name_is_declared_as_a_step_or_as_a_node() -> None:
    declare({"plan": {"max_calls": 1}})
    with pytest.raises(ValueError, match="'plan': declared as a step and as a node"):
        declare_nodes({"plan": {"max_calls": 1}})
    declare_nodes({"write": {"max_calls": 1}, "outer/plan": {}})
    with pytest.raises(ValueError, match="'write': declared as a step and as a node"):
        declare({"write": {"max_calls": 1}})


@pytest.mark.parametrize("how", ["tool", "paid tool", "retriever"])
def test_a_model_that_a_tool_or_a_retriever_calls_is_in_the_step_of_the_node(
    how: str, invoke: Invoke
) -> None:
    declare_nodes({"research": {"max_calls": 2}})
    model = scripted()

    @tool
    def ask(question: str) -> str:
        """Ask a model."""
        return str(model.invoke(question).text)

    class Asking(BaseRetriever):
        def _get_relevant_documents(self, query: str, *, run_manager: Any) -> list[Document]:
            return [Document(model.invoke(query, {"callbacks": run_manager.get_child()}).text)]

    used: Any = Asking() if how == "retriever" else ask
    ask.metadata = {"usd": 0.01} if how == "paid tool" else None
    graph = graph_of(research=lambda _: {"answers": [str(used.invoke("hello")) for _ in range(5)]})
    with pytest.raises(BudgetExhausted) as refusal:
        invoke(graph, EMPTY)
    assert refusal.value.path == "research"
    assert len(model.sent) == by_path()["research"].usage.calls == 2
    assert paths() == ["research"]


def test_a_paid_tool_is_charged_to_the_step_of_its_node(invoke: Invoke) -> None:
    declare_nodes({"research": {"max_usd": 0.025}})

    @tool
    def search(question: str) -> str:
        """Search."""
        return question

    search.metadata = {"usd": 0.01}
    with pytest.raises(BudgetExhausted):
        invoke(graph_of(research=lambda _: {"answers": [search.invoke("hello") for _ in range(5)]}), EMPTY)
    assert by_path()["research"].usage.cost_usd == Decimal("0.02")


@pytest.mark.parametrize("is_async", [True, False])
def test_branches_beside_the_one_that_is_refused_take_nothing_from_its_steps_failure(is_async: bool) -> None:
    class Branches(TypedDict, total=False):
        number: int
        answers: Annotated[list[str], operator.add]

    async def ask_async(state: Branches) -> Any:
        return {"answers": [(await model.ainvoke(str(state["number"]))).text]}

    def ask(state: Branches) -> Any:
        return {"answers": [model.invoke(str(state["number"])).text]}

    declare_nodes({"ask": {"max_calls": 3}})
    model = scripted()
    builder: Any = StateGraph(Branches)
    builder.add_node("ask", ask_async if is_async else ask)
    builder.add_conditional_edges(START, lambda _: [Send("ask", {"number": n}) for n in range(5)], ["ask"])
    with pytest.raises(BudgetExhausted):
        asyncio.run(builder.compile().ainvoke(EMPTY))
    assert by_path()["ask"].status == "failed"


@pytest.mark.parametrize("around", [None, 9, 1], ids=["alone", "in a step", "in a step of less"])
def test_max_tool_calls_of_a_node_holds(around: int | None, invoke: Invoke) -> None:
    declare_nodes({"research": {"max_tool_calls": 2}})
    used: list[str] = []

    @tool
    def look(question: str) -> str:
        """Look."""
        used.append(question)
        return question

    graph = graph_of(research=lambda _: {"answers": [look.invoke("hello") for _ in range(5)]})
    with step("outer", max_tool_calls=around) as outer, pytest.raises(ToolDenied):
        invoke(graph, EMPTY)
    most = 1 if around == 1 else 2
    assert len(used) == most
    assert outer.record().tool_calls + by_path()["outer/research"].tool_calls == most
