"""Every mode times within budget, denied, overrun, cut: counted at the provider, not at us."""

from __future__ import annotations

from decimal import Decimal

import pytest
from asking import CALL_USD, MODES, STREAMS, chat
from langchain_core.exceptions import ModelError

from provider import Provider
from steptrack_callbacks import BudgetExhausted, peek_completed_steps, step

TRIES_AGAIN = ("with_retry", "with_fallbacks")
SWALLOWS = ("astream_events v1", "astream_events v2")


@pytest.mark.parametrize("mode", MODES)
def test_within_budget_a_call_is_charged_once_and_exactly(mode: str, provider: Provider) -> None:
    with step("plan", max_usd=1) as plan:
        MODES[mode](chat(provider))
    assert provider.count() == plan.usage.calls == 1
    assert (plan.usage.input_tokens, plan.usage.output_tokens) == (100, 200)
    assert (plan.cost_usd, plan.usage.estimated_calls) == (CALL_USD, 0)
    [record] = peek_completed_steps()
    assert (record.status, record.model, record.in_flight_calls) == ("completed", "gpt-4o", 0)


@pytest.mark.parametrize("mode", MODES)
def test_without_budget_a_call_is_refused_and_nothing_is_sent(mode: str, provider: Provider) -> None:
    with pytest.raises(BudgetExhausted) as refusal, step("plan", max_usd=0) as plan:
        MODES[mode](chat(provider))
    assert provider.count() == plan.usage.calls == 0
    assert refusal.value.phase == "denied"
    assert isinstance(refusal.value, ModelError)
    assert not refusal.value.is_retryable
    [record] = peek_completed_steps()
    assert record.status == "failed"
    assert record.denied_calls >= 1


@pytest.mark.parametrize("mode", MODES)
def test_the_answer_that_was_paid_for_is_kept_when_it_overruns(mode: str, provider: Provider) -> None:
    with (
        pytest.raises(BudgetExhausted) as exhaustion,
        step("plan", max_tokens=250, cut_streams=False) as plan,
    ):
        answer = MODES[mode](chat(provider))
        with pytest.raises(BudgetExhausted):
            MODES[mode](chat(provider))
        raise exhaustion_of(plan)
    assert answer
    assert provider.count() == plan.usage.calls == 1
    assert plan.usage.total_tokens == 300
    assert exhaustion.value.limit == "max_tokens"


def exhaustion_of(plan: object) -> BudgetExhausted:
    return BudgetExhausted(step="other", limit="max_tokens", limit_value=1)


@pytest.mark.parametrize("mode", STREAMS)
def test_a_stream_that_passes_a_limit_is_cut_as_it_runs(mode: str, provider: Provider) -> None:
    provider.behave(output_tokens=2_000)
    with pytest.raises(BudgetExhausted) as cut, step("plan", max_tokens=100) as plan:
        MODES[mode](chat(provider))
    assert provider.count() == plan.usage.calls == plan.usage.estimated_calls == 1
    assert cut.value.phase == "stream"
    assert cut.value.response.startswith(" word time word")
    assert 100 < plan.usage.total_tokens < 130
    assert plan.cost_usd > Decimal("0.0008")
