"""An agent with tools that pauses when its budget is used up, so that a person can grant more.

It runs offline: the model is a fake that reports usage. Put a real one in its place.
"""

from typing import Any

from langchain.agents import create_agent
from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage
from langchain_core.outputs import ChatGeneration, ChatResult
from langchain_core.tools import tool
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.types import Command

import steptrack_callbacks as steptrack
from steptrack_callbacks.langgraph import StepBudgetMiddleware

steptrack.install()


class FakeModel(BaseChatModel):
    """Looks two things up, then answers."""

    model: str = "gpt-4o-mini"

    @property
    def _llm_type(self) -> str:
        return "fake"

    def bind_tools(self, *_: Any, **__: Any) -> Any:
        return self

    def _generate(self, messages: Any, *_: Any, **__: Any) -> ChatResult:
        looked_up = sum(message.type == "tool" for message in messages)
        wants = ["the weather", "the news"][looked_up : looked_up + 1]
        answer = AIMessage(
            "" if wants else "Sunny, and nothing new.",
            tool_calls=[{"name": "search", "args": {"what": what}, "id": what} for what in wants],
            usage_metadata={"input_tokens": 500, "output_tokens": 100, "total_tokens": 600},
        )
        return ChatResult(generations=[ChatGeneration(message=answer)])


@tool
def search(what: str) -> str:
    """Search the web."""
    return f"{what}: as usual"


agent = create_agent(
    FakeModel(),
    [search],
    middleware=[StepBudgetMiddleware("research", max_calls=2, error_boundary="escalate")],
    checkpointer=InMemorySaver(),
)
thread: Any = {"configurable": {"thread_id": "1"}}

paused: Any = agent.invoke({"messages": [("user", "What is going on?")]}, thread)
question = paused["__interrupt__"][0].value
print(f"paused: {question['message']}")

# A person looks at it; the answer may come in another process.
answer = agent.invoke(Command(resume={"max_calls": 2, "by": "ops"}), thread)
print(f"answer: {answer['messages'][-1].text}\n")
print(steptrack.report())
