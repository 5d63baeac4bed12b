"""At which of a model's rates a call is billed."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Self


@dataclass(frozen=True, slots=True, kw_only=True)
class Terms:
    """How a call is served, where that changes its price, as its request or its answer says.

    `None` says nothing: the plain rates hold.

    Attributes:
        service_tier: Such as `"priority"`, `"flex"` or `"batch"`.
        speed: `"fast"`, where a model can be had faster for more.
        region: Where the model runs, as the provider names it: `"us"`, `"eu"`, `"us-east5"`, `"global"`.
        search_context_size: How much each search of the web brings in: `"low"`, `"medium"` or `"high"`.

    Example:
        >>> Terms(service_tier="default").over(Terms(service_tier="priority", region="eu"))
        Terms(service_tier='default', speed=None, region='eu', search_context_size=None)
    """

    service_tier: str | None = None
    speed: str | None = None
    region: str | None = None
    search_context_size: str | None = None

    def over(self, asked: Self) -> Self:
        """Return these terms, with what they do not say as it was asked for."""
        return type(self)(
            service_tier=self.service_tier or asked.service_tier,
            speed=self.speed or asked.speed,
            region=self.region or asked.region,
            search_context_size=self.search_context_size or asked.search_context_size,
        )


@lru_cache(maxsize=128)
def terms_of_tier(service_tier: str) -> Terms:
    """Return the terms of a call of which its tier is said, and no more."""
    return Terms(service_tier=service_tier)


NO_TERMS = Terms()
"""Of a call of which nothing is said."""

USUAL_TIERS = frozenset({"default", "standard"})
"""Names of providers for their usual tier, at the plain rates."""
