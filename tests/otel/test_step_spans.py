"""A step's span says what the step had, what it spent, and how it ended."""

from __future__ import annotations

import pytest
from opentelemetry.sdk.trace import TracerProvider, sampling
from opentelemetry.trace import SpanKind, StatusCode

from fake_framework import FakeFramework, open_elsewhere
from looking import record_of
from spending import ask, open_call, spend
from steptrack_callbacks import (
    BudgetExhausted,
    Grant,
    StepDenied,
    Usage,
    opentelemetry,
    persona,
    record_usage,
    step,
)
from steptrack_callbacks.hooks import StepEnded, StepStarted, on
from steptrack_callbacks.testing import reset


def test_a_span_says_what_the_record_says(traces):
    with step("plan", max_usd=60, max_tokens=30, enforce="observe") as plan:
        spend()
        with step("part"):
            spend(20, 5)
    said, record = traces.said("step plan"), record_of("plan")
    assert said["gen_ai.operation.name"] == "step"
    assert (said["steptrack.step.path"], said["steptrack.step.id"]) == ("plan", plan.id)
    assert (said["steptrack.run.id"], said["steptrack.status"]) == (plan.run_id, "completed")
    assert said["steptrack.enforce"] == "observe"
    assert said["gen_ai.usage.input_tokens"] == record.usage.input_tokens == 30
    assert said["gen_ai.usage.output_tokens"] == record.usage.output_tokens == 10
    assert said["steptrack.cost_usd"] == float(record.usage.cost_usd) == 40
    assert said["steptrack.calls"] == 2
    assert (said["steptrack.limit.max_usd"], said["steptrack.share.max_usd"]) == (60, 40 / 60)
    assert (said["steptrack.limit.max_tokens"], said["steptrack.share.max_tokens"]) == (30, 40 / 30)
    assert said["steptrack.share"] == 40 / 30
    assert said["steptrack.models"] == ("test-model",)


def test_spans_of_a_run_that_is_begun_again_add_up_and_their_shares_count_it_all(traces):
    for _ in range(2):
        with step("nightly", run_id="r", max_usd=60):
            spend()
    spans = [span.attributes for span in traces.all("step nightly")]
    assert [said["steptrack.cost_usd"] for said in spans] == [15, 15]
    assert [said["steptrack.share.max_usd"] for said in spans] == [0.25, 0.5]


def test_of_a_limit_that_admits_nothing_all_is_used(traces):
    with step("plan", max_calls=0):
        pass
    assert traces.said("step plan")["steptrack.share.max_calls"] == 1


def test_what_steps_spent_by_themselves_adds_up_to_the_total(traces):
    with step("outer"):
        spend()
        with step("inner"):
            spend(7, 1)
        spend(1, 1)
    own = [span.attributes for span in traces.spans]
    assert (
        sum(said["steptrack.own.cost_usd"] for said in own)
        == traces.said("step outer")["steptrack.cost_usd"]
        == 25
    )
    assert sum(said["steptrack.own.input_tokens"] for said in own) == 18
    assert sum(said["steptrack.own.output_tokens"] for said in own) == 7


class Sampler(sampling.Sampler):
    """Drops all spans, and remembers what they began with."""

    def __init__(self):
        self.asked = []

    def should_sample(self, parent_context, trace_id, name, kind=None, attributes=None, *rest, **more):
        self.asked.append((name, dict(attributes or {})))
        return sampling.SamplingResult(sampling.Decision.DROP)

    def get_description(self):
        return "drops all"


def test_a_sampler_can_judge_by_what_is_known_at_the_beginning_and_drop_the_span():
    sampler = Sampler()
    opentelemetry.install(TracerProvider(sampler=sampler, shutdown_on_exit=False))
    with step("plan", max_calls=3, error_boundary="continue"):
        ask()
        open_call(max_output_tokens=5)
    ((name, said),) = sampler.asked
    assert name == "step plan"
    assert (said["steptrack.limit.max_calls"], said["gen_ai.operation.name"]) == (3, "step")


def test_a_persona_is_an_agent_and_its_steps_say_whose_they_are(traces):
    with persona("editor"), step("plan"):
        pass
    assert traces.said("invoke_agent editor")["gen_ai.operation.name"] == "invoke_agent"
    assert traces.said("invoke_agent editor")["gen_ai.agent.name"] == "editor"
    assert traces.said("step plan")["gen_ai.agent.name"] == "editor"
    assert traces.parent("step plan") == "invoke_agent editor"


@pytest.mark.parametrize(("boundary", "status"), [("fail", "failed"), ("escalate", "escalated")])
def test_an_exhaustion_that_leaves_a_step_is_an_error(traces, boundary, status):
    with pytest.raises(BudgetExhausted) as raised, step("plan", max_tokens=3, error_boundary=boundary):
        ask()
    span = traces.one("step plan")
    assert span.status.status_code is StatusCode.ERROR
    assert (
        span.status.description == f"{type(raised.value).__name__}: {raised.value}" or status == "escalated"
    )
    assert span.attributes["error.type"].startswith("Budget")
    assert span.attributes["steptrack.status"] == status


