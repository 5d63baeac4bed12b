"""Agents over a fake chat model that reports usage: 10 tokens in, 4 out, and calls tools by a script."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from decimal import Decimal
from typing import Any

from langchain.agents import create_agent
from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, HumanMessage
from langchain_core.outputs import ChatGeneration, ChatResult
from langchain_core.tools import BaseTool, tool

from steptrack_callbacks import peek_completed_steps
from steptrack_callbacks.langgraph import StepBudgetMiddleware

HELLO: Any = {"messages": [("user", "hello")]}
CALL_USD = 10 * Decimal("2.5e-6") + 4 * Decimal("1e-5")  # of gpt-4o


class ScriptedChat(BaseChatModel):
    """Calls the tools of its script, turn by turn, then says "done"; one object serves any number of runs.

    Attributes:
        script: The names of the tools that it calls in each turn.
        sent: How many messages each request had.
        offered: The names of the tools that each request offered.
        gate: What an async answer waits for, if anything.
        asked: Set once a request waits there.
    """

    model: str = "gpt-4o"
    script: list[list[str]] = []
    sent: list[int] = []
    offered: list[list[str]] = []
    gate: Any = None
    asked: Any = None

    @property
    def _llm_type(self) -> str:
        return "scripted"

    def bind_tools(self, tools: Sequence[Any], **kwargs: Any) -> Any:
        return self.bind(tools=[{"function": {"name": each.name}} for each in tools], **kwargs)

    def _generate(
        self, messages: Any, stop: Any = None, run_manager: Any = None, **kwargs: Any
    ) -> ChatResult:
        self.sent.append(len(messages))
        self.offered.append([each["function"]["name"] for each in kwargs.get("tools", ())])
        last_human = max(index for index, each in enumerate(messages) if isinstance(each, HumanMessage))
        turn = sum(isinstance(each, AIMessage) for each in messages[last_human:])
        names = self.script[turn] if turn < len(self.script) else []
        calls = [
            {"name": name, "args": {}, "id": f"{len(messages)}-{index}"} for index, name in enumerate(names)
        ]
        answer = AIMessage(
            "" if names else "done",
            tool_calls=calls,
            usage_metadata={"input_tokens": 10, "output_tokens": 4, "total_tokens": 14},
            response_metadata={"model_name": self.model},
        )
        return ChatResult(generations=[ChatGeneration(message=answer)])

    async def _agenerate(
        self, messages: Any, stop: Any = None, run_manager: Any = None, **kwargs: Any
    ) -> ChatResult:
        if self.gate is not None:
            self.asked.set()
            await self.gate.wait()
        return self._generate(messages, **kwargs)


def gated() -> ScriptedChat:
    """Make a model that answers once its gate is open; for one event loop."""
    return scripted(gate=asyncio.Event(), asked=asyncio.Event())


def scripted(*script: list[str], **options: Any) -> ScriptedChat:
    """Make a model that calls these tools."""
    return ScriptedChat(script=list(script), sent=[], offered=[], **options)


@tool
def look() -> str:
    """Look."""
    return "seen"


@tool
def shell() -> str:
    """Run anything."""
    return "ran"


def asking_tool(model: Any) -> BaseTool:
    """Make a tool that calls a model itself, sync and async."""

    @tool
    def ask() -> str:
        """Ask."""
        return str(model.invoke("hello").text)

    async def ask_async() -> str:
        return str((await model.ainvoke("hello")).text)

    ask.coroutine = ask_async
    return ask


def agent_of(model: Any, *tools: Any, checkpointer: Any = None, middleware: Any = (), **budget: Any) -> Any:
    """Make an agent with a budget."""
    given = [StepBudgetMiddleware("research", **budget), *middleware]
    return create_agent(model, list(tools), middleware=given, checkpointer=checkpointer)


def thread(number: int = 1) -> Any:
    """Name a thread."""
    return {"configurable": {"thread_id": str(number)}}


def last(answer: Any) -> str:
    """Return the last message's text."""
    return str(answer["messages"][-1].text)


def paths() -> list[str]:
    """Return the paths of the steps that have ended, in order."""
    return [record.path for record in peek_completed_steps()]


def by_path() -> dict[str, Any]:
    """Return the last record of each path."""
    return {record.path: record for record in peek_completed_steps()}
