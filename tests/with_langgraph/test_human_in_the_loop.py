"""`escalate`: the graph pauses before the call is paid, and a person answers."""

from __future__ import annotations

import asyncio
from decimal import Decimal
from typing import Any

import pytest
from agents import CALL_USD, HELLO, agent_of, asking_tool, by_path, last, look, paths, scripted, thread
from langchain.agents import AgentState, create_agent
from langchain_core.tools import tool
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.graph import START, StateGraph
from langgraph.types import Command, interrupt

from steptrack_callbacks import (
    BudgetEscalated,
    BudgetExhausted,
    Grant,
    peek_completed_steps,
    settings,
    step,
    testing,
)
from steptrack_callbacks.langgraph import StepBudgetMiddleware, running, spending

Invoke = Any
BOTH = pytest.mark.parametrize("attached", ["attached", "by hand"], indirect=True)


def paused(answer: Any) -> Any:
    """Return the only question that a graph is paused for."""
    [question] = answer["__interrupt__"]
    return question.value


def other_process() -> None:
    """Forget all that is not in a checkpoint."""
    running._unsaved.clear()
    testing.reset()


@BOTH
@pytest.mark.parametrize(
    "answer", [1, {"max_calls": 1, "by": "ops"}, Grant(max_calls=1)], ids=["number", "mapping", "grant"]
)
def test_a_person_grants_more_and_the_agent_goes_on(invoke: Invoke, attached: bool, answer: Any) -> None:
    model = scripted(["look"], [])
    saver = InMemorySaver()
    question = paused(
        invoke(
            agent_of(model, look, max_calls=1, error_boundary="escalate", checkpointer=saver), HELLO, thread()
        )
    )
    assert question["message"] == "step 'research' has no room under max_calls: 1 call spent of 1"
    assert "Command(resume=...)" in question["answer"]
    assert len(model.sent) == 1
    other_process()
    again = agent_of(model, look, max_calls=1, error_boundary="escalate", checkpointer=saver)
    assert last(invoke(again, Command(resume=answer), thread())) == "done"
    record = by_path()["research"]
    assert (len(model.sent), record.here_usage.calls, record.status) == (2, 1, "completed")
    assert [grant.max_calls for grant in record.grants] == [1]
    assert record.limits == {"max_calls": 2}


@BOTH
@pytest.mark.parametrize("answer", [False, "no", None])
def test_a_no_raises_and_nothing_is_paid(invoke: Invoke, attached: bool, answer: Any) -> None:
    model = scripted(["look"], [])
    agent = agent_of(model, look, max_calls=1, error_boundary="escalate", checkpointer=InMemorySaver())
    [question] = invoke(agent, HELLO, thread())["__interrupt__"]
    with pytest.raises(BudgetEscalated):
        invoke(agent, Command(resume={question.id: answer}), thread())
    statuses = {record.status for record in peek_completed_steps() if record.path == "research"}
    assert (len(model.sent), "escalated" in statuses) == (1, True)


def test_the_steps_of_a_paused_agent_are_interrupted_and_no_failures(invoke: Invoke) -> None:
    agent = agent_of(scripted(), max_calls=0, error_boundary="escalate", checkpointer=InMemorySaver())
    invoke(agent, HELLO, thread())
    assert {path: record.status for path, record in by_path().items()} == {
        "research": "interrupted",
        "research/model": "interrupted",
    }


def test_an_answer_that_grants_nothing_is_asked_for_again(invoke: Invoke) -> None:
    agent = agent_of(scripted(), max_usd=0, error_boundary="escalate", checkpointer=InMemorySaver())
    invoke(agent, HELLO, thread())
    for nonsense, problem in [
        ("more", "'more' is not a grant"),
        (True, "True is not a grant"),
        (-1, "max_usd must be"),
        (float("nan"), "max_usd must be"),
        ({"max_dollars": 1}, "max_dollars"),
        ({"by": "ops"}, "at least one limit"),
    ]:
        assert problem in paused(invoke(agent, Command(resume=nonsense), thread()))["problem"]
    assert last(invoke(agent, Command(resume=0.5), thread())) == "done"


