"""Every test here runs with LiteLLM attached, and leaves no call open and no room reserved."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from pathlib import Path

import litellm
import pytest
from calling import Events

import noise
import steptrack_callbacks as steptrack
from internals import assert_nothing_left
from provider import Provider
from steptrack_callbacks.litellm import entry_points


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    noise.forgive(noise.LITELLM, items, Path(__file__).parent)


@pytest.fixture(autouse=True)
def _attached(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(entry_points, "_refuses_stream_options", {"oci"})  # ports come back
    steptrack.install()
    yield
    gc.collect(0)
    steptrack.uninstall()
    litellm.cache = None
    assert_nothing_left()
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
