"""Recorded answers of real providers, as frameworks hand them over, cost what the provider billed for them.

`answers.json` has one a line: figures and shapes alone, of public recordings. `usd` is the list price of
the day on which they were gathered, or what the provider itself has stated; a row without it is of a price
that sources do not agree on, and `null` is one that nobody can price.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from langchain_core.messages import AIMessage, AIMessageChunk
from langchain_core.outputs import ChatGeneration, LLMResult
from litellm import ModelResponse
from litellm.types.llms.openai import ResponsesAPIResponse

from steptrack_callbacks import Usage, step
from steptrack_callbacks.langchain import usage as langchain_usage
from steptrack_callbacks.langchain.requests import chat_request
from steptrack_callbacks.litellm import charging
from steptrack_callbacks.litellm.requests import request_of
from steptrack_callbacks.steps.attribution import new_call

Row = dict[str, Any]

ROWS: list[Row] = json.loads((Path(__file__).parent / "answers.json").read_text())
NEAR = Decimal("1e-9")


def by_langchain(row: Row) -> Usage:
    """Charge it as LangChain's handler does; `address` is where its client had been pointed to."""
    told = row["langchain"]
    kwargs = {"openai_api_base": told["address"]} if "address" in told else {}
    model = {"name": told["client"], "kwargs": kwargs}
    metadata = {"ls_provider": told["provider"], "ls_model_name": told["model"]}
    message = (AIMessageChunk if told["is_chunk"] else AIMessage)(
        content=told.get("blocks", ""),
        usage_metadata=told["usage_metadata"],
        response_metadata=told["response_metadata"],
    )
    result = LLMResult(generations=[[ChatGeneration(message=message)]], llm_output=told.get("llm_output"))
    with step("plan") as plan:
        call = new_call(chat_request(model, [], metadata, told.get("asked", {})))
        call.admit()
        langchain_usage.settle(call, result, uuid4())
    return plan.usage


def by_litellm(row: Row) -> Usage:
    """Charge it as LiteLLM's entry points do, with the sum that LiteLLM has put beside it."""
    told = row["litellm"]
    kind = told["kind"]
    answer: Any = (
        ModelResponse(**told["response"])
        if kind == "chat"
        else ResponsesAPIResponse.model_construct(**told["response"], output=[])
    )
    with step("plan") as plan:
        call = new_call(request_of(kind, told["model"], [], {"custom_llm_provider": told["provider"]}))
        call.admit()
        charging.settle(call, kind, answer, told.get("cost"))
    return plan.usage


WAYS: dict[str, Callable[[Row], Usage]] = {"langchain": by_langchain, "litellm": by_litellm}


def rows(*, has: str = "name") -> list[Any]:
    """Return each row with each framework that has handed it over whole."""
    return [
        pytest.param(row, way, id=f"{row['name']}: {way}")
        for row in ROWS
        for way in WAYS
        if has in row and way in row and "lost" not in row[way]
    ]


@pytest.mark.parametrize(("row", "way"), rows(has="usd"))
def test_a_recorded_answer_costs_what_it_was_billed_at(row: Row, way: str) -> None:
    used = WAYS[way](row)
    if row["usd"] is None:
        assert (used.unpriced_calls, used.cost_usd) == (1, 0)
    else:
        assert used.unpriced_calls == 0
        assert abs(used.cost_usd - Decimal(row["usd"])) <= NEAR


@pytest.mark.parametrize(("row", "way"), rows())
def test_a_recorded_answer_used_what_it_says(row: Row, way: str) -> None:
    used = WAYS[way](row)
    assert {name: getattr(used, name) for name in row["counts"]} == row["counts"]
    assert (used.calls, used.estimated_calls) == (1, 0)


def test_the_recordings_are_of_many_providers_and_all_ways_to_bill() -> None:
    assert len(rows(has="usd")) > 90
    assert len({row["name"].split()[0] for row in ROWS}) > 15
    assert sum("iterations" in json.dumps(row) for row in ROWS) >= 2
    assert sum(row.get("usd", "") is None for row in ROWS) >= 5


def test_an_answer_whose_rounds_langchain_has_dropped_is_marked_estimated() -> None:
    (row,) = (row for row in ROWS if row.get("langchain", {}).get("lost") == "parts")
    assert by_langchain(row).estimated_calls == 1
