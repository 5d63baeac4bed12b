"""A fan-out with Send: all branches share the budget of their node, which the graph knows nothing of.

It runs offline: the model is a fake that reports usage. Put a real one in its place.
"""

import operator
from typing import Annotated, Any, TypedDict

from langchain_core.language_models.fake_chat_models import FakeMessagesListChatModel
from langchain_core.messages import AIMessage
from langgraph.graph import START, StateGraph
from langgraph.types import Send

import steptrack_callbacks as steptrack
from steptrack_callbacks import BudgetExhausted

steptrack.install(nodes={"summarise": {"max_calls": 4}})

usage: Any = {"input_tokens": 500, "output_tokens": 100, "total_tokens": 600}
model = FakeMessagesListChatModel(responses=[AIMessage("A page, summarised.", usage_metadata=usage)])


class State(TypedDict):
    pages: list[int]
    summaries: Annotated[list[str], operator.add]


def summarise(page: dict[str, int]) -> dict[str, list[str]]:
    try:
        return {"summaries": [model.invoke(f"Summarise page {page['number']}.").text]}
    except BudgetExhausted:
        return {"summaries": ["(no budget left)"]}


def each_page(state: State) -> list[Send]:
    return [Send("summarise", {"number": number}) for number in state["pages"]]


builder = StateGraph(State)
builder.add_node("summarise", summarise)
builder.add_conditional_edges(START, each_page, ["summarise"])

summaries = builder.compile().invoke({"pages": list(range(10)), "summaries": []})["summaries"]
print(f"{summaries.count('A page, summarised.')} of {len(summaries)} pages summarised\n")
print(steptrack.report())
