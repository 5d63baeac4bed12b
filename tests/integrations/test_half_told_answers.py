"""What an answer tells only in part is counted by us for the rest, and marked."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest

from steptrack_callbacks import Usage, step
from steptrack_callbacks.engine.request import Request
from steptrack_callbacks.integrations import settling
from steptrack_callbacks.integrations.usage import Reading
from steptrack_callbacks.litellm.requests import request_of
from steptrack_callbacks.steps.attribution import new_call
from steptrack_callbacks.tokens import InputCount

M = Decimal("1e-6")


def request(**more: Any) -> Request:
    return Request(model="gpt-4o", count_input=lambda: InputCount(20, 30), **more)


def charged(asked: Request, *pieces: Any, computed_cost: Any = None, said: str = "two words") -> Usage:
    """Charge a call with an answer that came in pieces."""
    reading = Reading()
    for piece in pieces:
        reading.add(piece)
    with step("plan") as plan:
        call = new_call(asked)
        call.admit()
        settling.settle(call, reading.answer(computed_cost=computed_cost), lambda: said)
    return plan.usage


def test_a_sum_of_tokens_alone_is_the_input_that_was_counted_and_output_for_the_rest() -> None:
    used = charged(request(), {"usage": {"total_tokens": 420}})
    assert (used.input_tokens, used.output_tokens, used.estimated_calls) == (20, 400, 1)
    assert used.cost_usd == 20 * Decimal("2.5") * M + 400 * 10 * M


def test_a_sum_that_is_less_than_the_input_is_no_sum() -> None:
    used = charged(request(), {"usage": {"total_tokens": 4}})
    assert (used.input_tokens, used.output_tokens, used.estimated_calls) == (20, 2, 1)


def test_a_sum_of_tokens_alone_is_all_that_an_embedding_tells() -> None:
    used = charged(request(max_output_tokens=0), {"usage": {"total_tokens": 420}}, said="")
    assert (used.input_tokens, used.output_tokens, used.estimated_calls) == (420, 0, 0)


@pytest.mark.parametrize("usage", [{"total_tokens": 8_628}, {}, None])
def test_a_cost_that_the_framework_has_worked_out_is_taken_where_no_counts_have_come(usage: Any) -> None:
    used = charged(request(), {"usage": usage}, computed_cost=0.049762)
    assert used.cost_usd == Decimal("0.049762")
    assert used.estimated_calls == 1


def test_a_cost_that_the_framework_has_worked_out_from_half_of_the_counts_is_not() -> None:
    used = charged(request(), {"usage": {"completion_tokens": 5}}, computed_cost=0.00005)
    assert used.cost_usd == 20 * Decimal("2.5") * M + 5 * 10 * M


@pytest.mark.parametrize(
    ("said", "usd"),
    [
        ({"cost": 0, "is_byok": False, "cost_details": {"upstream_inference_cost": 0}}, Decimal(0)),
        ({"cost": 0.0, "is_byok": False}, Decimal(0)),
        ({"cost": 0}, None),
        ({"cost": 0, "is_byok": True, "cost_details": {"upstream_inference_cost": None}}, None),
        ({"cost": None, "is_byok": False}, None),
        ({"cost": False, "is_byok": False}, None),
    ],
)
def test_a_bill_of_nothing_is_one_where_it_is_known_to_be_a_bill(said: Any, usd: Decimal | None) -> None:
    usage = {"prompt_tokens": 300, "completion_tokens": 40, **said}
    reading = Reading()
    reading.add({"usage": usage})
    assert reading.answer().cost_usd == usd
    used = charged(Request(model="nobodys", count_input=lambda: InputCount(20, 30)), {"usage": usage})
    assert used.unpriced_calls == (usd is None)


def test_a_chunk_of_groqs_has_its_usage_in_a_place_of_its_own() -> None:
    usage = {"queue_time": 0.1, "prompt_tokens": 300, "completion_tokens": 40, "total_tokens": 340}
    used = charged(request(), {"id": "1", "choices": []}, {"x_groq": {"id": "req", "usage": usage}})
    assert (used.input_tokens, used.output_tokens, used.estimated_calls) == (300, 40, 0)


@pytest.mark.parametrize("options", [{"model_info": {0: None, "input_cost_per_query": "x"}}, {}])
def test_what_makes_no_sense_as_a_rate_of_a_piece_says_nothing(options: Any) -> None:
    known = request_of("rerank", "cohere/rerank-v3.5", "q", {})
    assert request_of("rerank", "cohere/rerank-v3.5", "q", options).fee == known.fee


def test_a_rate_by_the_piece_may_be_given_with_the_call_also_as_text() -> None:
    asked = request_of("rerank", "cohere/rerank-v3.5", "q", {"input_cost_per_query": "0.5"})
    assert asked.fee.likely == 5 * 10**23
