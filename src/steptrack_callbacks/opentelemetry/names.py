"""The names of OpenTelemetry's GenAI conventions: those of today, and by choice the older ones, too."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

INPUT_TOKENS = "gen_ai.usage.input_tokens"
OUTPUT_TOKENS = "gen_ai.usage.output_tokens"
CACHE_READ = "gen_ai.usage.cache_read.input_tokens"
CACHE_WRITE = "gen_ai.usage.cache_write.input_tokens"
REASONING = "gen_ai.usage.reasoning.output_tokens"

COUNTERS = {
    "input_tokens": "gen_ai.client.inference.usage.input_tokens",
    "output_tokens": "gen_ai.client.inference.usage.output_tokens",
    "cache_read_tokens": "gen_ai.client.inference.usage.cache_read.input_tokens",
    "cache_write_tokens": "gen_ai.client.inference.usage.cache_write.input_tokens",
    "reasoning_tokens": "gen_ai.client.inference.usage.reasoning.output_tokens",
}
"""Counters of tokens by the field of `Usage` that they add up: for sums and shares."""
HISTOGRAMS = {
    "input_tokens": "gen_ai.client.inference.operation.input_tokens",
    "output_tokens": "gen_ai.client.inference.operation.output_tokens",
}
"""Histograms of tokens an operation: for percentiles."""
MODALITY = "gen_ai.token.modality"

OLDER_ATTRIBUTES = {CACHE_WRITE: "gen_ai.usage.cache_creation.input_tokens"}
"""What an attribute was called before."""
OLDER_HISTOGRAM = "gen_ai.client.token.usage"
OLDER_TOKEN_TYPE = "gen_ai.token.type"  # noqa: S105 - no password

OPT_IN = "OTEL_SEMCONV_STABILITY_OPT_IN"
BOTH = "gen_ai/dup"


def older_are_asked_for() -> bool:
    """Tell whether the environment asks for older names beside those of today."""
    return BOTH in (value.strip() for value in os.environ.get(OPT_IN, "").split(","))


def with_older(said: Mapping[str, Any]) -> dict[str, Any]:
    """Say again by its older name what had one."""
    older = {old: said[new] for new, old in OLDER_ATTRIBUTES.items() if new in said}
    return {**said, **older}
