"""Every test here runs with LiteLLM attached, and leaves no call open and no room reserved."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from pathlib import Path

import litellm
import pytest
from calling import Events

import steptrack_callbacks as steptrack
from provider import Provider
from steptrack_callbacks import admission, charging
from steptrack_callbacks.litellm import entry_points

WARNINGS_OF_LITELLM = (
    # Its types, built on first use.
    "ignore:Items? .* on TypedDict class:UserWarning:pydantic._internal._generate_schema",
    # It puts a chat completion's usage on an answer of the responses API, and serialises that.
    "ignore:Pydantic serializer warnings:UserWarning:pydantic.main",
    "ignore:Accessing the 'model_.*' attribute on the instance:DeprecationWarning:litellm",
    # Its clients and helper loops outlive the event loops that they were made on.
    "ignore:unclosed:ResourceWarning",
    "ignore:Unclosed:ResourceWarning",
    "ignore:coroutine '.*' was never awaited:RuntimeWarning",
    "ignore:Exception ignored in. <coroutine object LoggingWorker:pytest.PytestUnraisableExceptionWarning",
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if item.path.is_relative_to(Path(__file__).parent):
            for warning in WARNINGS_OF_LITELLM:
                item.add_marker(pytest.mark.filterwarnings(warning))


@pytest.fixture(autouse=True)
def _attached(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(entry_points, "_refuses_stream_options", {"oci"})  # ports come back
    steptrack.install()
    yield
    gc.collect(0)
    steptrack.uninstall()
    litellm.cache = None
    assert not charging.open_calls, "a call was left open"
    assert not admission._claims, "room was left reserved"
    assert entry_points.enclosing_call() is None


@pytest.fixture(autouse=True, scope="module")
def _clients_are_gone() -> Iterator[None]:
    yield
    litellm.in_memory_llm_clients_cache.flush_cache()
    gc.collect()


@pytest.fixture
def provider() -> Iterator[Provider]:
    with Provider() as provider:
        yield provider


@pytest.fixture
def events(_attached: None) -> Iterator[Events]:
    """What LiteLLM reports of calls; it tells our own callback first."""
    events = Events()
    litellm.callbacks.append(events)
    yield events
    events.leave()
