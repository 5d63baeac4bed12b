"""Every test here exports to memory, and OpenTelemetry has nothing to complain of."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from telemetry import Measures, Traces, current

from steptrack_callbacks import opentelemetry


@pytest.fixture
def traces() -> Traces:
    return Traces()


@pytest.fixture
def measures() -> Measures:
    return Measures()


@pytest.fixture(autouse=True)
def _installed(traces: Traces, measures: Measures, caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    opentelemetry.install(traces.provider, measures.provider)
    yield
    opentelemetry.uninstall()
    assert current() is None, "a span was left current"
    assert [
        each.message for each in caplog.get_records("call") if each.name.startswith("opentelemetry")
    ] == []
