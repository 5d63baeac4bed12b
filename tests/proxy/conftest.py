"""One proxy for most tests: runs have names of their own, so that no test sees another's steps."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from serving import Proxy, proxy

from provider import Behaviour, Provider

LIMITS = """
[budgets.per-key]
max_usd = 5
scope = "key"

[budgets.few]
max_calls = 2
window = "1d"
scope = "key"

[steps.twice]
max_calls = 2

[steps.three]
max_calls = 3

[steps.dollars]
max_usd = 0.001

[steps.ladder]
max_usd = 0.05
models = ["dear", "fast"]
downgrade_at = 0.006

[steps.program]
max_usd = 0.0012

[steps.work]
max_usd = 0.001
models = ["dear", "fast"]
downgrade_at = 0.5

[steps.closing]
max_calls = 1

[steps.tight]
max_usd = 0.000001
models = ["dear", "fast"]

[steps.vectors]
max_usd = 1
models = ["more-vectors", "vectors"]
downgrade_at = 0

[steps.strict]
max_usd = 0.0004
enforce = "strict"
wait_s = 0

[steps.short]
max_tokens = 160
wait_s = 0

[steps.last]
max_tokens = 400
wait_s = 0

[steps.unclamped]
max_tokens = 400
clamp = false
wait_s = 0

[steps.brief]
max_seconds = 0.2

[steps.asks]
max_calls = 0
error_boundary = "escalate"

[steps.budgeted]
budgets = ["few"]

[steps.research]

[personas.writer]
max_calls = 3

[personas.writer.stages.research]
allowed_tools = ["search"]
max_iterations = 1

[prices.house]
input_usd_per_mtok = 1
output_usd_per_mtok = 2

[proxy]
budgets = ["per-key"]
max_open_steps = 400
"""

WARNINGS_OF_FRAMEWORKS = (
    "ignore:unclosed:ResourceWarning",
    "ignore:Unclosed:ResourceWarning",
    "ignore:Items? .* on TypedDict class:UserWarning",
    "ignore:Pydantic serializer warnings:UserWarning:pydantic.main",
    "ignore:Accessing the 'model_.*' attribute on the instance:DeprecationWarning",
    "ignore:coroutine '.*' was never awaited:RuntimeWarning",
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if item.path.is_relative_to(Path(__file__).parent):
            for warning in WARNINGS_OF_FRAMEWORKS:
                item.add_marker(pytest.mark.filterwarnings(warning))


@pytest.fixture(scope="package")
def _provider() -> Iterator[Provider]:
    with Provider() as provider:
        yield provider


@pytest.fixture(scope="package")
def _serve(_provider: Provider, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[], Proxy]]:
    """Gives the proxy that runs; if one has died, a new one, so that only the test that met it fails."""
    proxies: list[Proxy] = []

    def serve() -> Proxy:
        if not proxies or proxies[-1].process.poll() is not None:
            folder = tmp_path_factory.mktemp("proxy")
            proxies.append(stack.enter_context(proxy(folder, _provider.url, LIMITS)))
        return proxies[-1]

    with ExitStack() as stack:
        yield serve


@pytest.fixture
def provider(_provider: Provider) -> Iterator[Provider]:
    _provider.behaviour = Behaviour(output_tokens=8)
    _provider.requests.clear()
    yield _provider
    _provider._failures.clear()
    _provider.release()


@pytest.fixture
def served(_serve: Callable[[], Proxy], provider: Provider) -> Iterator[Proxy]:
    running = _serve()
    yield running
    died = running.process.poll()
    assert died is None, f"the proxy ended with {died} during this test:\n{running.log()[-4000:]}"


@pytest.fixture
def run() -> str:
    """A run that nobody has used before."""
    return f"run-{uuid.uuid4().hex[:8]}"


@pytest.fixture
def key() -> str:
    """A key that nobody has used before."""
    return f"sk-{uuid.uuid4().hex[:8]}"
