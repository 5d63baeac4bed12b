"""Escalation asks before it raises: one question per exhaustion, and a no is remembered."""

import asyncio
import threading
from decimal import Decimal

import pytest

from fake_framework import until
from spending import ask, ask_async, open_call, spend
from steptrack_callbacks import (
    Budget,
    BudgetEscalated,
    BudgetExhausted,
    Grant,
    StepDenied,
    Usage,
    bind,
    peek_completed_steps,
    settings,
    step,
)
from steptrack_callbacks.concurrency.flow import run_sync
from steptrack_callbacks.engine import escalation
from steptrack_callbacks.hooks import Escalated, on
from steptrack_callbacks.steps.attribution import refuse_if_exhausted, refuse_if_exhausted_async


class Asked:
    """An escalation function that notes what it was asked, and answers as it was told."""

    def __init__(self, *answers):
        self.errors = []
        self.answers = list(answers)

    def __call__(self, error):
        self.errors.append(error)
        return self.answers.pop(0)


def limited(ask_whom, **limits):
    return step("plan", error_boundary="escalate", escalation=ask_whom, **(limits or {"max_calls": 1}))


def test_a_grant_lets_the_refused_call_go_and_is_recorded():
    grant = Grant(max_calls=1, by="ops")
    asked = Asked(grant, None)
    with pytest.raises(BudgetEscalated) as caught, limited(asked) as plan:
        ask()
        assert ask() == "the answer"
        ask()
    assert [error.limit_value for error in asked.errors] == [1, 2]
    assert [type(error) for error in asked.errors] == [BudgetExhausted] * 2
    assert (plan.usage.calls, plan.limits) == (2, {"max_calls": 2})
    assert caught.value.grants == plan.records()[0].grants == (grant,)
    assert plan.records()[0].to_dict()["grants"] == [{"max_calls": 1, "by": "ops"}]


def test_a_grant_lets_a_job_begin_that_is_billed_later():
    asked = Asked(Grant(max_calls=1))
    with step("plan", max_calls=1, error_boundary="escalate", escalation=asked) as plan:
        ask()
        refuse_if_exhausted()
        asyncio.run(refuse_if_exhausted_async())
    assert (len(asked.errors), plan.record().denied_calls) == (1, 0)


def test_a_no_is_remembered():
    asked = Asked(None)
    with limited(asked) as plan:
        ask()
        for _ in range(3):
            with pytest.raises(BudgetExhausted):
                ask()
    assert (len(asked.errors), plan.status) == (1, "exhausted")


def test_a_grant_that_is_not_enough_asks_again():
    asked = Asked(Grant(max_usd=5), Grant(max_usd=20))
    with limited(asked, max_usd=20) as plan:
        ask()
        ask()
    assert (len(asked.errors), plan.limits, plan.cost_usd) == (2, {"max_usd": 45}, 30)


def test_a_grant_of_another_limit_is_a_no():
    asked = Asked(Grant(max_tokens=1000))
    with pytest.raises(BudgetEscalated) as caught, limited(asked):
        ask()
        ask()
    assert len(asked.errors) == 1
    assert str(caught.value).endswith("; what was granted adds nothing to max_calls")


@pytest.mark.parametrize("no", [None, False])
def test_a_no_is_said_to_be_one(no):
    with pytest.raises(BudgetEscalated) as caught, limited(Asked(no)):
        ask()
        ask()
    assert str(caught.value).endswith("1 call spent of 1; whoever was asked for more said no")


def test_a_step_that_escalates_to_nobody_says_how_to_name_somebody():
    with pytest.raises(BudgetEscalated) as caught, limited(None):
        ask()
        ask()
    hint = "nobody could be asked for more: give the step an escalation, or install(escalation=...)"
    assert caught.value.hint == hint
    assert str(caught.value).endswith(f"; {hint}")


def test_a_budget_that_a_step_escalates_for_says_why_nobody_granted_more():
    with (
        pytest.raises(BudgetEscalated) as caught,
        step(
            "plan", error_boundary="escalate", escalation=Asked(None), budgets=[Budget("team", max_calls=1)]
        ),
    ):
        ask()
        ask()
    assert caught.value.budget == "team"
    assert caught.value.hint == "whoever was asked for more said no"


