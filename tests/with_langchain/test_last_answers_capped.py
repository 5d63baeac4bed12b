"""In `budgeted` and agents the last call of a budget gets what is left as its `max_tokens`."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from asking import CALL_USD, OUTPUT_USD, chat
from langchain.agents import create_agent
from langchain_core.output_parsers import StrOutputParser
from langchain_core.runnables import RunnableLambda

from provider import Provider
from steptrack_callbacks import BudgetExhausted, peek_completed_steps, step
from steptrack_callbacks.langchain import StepTrackHandler, budgeted
from steptrack_callbacks.langgraph import StepBudgetMiddleware

ROOM = CALL_USD + 110 * OUTPUT_USD
"""Room for a call, and a half of its answer."""


QUESTION = " word" * 93
"""With what else is sent, a hundred tokens."""


def caps(provider: Provider) -> list[Any]:
    """Return the `max_tokens` of the last request."""
    body = provider.requests[-1].body
    return [body[name] for name in body if name.startswith("max_") and name.endswith("_tokens")]


@pytest.fixture
def warm(provider: Provider) -> Provider:
    """The provider, of which five answers of 200 tokens were seen, each for an input of 100."""
    for _ in range(5):
        chat(provider).invoke("hello")
    provider.requests.clear()
    return provider


def invoke(runnable: Any, given: Any = QUESTION, **config: Any) -> Any:
    return runnable.invoke(given, **config)


def ainvoke(runnable: Any, given: Any = QUESTION, **config: Any) -> Any:
    return asyncio.run(runnable.ainvoke(given, **config))


both = pytest.mark.parametrize("ask", [invoke, ainvoke])


@both
def test_the_last_call_is_given_what_is_left_and_one_that_is_cut_says_so(ask: Any, warm: Provider) -> None:
    warm.behave(output_tokens=900)
    ask(budgeted(chat(warm), step="ask", max_usd=ROOM))
    (cap,) = caps(warm)
    assert 300 <= cap <= 320
    record = peek_completed_steps()[-1]
    assert (record.name, record.cut_calls) == ("ask", 1)
    assert record.usage.cost_usd <= ROOM


@both
def test_it_is_so_deep_inside_a_chain_too(ask: Any, warm: Provider) -> None:
    chain = RunnableLambda(lambda question: question) | chat(warm) | StrOutputParser()
    ask(budgeted(chain, step="ask", max_usd=ROOM))
    assert 300 <= caps(warm)[0] <= 320


@both
def test_it_is_so_in_an_agent_too(ask: Any, warm: Provider) -> None:
    agent = create_agent(chat(warm), middleware=[StepBudgetMiddleware("agent", max_usd=ROOM)])
    ask(agent, {"messages": [("user", QUESTION)]})
    assert 300 <= caps(warm)[0] <= 320


@both
def test_a_handler_of_ones_own_takes_nothing_from_it(ask: Any, warm: Provider) -> None:
    runnable = budgeted(chat(warm), step="ask", max_usd=ROOM)
    ask(runnable, config={"callbacks": [StepTrackHandler()]})
    assert 300 <= caps(warm)[0] <= 320
    assert peek_completed_steps()[-1].usage.calls == 1


@both
def test_a_call_outside_of_them_is_sent_as_it_is(ask: Any, warm: Provider) -> None:
    with step("plan", max_usd=ROOM):
        ask(chat(warm))
    assert caps(warm) == []


JSON = {"format": {"type": "json_object"}}


@both
@pytest.mark.parametrize(
    ("options", "limits"),
    [
        ({}, {"max_usd": 100 * ROOM}),
        ({}, {"max_usd": ROOM, "clamp": False}),
        ({"reasoning_effort": "low"}, {"max_usd": ROOM}),
        ({"model_kwargs": {"response_format": {"type": "json_object"}}}, {"max_usd": ROOM}),
        ({"use_responses_api": True, "model_kwargs": {"text": JSON}}, {"max_usd": ROOM}),
    ],
    ids=str,
)
def test_what_must_not_be_cut_is_sent_as_it_is(
    ask: Any, options: dict[str, Any], limits: dict[str, Any], warm: Provider
) -> None:
    ask(budgeted(chat(warm, **options), step="ask", **limits))
    assert caps(warm) == []


def test_tools_are_sent_as_they_are(warm: Provider) -> None:
    def look() -> str:
        """Look."""
        return "seen"

    budgeted(chat(warm).bind_tools([look]), step="ask", max_usd=ROOM).invoke("hello")
    assert caps(warm) == []


def test_a_max_tokens_of_the_users_stays(warm: Provider) -> None:
    budgeted(chat(warm, max_tokens=250), step="ask", max_usd=ROOM).invoke("hello")
    assert caps(warm) == [250]


def test_a_stream_is_cut_as_it_runs_instead(warm: Provider) -> None:
    list(budgeted(chat(warm), step="ask", max_usd=ROOM).stream("hello"))
    assert caps(warm) == []


def test_where_less_than_the_usual_answer_is_left_the_call_is_refused(warm: Provider) -> None:
    with pytest.raises(BudgetExhausted):
        budgeted(chat(warm), step="ask", max_usd=ROOM - 140 * OUTPUT_USD).invoke(QUESTION)
    assert warm.count() == 0
