"""What a garbage collection runs: Python 3.11 may be in the middle of setting a variable of the same context."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextvars import ContextVar, copy_context
from typing import Any

import pytest
from calling import SYNC_STREAMING, call

from provider import Provider
from steptrack_callbacks import hooks, step

told: ContextVar[str] = ContextVar("told", default="nothing")


@pytest.fixture(autouse=True)
def _tells() -> Iterator[None]:
    off = hooks.on(hooks.CallSettled, lambda event: told.set(event.path))
    yield
    off()


@pytest.mark.parametrize("name", SYNC_STREAMING)
def test_charging_a_stream_that_is_collected_sets_no_variable_of_the_context_that_this_interrupts(
    name: str, provider: Provider
) -> None:
    provider.hold(after_chunks=2)
    with step("plan") as plan:
        stream = call(name, provider, stream=True)
        next(stream)
        before: dict[ContextVar[Any], Any] = dict(copy_context())
        del stream
        gc.collect()
        assert plan.usage.calls == plan.usage.estimated_calls == 1
        assert dict(copy_context()) == before