def test_a_grant_that_is_too_small_is_asked_about_again(invoke: Invoke) -> None:
    model = scripted()
    agent = agent_of(model, max_usd=0, error_boundary="escalate", checkpointer=InMemorySaver())
    invoke(agent, HELLO, thread())
    assert paused(invoke(agent, Command(resume=0.000001), thread()))["limit_value"] == 0.000001
    assert model.sent == []
    assert last(invoke(agent, Command(resume=1), thread())) == "done"
    assert by_path()["research"].limits == {"max_usd": Decimal("1.000001")}


@pytest.mark.parametrize("answer", [{"max_usd": 1}, Grant(max_usd=1), {"by": "ops", "max_tokens": 9}])
def test_a_grant_for_another_limit_is_asked_about_again(invoke: Invoke, answer: Any) -> None:
    model = scripted()
    agent = agent_of(model, max_calls=0, error_boundary="escalate", checkpointer=InMemorySaver())
    invoke(agent, HELLO, thread())
    question = paused(invoke(agent, Command(resume=answer), thread()))
    assert question["problem"].startswith("what was granted adds nothing to max_calls: ")
    assert model.sent == []
    assert last(invoke(agent, Command(resume={"max_calls": 1}), thread())) == "done"


def test_what_was_granted_stays_granted_on_the_thread(invoke: Invoke) -> None:
    model, saver = scripted(), InMemorySaver()
    options = {"max_usd": CALL_USD, "error_boundary": "escalate", "checkpointer": saver}
    assert last(invoke(agent_of(model, **options), HELLO, thread())) == "done"
    assert paused(invoke(agent_of(model, **options), HELLO, thread()))
    assert last(invoke(agent_of(model, **options), Command(resume=10 * CALL_USD), thread())) == "done"
    other_process()
    assert last(invoke(agent_of(model, **options), HELLO, thread())) == "done"
    assert by_path()["research"].limits["max_usd"] == 11 * CALL_USD
    assert len(model.sent) == 3


def test_a_call_inside_a_tool_is_paused_where_it_is(invoke: Invoke) -> None:
    inner = scripted()
    agent = agent_of(
        scripted(["ask"]),
        asking_tool(inner),
        max_calls=1,
        error_boundary="escalate",
        checkpointer=InMemorySaver(),
    )
    assert paused(invoke(agent, HELLO, thread()))
    assert inner.sent == []
    assert last(invoke(agent, Command(resume=5), thread())) == "done"
    assert (len(inner.sent), by_path()["research"].here_usage.calls) == (1, 2)


def test_of_tools_that_are_refused_at_once_each_pauses_and_one_answer_may_do_for_all(invoke: Invoke) -> None:
    inner = scripted()
    agent = agent_of(
        scripted(["ask", "ask"]),
        asking_tool(inner),
        max_calls=1,
        error_boundary="escalate",
        checkpointer=InMemorySaver(),
    )
    questions = invoke(agent, HELLO, thread())["__interrupt__"]
    assert len(questions) == 2
    answers = {question.id: 5 for question in questions}
    assert last(invoke(agent, Command(resume=answers), thread())) == "done"
    assert by_path()["research"].here_usage.calls == 3


def test_an_agent_that_ends_over_its_limit_asks_too(invoke: Invoke) -> None:
    model = scripted()
    agent = agent_of(model, max_tokens=12, error_boundary="escalate", checkpointer=InMemorySaver())
    assert paused(invoke(agent, HELLO, thread()))["phase"] == "settled"
    assert last(invoke(agent, Command(resume=2), thread())) == "done"
    assert (len(model.sent), by_path()["research"].status) == (1, "completed")


def test_the_steps_own_escalation_is_asked_instead(invoke: Invoke) -> None:
    asked: list[Any] = []

    def grant(error: Any) -> Grant:
        asked.append(error)
        return Grant(max_calls=1)

    agent = agent_of(scripted(), max_calls=0, error_boundary="escalate", escalation=grant)
    assert last(invoke(agent, HELLO)) == "done"
    assert len(asked) == 1


