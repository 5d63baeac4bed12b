"""Every test here runs with LangChain attached, and leaves no call open and no room reserved."""

from __future__ import annotations

import gc
from collections.abc import Iterator

import pytest
from langchain_openai.chat_models import _client_utils

from internals import assert_nothing_left
from provider import Provider
from steptrack_callbacks.langchain import attach, runs

WARNINGS_OF_FRAMEWORKS = (
    # astream_events v1 and v3, and stream_events, say that they may change.
    "ignore::langchain_core._api.LangChainBetaWarning",
    "ignore::langchain_core._api.LangChainDeprecationWarning",
    # Clients outlive the event loops that they were made on.
    "ignore:unclosed:ResourceWarning",
)


# What is imported stays; collections look at what the tests make.
gc.collect()
gc.freeze()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if "with_langchain" in str(item.path):
            for warning in WARNINGS_OF_FRAMEWORKS:
                item.add_marker(pytest.mark.filterwarnings(warning))


@pytest.fixture(autouse=True)
def _attached() -> Iterator[None]:
    detach = attach()
    yield
    detach()
    gc.collect()
    gc.freeze()  # what stays is not looked at again: the next collection takes no longer than this one
    assert_nothing_left()
    assert not [run for run in runs._runs.values() if run.call is not None], "a run was left open"


@pytest.fixture
def provider() -> Iterator[Provider]:
    with Provider() as provider:
        yield provider
    # LangChain keeps clients by address, and ports come back while event loops do not.
    _client_utils._cached_async_httpx_client.cache_clear()
    _client_utils._cached_sync_httpx_client.cache_clear()
