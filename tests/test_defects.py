"""What the runtime that this package starts from got wrong, and this package does not.

Defects that another file's tests name already are not repeated here.
"""

import asyncio
import math
import threading
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spending import ask, ask_async, open_call, spend
from steptrack_callbacks import (
    BudgetEscalated,
    BudgetExhausted,
    Stage,
    StepTrackError,
    UnpricedModel,
    Usage,
    bind,
    current_policy,
    current_step,
    drain_completed_steps,
    peek_completed_steps,
    persona,
    record_usage,
    report,
    step,
    testing,
)
from steptrack_callbacks.hooks import StepEnded, StepStarted, on

# Messages and shapes


def test_a_message_compares_dollars_with_dollars_and_cuts_nothing_off():
    with (
        pytest.raises(BudgetExhausted, match=r"^step 'x' exceeded max_usd: \$0\.0004 spent of \$0\.0003$"),
        step("x", max_usd=0.0003),
    ):
        spend(100, 50, cost_usd=0.0004)


def test_an_unknown_boundary_never_reaches_an_error():
    with pytest.raises(ValueError, match="error_boundary must be one of"):
        step("x", error_boundary="skip")


def test_code_that_catches_the_category_also_sees_an_escalation():
    with pytest.raises(BudgetExhausted) as caught, step("x", max_calls=1, error_boundary="escalate"):
        ask()
        ask()
    assert isinstance(caught.value, BudgetEscalated)
    assert caught.value.to_dict()["category"] == "budget_exceeded"


def test_an_error_that_a_user_made_is_nobodys_exhaustion():
    made = BudgetExhausted(step="x", limit="max_usd", limit_value=1)
    with pytest.raises(BudgetExhausted) as caught, step("x", error_boundary="continue") as x:
        raise made
    assert (caught.value, x.status, x.exhausted) == (made, "error", False)


def test_the_exhaustion_of_the_whole_run_is_not_swallowed_by_a_step_that_continues():
    with pytest.raises(BudgetExhausted) as caught, step("run", max_usd=20):
        for _ in range(3):
            with step("x", max_usd=100, error_boundary="continue", default=None):
                ask()
    assert caught.value.step == "run"


def test_an_amount_in_a_message_decides_nothing():
    with pytest.raises(StepTrackError) as caught, step("x", max_usd=428):
        spend(cost_usd=429)
    assert "$429.0000" in str(caught.value)
    assert (caught.value.kind, caught.value.reason) == ("budget_exhausted", "step_budget_exhausted")
    assert not hasattr(caught.value, "is_retryable")


# Timing and enforcement


def test_a_call_that_is_sure_to_overshoot_is_refused_before_it_is_sent():
    with step("x", max_usd=12) as x:
        ask(5, 5)
        with pytest.raises(BudgetExhausted) as caught:
            ask(5, 5)
    assert (caught.value.phase, caught.value.projected_cost_usd, x.usage.calls) == ("denied", 15, 1)


def test_an_answer_that_was_paid_for_is_not_thrown_away():
    with pytest.raises(BudgetExhausted) as caught, step("x", max_usd=12):
        assert ask() == "the answer"
    assert caught.value.response == "the answer"


def test_a_call_is_judged_by_what_is_left_and_not_by_the_whole_budget():
    with step("x", max_usd=40) as x:
        ask(25, 5)
        with pytest.raises(BudgetExhausted):
            ask(25, 5)
        ask(5, 5)
    assert x.cost_usd == 40


def test_a_small_token_budget_does_not_refuse_its_first_call():
    with step("x", max_tokens=1_000) as x:
        open_call(200, None).settle(Usage(input_tokens=200, output_tokens=100))
    assert (x.status, x.usage.total_tokens) == ("completed", 300)


def test_a_request_cannot_loosen_the_limit_of_its_step():
    with step("x", max_tokens=100, enforce="strict"), pytest.raises(BudgetExhausted):
        ask(10, 5_000)


def test_at_exactly_the_limit_no_further_call_is_admitted():
    with step("x", max_tokens=15) as x:
        ask(10, 5)
        with pytest.raises(BudgetExhausted):
            ask(0, 0)
    assert x.usage.calls == 1


def test_a_budget_of_nothing_lets_no_call_through_not_even_a_free_one():
    for limit in ("max_usd", "max_calls"):
        with step("x", **{limit: 0}) as x, pytest.raises(BudgetExhausted):
            ask(0, 0)
        assert (x.usage.calls, x.cost_usd) == (0, 0)


