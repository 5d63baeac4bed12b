"""Limits of a thread, and of each of its runs, as LangChain's own middlewares have them."""

from __future__ import annotations

from typing import Any

import pytest
from agents import CALL_USD, HELLO, agent_of, by_path, last, look, scripted, thread
from langchain.agents import create_agent
from langchain.agents.middleware import ModelCallLimitMiddleware
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.types import Command, interrupt
from test_human_in_the_loop import other_process, paused
from test_other_calls import calling

from steptrack_callbacks import BudgetExhausted, Grant, StepDefinition
from steptrack_callbacks.langgraph import StepBudgetMiddleware

Invoke = Any
LOOKS = [["look"], ["look"], ["look"]]


def test_a_run_limit_begins_anew_with_each_turn_of_a_thread(invoke: Invoke) -> None:
    model = scripted(*LOOKS)
    agent = agent_of(model, look, run_limit=2, error_boundary="continue", checkpointer=InMemorySaver())
    for turn in range(1, 4):
        assert last(invoke(agent, HELLO, thread())) == (
            "Stopped: step 'research' has no room under max_calls: 2 calls spent of 2;"
            " that is the limit of one run: the next one starts over"
        )
        assert len(model.sent) == 2 * turn


def test_a_thread_limit_holds_beside_it(invoke: Invoke) -> None:
    model = scripted(*LOOKS)
    agent = agent_of(
        model, look, run_limit=2, thread_limit=3, error_boundary="continue", checkpointer=InMemorySaver()
    )
    assert "2 calls spent of 2" in last(invoke(agent, HELLO, thread()))
    assert last(invoke(agent, HELLO, thread())) == (
        "Stopped: step 'research' has no room under max_calls: 3 calls spent of 3"
    )
    assert "2 calls spent of 2" in last(invoke(agent, HELLO, thread(2)))


def test_they_count_as_langchains_own_limits_do(invoke: Invoke) -> None:
    for limits in ({"run_limit": 2}, {"thread_limit": 3}, {"run_limit": 2, "thread_limit": 5}):
        sent = []
        for budget in (
            ModelCallLimitMiddleware(**limits),
            StepBudgetMiddleware("research", error_boundary="continue", **limits),
        ):
            model = scripted(*LOOKS)
            agent = create_agent(model, [look], middleware=[budget], checkpointer=InMemorySaver())
            counts = []
            for turn in (1, 1, 1, 2, 2):
                invoke(agent, HELLO, thread(turn))
                counts.append(len(model.sent))
            sent.append(counts)
        assert sent[0] == sent[1]


@pytest.mark.parametrize(
    "limit", [{"max_usd": 10 * CALL_USD}, {"max_tokens": 280}, {"max_calls": 1, "max_tokens": 280}, 3]
)
def test_any_limit_may_be_one_of_runs(invoke: Invoke, limit: Any) -> None:
    model = scripted(*[["look"]] * 30)
    agent = agent_of(model, look, run_limit=limit, error_boundary="continue", checkpointer=InMemorySaver())
    sent = []
    for _ in (1, 2):
        assert last(invoke(agent, HELLO, thread())).startswith("Stopped:")
        sent.append(by_path()["research"].here_usage.calls)
    assert 0 < sent[1] <= sent[0] <= 10
    assert sum(sent) == len(model.sent)


def test_a_run_limit_of_nothing_admits_no_call(invoke: Invoke) -> None:
    model = scripted()
    invoke(agent_of(model, run_limit=0, error_boundary="continue"), HELLO)
    assert model.sent == []


def test_a_run_that_ends_over_its_limit_says_so(invoke: Invoke) -> None:
    with pytest.raises(BudgetExhausted, match="that is the limit of one run") as exhaustion:
        invoke(agent_of(scripted(), run_limit={"max_tokens": 12}), HELLO)
    assert exhaustion.value.phase == "settled"
    assert exhaustion.value.is_of_run
    assert by_path()["research"].status == "failed"


@pytest.mark.parametrize("elsewhere", [False, True], ids=["here", "elsewhere"])
def test_a_run_that_was_paused_goes_on_with_what_it_had_spent_and_was_granted(
    invoke: Invoke, elsewhere: bool
) -> None:
    model, saver = scripted(["look"], ["look"], ["look"], ["look"]), InMemorySaver()

    def agent() -> Any:
        return agent_of(model, look, run_limit=1, error_boundary="escalate", checkpointer=saver)

    assert paused(invoke(agent(), HELLO, thread()))["limit_value"] == 1
    for granted in (2, 3, 4):
        if elsewhere:
            other_process()
        question = paused(invoke(agent(), Command(resume=1), thread()))
        assert (question["limit"], question["limit_value"]) == ("max_calls", granted)
        assert len(model.sent) == granted
    invoke(agent(), Command(resume=1), thread())
    assert len(model.sent) == 5
    # what was granted to a run is nothing to the next
    assert paused(invoke(agent(), HELLO, thread()))["limit_value"] == 1
    assert len(model.sent) == 6


def test_a_pause_that_others_ask_for_is_no_new_run(invoke: Invoke) -> None:
    model = scripted(*LOOKS)
    asking = calling("after_model", lambda: interrupt("good?"))
    agent = agent_of(
        model,
        look,
        run_limit=2,
        error_boundary="continue",
        checkpointer=InMemorySaver(),
        middleware=[asking],
    )
    invoke(agent, HELLO, thread())
    invoke(agent, Command(resume="yes"), thread())
    other_process()
    answer = invoke(agent, Command(resume="yes"), thread())
    assert last(answer).startswith("Stopped:") or "__interrupt__" in answer
    assert len(model.sent) == 2


def test_an_escalation_function_may_grant_to_a_run(invoke: Invoke) -> None:
    model = scripted(*LOOKS)
    agent = agent_of(
        model, look, run_limit=1, error_boundary="escalate", escalation=lambda _: Grant(max_calls=9)
    )
    assert last(invoke(agent, HELLO)) == "done"
    assert len(model.sent) == 4


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ({"run_limit": "5"}, "run_limit must be a number of calls, or limits"),
        ({"run_limit": True}, "run_limit must be a number of calls"),
        ({"run_limit": {}}, "run_limit must be a number of calls"),
        ({"run_limit": {"calls": 5}}, "run_limit has no limit 'calls'; use max_usd"),
        ({"run_limit": -1}, "run_limit: .*max_calls"),
        ({"thread_limit": {"max_usd": "5"}}, "max_usd must be a number"),
        ({"thread_limit": 5, "max_calls": 5}, "max_calls: given in thread_limit and beside it"),
        ({"step": StepDefinition(name="a"), "thread_limit": 5}, "say it in the definition"),
    ],
)
def test_a_malformed_limit_is_an_error_that_names_it(options: Any, problem: str) -> None:
    with pytest.raises(ValueError, match=problem):
        StepBudgetMiddleware(**{"step": "agent", **options})
