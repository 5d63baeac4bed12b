"""What a model call costs: exact, offline, and `None` where nobody knows.

Four sources are asked in turn, until one knows every rate that the usage needs:

1. the prices that the user gave (`set_prices`);
2. `litellm.model_cost`, if LiteLLM is imported: it has what `litellm.register_model` and prices
   passed to a call have put there;
3. the price table in LiteLLM's wheel, read without importing LiteLLM, which takes seconds;
4. `genai-prices`, if it is installed: it knows retired models and the models of OpenRouter.

A zero is a price only where a source lists a zero. A rate of LiteLLM's table that this package does not
understand takes the price away only from calls that could meet it: those are priced by
`litellm.cost_per_token`, which imports LiteLLM, by `genai-prices`, or at the most that they may cost.

Importing this package reads nothing and imports none of the above.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from decimal import Decimal
from typing import Any, Protocol

from steptrack_callbacks import settings
from steptrack_callbacks.values.money import to_usd
from steptrack_callbacks.values.usage import Usage

from .abilities import Abilities, abilities_of
from .checks import check_usage
from .entries import rates_of
from .sources import Prices, Question, forget, look_up, max_output, with_prices
from .terms import Terms
from .user import checked, rates_in

__all__ = (
    "Abilities",
    "Pricer",
    "Prices",
    "Terms",
    "abilities_of",
    "cost_units",
    "cost_usd",
    "max_output_tokens",
    "price_of",
    "prices_of",
    "rates_in",
    "reset",
    "set_prices",
    "source_of",
)


class Pricer(Protocol):
    """Anything that can say what a call costs."""

    def price(
        self, model: str, usage: Usage, *, provider: str | None, service_tier: str | None
    ) -> int | None:
        """Price the usage of one call, in units of 1e-24 US dollars; `None` if unknown."""


def cost_usd(
    model: str,
    usage: Usage,
    *,
    provider: str | None = None,
    service_tier: str | None = None,
    speed: str | None = None,
    region: str | None = None,
    search_context_size: str | None = None,
    duration_s: float | None = None,
) -> Decimal | None:
    """Price the usage of one call at the list price.

    Cached, reasoning, audio, image and video tokens have their own rates where the model has them; a
    prompt above a model's threshold costs its higher rates; hours that are cheaper are cheaper. What
    the provider's own tools did (searches of the web, maps and files, containers) costs its fees.
    Parts of a usage that exceed their total are cut to it.

    Args:
        model: By any name that LiteLLM or genai-prices knows: `"gpt-4o"`, `"openai/gpt-4o"`,
            `"us.anthropic.claude-sonnet-4-5-20250929-v1:0"`, `"mistral-small-latest"`.
        usage: With inclusive totals: `input_tokens` contains the cached ones. Add up the usage of
            several calls only where no threshold lies between.
        provider: Who is called, by LiteLLM's or LangChain's name: `"azure"`, `"google_genai"`.
            Only prices of this provider are used; a provider that nobody lists has none, whatever the
            model is called. `None`, or a gateway such as `"litellm_proxy"`: the model's prefix or
            its maker.
        service_tier: As the answer names it, such as `"priority"`, `"flex"` or `"batch"`; where
            the model has no rates for it, the plain ones hold.
        speed: `"fast"` if the model was asked to be; where it has no price for that, it is plain.
        region: Where it ran, as the provider names it: `"us"`, `"eu"`, `"us-east5"`.
        search_context_size: How much each search of the web brought in, if that was asked for:
            `"low"`, `"medium"` or `"high"`.
        duration_s: How long the call took, in seconds, for models that are priced by the second.

    Returns:
        US dollars, or `None` if the price is unknown, as it is of a model that is priced by the second
        if `duration_s` is `None`. `Decimal(0)` is a price.

    Raises:
        TypeError: A name is not a string, the usage not a `Usage`, or the time not a number.
        ValueError: The time is negative or not finite.

    Example:
        >>> cost_usd("gpt-4o-mini", Usage(input_tokens=1_000_000))
        Decimal('0.15')
        >>> cost_usd("claude-sonnet-4-5", Usage(input_tokens=1_000, web_search_requests=5))
        Decimal('0.053')
        >>> cost_usd("gpt-4o-mini", Usage(input_tokens=10), provider="my-own-server") is None
        True
    """
    check_usage(usage, duration_s)
    asked = Question(model, provider, service_tier, speed, region, search_context_size)
    units = look_up(asked).cost(usage, duration_s)
    return None if units is None else to_usd(units)


def cost_units(
    model: str, usage: Usage, *, provider: str | None = None, service_tier: str | None = None
) -> int | None:
    """Price the usage of one call in units of 1e-24 US dollars; see `cost_usd`.

    Raises:
        TypeError: A name is not a string, or the usage not a `Usage`.
    """
    check_usage(usage, None)
    return look_up(Question(model, provider, service_tier)).cost(usage)


def prices_of(
    model: str,
    *,
    provider: str | None = None,
    service_tier: str | None = None,
    speed: str | None = None,
    region: str | None = None,
    search_context_size: str | None = None,
    rates: Mapping[str, Any] | None = None,
) -> Prices:
    """Look a model's prices up once, to price several usages of one call by the same.

    Args:
        model: See `cost_usd`, also for the others.
        provider: Who is called.
        service_tier: Of which tier.
        speed: How fast.
        region: Where.
        search_context_size: With how much found.
        rates: Rates that were given with the call, in LiteLLM's words (see `rates_in`); they go before
            all others, and what they leave out is as the model's own.

    Raises:
        TypeError: A name is not a string.
    """
    given = tuple(rates.items()) if rates else ()
    return look_up(Question(model, provider, service_tier, speed, region, search_context_size, given))


def set_prices(prices: Mapping[str, Mapping[str, object]]) -> None:
    """Add prices that go before all others, or replace those given before.

    Args:
        prices: By model, as it is called or with its provider before it (`"azure/my-model"`).
            Rates are `input_usd_per_mtok`, `output_usd_per_mtok`, `cache_read_usd_per_mtok`,
            `cache_write_usd_per_mtok`, `cache_write_1h_usd_per_mtok` and
            `reasoning_usd_per_mtok`, in US dollars per million tokens, or LiteLLM's own keys in US
            dollars per token, such as `input_cost_per_token_above_200k_tokens`, and per second of a
            call, such as `input_cost_per_second`. A kind of token without a rate costs what plain
            input or output costs.

    Raises:
        ValueError: A key is unknown, a rate is negative, NaN or no number, or a model has none. No
            price of this call is then taken.
        TypeError: A model is not a string, or its price not a mapping.

    Example:
        >>> set_prices({"my-model": {"input_usd_per_mtok": 0.5, "output_usd_per_mtok": "1.5"}})
        >>> cost_usd("my-model", Usage(input_tokens=1000, output_tokens=1000))
        Decimal('0.002')
        >>> reset()
    """
    settings.put_in_force(with_prices(settings.now, prices))


def price_of(model: str, rates: Mapping[str, object]) -> Callable[[Usage], int | None]:
    """Return what prices a usage by rates that were given with one call.

    Args:
        model: The model's name, for messages.
        rates: As for one model of `set_prices`.

    Raises:
        ValueError: A rate is unknown, negative or NaN.
        TypeError: A rate is a `bool` or no number.
    """
    return rates_of(checked(model, rates), None).cost


def reset() -> None:
    """Forget the user's prices and all that was looked up, as tests need it."""
    forget()


def max_output_tokens(model: str, *, provider: str | None = None) -> int | None:
    """Return the longest answer that a model can give, in tokens; `None` if nobody says.

    Raises:
        TypeError: The model or the provider is not a string.

    Example:
        >>> from steptrack_callbacks.pricing import max_output_tokens
        >>> max_output_tokens("gpt-4o-mini"), max_output_tokens("no-such-model")
        (16384, None)
    """
    return max_output(model, provider)


def source_of(model: str, *, provider: str | None = None) -> str | None:
    """Name who knows the price of a model: `"user"`, `"litellm"` or `"genai-prices"`; `None` if nobody does.

    Raises:
        TypeError: The model or the provider is not a string.

    Example:
        >>> from steptrack_callbacks.pricing import source_of
        >>> source_of("gpt-4o-mini"), source_of("no-such-model")
        ('litellm', None)
    """
    plain, second = Usage(input_tokens=1, output_tokens=1), 1.0
    quotes = look_up(Question(model, provider)).quotes
    return next((quote.source for quote in quotes if quote.cost(plain, second) is not None), None)
