"""Pools inside a step make LiteLLM's calls for it, with nothing but `install()`."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from multiprocessing.pool import ThreadPool

import pytest
from calling import call

from provider import Provider
from steptrack_callbacks import BudgetExhausted, step


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
