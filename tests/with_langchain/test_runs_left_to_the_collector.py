"""What a garbage collection runs: Python 3.11 may be in the middle of setting a variable of the same context."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextvars import ContextVar, copy_context

import pytest
from asking import FakeChat, Q, chat, prompted

from provider import Provider
from steptrack_callbacks import hooks, step

told: ContextVar[str] = ContextVar("told", default="nothing")
PLAN = {"metadata": {"steptrack_step": "plan"}}
heard: list[hooks.Event] = []


@pytest.fixture(autouse=True)
def _tells() -> Iterator[None]:
    def tell(event: hooks.Event) -> None:
        heard.append(event)
        told.set(event.path)

    heard.clear()
    off = [hooks.on(event, tell) for event in (hooks.CallSettled, hooks.StepEnded)]
    yield
    for each in off:
        each()


def test_charging_a_run_that_is_collected_sets_no_variable_of_the_context_that_this_interrupts(
    provider: Provider,
) -> None:
    with step("plan"):
        stream = chat(provider).stream_events("hello", version="v3")
        next(iter(stream))
        before = dict(copy_context())
        del stream
        gc.collect()
        assert len(heard) == 1
        assert dict(copy_context()) == before


def test_ending_a_step_whose_run_is_collected_sets_no_variable_of_the_context_that_this_interrupts() -> None:
    stream = prompted(FakeChat(words=50)).stream(Q, PLAN)
    next(stream)
    stream.close()
    told.set("nothing")
    del stream
    gc.collect()
    assert {type(event) for event in heard} == {hooks.CallSettled, hooks.StepEnded}
    assert told.get() == "nothing"
