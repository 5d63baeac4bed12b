"""Far from limits room is set aside for several calls at once: it keeps nobody out, and lets nobody through."""

import threading

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from internals import assert_nothing_left
from steptrack_callbacks import Budget, BudgetExhausted, Usage, bind, record_usage, step
from steptrack_callbacks.engine import allowance, output_stats
from steptrack_callbacks.engine.call import Call
from steptrack_callbacks.engine.request import Request
from steptrack_callbacks.steps.attribution import new_call
from steptrack_callbacks.tokens import InputCount
from steptrack_callbacks.values.usage import text_usage

BOUND_TOKENS = 60 + 20
"""Of each call: bytes that are sent, and the most output."""
USED = text_usage(10, 5)


@pytest.fixture(autouse=True)
def _seen():
    output_stats.reset()
    output_stats.learn("gpt-4o", output_tokens=5, counted_input=10, input_tokens=10)


def admitted(most: int = 20) -> Call:
    call = new_call(
        Request(
            model="gpt-4o",
            count_input=lambda: InputCount(tokens=10, upper_bound=12),
            bound_input=lambda: 60,
            max_output_tokens=most,
        )
    )
    call.admit(patient=False)
    return call


def aside_tokens(of) -> int:
    return of.account.in_flight.aside[1]


def test_room_is_set_aside_for_several_calls_and_the_last_of_them_asks_for_more():
    with step("plan", max_tokens=10**6) as plan:
        admitted().settle(USED)  # its input is denser than any before, so it is counted
        for _ in range(allowance.AT_ONCE - 1):
            admitted().settle(USED)
            assert aside_tokens(plan) == allowance.AT_ONCE * BOUND_TOKENS
        admitted().settle(USED)
        assert aside_tokens(plan) == 0
        admitted().settle(USED)
        assert aside_tokens(plan) == allowance.AT_ONCE * BOUND_TOKENS
        assert plan.remaining("max_tokens") == 10**6 - plan.usage.total_tokens
        assert_nothing_left(plan)


def test_what_is_set_aside_for_one_step_keeps_another_out_of_nothing():
    with step("plan", max_tokens=2_000) as plan:
        with step("first", max_tokens=10**6):
            admitted().settle(USED)
            assert aside_tokens(plan) > 500
            with step("second", max_tokens=10**6, parent=plan):
                for _ in range(100):
                    admitted().settle(USED)
    assert plan.usage.total_tokens == 101 * 15
    assert_nothing_left(plan)


def test_no_call_goes_by_room_set_aside_once_something_else_has_used_up_the_limit():
    with step("plan", max_tokens=10_000, error_boundary="continue") as plan:
        admitted().settle(USED)
        assert aside_tokens(plan) > BOUND_TOKENS
        record_usage("gpt-4o", input_tokens=9_990, output_tokens=0, cost_usd=0)
        with pytest.raises(BudgetExhausted):
            admitted()
    assert plan.usage.calls == 2


def test_nor_once_a_call_has_come_to_far_more_than_anybody_reckoned_with():
    with step("plan", max_tokens=10_000, error_boundary="continue") as plan:
        with step("inner", max_tokens=10**6):
            first = admitted()
            with step("beside", max_tokens=10**6, parent=plan):
                admitted().settle(USED)
                first.settle(Usage(input_tokens=10, output_tokens=9_980))
                with pytest.raises(BudgetExhausted):
                    admitted()
    assert plan.usage.calls == 2


def test_max_calls_is_exact_however_many_begin_at_once():
    with step("plan", max_calls=7, error_boundary="continue") as plan:
        for _ in range(7):
            admitted().settle(USED)
        with pytest.raises(BudgetExhausted):
            admitted()
    assert plan.usage.calls == 7


def assert_it_adds_up(of) -> None:
    """Each account has aside what is held and what is left to take, and has it beside what is settled."""
    room = of.accounts.allowance
    bounds = [call.bound for call in room.calls.values()]
    held = sum(bound.cost for bound in bounds), sum(bound.tokens for bound in bounds)
    left = (room._cost, room._tokens) if room.calls_left else (0, 0)
    for account in of.accounts:
        sums, limits = account.settled, account.limits
        assert account.in_flight.aside[0] >= held[0] + left[0] >= 0
        assert account.in_flight.aside[1] >= held[1] + left[1] >= 0
        assert sums.cost + held[0] + left[0] < limits.cost
        assert sums.tokens + held[1] + left[1] < limits.tokens


@given(st.lists(st.tuples(st.sampled_from(["ask", "ask", "settle", "withdraw"]), st.integers(1, 900))))
@settings(deadline=None)
def test_what_is_set_aside_is_what_calls_hold_and_may_still_take(what):
    with (
        step("plan", max_usd=1, max_tokens=100_000) as plan,
        step("inner", max_usd=2, max_tokens=60_000) as inner,
    ):
        open_calls: list[Call] = []
        for how, tokens in what:
            if how == "ask":
                open_calls.append(admitted(most=tokens))
                assert open_calls[-1].bound is not None
            elif open_calls:
                call = open_calls.pop(tokens % len(open_calls))
                most = call.request.max_output_tokens
                call.settle(text_usage(10, min(tokens, most))) if how == "settle" else call.withdraw()
            assert_it_adds_up(inner)
        for call in open_calls:
            call.withdraw()
    assert_nothing_left(plan, inner)


def test_a_step_that_ends_leaves_nothing_set_aside_around_it():
    with step("plan", max_tokens=10**6) as plan:
        with step("inner", max_tokens=10**6):
            admitted().settle(USED)
            still_open = admitted()
        assert aside_tokens(plan) == 0
        still_open.settle(USED)
        assert_nothing_left(plan)
    assert plan.usage.total_tokens == 30


def test_a_shared_account_remembers_nothing_of_the_steps_that_have_charged_it():
    charged = []
    for _ in range(3):
        with step("run", budgets=[Budget("all", max_usd=10**6)]) as run:
            admitted().settle(USED)
        charged.append(run.budgets[0])
    assert len({id(budget.in_flight) for budget in charged}) == 1
    assert (len(charged[0].in_flight.allowances), charged[0].in_flight.aside) == (0, [0, 0])


def test_calls_of_many_threads_under_one_limit_never_hold_more_than_it_has():
    limit_tokens, threads, each = 40_000, 8, 200
    start = threading.Barrier(threads)

    def work():
        start.wait()
        with step("branch", max_tokens=10**6):
            for _ in range(each):
                try:
                    admitted().settle(Usage(input_tokens=30, output_tokens=20))
                except BudgetExhausted:
                    return

    with step("plan", max_tokens=limit_tokens, error_boundary="continue") as plan:
        workers = [threading.Thread(target=bind(work)) for _ in range(threads)]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
        assert_nothing_left(plan)
        assert limit_tokens - BOUND_TOKENS <= plan.usage.total_tokens <= limit_tokens
