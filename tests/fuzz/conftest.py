"""What comes from outside, made up."""

from __future__ import annotations

import gc
from collections.abc import Iterator

import pytest

from steptrack_callbacks.engine import reservation, settlement


@pytest.fixture(autouse=True)
def _nothing_open() -> Iterator[None]:
    yield
    gc.collect(0)
    assert not reservation._reservations, "room was left reserved"
    assert not settlement.open_calls, "a call was left open"
