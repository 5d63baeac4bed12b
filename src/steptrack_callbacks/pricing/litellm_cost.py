"""Prices that only LiteLLM itself can work out: an entry with a kind of rate that is unknown here."""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from typing import Any

from steptrack_callbacks.values.money import to_units
from steptrack_callbacks.values.usage import Usage

from .terms import Terms


@dataclass(frozen=True, slots=True)
class LiteLLMPrice:
    """One model whose usage is priced by `litellm.cost_per_token`, which imports LiteLLM.

    Attributes:
        model: The model without its provider.
        provider: As LiteLLM calls it.
        terms: How the call is served.
    """

    model: str
    provider: str
    terms: Terms

    def cost(self, usage: Usage) -> int | None:
        """Price the usage of one call, in units; `None` where LiteLLM cannot."""
        try:
            litellm = importlib.import_module("litellm")
            parts = litellm.cost_per_token(
                self.model,
                custom_llm_provider=self.provider,
                usage_object=self._usage(usage),
                service_tier=self.terms.service_tier,
                **self._place(),
            )
        except Exception:  # noqa: BLE001  # it raises plain ones for what it does not know, or is broken itself
            return None
        # LiteLLM says 0.0 for what it cannot price.
        return sum(to_units(part, "litellm.cost_per_token") for part in parts) or None

    def _usage(self, usage: Usage) -> Any:
        told = litellm_usage(usage)
        if self.terms.speed:
            told.speed = self.terms.speed
        if self.terms.region and self.provider == "anthropic":
            told.inference_geo = self.terms.region
        return told

    def _place(self) -> dict[str, str]:
        """Say where the model runs, as LiteLLM has it for each provider; older ones do not ask."""
        name = {"openai": "data_residency", "vertex_ai": "vertex_location"}.get(self.provider)
        return {name: self.terms.region} if name and self.terms.region else {}


def litellm_usage(usage: Usage) -> Any:
    """Write a usage as LiteLLM does, with inclusive totals and all details."""
    types = importlib.import_module("litellm.types.utils")
    hour, hours = usage.cache_write_1h_tokens, usage.cache_write_12h_tokens
    # Fields that an older LiteLLM does not know are dropped by it.
    written = types.CacheCreationTokenDetails(
        ephemeral_5m_input_tokens=usage.cache_write_tokens - hour - hours,
        ephemeral_1h_input_tokens=hour,
        **({"ephemeral_12h_input_tokens": hours} if hours else {}),
    )
    sent = types.PromptTokensDetailsWrapper(
        cached_tokens=usage.cache_read_tokens,
        cached_tokens_details={
            "audio_tokens": usage.cache_read_audio_tokens,
            "image_tokens": usage.cache_read_image_tokens,
        },
        cache_creation_tokens=usage.cache_write_tokens,
        cache_creation_token_details=written if hour or hours else None,
        audio_tokens=usage.input_audio_tokens,
        image_tokens=usage.input_image_tokens,
        video_tokens=usage.input_video_tokens,
    )
    made = types.CompletionTokensDetailsWrapper(
        reasoning_tokens=usage.reasoning_tokens,
        audio_tokens=usage.output_audio_tokens,
        image_tokens=usage.output_image_tokens,
        video_tokens=usage.output_video_tokens,
    )
    return types.Usage(
        prompt_tokens=usage.input_tokens,
        completion_tokens=usage.output_tokens,
        total_tokens=usage.total_tokens,
        prompt_tokens_details=sent,
        completion_tokens_details=made,
    )