def test_an_exhaustion_that_leaves_beside_other_errors_says_why_nobody_granted_more():
    with pytest.raises(ExceptionGroup) as caught, limited(Asked(None)):
        ask()
        try:
            ask()
        except BudgetExhausted as error:
            raise ExceptionGroup("both", [error, ValueError("another")]) from None
    assert caught.value.exceptions[0].hint == "whoever was asked for more said no"


def test_a_grant_raises_the_limits_that_are_set_and_sets_none():
    with limited(Asked(Grant(max_calls=1, max_usd=1, max_tokens=10)), max_calls=1, max_tokens=50) as plan:
        ask()
        ask()
    assert plan.limits == {"max_tokens": 60, "max_calls": 2}


@pytest.mark.parametrize("boundary", ["fail", "continue"])
def test_only_steps_that_escalate_ask(boundary):
    asked = Asked()
    with pytest.raises(ValueError, match="escalation is asked under error_boundary='escalate' only"):
        step("plan", max_calls=1, error_boundary=boundary, escalation=asked)
    settings.change(escalation=asked)
    with step("plan", max_calls=1, error_boundary=boundary):
        ask()
        with pytest.raises(BudgetExhausted):
            ask()
    assert asked.errors == []


def test_a_step_without_a_function_asks_that_of_the_process():
    asked = Asked(Grant(max_calls=1))
    settings.change(escalation=asked)
    with step("plan", max_calls=1, error_boundary="escalate"):
        ask()
        ask()
    own = Asked(Grant(max_calls=1))
    with limited(own):
        ask()
        ask()
    assert (len(asked.errors), len(own.errors)) == (1, 1)


def test_a_grant_is_for_the_owner_and_admission_asks_all_again():
    outer, inner = Asked(Grant(max_calls=1)), Asked(Grant(max_calls=1))
    with (
        step("outer", max_calls=1, error_boundary="escalate", escalation=outer) as around,
        limited(inner) as plan,
    ):
        ask()
        ask()
    assert [error.step for error in outer.errors] == ["outer"]
    assert [error.step for error in inner.errors] == ["plan"]
    assert (around.limits, plan.limits) == ({"max_calls": 2}, {"max_calls": 2})


def test_a_grant_at_the_end_keeps_a_step_from_raising():
    asked = Asked(Grant(max_tokens=5))
    with limited(asked, max_tokens=12) as plan:
        ask()
    assert (asked.errors[0].phase, plan.status, plan.limits) == ("settled", "completed", {"max_tokens": 17})


def test_a_no_at_the_end_raises():
    asked = Asked(None)
    with pytest.raises(BudgetEscalated), limited(asked, max_tokens=12):
        ask()
    assert len(asked.errors) == 1


def test_usage_that_was_reported_over_the_limit_asks_too():
    with limited(Asked(Grant(max_usd=1)), max_usd=0.5) as plan:
        spend(cost_usd="0.75")
    assert (plan.status, plan.limits) == ("completed", {"max_usd": Decimal("1.5")})


def test_an_async_function_answers_async_calls():
    async def ops(error):
        await asyncio.sleep(0)
        return Grant(max_calls=1, by="ops")

    async def main():
        async with limited(ops) as plan:
            await ask_async()
            await ask_async()
        return plan

    plan = asyncio.run(main())
    assert (plan.usage.calls, plan.records()[0].grants) == (2, (Grant(max_calls=1, by="ops"),))


def test_an_async_function_at_the_end_of_an_async_block_is_awaited():
    async def ops(_):
        await asyncio.sleep(0)
        return Grant(max_tokens=10)

    async def main():
        async with limited(ops, max_tokens=12) as plan:
            await ask_async()
        return plan

    assert asyncio.run(main()).status == "completed"


def test_whoever_is_cancelled_while_waiting_at_the_end_leaves_a_record():
    async def main():
        asked = asyncio.Event()

        async def ops(_):
            asked.set()
            await asyncio.Event().wait()

        async def work():
            async with limited(ops, max_tokens=12):
                await ask_async()

        task = asyncio.create_task(work())
        await asked.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(main())
    assert [record.status for record in peek_completed_steps()] == ["cancelled"]


