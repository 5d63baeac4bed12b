"""`budget_error_handler`: what a graph does when a node runs out of budget."""

from __future__ import annotations

from typing import Any

import pytest
from agents import by_path, scripted, thread
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.graph import END, START, StateGraph
from langgraph.types import Command
from test_human_in_the_loop import paused
from test_nodes import EMPTY, State, asking

from internals import declare, declare_nodes
from steptrack_callbacks import BudgetEscalated, BudgetExhausted, StepTrackError, step
from steptrack_callbacks.langgraph import budget_error_handler, handling

Invoke = Any


def out_of_budget(_: Any) -> Any:
    with step("plan", max_calls=0):
        return asking(scripted())(_)


def graph_of(node: Any, handler: Any, checkpointer: Any = None) -> Any:
    builder = StateGraph(State)
    builder.add_node("ask", node, error_handler=handler)
    builder.add_node("next", lambda _: {"answers": ["next"]})
    builder.add_node("aside", lambda _: {"answers": ["aside"]})
    builder.add_edge(START, "ask")
    builder.add_edge("ask", "next")
    return builder.compile(checkpointer=checkpointer)


def test_continue_goes_on_with_the_default(invoke: Invoke) -> None:
    for default in ({"answers": ["none"]}, lambda error: {"answers": ["none"]}):
        graph = graph_of(out_of_budget, budget_error_handler(default))
        assert "none" in invoke(graph, EMPTY)["answers"]
    assert invoke(graph_of(out_of_budget, budget_error_handler()), EMPTY)["answers"] in ([], ["next"])


def test_the_default_may_be_made_of_the_exception(invoke: Invoke) -> None:
    handler = budget_error_handler(lambda error: {"answers": [error.path, error.limit]})
    assert invoke(graph_of(out_of_budget, handler), EMPTY)["answers"][:2] == ["plan", "max_calls"]


def test_it_goes_to_the_node_that_is_named(invoke: Invoke) -> None:
    handler = budget_error_handler({"answers": ["none"]}, goto="aside")
    assert invoke(graph_of(out_of_budget, handler), EMPTY)["answers"][:2] == ["none", "aside"]


def test_it_acts_on_steps_that_are_named_by_node(invoke: Invoke) -> None:
    declare_nodes({"ask": {"max_calls": 0}})
    graph = graph_of(asking(scripted()), budget_error_handler({"answers": ["none"]}))
    assert invoke(graph, EMPTY)["answers"][0] == "none"


@pytest.mark.parametrize("boundary", ["continue", "escalate"])
def test_the_exhaustion_of_a_step_around_the_graph_is_raised_on(invoke: Invoke, boundary: Any) -> None:
    graph = graph_of(asking(scripted()), budget_error_handler({"answers": []}, error_boundary=boundary))
    with pytest.raises(BudgetExhausted) as refusal, step("answer", max_calls=0):
        invoke(graph, EMPTY)
    assert refusal.value.path == "answer"


AROUND: Any = {
    "metadata": {"metadata": {"steptrack_step": "plan"}},
    "run name": {"run_name": "plan"},
    "tag": {"tags": ["plan"]},
}


@pytest.mark.parametrize("config", AROUND.values(), ids=AROUND)
@pytest.mark.parametrize("boundary", ["continue", "escalate"])
def test_the_exhaustion_of_a_step_that_the_graphs_run_names_is_raised_on(
    invoke: Invoke, config: Any, boundary: Any
) -> None:
    declare({"plan": {"max_calls": 1}})
    handler = budget_error_handler({"answers": ["none"]}, error_boundary=boundary)
    graph = graph_of(asking(scripted(), 2), handler, InMemorySaver())
    with pytest.raises(BudgetExhausted) as refusal:
        invoke(graph, EMPTY, {**config, **thread()})
    assert (refusal.value.path, by_path()["plan"].status) == ("plan", "failed")


@pytest.mark.parametrize(
    ("owner", "handled"), [("outer", "outside"), ("ask", "inside"), ("outer/ask", "inside")]
)
def test_of_nodes_inside_nodes_each_handler_acts_on_the_steps_of_its_own(
    invoke: Invoke, owner: str, handled: str
) -> None:
    declare_nodes({owner: {"max_calls": 1}})
    inner = graph_of(asking(scripted(), 2), budget_error_handler({"answers": ["inside"]}, goto=END))
    builder = StateGraph(State)
    outside = budget_error_handler({"answers": ["outside"]})
    builder.add_node("outer", inner, error_handler=outside).add_edge(START, "outer")
    assert invoke(builder.compile(), EMPTY)["answers"] == [handled]


def test_a_step_that_a_node_itself_names_is_its_handlers_business(invoke: Invoke) -> None:
    declare({"plan": {"max_calls": 0}})
    model = scripted()

    def by_metadata(_: Any) -> Any:
        return {"answers": [model.invoke("hello", {"metadata": {"steptrack_step": "plan"}}).text]}

    handler = budget_error_handler({"answers": ["none"]})
    assert invoke(graph_of(by_metadata, handler), EMPTY)["answers"][0] == "none"


def test_without_a_checkpointer_nobody_can_be_asked_and_escalate_raises(invoke: Invoke) -> None:
    graph = graph_of(out_of_budget, budget_error_handler(error_boundary="escalate"))
    with pytest.raises(BudgetEscalated, match="nobody could be asked: .* checkpointer="):
        invoke(graph, EMPTY)


def test_any_other_error_and_every_one_under_fail_is_raised_on(invoke: Invoke) -> None:
    with pytest.raises(ZeroDivisionError):
        invoke(graph_of(lambda _: 1 / 0, budget_error_handler()), EMPTY)
    with pytest.raises(BudgetExhausted):
        invoke(graph_of(out_of_budget, budget_error_handler({}, error_boundary="fail")), EMPTY)


def test_escalate_pauses_and_a_person_says_what_to_go_on_with(invoke: Invoke) -> None:
    graph = graph_of(out_of_budget, budget_error_handler(error_boundary="escalate"), InMemorySaver())
    question = paused(invoke(graph, EMPTY, thread()))
    assert (question["node"], question["path"], question["limit"]) == ("ask", "plan", "max_calls")
    assert "3 is neither" in paused(invoke(graph, Command(resume=3), thread()))["problem"]
    answer = invoke(graph, Command(resume={"answers": ["by hand"]}), thread())
    assert answer["answers"][0] == "by hand"


@pytest.mark.parametrize("process", ["same", "other"])
def test_a_no_raises(invoke: Invoke, process: str) -> None:
    graph = graph_of(out_of_budget, budget_error_handler(error_boundary="escalate"), InMemorySaver())
    invoke(graph, EMPTY, thread())
    if process == "other":
        handling._asked.clear()
    with pytest.raises(StepTrackError, match="step 'plan' has no room under max_calls") as refusal:
        invoke(graph, Command(resume="no"), thread())
    assert isinstance(refusal.value, BudgetEscalated) == (process == "same")


def test_a_malformed_option_is_an_error_that_names_it() -> None:
    with pytest.raises(ValueError, match="error_boundary must be one of .* not 'stop'"):
        budget_error_handler(error_boundary="stop")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="default must be a state update .* not 'none'"):
        budget_error_handler("none")  # type: ignore[arg-type]
