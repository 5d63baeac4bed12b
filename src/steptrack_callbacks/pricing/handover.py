"""Prices that only LiteLLM itself can work out: an entry with a kind of rate that is unknown here."""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from typing import Any

from steptrack_callbacks.values.money import to_units
from steptrack_callbacks.values.usage import Usage


@dataclass(frozen=True, slots=True)
class Handover:
    """One model whose usage is priced by `litellm.cost_per_token`, which imports LiteLLM.

    Attributes:
        model: The model without its provider.
        provider: As LiteLLM calls it.
        service_tier: As the provider calls it.
    """

    model: str
    provider: str
    service_tier: str | None

    def cost(self, usage: Usage) -> int | None:
        """Price the usage of one call, in units; `None` where LiteLLM cannot."""
        litellm = importlib.import_module("litellm")
        try:
            parts = litellm.cost_per_token(
                self.model,
                custom_llm_provider=self.provider,
                usage_object=litellm_usage(usage),
                service_tier=self.service_tier,
            )
        except Exception:  # noqa: BLE001  # LiteLLM raises plain exceptions for what it does not know
            return None
        # LiteLLM says 0.0 for what it cannot price.
        return sum(to_units(part, "litellm.cost_per_token") for part in parts) or None


def litellm_usage(usage: Usage) -> Any:
    """Write a usage as LiteLLM does, with inclusive totals and all details."""
    types = importlib.import_module("litellm.types.utils")
    five_minutes = usage.cache_write_tokens - usage.cache_write_1h_tokens
    written = types.CacheCreationTokenDetails(
        ephemeral_5m_input_tokens=five_minutes, ephemeral_1h_input_tokens=usage.cache_write_1h_tokens
    )
    sent = types.PromptTokensDetailsWrapper(
        cached_tokens=usage.cache_read_tokens,
        cached_tokens_details={"audio_tokens": usage.cache_read_audio_tokens},
        cache_creation_tokens=usage.cache_write_tokens,
        cache_creation_token_details=written if usage.cache_write_1h_tokens else None,
        audio_tokens=usage.input_audio_tokens,
        image_tokens=usage.input_image_tokens,
    )
    made = types.CompletionTokensDetailsWrapper(
        reasoning_tokens=usage.reasoning_tokens,
        audio_tokens=usage.output_audio_tokens,
        image_tokens=usage.output_image_tokens,
    )
    return types.Usage(
        prompt_tokens=usage.input_tokens,
        completion_tokens=usage.output_tokens,
        total_tokens=usage.total_tokens,
        prompt_tokens_details=sent,
        completion_tokens_details=made,
    )
