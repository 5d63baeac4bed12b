"""The user's own prices: checked when they are given, so that a typing error costs nothing."""

from __future__ import annotations

import re
from collections.abc import Mapping
from decimal import Decimal
from functools import lru_cache
from typing import Any

from steptrack_callbacks.values.limits import check_key
from steptrack_callbacks.values.money import decimal_of

from .entries import KEYS, SECONDS

_PER_MTOK = {
    "input_usd_per_mtok": "input_cost_per_token",
    "output_usd_per_mtok": "output_cost_per_token",
    "cache_read_usd_per_mtok": "cache_read_input_token_cost",
    "cache_write_usd_per_mtok": "cache_creation_input_token_cost",
    "cache_write_1h_usd_per_mtok": "cache_creation_input_token_cost_above_1hr",
    "reasoning_usd_per_mtok": "output_cost_per_reasoning_token",
}
_PLAIN_KEYS = tuple(KEYS.values())
_TIERS = "flex|priority|balanced|ultrafast|batches"
_RATE = re.compile(
    rf"(?:{'|'.join(_PLAIN_KEYS)})(?:_above_\d+[km]?_tokens)?(?:_(?:{_TIERS}))?"
    rf"|{'|'.join(SECONDS)}|google_maps_grounding_cost_per_query|code_interpreter_cost_per_session"
    r"|(?:fedramp|regional_endpoint|regional_processing)_uplift_multiplier(?:_[a-z]+)?"
)
_TABLES = ("provider_specific_entry", "search_context_cost_per_query")
_FACTS = ("litellm_provider", "max_input_tokens", "max_output_tokens", "max_tokens", "mode", "source")
_MTOK = Decimal(10) ** 6
_UNITS = {
    **dict.fromkeys(_PER_MTOK, " (US dollars per million tokens)"),
    **dict.fromkeys(_PLAIN_KEYS, " (US dollars per token)"),
    "input_cost_per_request": " (US dollars per request)",
    "input_cost_per_second": " (US dollars per second of a call)",
    **dict.fromkeys(_FACTS, ""),
}
_LONGEST_KEY = 80
_GIVEN_TABLES = frozenset({"tiered_pricing", "off_peak_pricing", "provider_specific_entry"})


def checked(model: object, price: object) -> dict[str, Any]:
    """Read one model's price as the user wrote it.

    Returns:
        An entry as LiteLLM's table has them.

    Raises:
        ValueError: The model's name is empty, a key is unknown, a rate is negative or no number, or there is
            no rate at all.
        TypeError: The model is not a string, or the price not a mapping of strings.
    """
    if not isinstance(model, str):
        raise TypeError(f"prices: a model must be a string, such as 'gpt-4o', not {model!r}")
    check_key(model, "prices: a model", "gpt-4o")
    if not isinstance(price, Mapping):
        raise TypeError(f"prices[{model!r}] must be a mapping of rates, not {price!r}")
    entry = _entry(f"prices[{model!r}]", price)
    if not any(_RATE.fullmatch(key) for key in entry):
        raise ValueError(f"prices[{model!r}] has no rate: give input_usd_per_mtok and output_usd_per_mtok")
    return entry


def _entry(where: str, price: Mapping[object, object]) -> dict[str, Any]:
    entry: dict[str, Any] = {}
    written: dict[str, object] = {}
    for key, value in price.items():
        name, rate = _item(where, key, value)
        if name in entry:
            both = f"{written[name]!r} and {key!r}"
            raise ValueError(f"{where} has one rate twice: {both} are the same in two units; keep one")
        entry[name], written[name] = rate, key
    return entry


def _item(where: str, key: object, value: object) -> tuple[str, Any]:
    name = f"{where}[{key!r}]"
    if not isinstance(key, str):
        raise TypeError(f"{name}: a key must be a string, such as 'input_usd_per_mtok'")
    if key in _FACTS or key.startswith("supports_"):
        return key, value
    if key in _TABLES:
        return key, _table(name, value)
    if key in _PER_MTOK:
        return _PER_MTOK[key], decimal_of(value, name) / _MTOK
    if not _RATE.fullmatch(key):
        raise ValueError(f"{name} is not a known rate{meant(key)}")
    return key, decimal_of(value, name)


def _table(name: str, value: object) -> dict[str, Any]:
    if not isinstance(value, Mapping):
        raise TypeError(f"{name} must be a mapping of names to numbers, not {value!r}")
    return {str(key): decimal_of(each, f"{name}[{key!r}]") for key, each in value.items()}


def rates_in(*told: Mapping[str, Any]) -> dict[str, Any]:
    """Collect the rates that were given with a call, in LiteLLM's words; what makes no sense says nothing.

    Args:
        told: Where they may stand (the call's own arguments, a deployment's `model_info`), what goes
            before the others last.

    Example:
        >>> rates_in({"model": "house", "input_cost_per_token": 1e-6, "output_cost_per_token": None})
        {'input_cost_per_token': 1e-06}
    """
    pairs = [pair for each in told for pair in each.items()]
    return {key: value for key, value in pairs if _names_rate(key) and _is_rate(key, value)}


@lru_cache(maxsize=1024)
def _names_rate(key: object) -> bool:
    return isinstance(key, str) and ("cost" in key or key in _GIVEN_TABLES or "_uplift_multiplier" in key)


def _is_rate(key: str, value: object) -> bool:
    if isinstance(value, Mapping | list):
        return bool(value)
    try:
        decimal_of(value, key)
    except ValueError:
        return False
    return True


def meant(key: str) -> str:
    """Ask whether a known key was meant, with its unit: the wrong one would be wrong a millionfold."""
    from difflib import get_close_matches  # noqa: PLC0415 - for errors only

    near = get_close_matches(key, _UNITS, n=1) if len(key) <= _LONGEST_KEY else []
    near = near or [known for known in _PER_MTOK if known.startswith(key)]
    if near:
        return f"; did you mean {near[0]!r}{_UNITS[near[0]]}?"
    return f"; known are {', '.join(_PER_MTOK)}, and LiteLLM's, such as input_cost_per_token"
