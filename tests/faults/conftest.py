"""Both frameworks attached; no call is left open and no room reserved, whatever went wrong."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from pathlib import Path

import litellm
import pytest

import noise
import steptrack_callbacks as steptrack
from internals import assert_nothing_left
from provider import Provider


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    noise.forgive(noise.LITELLM, items, Path(__file__).parent)


@pytest.fixture(autouse=True)
def _attached() -> Iterator[None]:
    steptrack.install()
    yield
    gc.collect(0)
    steptrack.uninstall()
    assert_nothing_left()


@pytest.fixture(autouse=True, scope="module")
def _clients_are_gone() -> Iterator[None]:
    yield
    litellm.in_memory_llm_clients_cache.flush_cache()
    gc.collect()


@pytest.fixture
def provider() -> Iterator[Provider]:
    with Provider(output_tokens=20) as provider:
        yield provider
