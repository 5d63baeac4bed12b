"""Every test here runs with LangChain attached, and leaves no call open, no room reserved, no step running."""

from __future__ import annotations

import gc
from collections.abc import Iterator

import pytest

from internals import assert_nothing_left
from steptrack_callbacks import attachments
from steptrack_callbacks.langchain import attach, runs
from steptrack_callbacks.langgraph import running
from steptrack_callbacks.steps.step import open_steps

# What is imported stays; collections look at what the tests make.
gc.collect()
gc.freeze()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if "with_langgraph" in str(item.path):
            item.add_marker(pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning"))
            # LangChain makes the coroutines of all handlers, and awaits none once one has refused.
            item.add_marker(
                pytest.mark.filterwarnings(
                    "ignore:coroutine 'ahandle_event' was never awaited:RuntimeWarning"
                )
            )


@pytest.fixture(params=["attached"])
def attached(request: pytest.FixtureRequest) -> Iterator[bool]:
    """Whether LangChain is attached; a test may ask for both."""
    wanted = request.param == "attached"
    if wanted:
        detach = attach()
        attachments.attach("langchain_core")
    yield wanted
    if wanted:
        detach()
        attachments.detach("langchain_core")


@pytest.fixture(autouse=True)
def _nothing_is_left(attached: bool) -> Iterator[None]:
    running._unsaved.clear()
    yield
    gc.collect()
    gc.freeze()  # what stays is not looked at again: the next collection takes no longer than this one
    assert not open_steps(), "a step was left running"
    assert_nothing_left()
    assert not [run for run in runs._runs.values() if run.call is not None], "a run was left open"


@pytest.fixture(params=["invoke", "ainvoke"])
def invoke(request: pytest.FixtureRequest) -> object:
    """Invoke a graph, in both worlds."""
    import asyncio

    if request.param == "invoke":
        return lambda graph, *args, **options: graph.invoke(*args, **options)
    return lambda graph, *args, **options: asyncio.run(graph.ainvoke(*args, **options))
