"""A checkpointed thread goes on at what it had spent."""

from __future__ import annotations

import gc
from decimal import Decimal
from typing import Any

import pytest
from agents import CALL_USD, HELLO, agent_of, asking_tool, by_path, last, look, scripted, thread
from hypothesis import given
from hypothesis import strategies as st
from langchain.agents import AgentState
from langchain.agents.middleware import AgentMiddleware
from langchain_core.runnables import RunnableLambda
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.graph import START, StateGraph
from test_human_in_the_loop import other_process

from steptrack_callbacks import BudgetExhausted, Grant, StepDefinition, Usage, report
from steptrack_callbacks.langgraph import spending
from steptrack_callbacks.langgraph.running import AgentRun
from steptrack_callbacks.langgraph.terms import Terms
from steptrack_callbacks.steps.step import open_steps

Invoke = Any


def test_each_turn_goes_on_at_what_the_thread_had_spent(invoke: Invoke) -> None:
    model, saver = scripted(["look"]), InMemorySaver()
    for turn in range(1, 4):
        other_process()
        assert last(invoke(agent_of(model, look, max_usd=1, checkpointer=saver), HELLO, thread())) == "done"
        record = by_path()["research"]
        assert record.here_usage == Usage(input_tokens=20, output_tokens=8, calls=2, cost_usd=2 * CALL_USD)
        assert (record.resumed_usage.calls, record.usage.calls) == (2 * turn - 2, 2 * turn)
        state = agent_of(model, checkpointer=saver).get_state(thread()).values["steptrack_spent"]
        assert spending.total(state).cost_usd == 2 * turn * CALL_USD
    other_process()
    with pytest.raises(BudgetExhausted, match="6 calls spent of 6"):
        invoke(agent_of(model, look, max_calls=6, checkpointer=saver), HELLO, thread())
    assert (by_path()["research"].status, by_path()["research"].here_usage.calls) == ("failed", 0)
    assert "100% of 6 calls" in str(report())
    assert report().total == Usage()  # what the thread had spent is of turns that are not in this report
    assert last(invoke(agent_of(model, look, max_calls=6, checkpointer=saver), HELLO, thread(2))) == "done"


def test_without_a_checkpointer_each_run_has_the_whole_budget(invoke: Invoke) -> None:
    agent = agent_of(scripted(), max_calls=1)
    assert [last(invoke(agent, HELLO)) for _ in range(3)] == ["done"] * 3


def test_what_tools_have_spent_is_kept_with_their_results(invoke: Invoke) -> None:
    saver = InMemorySaver()
    agent = agent_of(
        scripted(["ask", "ask", "look"]), asking_tool(scripted()), look, max_calls=9, checkpointer=saver
    )
    agent.interrupt_before_nodes = ["model"]
    invoke(agent, HELLO, thread())
    invoke(agent, None, thread())  # the model and the tools
    other_process()
    state = agent.get_state(thread()).values["steptrack_spent"]
    assert spending.total(state).calls == 3
    agent.interrupt_before_nodes = []
    assert last(invoke(agent, None, thread())) == "done"
    assert by_path()["research"].here_usage.calls == 1
    assert spending.total(agent.get_state(thread()).values["steptrack_spent"]).calls == 4


def test_what_a_run_that_failed_had_spent_is_not_forgotten_here(invoke: Invoke) -> None:
    class Failing(AgentMiddleware):
        def after_model(self, state: Any, runtime: Any) -> None:
            raise ZeroDivisionError

    class Breaking(AgentMiddleware):
        def wrap_model_call(self, request: Any, handler: Any) -> Any:
            handler(request)
            raise ZeroDivisionError

        async def awrap_model_call(self, request: Any, handler: Any) -> Any:
            await handler(request)
            raise ZeroDivisionError

    for broken in (Failing(), Breaking()):
        model, saver = scripted(), InMemorySaver()
        with pytest.raises(ZeroDivisionError):
            invoke(agent_of(model, max_calls=2, checkpointer=saver, middleware=[broken]), HELLO, thread())
        agent = agent_of(model, max_calls=2, checkpointer=saver)
        assert last(invoke(agent, HELLO, thread())) == "done"
        with pytest.raises(BudgetExhausted):
            invoke(agent, HELLO, thread())
        assert len(model.sent) == 2


