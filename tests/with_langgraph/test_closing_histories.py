"""What a closing agent leaves and sends is taken by servers that check histories as Anthropic's and Bedrock's do."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
from agents import HELLO, last, look
from langchain.agents import create_agent
from langchain.agents.structured_output import ProviderStrategy
from langchain_anthropic import ChatAnthropic
from langchain_core.messages import AIMessage, BaseMessage, ToolMessage
from langchain_openai import ChatOpenAI
from pydantic import BaseModel, SecretStr
from test_running_low import LOOKS, recording

from provider import Provider
from steptrack_callbacks.langchain import budgeted
from steptrack_callbacks.langgraph import StepBudgetMiddleware

CALLS = {
    "id": "message-1",
    "type": "message",
    "role": "assistant",
    "model": "claude-opus-5",
    "content": [
        {"type": "text", "text": "looking"},
        {"type": "tool_use", "id": "toolu_1", "name": "look", "input": {}},
    ],
    "stop_reason": "tool_use",
    "usage": {"input_tokens": 100, "output_tokens": 20},
}


def blocks_of(message: dict[str, Any], kind: str) -> list[dict[str, Any]]:
    content = message["content"] if isinstance(message["content"], list) else []
    return [block for block in content if block["type"] == kind]


def assert_taken_by_anthropic(body: dict[str, Any]) -> None:
    """Look at a request as Anthropic's server does: a use is answered first thing in the next message."""
    messages = body["messages"]
    assert messages[0]["role"] == "user"
    for before, after in zip(messages, messages[1:], strict=False):
        assert before["role"] != after["role"] or before["role"] == "user"
        used = {block["id"] for block in blocks_of(before, "tool_use")}
        assert used == {block["tool_use_id"] for block in blocks_of(after, "tool_result")}
        if used:
            assert after["content"][0]["type"] == "tool_result"
    assert not blocks_of(messages[-1], "tool_use")
    assert body["tools"], "tools have to be named as long as the history has uses of them"


@pytest.mark.parametrize("is_async", [False, True])
@pytest.mark.parametrize("around", [False, True])
def test_anthropic_takes_every_request_of_an_agent_that_closes(is_async: bool, around: bool) -> None:
    with Provider(whole=CALLS) as provider:
        model = ChatAnthropic(
            model="claude-opus-5",
            base_url=provider.url.removesuffix("/v1"),
            api_key="none",
            max_retries=0,
        )
        limits: Any = {"max_calls": 3, "wrap_up_calls": 1}
        budget = StepBudgetMiddleware("research", closing_turn=True, tell=True, **({} if around else limits))
        agent: Any = create_agent(model, [look], system_prompt="Look.", middleware=[budget])
        agent = budgeted(agent, "all", **limits) if around else agent
        answer = asyncio.run(agent.ainvoke(HELLO)) if is_async else agent.invoke(HELLO)
        bodies = [request.body for request in provider.requests]
    assert len(bodies) == 3
    for body in bodies:
        assert_taken_by_anthropic(body)
    assert [body.get("tool_choice") for body in bodies] == [None, None, {"type": "none"}]
    assert last(answer)
    assert not is_pending(answer["messages"])


def is_pending(messages: list[BaseMessage]) -> bool:
    called = [call["id"] for each in messages if isinstance(each, AIMessage) for call in each.tool_calls]
    return len(called) != sum(isinstance(each, ToolMessage) for each in messages)


def assert_taken_by_bedrock(messages: list[BaseMessage], tools: list[Any], choice: Any) -> None:
    """Look at a request as Bedrock's Converse does: it wants tools beside uses of them, and knows no `none`."""
    assert not is_pending(messages)
    assert choice is None
    has_blocks = any(isinstance(each, ToolMessage) or getattr(each, "tool_calls", None) for each in messages)
    assert tools or not has_blocks


@pytest.mark.parametrize("script", [LOOKS, []])
@pytest.mark.parametrize("is_stubborn", [False, True])
def test_bedrock_takes_every_request_of_an_agent_that_closes(
    script: list[list[str]], is_stubborn: bool
) -> None:
    model = recording(*script, provider="amazon_bedrock", is_stubborn=is_stubborn)
    budget = StepBudgetMiddleware("research", max_calls=3, closing_turn=True)
    answer = create_agent(model, [look], middleware=[budget]).invoke(HELLO)
    for messages, choice, tools in model.requests:
        assert_taken_by_bedrock(messages, tools, choice)
    assert not is_pending(answer["messages"])
    assert last(answer)


@pytest.mark.parametrize("wrapped", [lambda schema: schema, ProviderStrategy])
def test_an_agent_whose_provider_structures_its_output_closes_with_it_and_calls_no_tool(
    wrapped: Callable[[Any], Any],
) -> None:
    class Answer(BaseModel):
        """An answer."""

        n: int

    with Provider(tool="look") as provider:
        model = ChatOpenAI(model="gpt-4o", base_url=provider.url, api_key=SecretStr("none"))
        budget = StepBudgetMiddleware("research", max_calls=2, closing_turn=True, error_boundary="continue")
        agent = create_agent(model, [look], middleware=[budget], response_format=wrapped(Answer))
        agent.invoke(HELLO)
    first, last_one = (request.body for request in provider.requests)
    assert ("tool_choice" in first, last_one["tool_choice"]) == (False, "none")
    assert (last_one["tools"], last_one["response_format"]) == (first["tools"], first["response_format"])
