"""A trace goes on in another process, by the headers of a request."""

from __future__ import annotations

from contextvars import copy_context

import openai
import pytest
from opentelemetry import trace
from telemetry import current

import steptrack_callbacks as steptrack
from provider import Provider
from steptrack_callbacks import step
from steptrack_callbacks.opentelemetry import continued, inject


def test_what_is_injected_in_a_step_is_continued_as_its_child(traces):
    with step("client") as client:
        headers = inject({"x-steptrack-run": client.run_id})
    assert headers["x-steptrack-run"] == client.run_id
    with continued(headers), step("server"):
        assert current() == "step server"
    server = traces.one("step server")
    assert traces.parent_of(server) == "step client"
    assert server.parent.is_remote
    assert server.context.trace_id == traces.one("step client").context.trace_id


def test_without_a_span_nothing_is_injected():
    assert inject() == {}


@pytest.mark.parametrize(
    "headers", [{}, {"traceparent": ""}, {"traceparent": "nonsense"}, {"tracestate": "a=b"}]
)
def test_headers_without_a_trace_change_nothing(traces, headers):
    with traces.tracer.start_as_current_span("request"):
        with continued(headers):
            assert current() == "request"
        assert current() == "request"


def test_a_block_that_is_left_in_another_context_changes_nothing_there(traces):
    with step("client"):
        headers = inject()
    block = continued(headers)
    copy_context().run(block.__enter__)
    with traces.tracer.start_as_current_span("elsewhere"):
        block.__exit__(None, None, None)
        assert current() == "elsewhere"


def test_after_an_error_in_the_block_the_trace_is_the_one_of_before():
    with step("client"):
        headers = inject()
    with pytest.raises(ZeroDivisionError), continued(headers):
        assert trace.get_current_span().get_span_context().is_remote
        raise ZeroDivisionError
    assert current() is None


def test_a_request_to_the_proxy_carries_the_trace_of_its_step(traces):
    with Provider() as provider:
        steptrack.install(proxy_url=provider.url)
        try:
            with step("plan"), openai.OpenAI(base_url=provider.url, api_key="none") as client:
                client.chat.completions.create(model="m", messages=[{"role": "user", "content": "hello"}])
        finally:
            steptrack.uninstall()
    headers = {name.lower(): value for name, value in provider.requests[0].headers.items()}
    span = traces.one("step plan").context
    assert headers["traceparent"].startswith(f"00-{span.trace_id:032x}-{span.span_id:016x}-")
    assert headers["x-steptrack-step"] == "plan"