def test_an_exhaustion_that_the_step_goes_on_from_is_none(traces):
    with step("plan", max_tokens=3, error_boundary="continue"):
        ask()
    span = traces.one("step plan")
    assert span.status.status_code is StatusCode.UNSET
    assert span.attributes["steptrack.status"] == "continued"
    assert "error.type" not in span.attributes


def test_any_other_error_is_named(traces):
    with pytest.raises(ZeroDivisionError), step("plan"):
        raise ZeroDivisionError("division by zero")
    span = traces.one("step plan")
    assert (span.status.status_code, span.attributes["error.type"]) == (StatusCode.ERROR, "ZeroDivisionError")
    assert span.status.description == "ZeroDivisionError: division by zero"


def test_a_step_that_a_hook_denies_has_a_span_that_says_so(traces):
    def deny(event):
        raise StepDenied("closed on Sundays")

    on(StepStarted, deny)
    with pytest.raises(StepDenied), step("plan"):
        raise AssertionError("it ran")
    assert traces.said("step plan")["steptrack.status"] == "denied"
    assert traces.one("step plan").status.status_code is StatusCode.ERROR


def test_a_hook_that_refuses_at_the_end_keeps_no_span_open(traces):
    def deny(event):
        raise StepDenied("too late")

    on(StepEnded, deny)
    opentelemetry.install(traces.provider)  # after the hook, and told before it all the same
    with pytest.raises(StepDenied), step("plan"):
        pass
    assert traces.names() == ["step plan"]


def test_a_refused_call_is_an_event_that_names_limit_and_owner(traces):
    with step("outer", max_tokens=20, error_boundary="continue"), step("inner"):
        spend()
        ask()
    ((name, said),) = [event for event in traces.events("step inner") if "denied" in event[0]]
    assert name == "steptrack.call.denied"
    assert said["error.type"] == "BudgetExhausted"
    assert said["gen_ai.request.model"] == "test-model"
    assert (said["steptrack.phase"], said["steptrack.limit"]) == ("denied", "max_tokens")
    assert (said["steptrack.limit_value"], said["steptrack.consumed"]) == (20, 15)
    assert said["steptrack.owner.path"] == "outer"
    assert traces.said("step inner")["steptrack.denied_calls"] == 1


def test_a_call_of_unknown_price_that_is_refused_is_an_event_too(traces):
    with step("plan", max_usd=1), pytest.raises(Exception, match="price"):
        open_call(price=lambda usage: None)
    ((_, said),) = traces.events("step plan")
    assert said["error.type"] == "UnpricedModel"


def test_thresholds_are_events_of_the_step_whose_limit_it_is(traces):
    with step("outer", max_tokens=20, enforce="observe"), step("inner"):
        spend(8, 8)
        spend(2, 2)
    assert traces.events("step inner") == []
    crossed = [
        (name, said["steptrack.threshold"], said["steptrack.share"])
        for name, said in traces.events("step outer")
    ]
    assert crossed == [("steptrack.budget.threshold", 0.8, 0.8), ("steptrack.budget.threshold", 1.0, 1.0)]
    assert traces.events("step outer")[0][1]["steptrack.limit"] == "max_tokens"


def test_a_threshold_that_a_late_report_crosses_is_no_event_of_a_span_that_has_ended(traces):
    with step("plan", max_tokens=20):
        call = open_call(10, 5)
    call.settle(Usage(input_tokens=18, output_tokens=0))
    assert traces.names() == ["step plan", "late_settlement test-model"]


def test_a_grant_is_an_event_and_the_new_limit_is_the_one_told(traces):
    with step(
        "plan", max_tokens=20, error_boundary="escalate", escalation=lambda e: Grant(max_tokens=30, by="ops")
    ):
        spend()
        ask()
    (grant,) = [said for name, said in traces.events("step plan") if name == "steptrack.escalation"]
    assert grant == {
        "steptrack.granted": True,
        "steptrack.limit": "max_tokens",
        "steptrack.grant.max_tokens": 30,
        "steptrack.grant.by": "ops",
    }
    assert traces.said("step plan")["steptrack.limit.max_tokens"] == 50


def test_a_no_is_an_event_too(traces):
    with (
        pytest.raises(BudgetExhausted),
        step("plan", max_tokens=3, error_boundary="escalate", escalation=lambda e: None),
    ):
        ask()
    (answer,) = [said for name, said in traces.events("step plan") if name == "steptrack.escalation"]
    assert answer == {"steptrack.granted": False, "steptrack.limit": "max_tokens"}


