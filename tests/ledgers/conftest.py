"""Every ledger on its own, with a clock that a test sets where the ledger has none of its own."""

import itertools
import time

import pytest

from steptrack_callbacks.ledgers import open_ledger
from steptrack_callbacks.ledgers.memory import MemoryStore
from steptrack_callbacks.ledgers.sqlite import SqliteStore

_prefixes = (f"test-{number}" for number in itertools.count())


@pytest.fixture
def prefix():
    return next(_prefixes)


class Clock:
    """Real time, which a test may move on; a server's own cannot be moved."""

    def __init__(self):
        self.ahead_s = 0.0

    def __call__(self):
        return time.time() + self.ahead_s


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture(params=["memory", "sqlite", "redis"])
def store(request, tmp_path, clock, prefix):
    opened = open_store(request, tmp_path, clock, prefix)
    yield opened
    opened.close_connections()


@pytest.fixture(params=["sqlite", "redis"])
def waiting_store(request, tmp_path, clock, prefix):
    """A ledger that has something to wait for."""
    opened = open_store(request, tmp_path, clock, prefix)
    yield opened
    opened.close_connections()


@pytest.fixture(params=["sqlite", "redis"])
def shared_url(request, tmp_path, prefix):
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/steps.db?timeout_s=30"
    return request.getfixturevalue("redis_server").url(prefix=prefix, timeout_s=30)


def open_store(request, tmp_path, clock, prefix):
    if request.param == "memory":
        return MemoryStore(clock=clock)
    if request.param == "sqlite":
        return SqliteStore(tmp_path / "steps.db", clock=clock, timeout_s=5)
    return open_ledger(request.getfixturevalue("redis_server").url(prefix=prefix))
