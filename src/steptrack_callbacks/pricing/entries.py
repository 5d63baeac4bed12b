"""What an entry of LiteLLM's table says that a model costs."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import replace
from fractions import Fraction
from operator import itemgetter
from typing import Any

from steptrack_callbacks.values.money import decimal_of, to_units

from .off_peak import Schedule
from .rates import USUAL, Habits, Rates, Raw, rates_of_steps
from .terms import Terms

KEYS = {
    "input": "input_cost_per_token",
    "output": "output_cost_per_token",
    "cache_read": "cache_read_input_token_cost",
    "cache_write": "cache_creation_input_token_cost",
    "cache_write_1h": "cache_creation_input_token_cost_above_1hr",
    "cache_write_12h": "cache_creation_input_token_cost_above_12hr",
    "reasoning": "output_cost_per_reasoning_token",
    "input_audio": "input_cost_per_audio_token",
    "output_audio": "output_cost_per_audio_token",
    "cache_read_audio": "cache_read_input_audio_token_cost",
    "input_image": "input_cost_per_image_token",
    "output_image": "output_cost_per_image_token",
    "cache_read_image": "cache_read_input_image_token_cost",
    "input_video": "input_cost_per_video_token",
    "output_video": "output_cost_per_video_token",
    "request": "input_cost_per_request",
}
"""Under which key an entry states the rate of each kind."""

SECONDS = ("cost_per_second", "input_cost_per_second", "output_cost_per_second")
"""Keys of prices by time, the first that is stated holds; only where tokens have none."""

STEPPED = (
    "input",
    "output",
    "cache_read",
    "cache_write",
    "cache_write_1h",
    "cache_write_12h",
    "input_audio",
)
"""Kinds whose rate may be another for longer prompts."""

_OFF_PEAK = ("input", "output", "cache_read", "cache_write", "reasoning")
_ONE_PRICE = ("input", "output", "cache_read", "reasoning", "request")
_BATCHES = "_batches"
_TIERS = {
    "": "",
    "auto": "",
    "batch": _BATCHES,
    "fast": "_priority",
    "on_demand_priority": "_priority",
    "on_demand_flex": "_flex",
}
_WORD = re.compile("[a-z]+")
_ABOVE = re.compile(r"_above_(\d+)(k?|m)_tokens")
_ABOVE_SCALE = {"": 1, "k": 1_000, "m": 1_000_000}
_TIMED_MODES = frozenset({None, "audio_transcription", "chat", "completion", "embedding", "responses"})
# What a model takes that is priced by neither token nor second, where each request is one of it.
_EACH = ("input_cost_per_query", "input_cost_per_image")

_HABITS = dict.fromkeys(
    ("dashscope", "deepseek", "qwen_ai_platform", "qwencloud", "tencent"), Habits(tiers=False)
) | {
    "fireworks_ai": Habits(tiers=False, cached_divisor=2),
    "perplexity": Habits(tiers=False, one_price=True),
    "xai": Habits(tiers=False, inclusive=True),
    "openai": Habits(auto_tier="priority"),
    "azure": Habits(auto_tier="priority"),
}


def habits_of(entry: Mapping[str, Any]) -> Habits:
    """Return how the provider of an entry bills."""
    return _HABITS.get(str(entry.get("litellm_provider")), USUAL)


def rates_of(entry: Mapping[str, Any], terms: Terms | str | None) -> Rates:
    """Read the rates of one entry of LiteLLM's table.

    Args:
        entry: What the table says about a model.
        terms: How the call is served; a word alone is its service tier.

    Raises:
        ValueError: A rate is negative or not a number.
        TypeError: The entry is not of the form that LiteLLM has.
    """
    served = terms if isinstance(terms, Terms) else Terms(service_tier=terms)
    habits = habits_of(entry)
    suffix = _suffix(served.service_tier) if habits.tiers else ""
    steps = _one_price(entry) if habits.one_price else _tiers(entry) or _steps(entry, suffix, habits)
    rates = replace(rates_of_steps(steps, habits), second=_second(entry))
    block = entry.get("off_peak_pricing")
    if isinstance(block, Mapping):
        lower = {name: rate for name in _OFF_PEAK if (rate := _units(block, KEYS[name])) is not None}
        off_peak = rates_of_steps([(limit, raw | lower) for limit, raw in steps], habits)
        rates = replace(rates, schedule=Schedule.of(block), off_peak=off_peak)
    return rates.times(_dearer(entry, served))


def thresholds_of(key: str) -> tuple[str, int] | None:
    """Find the length of prompt above which a rate holds: as its key writes it, and in tokens."""
    mark = _ABOVE.search(key)
    return None if mark is None else (mark[0], int(mark[1]) * _ABOVE_SCALE[mark[2]])


def laid_over(published: Mapping[str, Any], given: Mapping[str, Any]) -> dict[str, Any]:
    """Lay rates that were given with a call over those that are published, as LiteLLM does.

    Who gives the rate of a direction gives all of that direction: what reading from a cache costs at
    somebody else's price is not a rate of this one. Who gives a price by time gives the whole price.
    """
    replaced = tuple(
        side for side, key in (("input", KEYS["input"]), ("output", KEYS["output"])) if key in given
    )
    if not replaced and any(key in given for key in SECONDS):
        replaced = ("input", "output", "tiered_pricing")
    kept = {key: value for key, value in published.items() if not _is_of_side(key, replaced)}
    return {**kept, **given}


def _is_of_side(key: str, sides: tuple[str, ...]) -> bool:
    if "cost" not in key and key not in {"tiered_pricing", "off_peak_pricing"}:
        return False
    return any(side in key for side in sides) or bool(sides and key.endswith("_pricing"))


def _suffix(service_tier: str | None) -> str:
    tier = (service_tier or "").lower()
    known = _TIERS.get(tier)
    # "_default" and the like are in no table: the plain rates hold.
    return known if known is not None else f"_{tier}" if _WORD.fullmatch(tier) else ""


def _second(entry: Mapping[str, Any]) -> int | None:
    """Read what a second costs, where nothing else is counted."""
    tokens = (_units(entry, KEYS["input"]) or 0) + (_units(entry, KEYS["output"]) or 0)
    if tokens or entry.get("tiered_pricing") or entry.get("mode") not in _TIMED_MODES:
        return None
    return _units(entry, *SECONDS)


def _dearer(entry: Mapping[str, Any], terms: Terms) -> Fraction:
    """Multiply what speed and region make dearer."""
    factor = Fraction(1)
    for name in _uplifts(entry, terms):
        own = entry.get("provider_specific_entry")
        value = own.get(name) if isinstance(own, Mapping) and name in own else entry.get(name)
        if value is not None:
            factor *= Fraction(decimal_of(value, name))
    return factor


def _uplifts(entry: Mapping[str, Any], terms: Terms) -> Iterator[str]:
    if (terms.speed or "").lower() == "fast":
        yield "fast"
    region = (terms.region or "").lower()
    if not region or region in {"global", "not_available"}:
        return
    yield from (region, f"regional_processing_uplift_multiplier_{region}")
    if region == "fedramp":
        yield "fedramp_uplift_multiplier"
    if str(entry.get("litellm_provider")).startswith("vertex_ai"):
        yield "regional_endpoint_uplift_multiplier"


def _base(entry: Mapping[str, Any], suffix: str) -> Raw:
    raw = {name: rate for name, key in KEYS.items() if (rate := _units(entry, key + suffix, key)) is not None}
    if entry.get("mode") == "embedding":
        raw.setdefault("output", 0)  # there is none
    faster = suffix and entry.get(KEYS["output"] + suffix) is not None
    if faster and entry.get(KEYS["reasoning"] + suffix) is None:
        raw.pop("reasoning", None)  # an answer of another tier costs that tier's rate, thought or said
    if "input" not in raw and (each := _units(entry, *_EACH)) is not None:
        return {"input": 0, "output": 0, "request": each} | raw
    return raw


def _one_price(entry: Mapping[str, Any]) -> list[tuple[int, Raw]]:
    return [(0, {name: rate for name, rate in _base(entry, "").items() if name in _ONE_PRICE})]


def _steps(entry: Mapping[str, Any], suffix: str, habits: Habits) -> list[tuple[int, Raw]]:
    raw = _base(entry, suffix)
    steps = [(0, raw)]
    for mark, limit in sorted(_thresholds(entry).items(), key=itemgetter(1)):
        if above := _above(entry, mark, suffix):  # a router of LiteLLM's lists all keys, most without a rate
            raw = raw | above
            steps.append((limit - habits.inclusive, raw))
    return steps


def _thresholds(entry: Mapping[str, Any]) -> dict[str, int]:
    return dict(filter(None, map(thresholds_of, entry)))


def _above(entry: Mapping[str, Any], mark: str, suffix: str) -> Raw:
    found = {}
    for name in STEPPED:
        key = KEYS[name] + mark
        # A batch rate without a step stays what it is; another tier takes the step of the plain rate.
        flat = suffix == _BATCHES and KEYS[name] + suffix in entry
        if (rate := _units(entry, key + suffix, *(() if flat else (key,)))) is not None:
            found[name] = rate
    return found


def _tiers(entry: Mapping[str, Any]) -> list[tuple[int, Raw]]:
    """Read `tiered_pricing`, where each range of prompt lengths states all of its rates."""
    tiers = entry.get("tiered_pricing")
    found = [
        (int(tier["range"][0]), _tier(tier, entry))
        for tier in (tiers if isinstance(tiers, list) else ())
        if "range" in tier and KEYS["input"] in tier
    ]
    return sorted(found, key=itemgetter(0))


def _tier(tier: Mapping[str, Any], entry: Mapping[str, Any]) -> Raw:
    own = _base(tier, "")
    if "output" in own:
        return own
    return {name: rate for name, rate in _base(entry, "").items() if name in {"output", "reasoning"}} | own


def _units(entry: Mapping[str, Any], *keys: str) -> int | None:
    for key in keys:
        if (value := entry.get(key)) is not None:
            return to_units(value, key)
    return None
