"""What is called in an agent outside of its model and tools: in hooks of other middlewares, and around ours."""

from __future__ import annotations

import copy
import json
import pickle
from collections.abc import Callable
from typing import Any

import pytest
from agents import HELLO, ScriptedChat, agent_of, asking_tool, by_path, last, look, scripted, thread
from langchain.agents import AgentState, create_agent
from langchain.agents.middleware import AgentMiddleware, SummarizationMiddleware
from langchain.agents.structured_output import ToolStrategy
from langchain_core.runnables import RunnableLambda
from langchain_core.tools import tool
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.graph import END, START, StateGraph
from langgraph.types import Command, Send, interrupt
from pydantic import BaseModel
from test_human_in_the_loop import other_process, paused

from internals import declare_nodes
from steptrack_callbacks import BudgetEscalated, BudgetExhausted, Grant, peek_completed_steps, step
from steptrack_callbacks.langgraph import StepBudgetMiddleware
from steptrack_callbacks.steps.attribution import unattributed_usage

Invoke = Any
BOTH = pytest.mark.parametrize("attached", ["attached", "by hand"], indirect=True)
HOOKS = ["before_agent", "before_model", "after_model", "after_agent"]


def calling(hook: str, body: Callable[[], Any], name: str = "Hook") -> Any:
    """Make a middleware whose hook does something."""

    def run(self: Any, state: Any, runtime: Any) -> None:
        body()

    async def arun(self: Any, state: Any, runtime: Any) -> None:
        body()

    return type(name, (AgentMiddleware,), {hook: run, f"a{hook}": arun})()


def asking(hook: str, model: Any) -> Any:
    """Make a middleware whose hook asks a model."""

    def run(self: Any, state: Any, runtime: Any) -> None:
        model.invoke("hello")

    async def arun(self: Any, state: Any, runtime: Any) -> None:
        await model.ainvoke("hello")

    return type("Asking", (AgentMiddleware,), {hook: run, f"a{hook}": arun})()


def calls_before(hook: str) -> int:
    """Count the calls of an agent that looks once, before its hook asks for the first time."""
    return {"before_agent": 0, "before_model": 0, "after_model": 1, "after_agent": 2}[hook]


def is_whole(messages: Any) -> bool:
    """Tell whether each tool call of a history has its answer, right behind it."""
    waiting: set[str] = set()
    for message in messages:
        if message.type == "tool":
            if message.tool_call_id not in waiting:
                return False
            waiting.remove(message.tool_call_id)
        elif waiting:
            return False
        waiting |= {call["id"] for call in getattr(message, "tool_calls", ())}
    return not waiting


@BOTH
@pytest.mark.parametrize("hook", HOOKS)
def test_what_a_hook_of_another_middleware_calls_is_the_agents(
    invoke: Invoke, attached: bool, hook: str
) -> None:
    other = scripted()
    assert last(invoke(agent_of(scripted(["look"]), look, middleware=[asking(hook, other)]), HELLO)) == "done"
    record = by_path()["research"]
    assert record.usage.calls == 2 + len(other.sent)
    assert record.own_usage.calls == len(other.sent)
    assert unattributed_usage().calls == 0


@BOTH
@pytest.mark.parametrize("hook", HOOKS)
def test_continue_ends_an_agent_whose_hook_has_met_the_limit(
    invoke: Invoke, attached: bool, hook: str
) -> None:
    other = scripted()
    agent = agent_of(
        scripted(["look"]),
        look,
        max_calls=calls_before(hook),
        error_boundary="continue",
        default="sorry",
        middleware=[asking(hook, other)],
    )
    answer = invoke(agent, HELLO)
    assert (last(answer), set(answer)) == ("sorry", {"messages"})
    assert is_whole(answer["messages"])
    record = by_path()["research"]
    assert (record.status, record.usage.calls, record.denied_calls) == ("continued", calls_before(hook), 1)
    assert other.sent == []


@BOTH
def test_a_hook_after_the_agents_last_word_adds_no_second_one(invoke: Invoke, attached: bool) -> None:
    agent = agent_of(
        scripted(),
        max_calls=0,
        error_boundary="continue",
        default="sorry",
        middleware=[asking("after_model", scripted())],
    )
    assert [message.text for message in invoke(agent, HELLO)["messages"][1:]] == ["sorry"]