def test_without_a_checkpointer_the_processs_escalation_is_asked(invoke: Invoke) -> None:
    asked: list[BudgetExhausted] = []

    def grant(error: BudgetExhausted) -> Grant | None:
        asked.append(error)
        return Grant(max_calls=1) if len(asked) == 1 else None

    settings.change(escalation=grant)
    agent = agent_of(scripted(["look"]), look, max_calls=0, error_boundary="escalate")
    with pytest.raises(BudgetEscalated, match="said no"):
        invoke(agent, HELLO)
    assert [error.limit_value for error in asked] == [0, 1]
    assert by_path()["research"].status == "escalated"


@BOTH
@pytest.mark.parametrize("limits", [{"max_calls": 0}, {"max_tokens": 12}], ids=["refused", "over at the end"])
def test_without_a_checkpointer_and_anybody_to_ask_it_is_an_error_that_says_so(
    invoke: Invoke, attached: bool, limits: Any
) -> None:
    with pytest.raises(BudgetEscalated, match="nobody could be asked: .* checkpointer="):
        invoke(agent_of(scripted(), error_boundary="escalate", **limits), HELLO)


def test_an_agent_in_a_graph_with_a_checkpointer_pauses_with_it(invoke: Invoke) -> None:
    inner = agent_of(scripted(), max_calls=0, error_boundary="escalate")
    builder = StateGraph(AgentState)
    builder.add_node("agent", inner).add_edge(START, "agent")
    graph = builder.compile(checkpointer=InMemorySaver())
    assert paused(invoke(graph, HELLO, thread()))
    assert last(invoke(graph, Command(resume=1), thread())) == "done"


def test_an_outer_steps_exhaustion_pauses_nothing(invoke: Invoke) -> None:
    agent = agent_of(scripted(), max_calls=3, error_boundary="escalate", checkpointer=InMemorySaver())
    with pytest.raises(BudgetExhausted), step("answer", max_calls=0):
        invoke(agent, HELLO, thread())


def test_what_was_spent_before_a_tools_own_pause_is_not_forgotten(invoke: Invoke) -> None:
    inner = scripted()

    @tool
    def careful() -> str:
        """Ask a model, then a person."""
        inner.invoke("hello")
        return str(interrupt("may I?"))

    budget = StepBudgetMiddleware("research", max_calls=9)
    agent = create_agent(scripted(["careful"]), [careful], middleware=[budget], checkpointer=InMemorySaver())
    assert invoke(agent, HELLO, thread())["__interrupt__"][0].value == "may I?"
    assert by_path()["research"].status == by_path()["research/tool:careful"].status == "interrupted"
    assert last(invoke(agent, Command(resume="yes"), thread())) == "done"
    assert len(inner.sent) == 2  # the tool is run again from its start
    state = agent.get_state(thread()).values["steptrack_spent"]
    assert spending.total(state).calls == 4
    runs = [record for record in peek_completed_steps() if record.path == "research"]
    assert [record.here_usage.calls for record in runs] == [2, 2]


def test_a_pause_of_the_frameworks_own_is_no_failure(invoke: Invoke) -> None:
    budget = StepBudgetMiddleware("research", max_calls=9)
    agent = create_agent(
        scripted(["look"]),
        [look],
        middleware=[budget],
        checkpointer=InMemorySaver(),
        interrupt_before=["tools"],
    )
    invoke(agent, HELLO, thread())
    assert by_path()["research"].status == "interrupted"
    assert last(invoke(agent, None, thread())) == "done"
    assert (by_path()["research"].status, by_path()["research"].here_usage.calls) == ("completed", 1)


def test_50_threads_pause_apart_and_are_granted_apart() -> None:
    model = scripted()
    agent = agent_of(model, max_calls=0, error_boundary="escalate", checkpointer=InMemorySaver())

    async def main() -> list[Any]:
        await asyncio.gather(*(agent.ainvoke(HELLO, thread(number)) for number in range(50)))
        assert model.sent == []
        granted = (agent.ainvoke(Command(resume=1), thread(number)) for number in range(0, 50, 2))
        return await asyncio.gather(*granted)

    assert [last(answer) for answer in asyncio.run(main())] == ["done"] * 25
    assert len(model.sent) == 25
    assert paths().count("research") == 75
