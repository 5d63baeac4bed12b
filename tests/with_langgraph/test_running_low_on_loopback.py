"""What an agent's client sends to its provider when money runs low, and that the books say the same."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest
from agents import HELLO, by_path, last, look
from langchain.agents import create_agent
from langchain_core.messages import AIMessage, HumanMessage, ToolMessage
from langchain_openai import ChatOpenAI

from provider import Provider
from steptrack_callbacks.langgraph import StepBudgetMiddleware
from steptrack_callbacks.langgraph.closing import unanswered


@pytest.fixture
def provider() -> Iterator[Provider]:
    with Provider(tool="look") as provider:
        yield provider


def assert_taken(messages: list[dict[str, Any]]) -> None:
    """Look at a history as OpenAI's server does: answers stand right behind the calls that they answer."""
    waiting: set[str] = set()
    for message in messages:
        if message["role"] == "tool":
            assert message["tool_call_id"] in waiting
            waiting.remove(message["tool_call_id"])
        else:
            assert not waiting
            waiting = {call["id"] for call in message.get("tool_calls") or ()}
    assert not waiting


@pytest.mark.parametrize("is_async", [False, True], ids=["invoke", "ainvoke"])
def test_the_requests_of_an_agent_that_closes(provider: Provider, is_async: bool) -> None:
    model = ChatOpenAI(model="gpt-4o", base_url=provider.url, api_key="none", max_retries=0)
    budget = StepBudgetMiddleware("research", max_calls=4, closing_turn=True, tell=True)
    agent = create_agent(model, [look], system_prompt="Look.", middleware=[budget])
    answer = asyncio.run(agent.ainvoke(HELLO)) if is_async else agent.invoke(HELLO)

    bodies = [request.body for request in provider.requests]
    assert len(bodies) == by_path()["research"].usage.calls == 4
    for body in bodies:
        assert_taken(body["messages"])
        assert [message["role"] for message in body["messages"]].count("system") == 1
        assert [tool["function"]["name"] for tool in body["tools"]] == ["look"]
    told = [body["messages"][-1]["content"] for body in bodies[:-1]]
    assert [text.partition(" model")[0] for text in told] == [
        f"Budget left: {number}" for number in (3, 2, 1)
    ]
    assert [body.get("tool_choice") for body in bodies] == [None, None, None, "none"]
    assert "the last turn" in bodies[-1]["messages"][-1]["content"]
    for before, after in zip(bodies, bodies[1:], strict=False):
        prefix = before["messages"][:-1]
        assert after["messages"][: len(prefix)] == prefix
    assert last(answer)
    usage = by_path()["research"].usage
    assert (usage.input_tokens, usage.output_tokens) == (4 * 100, 4 * 200)


def test_ids_of_tool_calls_that_a_provider_uses_again_are_answered_each_time() -> None:
    def call(names: int) -> AIMessage:
        calls = [{"name": "look", "args": {}, "id": f"call-{number}"} for number in range(names)]
        return AIMessage("", tool_calls=calls)

    history: list[Any] = [call(1), ToolMessage("seen", tool_call_id="call-0"), call(2)]
    assert [answer.tool_call_id for answer in unanswered(history)] == ["call-0", "call-1"]
    history.append(ToolMessage("seen", tool_call_id="call-1"))
    assert [answer.tool_call_id for answer in unanswered(history)] == ["call-0"]
    assert unanswered([*history, HumanMessage("and?")]) == unanswered(history)
    assert unanswered([HumanMessage("hello")]) == unanswered([]) == []