@BOTH
def test_a_hook_under_a_limit_of_one_token_ends_with_the_default(invoke: Invoke, attached: bool) -> None:
    budget = StepBudgetMiddleware("agent", max_tokens=1, error_boundary="continue", default="sorry")
    agent = create_agent(scripted(), middleware=[budget, asking("before_model", scripted())])
    assert last(invoke(agent, HELLO)) == "sorry"
    assert by_path()["agent"].status == "continued"


@BOTH
@pytest.mark.parametrize("hook", HOOKS)
def test_fail_and_escalate_raise_out_of_a_hook(invoke: Invoke, attached: bool, hook: str) -> None:
    for boundary, kind in (("fail", BudgetExhausted), ("escalate", BudgetEscalated)):
        other = scripted()
        agent = agent_of(
            scripted(["look"]),
            look,
            max_calls=calls_before(hook),
            error_boundary=boundary,
            middleware=[asking(hook, other)],
        )
        with pytest.raises(kind):
            invoke(agent, HELLO)
        assert other.sent == []
        assert by_path()["research"].status == {"fail": "failed", "escalate": "escalated"}[boundary]


@BOTH
def test_a_hook_that_handles_its_refusal_goes_on(invoke: Invoke, attached: bool) -> None:
    told: list[str] = []

    def ask() -> None:
        try:
            scripted().invoke("hello")
        except BudgetExhausted as error:
            told.append(str(error))

    agent = agent_of(
        scripted(), max_calls=1, error_boundary="continue", middleware=[calling("after_model", ask)]
    )
    assert last(invoke(agent, HELLO)) == "done"
    assert told == ["step 'research' has no room under max_calls: 1 call spent of 1"]


def test_langchains_own_summaries_are_the_agents(invoke: Invoke) -> None:
    summary = scripted()
    summarising = SummarizationMiddleware(summary, trigger=("messages", 2), keep=("messages", 1))
    agent = agent_of(
        scripted(["look"], ["look"]), look, max_calls=2, error_boundary="continue", middleware=[summarising]
    )
    assert last(invoke(agent, HELLO)).startswith("Stopped:")
    assert by_path()["research"].usage.calls == 2
    assert unattributed_usage().calls == 0


@BOTH
def test_a_refusal_deep_inside_a_hook_ends_the_agent(invoke: Invoke, attached: bool) -> None:
    inner = create_agent(scripted())
    deep = {
        "agent": lambda: inner.invoke(HELLO),
        "chain": lambda: (RunnableLambda(lambda _: "hello") | scripted()).invoke(1),
        "step": lambda: _in_a_step(scripted()),
        "stream": lambda: list(scripted().stream("hello")),
    }
    for name, body in deep.items():
        agent = agent_of(
            scripted(),
            max_calls=1,
            error_boundary="continue",
            default=name,
            middleware=[calling("after_model", body)],
        )
        assert last(invoke(agent, HELLO)) == name


def _in_a_step(model: Any) -> None:
    with step("judge"):
        model.invoke("hello")


def test_a_hooks_own_step_is_not_the_agents_to_go_on_from(invoke: Invoke) -> None:
    def ask() -> None:
        with step("judge", max_calls=0):
            scripted().invoke("hello")

    agent = agent_of(
        scripted(), max_calls=5, error_boundary="continue", middleware=[calling("after_model", ask)]
    )
    with pytest.raises(BudgetExhausted) as refusal:
        invoke(agent, HELLO)
    assert refusal.value.path == "judge"
    assert by_path()["research"].usage.calls == 1


