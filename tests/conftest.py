"""Every test begins and ends with nothing left from another."""

import gc
import os
import sys
import threading
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings

import left_out
from redis_servers import RedisServer
from steptrack_callbacks import LostStepWarning, attachments, current_step, testing, uninstall
from steptrack_callbacks.concurrency import threads
from steptrack_callbacks.ledgers import current

os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"
if sys.version_info < (3, 12):
    # It might collect a stream of LiteLLM's while a context variable is set, and end (docs/design.md says why):
    # the less often it collects, the less likely that is.
    gc.set_threshold(50_000)


def pytest_ignore_collect(collection_path: Path) -> bool | None:
    return left_out.is_whole(collection_path) or None


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    left_out.leave_out(config, items)


def pytest_sessionfinish(session: pytest.Session) -> None:
    left_out.hand_over(session.config)


@pytest.hookimpl(optionalhook=True)  # of pytest-xdist
def pytest_testnodedown(node: Any) -> None:
    left_out.take_over(getattr(node, "workeroutput", {}))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    for line in left_out.report():
        terminalreporter.write_line(line)


settings.register_profile("untimed", deadline=None)
settings.load_profile("untimed")


@pytest.fixture(scope="session")
def redis_server(tmp_path_factory):
    server = RedisServer(tmp_path_factory.mktemp("redis")).start()
    yield server
    server.stop()


@pytest.fixture(params=["memory", "sqlite", "redis"])
def each_ledger(request, tmp_path):
    """Keep the books in each of the stores in turn."""
    if request.param == "redis":
        url = request.getfixturevalue("redis_server").url(prefix=tmp_path.name, timeout_s=5)
    else:
        url = "memory:" if request.param == "memory" else f"sqlite:///{tmp_path}/books.db?timeout_s=5"
    current.use(url)


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


def _discard_routers() -> None:
    """Let go of LiteLLM's routers, which it keeps as callbacks: after a hundred it takes no more."""
    for callback in list(getattr(sys.modules.get("litellm"), "success_callback", ())):
        router = getattr(callback, "__self__", None)
        if hasattr(router, "discard"):
            router.discard()


def _still_heard() -> list[str]:
    """Find where LiteLLM would still tell something of ours what it does."""
    lists = vars(sys.modules["litellm"]) if "litellm" in sys.modules else {}
    return [
        f"litellm.{name}: {each!r}"
        for name, held in lists.items()
        if isinstance(held, list)
        for each in held
        if type(getattr(each, "__self__", each)).__module__.startswith("steptrack_callbacks")
    ]


@pytest.fixture(autouse=True)
def _nothing_left() -> Iterator[None]:
    testing.reset()
    carried = threading.Thread.start is threads._start
    attached = any(map(attachments.is_attached, attachments.PACKAGES))
    # Whether LiteLLM was imported by an earlier test is no concern of one that needs no framework.
    warnings.filterwarnings(
        "ignore", message="step .* has limits, but nothing watches", category=LostStepWarning
    )
    yield
    left = current_step()
    if not attached:
        uninstall()
    testing.reset()
    _discard_routers()
    if not carried:
        threads.leave_threads_alone()  # as the test may have installed them
    assert left is None, f"{left!r} was left on the stack"
    assert attached or not _still_heard()
