"""`wrap_up_calls` keeps calls back, as `wrap_up_usd` keeps dollars."""

from __future__ import annotations

import pytest

from steptrack_callbacks import BudgetExhausted, StepDefinition, pricing, record_usage, step
from steptrack_callbacks.engine.request import Request
from steptrack_callbacks.steps.attribution import new_call
from steptrack_callbacks.tokens import InputCount


def call() -> None:
    made = new_call(Request(model="my-model", count_input=lambda: InputCount(tokens=1, upper_bound=1)))
    made.admit()
    made.fail()


def test_calls_that_are_kept_back_are_for_wrapping_up() -> None:
    with step("research", max_calls=3, wrap_up_calls=1) as research:
        call()
        call()
        assert research.remaining("max_calls") == 0
        with pytest.raises(BudgetExhausted, match="max_calls"):
            call()
        with research.wrap_up():
            assert research.remaining("max_calls") == 1
            call()
            with pytest.raises(BudgetExhausted):
                call()
    assert research.usage.calls == 3


def test_a_refusal_says_what_is_kept_back_where_that_is_why() -> None:
    with step("research", max_calls=3, wrap_up_calls=1) as research:
        call()
        call()
        with pytest.raises(BudgetExhausted, match="2 calls spent and 1 kept back of 3") as refused:
            call()
        assert refused.value.remaining == research.remaining("max_calls") == 0
        with research.wrap_up():
            call()
            with pytest.raises(BudgetExhausted, match="3 calls spent of 3"):
                call()


def test_dollars_that_are_kept_back_are_said_too() -> None:
    pricing.set_prices({"my-model": {"input_usd_per_mtok": 1, "output_usd_per_mtok": 1}})
    with step("research", max_usd=1, wrap_up_usd=0.4) as research:
        record_usage("my-model", input_tokens=600_000, output_tokens=0)
        why = r"\$0\.6000 spent and \$0\.4000 kept back of \$1\.0000"
        with pytest.raises(BudgetExhausted, match=why) as refused:
            call()
    assert refused.value.remaining == 0
    assert research.usage.calls == 1


def test_a_run_that_a_ledger_keeps_keeps_calls_back_too() -> None:
    with step("research", max_calls=2, wrap_up_calls=1, run_id="one") as research:
        call()
        with pytest.raises(BudgetExhausted):
            call()
        with research.wrap_up():
            call()
    assert research.usage.calls == 2


@pytest.mark.parametrize("options", [{}, {"max_calls": 1}, {"max_usd": 5}])
def test_more_than_the_limit_cannot_be_kept_back(options: dict[str, int]) -> None:
    with pytest.raises(ValueError, match="wrap_up_calls=1 is kept back from max_calls, so max_calls must be"):
        StepDefinition(name="plan", wrap_up_calls=1, **options)


@pytest.mark.parametrize("value", [-1, 0.5, "1", True])
def test_what_is_kept_back_is_a_number_of_calls(value: object) -> None:
    with pytest.raises(ValueError, match="wrap_up_calls"):
        StepDefinition(name="plan", max_calls=5, wrap_up_calls=value)  # type: ignore[arg-type]
