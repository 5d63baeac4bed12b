"""`wrap_up_calls` keeps calls back, as `wrap_up_usd` keeps dollars."""

from __future__ import annotations

import pytest

from steptrack_callbacks import BudgetExhausted, StepDefinition, step
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