def test_an_unknown_cost_is_not_told_as_zero_and_a_part_of_it_is_marked(traces):
    with step("unknown", max_usd=1, unpriced="free"):
        record_usage("nobody-knows-me", input_tokens=10, output_tokens=5)
    with step("partly"):
        record_usage("nobody-knows-me", input_tokens=10, output_tokens=5)
        spend()
    unknown, partly = traces.said("step unknown"), traces.said("step partly")
    assert "steptrack.cost_usd" not in unknown
    assert "steptrack.own.cost_usd" not in unknown
    assert "steptrack.share.max_usd" not in unknown
    assert (unknown["steptrack.unpriced"], unknown["steptrack.unpriced_calls"]) == (True, 1)
    assert (partly["steptrack.cost_usd"], partly["steptrack.unpriced"]) == (15, True)


def test_what_was_estimated_is_marked(traces):
    with step("plan"):
        open_call().abandon()
    said = traces.said("step plan")
    assert (said["steptrack.estimated"], said["steptrack.estimated_calls"]) == (True, 1)


def test_a_report_after_the_end_is_a_span_of_its_own_that_points_at_the_step(traces):
    with step("outer"):
        with step("plan"):
            call = open_call(10, 5)
        call.settle(Usage(input_tokens=12, output_tokens=1))
    assert traces.said("step plan")["steptrack.estimated"]
    assert traces.said("step plan")["steptrack.in_flight_calls"] == 1
    late = traces.one("late_settlement test-model")
    assert traces.parent_of(late) == "step plan"
    assert [link.context.span_id for link in late.links] == [traces.one("step plan").context.span_id]
    assert (late.attributes["gen_ai.usage.input_tokens"], late.attributes["gen_ai.usage.output_tokens"]) == (
        12,
        1,
    )
    assert late.attributes["steptrack.instead_of.output_tokens"] == 5
    assert (late.attributes["steptrack.cost_usd"], late.attributes["steptrack.instead_of.cost_usd"]) == (
        13,
        15,
    )
    assert "steptrack.estimated" not in late.attributes
    assert traces.said("step outer")["steptrack.cost_usd"] == 13


def test_a_step_that_began_before_the_installation_has_a_span_from_its_beginning(traces):
    opentelemetry.uninstall()
    with step("early") as early:
        opentelemetry.install(traces.provider)
        with step("inside"):
            pass
        spend()
    assert traces.parent("step inside") is None  # it had none to be the child of
    assert traces.one("step early").start_time == int(early.record().started_at * 1e9)
    assert traces.said("step early")["gen_ai.usage.input_tokens"] == 10


def test_tests_that_reset_the_package_leave_it_installed(traces):
    reset()
    with step("plan"):
        pass
    assert traces.names() == ["step plan"]


# Spans of calls


def test_calls_have_no_span_unless_that_is_asked_for(traces):
    with step("plan"):
        ask()
    assert traces.names() == ["step plan"]


@pytest.fixture
def _with_call_spans(traces, measures):
    opentelemetry.install(traces.provider, measures.provider, call_spans=True)


@pytest.mark.usefixtures("_with_call_spans")
def test_a_call_is_a_span_under_what_was_current_when_it_was_admitted(traces):
    with step("plan"), traces.tracer.start_as_current_span("framework"):
        call = open_call()
        with traces.tracer.start_as_current_span("meanwhile"):
            pass
        call.settle(Usage(input_tokens=10, output_tokens=5), model="test-model-2")
    span = traces.one("chat test-model")
    assert traces.parent_of(span) == "framework"
    assert span.kind is SpanKind.CLIENT
    assert span.start_time < traces.one("meanwhile").start_time < span.end_time
    assert span.attributes["gen_ai.request.model"] == "test-model"
    assert span.attributes["gen_ai.response.model"] == "test-model-2"
    assert (span.attributes["gen_ai.usage.input_tokens"], span.attributes["gen_ai.usage.output_tokens"]) == (
        10,
        5,
    )
    assert (span.attributes["steptrack.cost_usd"], span.attributes["steptrack.step.path"]) == (15, "plan")
    assert span.status.status_code is StatusCode.UNSET


@pytest.mark.usefixtures("_with_call_spans")
def test_a_call_that_is_settled_in_a_plain_thread_is_under_its_step(traces):
    framework = FakeFramework()
    with step("plan"):
        call = open_elsewhere(framework)
        with step("another"):
            framework.answer(call)
    assert traces.parent("chat fake-model") == "step plan"


@pytest.mark.usefixtures("_with_call_spans")
def test_a_failed_call_is_an_error_and_a_cached_or_withdrawn_one_is_no_call(traces):
    with step("plan"):
        open_call().fail()
        open_call().settle_free()
        open_call().withdraw()
    assert traces.names() == ["chat test-model", "step plan"]
    assert traces.one("chat test-model").status.status_code is StatusCode.ERROR


@pytest.mark.usefixtures("_with_call_spans")
def test_a_call_without_a_step_is_a_span_as_well(traces):
    with traces.tracer.start_as_current_span("request"):
        ask()
    assert traces.parent("chat test-model") == "request"
