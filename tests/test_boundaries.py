"""What a step does with its own exhaustion, and that it leaves everything else alone."""

import asyncio
import inspect
from decimal import Decimal

import pytest

from fake_framework import FakeFramework
from spending import ask, ask_async, spend
from steptrack_callbacks import (
    BudgetEscalated,
    BudgetExhausted,
    peek_completed_steps,
    step,
)

RAISED = {"fail": BudgetExhausted, "escalate": BudgetEscalated}
STATUS = {"fail": "failed", "escalate": "escalated", "continue": "continued"}


def plain():
    ask()
    ask()


async def coroutine():
    await ask_async()
    await ask_async()


def generator():
    yield "first"
    ask()
    ask()


async def async_generator():
    yield "first"
    await ask_async()
    await ask_async()


KINDS = [plain, coroutine, generator, async_generator]
OF_ANY_KIND = pytest.mark.parametrize("function", KINDS, ids=lambda function: function.__name__)


def run(function):
    """Run a function of any kind to its end: what a call returns, or all that a generator yields."""
    made = function()
    if inspect.isasyncgen(made):
        return asyncio.run(_collect(made))
    if inspect.isgenerator(made):
        return list(made)
    return asyncio.run(made) if inspect.iscoroutine(made) else made


async def _collect(items):
    return [item async for item in items]


def status_of_last():
    return peek_completed_steps()[-1].status


@pytest.mark.parametrize("boundary", ["fail", "escalate"])
def test_a_block_that_fails_or_escalates_raises(boundary):
    with (
        pytest.raises(RAISED[boundary]) as caught,
        step("plan", max_calls=1, error_boundary=boundary) as plan,
    ):
        plain()
    assert type(caught.value) is RAISED[boundary]
    assert caught.value.step_id == plan.id
    assert (plan.status, plan.exhausted) == (STATUS[boundary], True)


def test_a_block_that_continues_is_left_quietly():
    with step("plan", max_calls=1, error_boundary="continue") as plan:
        plain()
        pytest.fail("the second call must not get this far")
    assert (plan.status, plan.exhausted, plan.exhaustion.limit) == ("continued", True, "max_calls")


def test_a_step_that_has_refused_a_call_is_exhausted_though_something_is_left():
    framework = FakeFramework()
    with step("plan", max_tokens=100, enforce="strict") as plan:
        with pytest.raises(BudgetExhausted):
            framework.open()
        assert plan.remaining("max_tokens") == 100
    assert (plan.status, plan.exhausted) == ("exhausted", True)


@pytest.mark.parametrize("boundary", ["fail", "escalate"])
def test_an_async_block_does_as_a_block(boundary):
    async def main():
        async with step("plan", max_calls=1, error_boundary=boundary):
            await coroutine()

    with pytest.raises(RAISED[boundary]):
        asyncio.run(main())
    assert status_of_last() == STATUS[boundary]


@OF_ANY_KIND
@pytest.mark.parametrize("boundary", ["fail", "escalate"])
def test_a_decorated_function_that_fails_or_escalates_raises(function, boundary):
    limited = step("plan", max_calls=1, error_boundary=boundary)(function)
    with pytest.raises(RAISED[boundary]) as caught:
        run(limited)
    assert type(caught.value) is RAISED[boundary]
    assert (caught.value.function, status_of_last()) == (function.__name__, STATUS[boundary])


@pytest.mark.parametrize("function", [plain, coroutine])
def test_a_decorated_function_that_continues_returns_its_default(function):
    limited = step("plan", max_calls=1, error_boundary="continue", default="instead")(function)
    assert run(limited) == "instead"
    without = step("plan", max_calls=1, error_boundary="continue")(function)
    assert run(without) is None
    assert status_of_last() == "continued"


@pytest.mark.parametrize("function", [generator, async_generator])
def test_a_generator_that_continues_ends_and_yields_no_default_after_an_item(function):
    limited = step("plan", max_calls=1, error_boundary="continue", default="instead")(function)
    assert (run(limited), status_of_last()) == (["first"], "continued")


def silent():
    plain()
    yield "never"


async def silent_async():
    await coroutine()
    yield "never"


@pytest.mark.parametrize("function", [silent, silent_async])
def test_a_generator_that_continues_before_any_item_yields_its_default(function):
    limited = step("plan", max_calls=1, error_boundary="continue", default="instead")(function)
    assert run(limited) == ["instead"]
    without = step("plan", max_calls=1, error_boundary="continue")(function)
    assert run(without) == []


@pytest.mark.parametrize("function", [plain, coroutine, silent, silent_async])
def test_a_default_may_be_a_function_of_the_exception(function):
    limited = step("plan", max_calls=1, error_boundary="continue", default=lambda error: error.limit)(
        function
    )
    assert run(limited) in ("max_calls", ["max_calls"])


def test_an_exhaustion_is_met_by_its_own_step_however_deep_it_was_raised():
    def helper(depth):
        return helper(depth - 1) if depth else plain()

    with step("outer", max_calls=1, error_boundary="continue") as outer:
        with step("middle", error_boundary="continue"), step("inner", error_boundary="continue"):
            helper(5)
        pytest.fail("inner steps must not stop what is the outer one's")
    assert outer.status == "continued"
    assert [record.status for record in peek_completed_steps()] == ["stopped", "stopped", "continued"]


def test_an_outer_steps_exhaustion_passes_through_an_inner_continue():
    @step("inner", max_calls=9, error_boundary="continue", default="instead")
    def inner():
        plain()

    with pytest.raises(BudgetExhausted) as caught, step("outer", max_calls=1):
        inner()
    assert caught.value.step == "outer"
    assert [record.status for record in peek_completed_steps()] == ["stopped", "failed"]


