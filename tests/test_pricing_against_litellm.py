"""Our arithmetic and LiteLLM's, side by side over LiteLLM's whole table."""

from __future__ import annotations

import importlib
from importlib.metadata import version

import pytest

from steptrack_callbacks.pricing import cost_usd, reset
from steptrack_callbacks.pricing.litellm_cost import litellm_usage
from steptrack_callbacks.pricing.names import canonical
from steptrack_callbacks.pricing.table import installed
from steptrack_callbacks.values.usage import Usage

pytestmark = pytest.mark.contract

VERSION = tuple(map(int, version("litellm").split(".")[:2]))
MODES = {"chat", "completion", "embedding", "responses"}

USAGES = {
    "plain": Usage(input_tokens=1000, output_tokens=321),
    "input only": Usage(input_tokens=1000),
    "cached": Usage(input_tokens=5000, output_tokens=100, cache_read_tokens=4096),
    "written": Usage(input_tokens=5000, output_tokens=100, cache_read_tokens=1000, cache_write_tokens=3000),
    "written for an hour": Usage(
        input_tokens=5000, output_tokens=100, cache_write_tokens=3000, cache_write_1h_tokens=1200
    ),
    "reasoning": Usage(input_tokens=100, output_tokens=900, reasoning_tokens=800),
    "audio and images": Usage(
        input_tokens=1000,
        output_tokens=500,
        input_audio_tokens=300,
        input_image_tokens=200,
        output_audio_tokens=100,
        output_image_tokens=50,
    ),
    "cached audio": Usage(
        input_tokens=1000,
        output_tokens=10,
        cache_read_tokens=400,
        input_audio_tokens=300,
        cache_read_audio_tokens=250,
    ),
    "just at 200k": Usage(input_tokens=200_000, output_tokens=1000, cache_read_tokens=50_000),
    "150k": Usage(input_tokens=150_000, output_tokens=1000, cache_read_tokens=50_000, cache_write_tokens=7),
    "250k": Usage(input_tokens=250_000, output_tokens=1000, cache_read_tokens=50_000, cache_write_tokens=7),
    "600k": Usage(
        input_tokens=600_000,
        output_tokens=1000,
        cache_read_tokens=50_000,
        cache_write_tokens=70_000,
        cache_write_1h_tokens=30_000,
        reasoning_tokens=500,
    ),
}


if VERSION >= (1, 110):  # those before it do not tell all of these apart
    USAGES |= {
        "written for half a day": Usage(
            input_tokens=5000,
            output_tokens=100,
            cache_write_tokens=3000,
            cache_write_1h_tokens=1200,
            cache_write_12h_tokens=700,
        ),
        "images and video": Usage(
            input_tokens=9000,
            output_tokens=600,
            cache_read_tokens=4000,
            cache_read_image_tokens=1500,
            input_image_tokens=2500,
            input_video_tokens=300,
            output_video_tokens=200,
        ),
    }


@pytest.fixture(scope="module")
def litellm():
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LITELLM_LOCAL_MODEL_COST_MAP", "True")
        return importlib.import_module("litellm")


@pytest.fixture(autouse=True)
def _clean():
    reset()
    yield
    reset()


def theirs(litellm, key: str, provider: str, usage: Usage, service_tier: str | None) -> float | None:
    for name in dict.fromkeys((canonical(provider), provider)):
        try:
            parts = litellm.cost_per_token(
                key, custom_llm_provider=name, usage_object=litellm_usage(usage), service_tier=service_tier
            )
        except Exception:
            continue
        return sum(parts)
    return None


def states_all_rates(entry, usage: Usage) -> bool:
    """LiteLLM prices tokens at 0.0 where the table has no rate for them; that is unknown, not free."""
    tiers = entry.get("tiered_pricing") or [{}]
    sent = entry.get("input_cost_per_token", tiers[0].get("input_cost_per_token"))
    made = entry.get("output_cost_per_token", tiers[0].get("output_cost_per_token"))
    return (sent is not None or not usage.input_tokens) and (
        made is not None or not usage.output_tokens or entry.get("mode") == "embedding"
    )


def litellm_is_wrong(entry, usage: Usage, service_tier: str | None) -> bool:
    # Its cost per token leaves out the fee per request that these entries state.
    fee = "input_cost_per_request" in entry
    # It looks for the tier's rate for audio, but its own model info has dropped that key.
    audio = (
        service_tier and usage.input_audio_tokens and f"input_cost_per_audio_token_{service_tier}" in entry
    )
    # Until 1.110 it charged what Perplexity had in its cache as if it were new.
    cached = (
        usage.cache_read_tokens
        and entry["litellm_provider"] == "perplexity"
        and VERSION < (1, 110)
        and "cache_read_input_token_cost" in entry
    )
    return bool(fee or audio or cached)


@pytest.mark.parametrize(
    ("service_tier", "least"),
    [(None, 30_000), ("flex", 2_000), ("priority", 2_000), ("balanced", 1), ("ultrafast", 1)],
)
def test_every_model_costs_what_litellm_says(litellm, service_tier, least):
    compared, wrong = 0, []
    for key, entry in installed().entries.items():
        listed = service_tier is None or any(name.endswith(f"_{service_tier}") for name in entry)
        if entry.get("mode") not in MODES or not listed:
            continue
        for name, usage in USAGES.items():
            if not states_all_rates(entry, usage) or litellm_is_wrong(entry, usage, service_tier):
                continue
            provider = entry["litellm_provider"]
            ours = cost_usd(key, usage, provider=provider, service_tier=service_tier)
            other = theirs(litellm, key, provider, usage, service_tier)
            compared += 1
            if other is not None and (ours is None or float(ours) != pytest.approx(other, rel=1e-9, abs=0)):
                wrong.append((key, name, ours, other))
    assert wrong == []
    assert compared > least


def test_what_states_no_rate_is_unknown_or_priced_by_another(litellm):
    for key, entry in installed().entries.items():
        usage = USAGES["plain"]
        if entry.get("mode") in MODES and not states_all_rates(entry, usage):
            assert cost_usd(key, usage, provider=entry["litellm_provider"]) != 0, key