@BOTH
def test_what_is_called_around_our_own_wrapper_ends_the_agent_too(invoke: Invoke, attached: bool) -> None:
    other = scripted()

    class Selecting(AgentMiddleware):
        def wrap_model_call(self, request: Any, handler: Any) -> Any:
            other.invoke("which?")
            return handler(request)

        async def awrap_model_call(self, request: Any, handler: Any) -> Any:
            await other.ainvoke("which?")
            return await handler(request)

        def wrap_tool_call(self, request: Any, handler: Any) -> Any:
            other.invoke("may it?")
            return handler(request)

        async def awrap_tool_call(self, request: Any, handler: Any) -> Any:
            await other.ainvoke("may it?")
            return await handler(request)

    for most, status in ((0, "continued"), (2, "continued"), (4, "continued"), (5, "completed")):
        other.sent.clear()
        budget = StepBudgetMiddleware("research", max_calls=most, error_boundary="continue", default="sorry")
        agent = create_agent(scripted(["look"]), [look], middleware=[Selecting(), budget])
        answer = invoke(agent, HELLO)
        assert is_whole(answer["messages"])
        assert (last(answer), by_path()["research"].status) == (
            "done" if status == "completed" else "sorry",
            status,
        )
        assert by_path()["research"].usage.calls == most


class Answer(BaseModel):
    """An answer."""

    n: int


def test_tries_at_structured_output_end_with_the_default(invoke: Invoke) -> None:
    model = scripted(*[["Answer"]] * 9)
    budget = StepBudgetMiddleware("research", max_calls=2, error_boundary="continue", default="sorry")
    agent = create_agent(model, middleware=[budget], response_format=ToolStrategy(Answer))
    answer = invoke(agent, HELLO)
    assert last(answer) == "sorry"
    assert is_whole(answer["messages"])
    assert len(model.sent) <= 2


# After a pause


@BOTH
def test_a_hook_that_is_resumed_is_charged_to_the_agent_and_held_by_its_limit(
    invoke: Invoke, attached: bool
) -> None:
    judge, saver = scripted(), InMemorySaver()

    def hook() -> None:
        judge.invoke("good?")
        interrupt("good?")

    def agent(boundary: Any) -> Any:
        return agent_of(
            scripted(),
            max_calls=2,
            error_boundary=boundary,
            checkpointer=saver,
            middleware=[calling("after_model", hook)],
        )

    assert paused(invoke(agent("fail"), HELLO, thread())) == "good?"
    assert len(judge.sent) == 1
    with pytest.raises(BudgetExhausted, match="2 calls spent of 2"):
        invoke(agent("fail"), Command(resume="yes"), thread())
    assert len(judge.sent) == 1
    answer = invoke(agent("continue"), Command(resume="yes"), thread())
    assert last(answer).startswith("Stopped:")
    assert unattributed_usage().calls == 0


@BOTH
@pytest.mark.parametrize("elsewhere", [False, True], ids=["here", "elsewhere"])
def test_a_grant_that_a_hook_asked_for_is_used_and_not_asked_for_again(
    invoke: Invoke, attached: bool, elsewhere: bool
) -> None:
    judge, saver = scripted(), InMemorySaver()

    def hook() -> None:
        judge.invoke("good?")
        interrupt("good?")

    def agent() -> Any:
        return agent_of(
            scripted(),
            max_calls=1,
            error_boundary="escalate",
            checkpointer=saver,
            middleware=[calling("after_model", hook)],
        )

    def go_on(answer: Any) -> Any:
        if elsewhere:
            other_process()
        return invoke(agent(), Command(resume=answer), thread())

    assert paused(invoke(agent(), HELLO, thread()))["limit"] == "max_calls"
    assert judge.sent == []
    assert paused(go_on(5)) == "good?"
    assert last(go_on("yes")) == "done"
    record = by_path()["research"]
    assert (len(judge.sent), record.limits, [grant.max_calls for grant in record.grants]) == (
        2,
        {"max_calls": 6},
        [5],
    )
    assert unattributed_usage().calls == 0


@BOTH
def test_what_a_hook_was_granted_and_has_spent_stays_when_a_later_node_pauses(
    invoke: Invoke, attached: bool
) -> None:
    judge, saver = scripted(), InMemorySaver()
    hooks = [
        calling("after_model", lambda: interrupt("good?"), "Later"),
        asking("after_model", judge),  # runs first
    ]

    def agent() -> Any:
        return agent_of(
            scripted(), max_calls=1, error_boundary="escalate", checkpointer=saver, middleware=hooks
        )

    for process in range(2):
        at = thread(process)
        assert paused(invoke(agent(), HELLO, at))["limit"] == "max_calls"
        assert paused(invoke(agent(), Command(resume=5), at)) == "good?"
        if process:
            other_process()
        assert last(invoke(agent(), Command(resume="yes"), at)) == "done"
        record = by_path()["research"]
        assert (record.usage.calls, record.limits) == (2, {"max_calls": 6})


