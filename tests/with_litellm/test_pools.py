"""Pools inside a step make LiteLLM's calls for it, with nothing but `install()`."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from contextvars import ContextVar
from multiprocessing.pool import ThreadPool

import pytest
from calling import call

from provider import Provider
from queue_worker import Worker
from steptrack_callbacks import BudgetExhausted, LostStepWarning, step
from steptrack_callbacks.steps.attribution import unattributed_usage

pytestmark = pytest.mark.contract
theirs = ContextVar("theirs", default="nothing")


@pytest.mark.parametrize("name", ["completion", "responses", "embedding"])
@pytest.mark.parametrize("kind", [ThreadPoolExecutor, ThreadPool])
def test_of_50_calls_in_a_pool_in_a_step_worth_10_ten_are_sent(
    kind: type, name: str, provider: Provider
) -> None:
    def ask(_: int) -> bool:
        try:
            call(name, provider)
        except BudgetExhausted:
            return False
        return True

    with step("plan", max_calls=10, error_boundary="continue") as plan, kind(10) as pool:
        answered = list(pool.map(ask, range(50)))
    assert sum(answered) == provider.count() == plan.usage.calls == 10


def test_a_queue_worker_that_was_started_in_a_step_that_is_exhausted_later_goes_on_for_others(
    provider: Provider,
) -> None:
    def ask() -> object:
        return call("completion", provider)

    with step("plan", max_calls=1, error_boundary="continue") as plan:
        worker = Worker()
        worker.do(ask)
        assert isinstance(worker.do(ask), BudgetExhausted)
    with worker, pytest.warns(LostStepWarning, match="outlived step 'plan'"):
        assert worker.do(ask).usage.total_tokens == 300
    assert (plan.usage.calls, unattributed_usage().calls, provider.count()) == (1, 1, 2)


@pytest.mark.parametrize("kind", [ThreadPoolExecutor, ThreadPool])
def test_in_a_pool_the_variable_of_another_library_is_what_it_would_be_without_us(
    kind: type, provider: Provider
) -> None:
    def ask(_: int) -> str:
        call("completion", provider)
        return theirs.get()

    token = theirs.set("the caller's")
    with step("plan") as plan, kind(2) as pool:
        assert list(pool.map(ask, range(2))) == ["nothing", "nothing"]
    theirs.reset(token)
    assert plan.usage.calls == 2
