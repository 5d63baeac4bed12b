"""Warnings that frameworks give by themselves, whatever is done with them."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import pytest

LITELLM = (
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


def forgive(warnings: Iterable[str], items: list[pytest.Item], folder: Path) -> None:
    """Let the tests of a folder pass in spite of such warnings."""
    for item in items:
        if item.path.is_relative_to(folder):
            for warning in warnings:
                item.add_marker(pytest.mark.filterwarnings(warning))
