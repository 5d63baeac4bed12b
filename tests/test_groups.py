"""A boundary splits exception groups: its own exhaustions are handled, the rest is raised on."""

import asyncio

import pytest

from spending import ask, ask_async
from steptrack_callbacks import BudgetExhausted, current_step, peek_completed_steps, step


def group(*errors):
    raise ExceptionGroup("several", errors)


def own_exhaustion():
    try:
        ask()
        ask()
    except BudgetExhausted as error:
        return error
    return pytest.fail("there must be an exhaustion")


def test_continue_handles_its_own_exhaustions_in_a_group_and_passes_the_rest():
    with (
        pytest.raises(ExceptionGroup) as caught,
        step("plan", max_calls=1, error_boundary="continue") as plan,
    ):
        group(own_exhaustion(), ValueError("x"), ExceptionGroup("inner", [KeyError("y")]))
    assert _leaves(caught.value) == ["ValueError", "KeyError"]
    assert (plan.status, plan.exhausted) == ("error", True)
    assert plan.records()[0].error.startswith("ExceptionGroup: several")


def test_continue_is_quiet_about_a_group_of_nothing_but_its_own():
    with step("plan", max_calls=1, error_boundary="continue") as plan:
        error = own_exhaustion()
        group(error, ExceptionGroup("inner", [error]))
    assert plan.status == "continued"


def test_fail_raises_its_own_exhaustion_out_of_a_group_of_nothing_else():
    with pytest.raises(BudgetExhausted), step("plan", max_calls=1):
        group(own_exhaustion())
    with pytest.raises(ExceptionGroup) as caught, step("plan", max_calls=1):
        group(own_exhaustion(), ValueError("x"))
    assert _leaves(caught.value) == ["BudgetExhausted", "ValueError"]
    assert [record.status for record in peek_completed_steps()] == ["failed", "failed"]


def test_escalate_hands_its_own_exhaustion_on_beside_the_rest_of_a_group():
    with (
        pytest.raises(ExceptionGroup) as caught,
        step("plan", max_calls=1, error_boundary="escalate") as plan,
    ):
        group(own_exhaustion(), ValueError("x"))
    assert _leaves(caught.value) == ["BudgetEscalated", "ValueError"]
    assert plan.status == "escalated"


def test_an_outer_steps_exhaustion_in_a_group_stops_an_inner_step():
    with step("outer", max_calls=1, error_boundary="continue"), step("inner", error_boundary="continue"):
        group(own_exhaustion())
    assert [record.status for record in peek_completed_steps()] == ["stopped", "continued"]


def test_a_task_group_that_runs_out_of_budget_is_met_by_the_boundary_around_it():
    async def main():
        async with step("plan", max_calls=2, error_boundary="continue") as plan, asyncio.TaskGroup() as tasks:
            for _ in range(5):
                tasks.create_task(ask_async())
        return plan

    plan = asyncio.run(main())
    assert (plan.status, plan.usage.calls, current_step()) == ("continued", 2, None)


def _leaves(error):
    if isinstance(error, BaseExceptionGroup):
        return [leaf for inner in error.exceptions for leaf in _leaves(inner)]
    return [type(error).__name__]
