"""What comes from outside, made up."""

from __future__ import annotations

import gc
from collections.abc import Iterator

import pytest

from steptrack_callbacks import admission, charging


@pytest.fixture(autouse=True)
def _nothing_open() -> Iterator[None]:
    yield
    gc.collect(0)
    assert not admission._claims, "room was left reserved"
    assert not charging.open_calls, "a call was left open"
