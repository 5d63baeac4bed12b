"""Every mode times within budget, denied, overrun, cut: counted at the provider, not at us.

Each row of the matrix is asked once in a step, and four things are looked at: the requests that reached
the provider, the charge, what the caller sees raised, and the record that is left.
"""

from __future__ import annotations

import gc

import pytest
from asking import INPUT_USD, OUTPUT_USD
from every_mode import OUTPUT_TOKENS, ROWS, Row
from langchain_core.exceptions import ModelError

from provider import Provider
from steptrack_callbacks import BudgetExhausted, Step, peek_completed_steps, step

pytestmark = pytest.mark.contract


@pytest.fixture(autouse=True)
def _collections_look_at_what_this_test_makes() -> None:
    gc.freeze()


@pytest.fixture
def provider(provider: Provider) -> Provider:
    provider.behave(output_tokens=OUTPUT_TOKENS)
    return provider


every_row = pytest.mark.parametrize("row", ROWS, ids=str)


@every_row
def test_within_budget(row: Row, provider: Provider) -> None:
    with step("plan", max_usd=1) as plan:
        answer = row.ask(provider)
    assert answer
    assert [request.body.get("stream", False) for request in provider.requests] == [row.streams]
    assert charge(plan) == (1, *row.used)
    assert plan.cost_usd == row.used[0] * INPUT_USD + row.used[1] * OUTPUT_USD
    assert record() == ("completed", 0, 0)


@every_row
def test_denied(row: Row, provider: Provider) -> None:
    with pytest.raises(BudgetExhausted) as seen, step("plan", max_usd=0) as plan:
        row.ask(provider)
    assert provider.count() == 0
    assert charge(plan) == (0, 0, 0, False)
    assert (seen.value.phase, seen.value.limit) == ("denied", "max_usd")
    assert isinstance(seen.value, ModelError)
    assert not seen.value.is_retryable
    assert record() == ("failed", row.tries, 0)


@every_row
def test_overrun(row: Row, provider: Provider) -> None:
    answer = None
    with pytest.raises(BudgetExhausted) as seen, step("plan", max_tokens=50, cut_streams=False) as plan:
        answer = row.ask(provider)
    assert answer
    assert provider.count() == 1
    assert charge(plan) == (1, *row.used)
    assert (seen.value.phase, seen.value.limit) == ("settled", "max_tokens")
    assert seen.value.consumed_tokens == row.used[0] + row.used[1]
    assert record() == ("failed", 0, 0)


@every_row
def test_after_an_overrun_nothing_more_is_sent(row: Row, provider: Provider) -> None:
    with pytest.raises(BudgetExhausted) as seen, step("plan", max_tokens=50, cut_streams=False) as plan:
        row.ask(provider)
        row.ask(provider)
    assert provider.count() == 1
    assert charge(plan) == (1, *row.used)
    assert seen.value.phase == "denied"
    assert record() == ("failed", row.tries, 0)


@pytest.mark.parametrize("row", [row for row in ROWS if row.streams], ids=str)
def test_cut_stream(row: Row, provider: Provider) -> None:
    provider.behave(output_tokens=150)
    with pytest.raises(BudgetExhausted) as seen, step("plan", max_tokens=100) as plan:
        row.ask(provider)
    assert provider.count() == 1
    calls, input_tokens, output_tokens, is_counted = charge(plan)
    assert (calls, is_counted) == (1, True)
    assert 100 < input_tokens + output_tokens < 130
    assert (seen.value.phase, seen.value.limit) == ("stream", "max_tokens")
    assert seen.value.response.startswith(" word time word" if row.kind != "two answers" else " word word")
    assert record() == ("failed", 0, 0)


def charge(plan: Step) -> tuple[int, int, int, bool]:
    """Say what was charged: calls, input and output tokens, and whether we counted those."""
    usage = plan.usage
    return usage.calls, usage.input_tokens, usage.output_tokens, bool(usage.estimated_calls)


def record() -> tuple[str, int, int]:
    """Say what the only record tells: status, calls denied, calls still in flight."""
    [left] = peek_completed_steps()
    return left.status, left.denied_calls, left.in_flight_calls
