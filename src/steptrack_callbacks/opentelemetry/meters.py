"""Metrics of calls: tokens, money, refusals, and what late reports have changed of them."""

from __future__ import annotations

from collections.abc import Iterator

from opentelemetry.metrics import Meter

from steptrack_callbacks.hooks import CallDenied, CallSettled
from steptrack_callbacks.values.errors import BudgetExhausted
from steptrack_callbacks.values.usage import Usage

from . import attributes, names

TOKEN_TYPE = "steptrack.token.type"  # noqa: S105 - no password
_BUCKETS = tuple(4**power for power in range(14))  # as the conventions say
_MODALITIES = {
    "input_tokens": {
        "audio": "input_audio_tokens",
        "image": "input_image_tokens",
        "video": "input_video_tokens",
    },
    "output_tokens": {
        "audio": "output_audio_tokens",
        "image": "output_image_tokens",
        "video": "output_video_tokens",
    },
    "cache_read_tokens": {"audio": "cache_read_audio_tokens", "image": "cache_read_image_tokens"},
}
"""Parts of a count by their modality, as the fields of `Usage` that hold them."""


class _Tokens:
    """The instruments of the GenAI conventions: counters by modality, and histograms of whole operations."""

    def __init__(self, meter: Meter) -> None:
        self._counters = {
            field: meter.create_counter(
                name, unit="{token}", description=f"Tokens: {name.split('usage.')[1]}."
            )
            for field, name in names.COUNTERS.items()
        }
        self._histograms = {
            field: meter.create_histogram(
                name,
                unit="{token}",
                description=f"{field.split('_')[0].capitalize()} tokens of one operation.",
                explicit_bucket_boundaries_advisory=_BUCKETS,
            )
            for field, name in names.HISTOGRAMS.items()
        }

    def count(self, usage: Usage, said: attributes.Attributes) -> None:
        for field, counter in self._counters.items():
            for modality, tokens in _by_modality(usage, field):
                counter.add(tokens, said | {names.MODALITY: modality})
        for field, histogram in self._histograms.items():
            if tokens := getattr(usage, field):
                histogram.record(tokens, said)


def _by_modality(usage: Usage, field: str) -> Iterator[tuple[str, int]]:
    """Split a count as far as its parts were reported; what nobody has split is of unknown modality."""
    rest = getattr(usage, field)
    whole = rest
    for modality, part in _MODALITIES.get(field, {}).items():
        if tokens := min(rest, getattr(usage, part)):
            yield modality, tokens
            rest -= tokens
    if rest:
        yield "text" if rest < whole else "unknown", rest


class Meters:
    """Counts each call once, when it is first charged.

    What was counted cannot be taken back, so what a late report changes is counted apart: the two
    together give the right sum.
    """

    def __init__(self, meter: Meter, *, older_names: bool) -> None:
        self._tokens = _Tokens(meter)
        self._older = (
            meter.create_histogram(
                names.OLDER_HISTOGRAM,
                unit="{token}",
                description="Number of input and output tokens used.",
                explicit_bucket_boundaries_advisory=_BUCKETS,
            )
            if older_names
            else None
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
            description="What late reports have added to the counters of tokens, or taken from them.",
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
        self._tokens.count(usage, said)
        for kind, tokens in _by_kind(usage):
            if tokens and self._older is not None:
                self._older.record(tokens, said | {names.OLDER_TOKEN_TYPE: kind})
        if usage.cost_usd:
            self._cost.add(float(usage.cost_usd), said)
        answered = usage.calls - usage.failed_calls
        for failed, calls in ((False, answered), (True, usage.failed_calls)):
            if calls:
                self._calls.add(calls, said | {"steptrack.failed": failed})

    def _late(self, usage: Usage, before: Usage, said: attributes.Attributes) -> None:
        for (kind, tokens), (_, counted) in zip(_by_kind(usage), _by_kind(before), strict=True):
            if tokens != counted:
                self._late_tokens.add(tokens - counted, said | {TOKEN_TYPE: kind})
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
