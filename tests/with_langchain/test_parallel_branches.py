"""Branches of one run that come to a step by its name at the same time, or once the run is over."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from typing import Any

import pytest
from asking import FakeChat
from langchain_core.runnables import RunnableLambda, RunnableParallel

from internals import declare
from steptrack_callbacks import BudgetExhausted, peek_completed_steps, settings
from steptrack_callbacks.hooks import StepEnded, StepStarted, on
from steptrack_callbacks.langchain import run_tree
from steptrack_callbacks.steps.step import open_steps

TIMEOUT_S = 60


@pytest.fixture(autouse=True)
def _nothing_declared() -> Iterator[None]:
    yield
    settings.reset()


def calls_in_records() -> dict[str, int]:
    return {record.path: record.usage.calls for record in peek_completed_steps()}


def test_branches_that_find_no_step_at_the_same_time_share_the_one_that_begins(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    all_have_looked = threading.Barrier(4)

    class Looked(dict[Any, Any]):
        """Lets no thread go on from its first look before all have looked."""

        looking = threading.local()

        def get(self, key: Any, default: Any = None) -> Any:
            found = super().get(key, default)
            if not hasattr(self.looking, "done"):
                self.looking.done = True
                all_have_looked.wait(TIMEOUT_S)
            return found

    class Outermost(run_tree.Outermost):
        def __init__(self, key: int) -> None:
            super().__init__(key)
            self.steps = Looked()

    monkeypatch.setattr(run_tree, "Outermost", Outermost)
    declare({"plan": {"max_calls": 2}})
    model = FakeChat()

    def ask(_: Any) -> str:
        try:
            return model.invoke("hello").text
        except BudgetExhausted:
            return "refused"

    told: list[str] = []
    offs = [on(event, lambda event: told.append(type(event).__name__)) for event in (StepStarted, StepEnded)]
    branch = RunnableLambda(ask).with_config(run_name="plan")
    answers = RunnableParallel({f"branch{n}": branch for n in range(4)}).invoke("hello")
    for off in offs:
        off()
    assert list(answers.values()).count("refused") == 2
    assert calls_in_records() == {"plan": 2}
    assert told == ["StepStarted", "StepEnded"]


def test_a_hook_may_wait_for_a_branch_that_begins_another_step() -> None:
    declare({"plan": {}, "write": {}})
    model = FakeChat()
    plan_begins, has_written = threading.Event(), threading.Event()

    def wait(_: Any) -> None:
        plan_begins.set()
        assert has_written.wait(TIMEOUT_S)

    def write(_: Any) -> None:
        assert plan_begins.wait(TIMEOUT_S)
        model.invoke("hello", {"run_name": "write"})
        has_written.set()

    off = on(StepStarted, wait, step="plan")
    RunnableParallel(plan=model.with_config(run_name="plan"), write=RunnableLambda(write)).invoke("hello")
    off()
    assert calls_in_records() == {"write": 1, "plan": 1}


def test_a_step_that_begins_after_the_outermost_run_is_over_ends_with_the_run_that_has_begun_it() -> None:
    declare({"plan": {"max_calls": 1}})
    model = FakeChat()

    async def main() -> BaseException | None:
        outermost_is_over = asyncio.Event()
        left_running: list[asyncio.Task[Any]] = []

        async def go_on(_: Any) -> None:
            await outermost_is_over.wait()
            late = RunnableLambda(lambda _: [model.invoke("hello") for _ in range(2)])
            await late.with_config(run_name="plan").ainvoke("hello")

        async def outermost(_: Any) -> None:
            left_running.append(asyncio.create_task(RunnableLambda(go_on).ainvoke("hello")))

        await RunnableLambda(outermost).ainvoke("hello")
        outermost_is_over.set()
        (error,) = await asyncio.gather(*left_running, return_exceptions=True)
        return error

    assert isinstance(asyncio.run(main()), BudgetExhausted)
    assert calls_in_records() == {"plan": 1}
    assert not open_steps()
