"""Metrics of calls: tokens, money, refusals, and what late reports have changed of them."""

from __future__ import annotations

from opentelemetry.metrics import Meter

from steptrack_callbacks.hooks import CallDenied, CallSettled
from steptrack_callbacks.values.errors import BudgetExhausted
from steptrack_callbacks.values.usage import Usage

from . import attributes

_BUCKETS = tuple(4**power for power in range(14))  # as the conventions say


class Meters:
    """Counts each call once, when it is first charged.

    What was counted cannot be taken back, so what a late report changes is counted apart: the two
    together are what the books say.
    """

    def __init__(self, meter: Meter) -> None:
        self._tokens = meter.create_histogram(
            "gen_ai.client.token.usage",
            unit="{token}",
            description="Number of input and output tokens used.",
            explicit_bucket_boundaries_advisory=_BUCKETS,
        )
        self._cost = meter.create_counter(
            "steptrack.cost", unit="USD", description="US dollars that calls of known price cost."
        )
        self._calls = meter.create_counter(
            "steptrack.calls", unit="{call}", description="Requests that were sent to models."
        )
        self._denied = meter.create_counter(
            "steptrack.calls.denied", unit="{call}", description="Calls that were refused, and not sent."
        )
        self._late_tokens = meter.create_up_down_counter(
            "steptrack.late.tokens",
            unit="{token}",
            description="What late reports have added to gen_ai.client.token.usage, or taken from it.",
        )
        self._late_cost = meter.create_up_down_counter(
            "steptrack.late.cost",
            unit="USD",
            description="What late reports have added to steptrack.cost, or taken from it.",
        )

    def call_settled(self, event: CallSettled) -> None:
        """Count what a call used, or by how much a late report differs from what was counted."""
        said = attributes.of_call(event)
        if event.instead_of is None:
            self._first(event.usage, said)
        else:
            self._late(event.usage, event.instead_of, said)

    def _first(self, usage: Usage, said: attributes.Attributes) -> None:
        for kind, tokens in _by_kind(usage):
            if tokens:
                self._tokens.record(tokens, said | {attributes.TOKEN_TYPE: kind})
        if usage.cost_usd:
            self._cost.add(float(usage.cost_usd), said)
        answered = usage.calls - usage.failed_calls
        for failed, calls in ((False, answered), (True, usage.failed_calls)):
            if calls:
                self._calls.add(calls, said | {"steptrack.failed": failed})

    def _late(self, usage: Usage, before: Usage, said: attributes.Attributes) -> None:
        for (kind, tokens), (_, counted) in zip(_by_kind(usage), _by_kind(before), strict=True):
            if tokens != counted:
                self._late_tokens.add(tokens - counted, said | {attributes.TOKEN_TYPE: kind})
        if usage.cost_usd != before.cost_usd:
            self._late_cost.add(float(usage.cost_usd - before.cost_usd), said)

    def call_denied(self, event: CallDenied) -> None:
        """Count a refusal, by the limit that had no room."""
        said = {
            "gen_ai.request.model": event.model,
            "error.type": type(event.error).__name__,
            attributes.STEP_NAME: event.step,
        }
        if isinstance(event.error, BudgetExhausted):
            said |= {"steptrack.phase": event.error.phase, "steptrack.limit": event.error.limit}
        self._denied.add(1, said)


def _by_kind(usage: Usage) -> tuple[tuple[str, int], tuple[str, int]]:
    return ("input", usage.input_tokens), ("output", usage.output_tokens)
