"""Every test begins and ends with nothing left from another."""

import os
import threading
import warnings
from collections.abc import Iterator

import pytest
from hypothesis import settings

from redis_servers import RedisServer
from steptrack_callbacks import LostStepWarning, current_step, testing
from steptrack_callbacks.concurrency import threads

os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"

settings.register_profile("untimed", deadline=None)
settings.load_profile("untimed")


@pytest.fixture(scope="session")
def redis_server(tmp_path_factory):
    server = RedisServer(tmp_path_factory.mktemp("redis")).start()
    yield server
    server.stop()


@pytest.fixture
def serving(tmp_path):
    """Make servers that end with the test."""
    servers = []

    def serve(*options):
        folder = tmp_path / f"server-{len(servers)}"
        folder.mkdir()
        servers.append(RedisServer(folder, *options))
        return servers[-1]

    yield serve
    for server in servers:
        server.stop()


@pytest.fixture
def own_redis(serving):
    """A server that the test may stop and start."""
    return serving().start()


@pytest.fixture
def plain_threads() -> Iterator[None]:
    """Threads as Python makes them, whatever an earlier test has installed."""
    carries = threading.Thread.start is threads._start
    threads.leave_threads_alone()
    yield
    if carries:
        threads.carry_into_threads()


@pytest.fixture(autouse=True)
def _nothing_left() -> Iterator[None]:
    testing.reset()
    # Whether LiteLLM was imported by an earlier test is no concern of one that needs no host.
    warnings.filterwarnings(
        "ignore", message="step .* has limits, but nothing watches", category=LostStepWarning
    )
    yield
    left = current_step()
    testing.reset()
    assert left is None, f"{left!r} was left on the stack"