@BOTH
def test_an_agent_resumed_at_a_tool_is_followed_from_there(invoke: Invoke, attached: bool) -> None:
    other, saver = scripted(), InMemorySaver()

    def agent() -> Any:
        return agent_of(
            scripted(["ask"]),
            asking_tool(scripted()),
            max_calls=1,
            error_boundary="escalate",
            checkpointer=saver,
            middleware=[asking("before_model", other)],
        )

    invoke(agent(), HELLO, thread())
    invoke(agent(), Command(resume=1), thread())
    other_process()
    invoke(agent(), Command(resume=1), thread())
    other_process()
    assert last(invoke(agent(), Command(resume=5), thread())) == "done"
    assert by_path()["research"].usage.calls == 5
    assert unattributed_usage().calls == 0


# Around the agent


def test_a_step_that_a_node_is_holds_the_agent_in_it(invoke: Invoke) -> None:
    declare_nodes({"expert": {"max_calls": 1}})
    graph = StateGraph(AgentState)
    graph.add_node("expert", agent_of(scripted(["look"]), look, max_calls=5, error_boundary="continue"))
    with pytest.raises(BudgetExhausted) as refusal:
        invoke(graph.add_edge(START, "expert").compile(), HELLO)
    assert refusal.value.path == "expert"
    assert by_path()["expert"].usage.calls == by_path()["expert/research"].usage.calls == 1


def test_a_step_around_and_one_inside_a_node_hold_the_agent_both(invoke: Invoke) -> None:
    declare_nodes({"expert": {"max_calls": 9}})

    def expert(state: Any) -> Any:
        with step("inner"):
            return agent_of(scripted(["look"]), look).invoke(state)

    graph = StateGraph(AgentState)
    graph.add_node("expert", expert)
    with step("outer"):
        invoke(graph.add_edge(START, "expert").compile(), HELLO)
    calls = {
        path: record.usage.calls for path, record in by_path().items() if not path.endswith(("model", "look"))
    }
    assert set(calls.values()) == {2}
    assert len(calls) == 4


@pytest.mark.parametrize("attached", ["by hand"], indirect=True)
def test_of_what_is_not_attached_agents_alone_are_seen(invoke: Invoke, attached: bool) -> None:
    model = scripted()
    agent = agent_of(model, max_calls=1)
    with step("answer", max_calls=1) as answer:
        invoke(agent, HELLO)
        scripted().invoke("hello")
        create_agent(scripted()).invoke(HELLO)
    assert answer.usage.calls == len(model.sent) == 1


# Visits


def swarm(agents: dict[str, Any], hand_overs: int) -> Any:
    """Make a graph in which two agents hand over to each other."""

    def route(state: Any) -> Any:
        turns = sum(message.type == "ai" for message in state["messages"])
        return END if turns >= hand_overs else list(agents)[turns % len(agents)]

    graph = StateGraph(AgentState)
    for name, agent in agents.items():
        graph.add_node(name, agent)
        graph.add_conditional_edges(name, route)
    return graph.add_edge(START, next(iter(agents)))


@BOTH
@pytest.mark.parametrize("boundary", ["fail", "continue"])
def test_agents_that_hand_over_are_held_over_all_visits_of_one_run(
    invoke: Invoke, attached: bool, boundary: Any
) -> None:
    models = {name: scripted() for name in ("alice", "bob")}
    agents = {name: agent_of(model, max_calls=2, error_boundary=boundary) for name, model in models.items()}
    graph = swarm(agents, 20).compile()
    for _ in range(2):  # what one run has spent is nothing to the next
        for model in models.values():
            model.sent.clear()
        if boundary == "fail":
            with pytest.raises(BudgetExhausted, match="2 calls spent of 2"):
                invoke(graph, HELLO)
        else:
            assert last(invoke(graph, HELLO)).startswith("Stopped:")
        assert [len(model.sent) for model in models.values()] == [2, 2]


