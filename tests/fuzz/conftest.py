"""What comes from outside, made up."""

from __future__ import annotations

import gc
from collections.abc import Iterator

import pytest

from internals import assert_nothing_left


@pytest.fixture(autouse=True)
def _nothing_open() -> Iterator[None]:
    yield
    gc.collect(0)
    assert_nothing_left()