def test_every_limit_that_is_passed_is_named():
    with pytest.raises(BudgetExhausted) as caught, step("x", max_usd=1, max_tokens=10, max_calls=9):
        spend(10, 10, cost_usd=2)
    assert [breach.limit for breach in caught.value.breaches] == ["max_usd", "max_tokens"]


def test_calls_and_seconds_are_limited_too():
    with pytest.raises(BudgetExhausted) as calls, step("x", max_calls=1):
        ask()
        ask()
    with pytest.raises(BudgetExhausted) as seconds, step("x", max_seconds=1e-9):
        ask()
    assert (calls.value.limit, seconds.value.limit) == ("max_calls", "max_seconds")


def test_seconds_stop_counting_when_the_step_has_ended():
    with step("x", max_seconds=1000) as x:
        spend()
    left, consumed = x.remaining("max_seconds"), x.account.consumed("max_seconds")
    assert (x.remaining("max_seconds"), x.account.consumed("max_seconds"), x.exhausted) == (
        left,
        consumed,
        False,
    )


def test_the_sum_over_repeated_and_recursive_calls_is_bounded_by_the_step_around():
    @step("x", max_usd=20)
    def x(depth):
        ask()
        if depth:
            x(depth - 1)

    with pytest.raises(BudgetExhausted) as caught, step("run", max_usd=39):
        x(0)
        x(0)
        x(0)
    assert (caught.value.step, caught.value.consumed_cost_usd) == ("run", 30)
    with pytest.raises(BudgetExhausted) as caught:
        x(5)
    assert (caught.value.step, caught.value.consumed_cost_usd) == ("x", 15)


# Hierarchy and attribution


def test_an_outer_limit_is_not_evaded_by_moving_calls_into_an_inner_step():
    with pytest.raises(BudgetExhausted) as caught, step("outer", max_calls=2):
        for number in range(9):
            with step(f"inner {number}"):
                ask()
    assert (caught.value.step, len(peek_completed_steps())) == ("outer", 4)


def test_a_boundary_acts_on_a_call_in_a_helper_function():
    def helper():
        ask()
        ask()

    @step("x", max_calls=1, error_boundary="continue", default="instead")
    def x():
        helper()

    assert x() == "instead"
    assert [record.status for record in peek_completed_steps()] == ["continued"]


@pytest.mark.parametrize("boundary", ["continue", "escalate", "fail"])
def test_a_body_that_catches_its_exhaustion_stays_in_its_step_and_its_policy(boundary):
    with (
        persona("editor", stages=[Stage("x", allowed_tools=[])]),
        step("x", max_calls=1, error_boundary=boundary) as x,
    ):
        ask()
        with pytest.raises(BudgetExhausted):
            ask()
        assert current_step() is x
        assert not current_policy().allows("shell")
        with pytest.raises(BudgetExhausted):
            ask()
    assert (x.usage.calls, x.status) == (1, "exhausted")


def test_calls_in_maps_pools_and_tasks_do_not_escape_the_step():
    async def gathered():
        await asyncio.gather(*[ask_async(1, 1) for _ in range(3)])

    with step("x") as x:
        assert list(map(ask, [1, 1, 1], [1, 1, 1])) == ["the answer"] * 3
        with ThreadPoolExecutor(3) as pool:
            list(pool.map(bind(lambda _: ask(1, 1)), range(3)))
        asyncio.run(gathered())
    assert (x.usage.calls, report().unattributed.calls) == (9, 0)


def test_cancellation_between_steps_loses_no_step_and_leaks_no_policy():
    async def stopped():
        with persona("inner", stages=[Stage("x", allowed_tools=[])]), step("x"):
            await asyncio.Event().wait()

    async def main():
        async with step("outer") as outer:
            task = asyncio.create_task(stopped())
            await asyncio.sleep(0)
            task.cancel()
            await asyncio.wait([task])
            assert current_step() is outer
            assert current_policy().allows("shell")

    asyncio.run(main())
    assert [record.status for record in peek_completed_steps()] == ["cancelled", "cancelled", "completed"]


def test_parallel_branches_share_one_budget_and_their_usage_is_merged():
    async def branch():
        await ask_async(1, 1)

    async def main():
        async with step("x", max_calls=5, error_boundary="continue") as x, asyncio.TaskGroup() as tasks:
            for _ in range(20):
                tasks.create_task(branch())
        return x

    x = asyncio.run(main())
    assert (x.usage.calls, x.status) == (5, "continued")


def test_the_call_that_breaks_a_budget_is_in_every_total():
    with pytest.raises(BudgetExhausted), step("run") as run, step("x", max_usd=1):
        spend(cost_usd=5)
    assert (run.cost_usd, report().total.cost_usd) == (5, 5)