def test_the_outermost_step_without_room_owns_the_exhaustion_and_all_are_listed():
    with (
        pytest.raises(BudgetExhausted) as caught,
        step("outer", max_tokens=20),
        step("inner", max_calls=1, max_usd=15, error_boundary="continue"),
    ):
        plain()
    assert (caught.value.step, caught.value.limit) == ("outer", "max_tokens")
    assert [(breach.path, breach.limit) for breach in caught.value.breaches] == [
        ("outer", "max_tokens"),
        ("outer/inner", "max_usd"),
        ("outer/inner", "max_calls"),
    ]


def test_an_escalated_exhaustion_is_an_error_like_any_other_to_the_steps_around():
    with (
        pytest.raises(BudgetEscalated),
        step("outer", error_boundary="continue"),
        step("inner", max_calls=1, error_boundary="escalate"),
    ):
        plain()
    assert [record.status for record in peek_completed_steps()] == ["escalated", "error"]


def test_an_exhaustion_of_a_step_of_the_same_name_is_not_its_own():
    with (
        step("plan", max_calls=9, error_boundary="continue"),
        pytest.raises(BudgetExhausted) as caught,
        step("plan", max_calls=1),
    ):
        plain()
    with pytest.raises(BudgetExhausted), step("plan", max_calls=1, error_boundary="continue") as other:
        raise caught.value
    assert other.status == "error"


# What is over at the end


@pytest.mark.parametrize("boundary", ["fail", "escalate"])
def test_a_step_that_ends_over_its_limit_raises_at_its_end(boundary):
    with (
        pytest.raises(RAISED[boundary], match=r"exceeded max_usd: \$15.0000 spent of \$12.0000") as caught,
        step("plan", max_usd=12, error_boundary=boundary),
    ):
        ask(10, 5, model="unbounded")
    assert (caught.value.phase, caught.value.response, caught.value.result) == ("settled", "the answer", None)


def test_a_step_that_ends_exactly_at_its_limit_does_not_raise():
    with step("plan", max_usd=15, max_tokens=15, max_calls=1) as plan:
        ask()
    assert (plan.status, plan.exhausted) == ("completed", True)


@pytest.mark.parametrize("function", ["plain", "coroutine", "generator"])
def test_what_a_function_returned_is_not_thrown_away(function):
    bodies = {"plain": _answer, "coroutine": _answer_async, "generator": _answer_at_the_end}
    failing = step("plan", max_tokens=12)(bodies[function])
    with pytest.raises(BudgetExhausted) as caught:
        run(failing)
    assert (caught.value.result, caught.value.response) == ("a result", "the answer")
    going_on = step("plan", max_tokens=12, error_boundary="continue", default="instead")(bodies[function])
    assert run(going_on) == ([] if function == "generator" else "a result")
    assert status_of_last() == "continued"


def _answer():
    ask()
    return "a result"


async def _answer_async():
    await ask_async()
    return "a result"


def _answer_at_the_end():
    ask()
    return "a result"
    yield


def test_an_escalated_exhaustion_keeps_the_answer_and_the_result():
    with pytest.raises(BudgetEscalated) as caught:
        step("plan", max_tokens=12, error_boundary="escalate")(_answer)()
    assert (caught.value.result, caught.value.response) == ("a result", "the answer")
    assert isinstance(caught.value.__cause__, BudgetExhausted) or caught.value.__cause__ is None


def test_a_body_that_swallowed_its_exhaustion_is_not_told_again():
    with step("plan", max_tokens=12) as plan:
        ask()
        with pytest.raises(BudgetExhausted):
            ask()
    assert plan.usage.total_tokens == 15
    assert plan.status == "exhausted"


def test_a_swallowed_exhaustion_buys_nothing():
    with step("plan", max_calls=1) as plan:
        for _ in range(5):
            with pytest.raises(BudgetExhausted) if plan.usage.calls else _nothing():
                ask()
    assert (plan.usage.calls, plan.records()[0].denied_calls, plan.status) == (1, 4, "exhausted")


def _nothing():
    from contextlib import nullcontext

    return nullcontext()


def test_a_parent_is_checked_at_its_own_end_only():
    with pytest.raises(BudgetExhausted) as caught, step("outer", max_tokens=12):
        with step("inner", max_tokens=100) as inner:
            ask()
        assert inner.status == "completed"
    assert (caught.value.step, caught.value.phase) == ("outer", "settled")


def test_an_error_that_is_leaving_is_not_replaced_by_an_exhaustion():
    with pytest.raises(ZeroDivisionError), step("plan", max_tokens=12) as plan:
        ask()
        raise ZeroDivisionError
    assert plan.status == "error"


def test_usage_that_was_reported_and_is_over_is_raised_at_once_and_charged():
    with pytest.raises(BudgetExhausted) as caught, step("plan", max_usd=0.05) as plan:
        spend(cost_usd=0.0612)
        pytest.fail("it is over")
    assert str(caught.value) == "step 'plan' exceeded max_usd: $0.0612 spent of $0.0500"
    assert plan.cost_usd == Decimal("0.0612")


def test_room_that_was_merely_reserved_is_no_exhaustion():
    with pytest.raises(BudgetExhausted) as caught, step("plan", max_tokens=20, wait_s=0) as plan:
        from spending import open_call

        call = open_call(10, 5)
        with pytest.raises(BudgetExhausted) as busy:
            ask()
        assert busy.value.phase == "busy"
        from steptrack_callbacks import Usage

        call.settle(Usage(input_tokens=10, output_tokens=15))
    assert (caught.value.phase, plan.status) == ("settled", "failed")
