"""What was exported: spans with their parents, and metrics with their sums."""

from __future__ import annotations

from typing import Any

from opentelemetry import trace
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter


class Traces:
    """The spans that have ended, by name."""

    def __init__(self) -> None:
        self.exporter = InMemorySpanExporter()
        self.provider = TracerProvider(shutdown_on_exit=False)
        self.provider.add_span_processor(SimpleSpanProcessor(self.exporter))
        self.tracer = self.provider.get_tracer("a framework")

    @property
    def spans(self) -> tuple[ReadableSpan, ...]:
        return self.exporter.get_finished_spans()

    def names(self) -> list[str]:
        return [span.name for span in self.spans]

    def all(self, name: str) -> list[ReadableSpan]:
        return [span for span in self.spans if span.name == name]

    def one(self, name: str) -> ReadableSpan:
        (span,) = self.all(name)
        return span

    def together_with(self, name: str) -> list[ReadableSpan]:
        """Return the spans of the one trace that a span is in."""
        trace_id = self.one(name).context.trace_id
        return [span for span in self.spans if span.context.trace_id == trace_id]

    def said(self, name: str) -> dict[str, Any]:
        return dict(self.one(name).attributes or {})

    def parent(self, name: str) -> str | None:
        """Name the span around; a parent that has not ended, or is elsewhere, is "?"."""
        return self.parent_of(self.one(name))

    def parent_of(self, span: ReadableSpan) -> str | None:
        if span.parent is None:
            return None
        ids = {each.context.span_id: each.name for each in self.spans}
        return ids.get(span.parent.span_id, "?")

    def events(self, name: str) -> list[tuple[str, dict[str, Any]]]:
        return [(event.name, dict(event.attributes or {})) for event in self.one(name).events]


class Measures:
    """What was measured, by metric."""

    def __init__(self) -> None:
        self.reader = InMemoryMetricReader()
        self.provider = MeterProvider([self.reader], shutdown_on_exit=False)

    def points(self, name: str) -> list[tuple[float, dict[str, Any]]]:
        """Return the sums of a metric, each with its attributes."""
        data = self.reader.get_metrics_data()
        found = [
            metric
            for resource in (data.resource_metrics if data else ())
            for scope in resource.scope_metrics
            for metric in scope.metrics
            if metric.name == name
        ]
        return [
            (point.sum if hasattr(point, "sum") else point.value, dict(point.attributes))
            for metric in found
            for point in metric.data.data_points
        ]

    def total(self, name: str, **said: object) -> float:
        """Add up a metric over all points that say so; dots in names are written as underscores."""
        return sum(
            value
            for value, attributes in self.points(name)
            if all(
                {k.replace(".", "_"): v for k, v in attributes.items()}.get(key) == wanted
                for key, wanted in said.items()
            )
        )


def current() -> str | None:
    """Name the span that is current here."""
    return getattr(trace.get_current_span(), "name", None)
