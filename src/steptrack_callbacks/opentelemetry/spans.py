"""Spans of steps, of late reports, and of calls where nobody else makes them."""

from __future__ import annotations

import time

from opentelemetry.trace import Link, Span, SpanKind, Status, StatusCode, Tracer

from steptrack_callbacks.hooks import (
    BudgetThreshold,
    CallAdmitted,
    CallDenied,
    CallSettled,
    CallSwapped,
    Escalated,
    StepEnded,
    StepStarted,
)
from steptrack_callbacks.steps import active
from steptrack_callbacks.values.records import CompletedStep

from . import attributes, following, names


class Spans:
    """Makes spans of what is told of steps and calls.

    Attributes:
        of_calls: Whether calls have spans, too.
    """

    def __init__(self, tracer: Tracer, *, of_calls: bool, older_names: bool) -> None:
        self._tracer = tracer
        self._named = names.with_older if older_names else dict
        self.of_calls = of_calls

    def step_started(self, event: StepStarted) -> None:
        """Begin the span of a step. Most steps of hooks have nothing to tell, so theirs are made later."""
        step = active.find(event.step_id or "")
        if step is None or step.kind == "hook":
            return
        span = self._tracer.start_span(
            attributes.span_name(step.kind, step.name),
            context=following.context_for(step),
            attributes=attributes.of_start(step),
        )
        following.trace(step, span)

    def step_ended(self, event: StepEnded) -> None:
        """End the span of a step with what the step has spent."""
        record, traced = event.record, following.find(event.step_id)
        span = self._span_afterwards(record) if traced is None else traced.span
        if span.is_recording():  # it is not if it was dropped, or ended by `uninstall`
            span.set_attributes(self._named(attributes.of_record(record)))
            if record.status in attributes.ERRORS:
                span.set_status(Status(StatusCode.ERROR, record.error))
            span.end()
        if traced is not None:
            traced.inside = None
            traced.calls.clear()

    def _span_afterwards(self, record: CompletedStep) -> Span:
        """Make the span of a step that had none when it began."""
        return self._tracer.start_span(
            attributes.span_name(record.kind, record.name),
            start_time=int(record.started_at * 1e9),
        )

    # What happens in a step

    def call_denied(self, event: CallDenied) -> None:
        """Note a refusal."""
        said = {"gen_ai.request.model": event.model, **attributes.of_refusal(event.error)}
        _note(event.step_id, "steptrack.call.denied", said)

    def call_swapped(self, event: CallSwapped) -> None:
        """Note that a call is made with another model than was asked for."""
        _note(event.step_id, "steptrack.call.swapped", attributes.of_swap(event))

    def threshold_crossed(self, event: BudgetThreshold) -> None:
        """Note that a share of a limit was crossed."""
        _note(event.step_id, "steptrack.budget.threshold", attributes.of_threshold(event))

    def escalated(self, event: Escalated) -> None:
        """Note a question, and its answer."""
        _note(event.step_id, "steptrack.escalation", attributes.of_escalation(event))

    # Calls

    def call_admitted(self, event: CallAdmitted) -> None:
        """Remember when a call began, and under which span."""
        traced = following.find(event.step_id)
        if traced is not None:
            traced.calls[event.call_id] = (time.time_ns(), following.context_in(event.step_id))

    def call_settled(self, event: CallSettled) -> None:
        """Make a span of a call, or of the report that came after its step had ended."""
        if event.instead_of is not None:
            self._span_of_late_report(event)
        elif self.of_calls and event.usage.calls:
            self._span_of_call(event)

    def _span_of_call(self, event: CallSettled) -> None:
        traced = following.find(event.step_id)
        known = None if traced is None else traced.calls.pop(event.call_id, None)
        began, context = known or (None, following.context_in(event.step_id))
        span = self._tracer.start_span(
            f"{event.operation} {event.model}",
            context=context,
            kind=SpanKind.CLIENT,
            attributes=attributes.of_call(event) | attributes.of_step_of(event),
            start_time=began,
        )
        span.set_attributes(self._named(attributes.of_usage(event.usage)))
        if event.usage.failed_calls >= event.usage.calls:
            span.set_status(StatusCode.ERROR)
        span.end()

    def _span_of_late_report(self, event: CallSettled) -> None:
        traced = following.find(event.step_id)
        self._tracer.start_span(
            f"late_settlement {event.model}",
            context=following.context_in(event.step_id),
            attributes=attributes.of_call(event)
            | attributes.of_step_of(event)
            | self._named(attributes.of_difference(event))
            | {"gen_ai.operation.name": "late_settlement"},
            links=None if traced is None else [Link(traced.span.get_span_context())],
        ).end()


def _note(step_id: str | None, name: str, said: attributes.Attributes) -> None:
    traced = following.find(step_id)
    if traced is not None and traced.span.is_recording():
        traced.span.add_event(name, said)