@pytest.mark.parametrize("remembers", [None, True], ids=["as it is", "checkpointer=True"])
def test_an_agent_that_is_a_node_goes_on_at_what_its_thread_had_spent_if_it_is_told_to(
    invoke: Invoke, remembers: bool | None
) -> None:
    model, saver = scripted(), InMemorySaver()

    def graph() -> Any:
        builder = StateGraph(AgentState)
        builder.add_node("agent", agent_of(model, max_calls=1, checkpointer=remembers))
        return builder.add_edge(START, "agent").compile(checkpointer=saver)

    assert last(invoke(graph(), HELLO, thread())) == "done"
    other_process()
    if remembers:
        with pytest.raises(BudgetExhausted, match="1 call spent of 1"):
            invoke(graph(), HELLO, thread())
    else:
        assert last(invoke(graph(), HELLO, thread())) == "done"
    assert len(model.sent) == (1 if remembers else 2)
    assert last(invoke(graph(), HELLO, thread(2))) == "done"


def test_a_thread_that_was_deleted_begins_anew(invoke: Invoke) -> None:
    saver = InMemorySaver()
    agent = agent_of(scripted(), max_calls=1, checkpointer=saver)
    invoke(agent, HELLO, thread())
    saver.delete_thread("1")
    assert last(invoke(agent, HELLO, thread())) == "done"


def test_two_agents_with_threads_of_one_name_are_apart(invoke: Invoke) -> None:
    for _ in range(2):
        assert (
            last(invoke(agent_of(scripted(), max_calls=1, checkpointer=InMemorySaver()), HELLO, thread()))
            == "done"
        )


def entry(n: int, calls: int = 1) -> Any:
    usage = Usage(calls=calls, input_tokens=calls, cost_usd=Decimal(calls) / 1000)
    return {"n": n, "usage": spending.written(usage), "grants": []}


@given(st.permutations([("a", 1), ("a", 2), ("b", 1), ("a", 3), ("b", 4)]), st.booleans())
def test_reports_of_parallel_tasks_merge_in_any_order(order: Any, twice: bool) -> None:
    state: Any = {}
    for run, n in [*order, *(order if twice else [])]:
        state = spending.merged(state, {"id": "t", "runs": {run: entry(n, calls=n)}})
    assert spending.total(state).calls == 7


def test_a_long_thread_stays_small_and_keeps_its_sum() -> None:
    state: Any = {"id": "t", "runs": {}}
    granted = spending.written_grant(Grant(max_usd=Decimal("0.1"), by="ops"))
    for turn in range(100):
        for n in (1, 2):
            update = {"id": "t", "runs": {f"run-{turn}": {**entry(n, calls=n), "grants": [granted]}}}
            state = spending.merged(state, update)
    assert len(state["runs"]) <= 17
    assert (spending.total(state).calls, spending.total(state).cost_usd) == (200, Decimal("0.2"))
    assert spending.grants(state) == [Grant(max_usd=Decimal("0.1"), by="ops")] * 100


@given(
    st.builds(
        Usage,
        input_tokens=st.integers(0, 10**9),
        output_tokens=st.integers(0, 10**9),
        reasoning_tokens=st.integers(0, 10),
        calls=st.integers(5, 9),
        unpriced_calls=st.integers(0, 5),
        failed_calls=st.integers(0, 5),
        estimated_calls=st.integers(0, 5),
        ungated_calls=st.integers(0, 5),
        cost_usd=st.decimals(0, 10**6, places=12),
    )
)
def test_a_usage_is_kept_exactly(usage: Usage) -> None:
    from steptrack_callbacks.engine.amounts import Tally

    tally = Tally()
    for sums in spending.sums_of(spending.read(spending.written(usage))):
        tally.add(sums)
    assert tally.usage() == usage


def test_an_agents_step_whose_saved_state_is_damaged_ends_and_leaves_a_record() -> None:
    damaged: Any = {"id": "thread", "runs": {"one": {"n": 1, "usage": {"cost_usd": "a lot"}, "grants": []}}}
    terms = Terms(StepDefinition(name="research", max_usd=1))
    with pytest.raises(ValueError, match="cost_usd"):
        RunnableLambda(lambda _: AgentRun(terms, damaged, None)).invoke(None)
    gc.collect()  # it is held by what was raised
    assert open_steps() == []
    assert by_path()["research"].status == "interrupted"
