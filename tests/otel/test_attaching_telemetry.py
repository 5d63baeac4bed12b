"""Installing, taking off, and what is said where that cannot be done."""

from __future__ import annotations

import subprocess
import sys

import pytest
from opentelemetry.sdk.trace import TracerProvider
from telemetry import Traces, current

from spending import spend
from steptrack_callbacks import hooks, opentelemetry, step


def test_what_is_installed_twice_makes_one_span_and_counts_once(traces, measures):
    opentelemetry.install(traces.provider, measures.provider)
    with step("plan"):
        spend()
    assert traces.names() == ["step plan"]
    assert measures.total("steptrack.calls") == 1


def test_another_provider_takes_over_from_the_next_step_on(traces):
    others = Traces()
    with step("outer"):
        opentelemetry.install(others.provider)
        with step("inner"):
            assert current() == "step inner"
    assert traces.names() == ["step outer"]
    assert others.names() == ["step inner"]
    assert others.one("step inner").parent.span_id == traces.one("step outer").context.span_id


def test_uninstall_ends_what_is_running_and_makes_no_more(traces):
    with step("outer"):
        opentelemetry.uninstall()
        with step("inner"):
            spend()
        assert traces.said("step outer")["steptrack.status"] == "open"
    assert current() is None
    assert traces.names() == ["step outer"]
    opentelemetry.uninstall()
    assert hooks.registered == ()


def test_a_span_that_uninstall_has_ended_is_not_ended_again(traces):
    with step("outer"):
        opentelemetry.uninstall()
        opentelemetry.install(traces.provider)
        opentelemetry.uninstall()
        opentelemetry.install(traces.provider)
        with step("inner"):
            assert current() == "step inner"
    assert traces.names() == ["step outer", "step inner"]


def test_without_providers_those_of_the_process_are_used():
    opentelemetry.install()
    with step("plan"):
        assert current() is None  # nobody has set any, so nothing is recorded
        spend()


@pytest.mark.parametrize("argument", ["tracer_provider", "meter_provider"])
def test_what_is_no_provider_is_refused_by_name(argument):
    with pytest.raises(ValueError, match=rf"^{argument} must be one of OpenTelemetry's.*not 'otlp'"):
        opentelemetry.install(**{argument: "otlp"})


@pytest.mark.parametrize("threshold", [0, 1.5, "a lot", float("nan")])
def test_a_threshold_that_is_no_share_is_refused_and_what_was_installed_stays(traces, threshold):
    before = hooks.registered
    with pytest.raises(ValueError, match="threshold"):
        opentelemetry.install(TracerProvider(shutdown_on_exit=False), thresholds=[0.5, threshold])
    assert hooks.registered == before
    with step("plan"):
        pass
    assert traces.names() == ["step plan"]


def test_thresholds_may_be_any_and_the_same_one_twice(traces):
    opentelemetry.install(traces.provider, thresholds=[0.5, 0.5])
    with step("plan", max_tokens=20, enforce="observe"):
        spend()
    assert [said["steptrack.threshold"] for _, said in traces.events("step plan")] == [0.5]


def test_nobody_imports_the_api_but_who_asks_for_it_and_where_it_is_missing_the_extra_is_named():
    code = """
import sys
import steptrack_callbacks
with steptrack_callbacks.step("plan"):
    steptrack_callbacks.record_usage("m", input_tokens=1, output_tokens=1, cost_usd=1)
assert not [name for name in sys.modules if name.partition(".")[0] == "opentelemetry"]
sys.modules["opentelemetry"] = None
try:
    import steptrack_callbacks.opentelemetry
except ImportError as error:
    print(error)
"""
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True
    )
    assert "pip install 'steptrack-callbacks[otel]'" in done.stdout


def test_the_sdk_is_never_imported_by_us():
    code = """
import sys
from steptrack_callbacks import opentelemetry, step
opentelemetry.install(call_spans=True)
with step("plan"):
    pass
assert "opentelemetry.trace" in sys.modules
print([name for name in sys.modules if name.startswith("opentelemetry.sdk")])
"""
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True
    )
    assert done.stdout == "[]\n"