def test_one_asks_and_the_other_threads_wait_for_the_answer():
    def ops(error):
        errors.append(error)
        others_are_refused.wait(60)
        return Grant(max_calls=9)

    def refused():
        try:
            ask()
        finally:
            with lock:
                done.append(1)

    errors, done, lock, others_are_refused = [], [], threading.Lock(), threading.Event()
    with limited(ops) as plan:
        ask()
        threads = [threading.Thread(target=bind(refused)) for _ in range(5)]
        for thread in threads:
            thread.start()
        _until(lambda: plan.account.question)
        assert done == []
        others_are_refused.set()
        for thread in threads:
            thread.join(10)
    assert (len(errors), plan.usage.calls) == (1, 6)


def _until(condition):
    """Yield to other threads until a condition holds."""
    while not (value := condition()):
        threading.Event().wait(0)
    return value


def test_one_asks_and_the_other_tasks_wait_for_the_answer():
    asked = []

    async def ops(error):
        asked.append(error)
        for _ in range(20):
            await asyncio.sleep(0)
        return Grant(max_calls=9)

    async def main():
        async with limited(ops) as plan:
            await ask_async()
            await asyncio.gather(*[ask_async() for _ in range(5)])
        return plan

    assert (asyncio.run(main()).usage.calls, len(asked)) == (6, 1)


def test_a_call_that_the_function_itself_makes_in_the_step_is_refused_and_does_not_wait_for_itself():
    def ops(_):
        with pytest.raises(BudgetExhausted):
            ask()
        return Grant(max_calls=1)

    with limited(ops) as plan:
        ask()
        ask()
    assert plan.usage.calls == 2


def test_an_async_function_that_calls_a_model_in_the_step_does_not_wait_for_itself():
    async def ops(_):
        with pytest.raises(BudgetExhausted):
            await ask_async()
        return Grant(max_calls=1)

    async def main():
        async with limited(ops) as plan:
            await ask_async()
            await ask_async()
        return plan

    assert asyncio.run(main()).usage.calls == 2


def test_room_that_is_merely_reserved_asks_nobody():
    asked = Asked()
    with limited(asked, max_tokens=20) as plan:
        call = open_call(10, 5)
        with pytest.raises(BudgetExhausted) as busy:
            ask()
        call.settle(Usage(input_tokens=1))
    assert (busy.value.phase, asked.errors, plan.status) == ("busy", [], "completed")


def test_a_refusal_that_a_grant_has_overtaken_asks_for_room_again_and_not_for_more():
    asked = Asked(Grant(max_calls=1))
    with limited(asked) as plan:
        ask()
        stale = plan.account.exhaustion("denied", plan.account.breaches(["max_calls"]))
        ask()
        assert run_sync(escalation.consult(plan.account, stale))
        fresh = plan.account.exhaustion("denied", plan.account.breaches(["max_calls"]))
        assert isinstance(next(escalation.consult(plan.account, fresh)), escalation.Question)
        plan.account.question = None
    assert len(asked.errors) == 1


def test_who_waits_for_an_answer_that_never_comes_asks_again():
    asking, waiting = threading.Event(), threading.Event()
    outcomes = []

    def answer(error):
        if not asking.is_set():
            asking.set()
            waiting.wait(20)
            raise ConnectionError("nobody there")
        return Grant(max_calls=1)

    def first():
        with pytest.raises(ConnectionError):
            ask()

    def second():
        asking.wait(20)
        outcomes.append(ask())

    with limited(answer) as plan:
        ask()
        threads = [threading.Thread(target=bind(job)) for job in (first, second)]
        for thread in threads:
            thread.start()
        asking.wait(20)
        until(lambda: plan.account.question is not None and plan.account.question.waiting)
        waiting.set()
        for thread in threads:
            thread.join()
    assert outcomes == ["the answer"]


def test_who_waits_for_an_answer_goes_on_though_a_hook_has_refused_to_hear_of_the_grant():
    asking, answering = threading.Event(), threading.Event()
    outcomes = []

    def answer(error):
        asking.set()
        answering.wait(20)
        return Grant(max_calls=1)

    def refuse(event):
        raise StepDenied("not on a Sunday")

    def first():
        with pytest.raises(StepDenied):
            ask()

    def second():
        asking.wait(20)
        outcomes.append(ask())

    on(Escalated, refuse)
    with limited(answer) as plan:
        ask()
        threads = [threading.Thread(target=bind(job)) for job in (first, second)]
        for thread in threads:
            thread.start()
        until(lambda: plan.account.question is not None and plan.account.question.waiting)
        answering.set()
        for thread in threads:
            thread.join()
    assert outcomes == ["the answer"]