def test_failed_and_broken_off_calls_are_counted_and_cached_ones_are_free():
    with step("x") as x:
        open_call().fail(Usage(input_tokens=10))
        open_call(10, 5).abandon(3)
        open_call().settle_free()
    assert (x.usage.calls, x.usage.failed_calls, x.usage.estimated_calls) == (2, 1, 1)
    assert (x.cost_usd, x.usage.total_tokens) == (23, 23)


# Numbers


def test_an_unknown_price_does_not_switch_a_dollar_limit_off():
    with step("x", max_usd=1) as x, pytest.raises(UnpricedModel):
        ask(price=lambda _: None)
    assert x.usage.calls == 0
    with pytest.raises(UnpricedModel), step("x", max_usd=1) as x:
        record_usage("no such model", input_tokens=1, output_tokens=1)
    assert (x.usage.unpriced_calls, x.usage.total_tokens) == (1, 2)


def test_a_fallback_is_judged_by_its_own_price():
    def dear(usage):
        return usage.total_tokens * 10**25

    with step("x", max_usd=20) as x:
        with pytest.raises(BudgetExhausted):
            ask(price=dear)
        ask()
    assert x.cost_usd == 15


@given(st.lists(st.decimals(0, 1, places=12), max_size=40))
def test_money_is_added_exactly(costs):
    testing.reset()
    with step("x") as x:
        for cost in costs:
            spend(cost_usd=cost)
    assert x.cost_usd == sum(costs, Decimal(0))


@pytest.mark.parametrize("cost", [math.nan, math.inf, -0.01, True, "much"])
def test_no_cost_can_poison_or_lower_a_sum(cost):
    with step("x", max_usd=1) as x:
        spend(cost_usd=0.25)
        with pytest.raises(ValueError, match="cost_usd must be"):
            spend(cost_usd=cost)
    assert (x.cost_usd, x.usage.calls) == (Decimal("0.25"), 1)


@pytest.mark.parametrize(
    "counts", [{"input_tokens": -1}, {"output_tokens": 0.5}, {"cache_read_tokens": True}]
)
def test_no_count_can_lower_or_blur_a_sum(counts):
    with step("x") as x, pytest.raises(ValueError, match="must"):
        record_usage("m", **({"input_tokens": 1, "output_tokens": 1} | counts))
    assert x.usage == Usage()


# Records and hooks


def test_a_persona_denied_or_failed_step_always_leaves_a_record():
    seen = []
    on(StepEnded, lambda event: seen.append((event.record.status, event.record.usage.calls)))
    on(StepStarted, lambda event: None)
    with pytest.raises(ZeroDivisionError), step("x"):
        ask()
        raise ZeroDivisionError
    assert seen == [("error", 1)]


def test_hooks_are_called_for_a_step_however_it_is_called():
    seen = []
    on(StepStarted, lambda event: seen.append("started"))
    on(StepEnded, lambda event: seen.append(event.record.usage.calls))

    @step
    def x(_):
        ask()

    list(map(x, range(2)))
    assert seen == ["started", 1, "started", 1]


# Policy and isolation


def test_policies_that_overlap_in_time_do_not_pop_each_other():
    first = persona("a", stages=[Stage("x", allowed_tools=["one"])]).__enter__()
    x = step("x").__enter__()
    other = persona("b", stages=[Stage("x", allowed_tools=["one", "two"])]).__enter__()
    inner = step("x").__enter__()
    x.__exit__(None, None, None)
    assert current_policy().allowed_tools == frozenset({"one"})
    for ended in (inner, other):
        ended.__exit__(None, None, None)
    assert current_policy().allows("shell")
    first.__exit__(None, None, None)


def test_functions_of_one_name_do_not_collide():
    def make(most):
        @step(max_calls=most, error_boundary="continue", default=most)
        def work():
            for _ in range(9):
                ask()

        return work

    one, two = make(1), make(2)
    assert (one(), two(), one()) == (1, 2, 1)
    assert [record.llm_calls for record in drain_completed_steps()] == [1, 2, 1]


def test_runs_in_two_threads_are_apart():
    def run(number):
        with step("run", run_id=f"run {number}", max_calls=1):
            barrier.wait(60)
            ask()
            barrier.wait(60)

    barrier = threading.Barrier(2)
    threads = [threading.Thread(target=run, args=(number,)) for number in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [drain_completed_steps(f"run {number}")[0].llm_calls for number in range(2)] == [1, 1]