def test_a_grant_holds_over_the_visits_of_one_run(invoke: Invoke) -> None:
    asked: list[Any] = []

    def grant(error: Any) -> Any:
        asked.append(error)
        return Grant(max_calls=3)

    model = scripted()
    agent = agent_of(model, max_calls=2, error_boundary="escalate", escalation=grant)
    invoke(swarm({"alice": agent}, 5).compile(), HELLO)
    assert (len(model.sent), len(asked)) == (5, 1)


def test_visits_at_the_same_time_share_what_is_left(invoke: Invoke) -> None:
    model = scripted()
    agent = agent_of(model, max_calls=3, error_boundary="continue")

    def fan_out(state: Any) -> Any:
        return [Send("alice", {"messages": [("user", str(number))]}) for number in range(6)]

    graph = StateGraph(AgentState)
    graph.add_node("alice", agent)
    graph.add_conditional_edges(START, fan_out, ["alice"])
    answer = invoke(graph.compile(), HELLO)
    assert len(model.sent) == 3
    assert sum(message.text.startswith("Stopped:") for message in answer["messages"]) == 3
    assert sum(record.here_usage.calls for record in peek_completed_steps() if record.path == "research") == 3


def test_threads_of_an_agent_in_one_run_are_apart(invoke: Invoke) -> None:
    model = scripted()
    agent = agent_of(model, max_calls=1, checkpointer=InMemorySaver())

    def all_threads(_: Any) -> Any:
        return [last(agent.invoke(HELLO, thread(number))) for number in range(3)]

    assert RunnableLambda(all_threads).invoke(1) == ["done"] * 3


def test_visits_of_an_agent_with_a_memory_of_its_own_count_once(invoke: Invoke) -> None:
    model = scripted()
    agent = agent_of(model, max_calls=30, checkpointer=True)
    graph = swarm({"alice": agent}, 20).compile(checkpointer=InMemorySaver())
    invoke(graph, HELLO, thread())
    assert len(model.sent) == by_path()["research"].usage.calls == 20


def test_an_agent_that_a_tool_runs_begins_anew_with_each_tool(invoke: Invoke) -> None:
    inner = agent_of(scripted(), max_calls=1)

    @tool
    def delegate() -> str:
        """Delegate."""
        return last(inner.invoke(HELLO))

    outer = create_agent(scripted(["delegate"], ["delegate"]), [delegate])
    assert last(invoke(outer, HELLO)) == "done"


def test_a_tool_whose_fallback_was_refused_is_answered_with_an_error(invoke: Invoke) -> None:
    class Failing(ScriptedChat):
        def _generate(self, *args: Any, **kwargs: Any) -> Any:
            raise ConnectionError("down")

    fallback = scripted()
    asks = asking_tool(Failing(script=[], sent=[], offered=[]).with_fallbacks([fallback]))
    answer = invoke(agent_of(scripted(["ask"]), asks, max_calls=2, error_boundary="continue"), HELLO)
    assert answer["messages"][-2].status == "error"
    assert last(answer).startswith("Stopped:")
    assert fallback.sent == []


def test_a_hook_may_copy_the_state_and_write_it_down(invoke: Invoke) -> None:
    copies: list[Any] = []

    class Copying(AgentMiddleware):
        def before_model(self, state: Any, runtime: Any) -> None:
            copies.append((copy.deepcopy(state), pickle.loads(pickle.dumps(state))))

    assert (
        last(invoke(agent_of(scripted(["look"]), look, max_calls=2, middleware=[Copying()]), HELLO)) == "done"
    )
    for deep, written in copies:
        assert deep["steptrack_run"] == written["steptrack_run"]


def test_the_state_that_can_be_looked_up_is_plain(invoke: Invoke) -> None:
    agent = agent_of(scripted(), max_calls=2, checkpointer=InMemorySaver())
    invoke(agent, HELLO, thread())
    values = agent.get_state(thread()).values
    agent.update_state(thread(), {"messages": [("user", "and now?")]})
    assert json.dumps({name: value for name, value in values.items() if name.startswith("steptrack")})
    with pytest.raises(BudgetExhausted):
        for _ in range(3):
            invoke(agent, HELLO, thread())
