"""Prices of genai-prices, if it is installed: retired models, and vendors that LiteLLM does not list."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

from steptrack_callbacks.values.money import to_units
from steptrack_callbacks.values.untrusted import CHANGED
from steptrack_callbacks.values.usage import Usage

from .names import split
from .rates import Rates, Raw, rates_of_steps
from .table import package_folder

_PROVIDERS = {
    "azure_ai": "azure",
    "bedrock": "aws",
    "fireworks_ai": "fireworks",
    "gemini": "google",
    "github_copilot": "github-copilot",
    "moonshot": "moonshotai",
    "together_ai": "together",
    "vertex_ai": "google",
    "voyage": "voyageai",
    "xai": "x-ai",
}
_OWNERS = {theirs: ours for ours, theirs in _PROVIDERS.items()} | {"google": None}  # two serve its models
_KEYS = {
    "input": "input_mtok",
    "output": "output_mtok",
    "cache_read": "cache_read_mtok",
    "cache_write": "cache_write_mtok",
    "cache_write_1h": "cache_write_1h_mtok",
    "reasoning": "output_reasoning_mtok",
    "input_audio": "input_audio_mtok",
    "output_audio": "output_audio_mtok",
    "cache_read_audio": "cache_audio_read_mtok",
    "input_image": "input_image_mtok",
    "output_image": "output_image_mtok",
    "request": "requests_kcount",
}
_BATCH = {"batch": {"processing": "batch"}, "batches": {"processing": "batch"}}


@dataclass(slots=True)
class GenaiModel:
    """One model of genai-prices, with the prices that hold when it is asked.

    Attributes:
        model: The library's own `ModelInfo`.
        context: What selects a variant of its prices, such as a service tier.
        owner: Who serves it, by the name that LiteLLM's table has for that; `None` if that may be several.
    """

    model: Any
    context: Mapping[str, str] | None
    owner: str | None
    _last: tuple[Any, Rates] | None = field(default=None, init=False)

    def cost(self, usage: Usage) -> int | None:
        """Price the usage of one call, in units; `None` if a rate that it needs is not known."""
        try:
            rates = self._rates()
        except CHANGED:
            return None
        return rates.cost(usage)

    def _rates(self) -> Rates:
        prices = self.model.get_prices(datetime.now(UTC), self.context)
        last = self._last
        if last is None or last[0] is not prices:
            last = self._last = (prices, _read(prices))
        return last[1]


def find(model: str, provider: str | None, service_tier: str | None) -> GenaiModel | None:
    """Find a model in genai-prices.

    Args:
        model: By any name; a prefix such as `"openrouter/"` says the provider.
        provider: Who is called. `None`, or a gateway: the model's name says whose it is.
        service_tier: As the provider calls it.

    Returns:
        The model, or `None` if it is not there, or the library is not installed or not as it was known.
    """
    if package_folder("genai_prices") is None:
        return None
    try:
        return _found(model, provider, service_tier)
    except CHANGED:
        return None


def _found(model: str, provider: str | None, service_tier: str | None) -> GenaiModel | None:
    snapshot = importlib.import_module("genai_prices.data_snapshot").get_snapshot()
    vendor, name = split(model, provider)
    vendors = {each.id for each in snapshot.providers}
    vendor = vendor and _PROVIDERS.get(vendor, vendor)
    # The library's own matching is by parts of a name: "my-openai-host" would pay OpenAI's prices.
    if vendor and vendor not in vendors:
        return None
    try:
        owner, found = snapshot.find_provider_model(name, None, vendor, None)
    except LookupError:
        return None
    tier = (service_tier or "").lower()
    own = tier and any(found is each for each in owner.models)
    context = _BATCH.get(tier, {"service_tier": tier}) if own else None
    return GenaiModel(found, context, _OWNERS.get(owner.id, owner.id))


def _read(prices: Any) -> Rates:
    stated = {name: value for name, key in _KEYS.items() if (value := getattr(prices, key, None)) is not None}
    limits = {tier.start for price in stated.values() for tier in getattr(price, "tiers", ())}
    return rates_of_steps([(limit, _raw(stated, limit)) for limit in sorted(limits | {0})])


def _raw(stated: Mapping[str, Any], limit: int) -> Raw:
    return {name: _units(name, _price(price, limit)) for name, price in stated.items()}


def _price(price: Any, limit: int) -> Decimal:
    base: Decimal = getattr(price, "base", price)
    reached = [tier.price for tier in getattr(price, "tiers", ()) if tier.start <= limit]
    return reached[-1] if reached else base


def _units(name: str, price: Decimal) -> int:
    return to_units(price, name) // (1000 if name == "request" else 10**6)
