"""The arithmetic: what a usage costs at the rates of one model, in whole units and without rounding."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from operator import itemgetter
from typing import Any, Self

from steptrack_callbacks.values.money import to_units
from steptrack_callbacks.values.usage import Usage

from .off_peak import Schedule

_KEYS = {
    "input": "input_cost_per_token",
    "output": "output_cost_per_token",
    "cache_read": "cache_read_input_token_cost",
    "cache_write": "cache_creation_input_token_cost",
    "cache_write_1h": "cache_creation_input_token_cost_above_1hr",
    "reasoning": "output_cost_per_reasoning_token",
    "input_audio": "input_cost_per_audio_token",
    "output_audio": "output_cost_per_audio_token",
    "cache_read_audio": "cache_read_input_audio_token_cost",
    "input_image": "input_cost_per_image_token",
    "output_image": "output_cost_per_image_token",
    "request": "input_cost_per_request",
}
_STEPPED = ("input", "output", "cache_read", "cache_write", "cache_write_1h")
_OFF_PEAK = ("input", "output", "cache_read", "cache_write", "reasoning")
_ONE_PRICE = ("input", "output", "reasoning", "request")
_BATCHES = "_batches"
_TIERS = {"": "", "batch": _BATCHES, "fast": "_priority"}
_ABOVE = re.compile(r"_above_(\d+)(k?)_tokens")

_PER_TOKEN = re.compile(r"cost.*_token(?!s)|_token(?!s).*cost")
_UNDERSTOOD = re.compile(
    rf"(?:{'|'.join(_KEYS.values())})(?:_above_\d+k?_tokens)?(?:_[a-z]+)?"
    # Copies of another rate, and what no `Usage` counts.
    r"|input_cost_per_token_cache_hit|explicit_cache_read_input_token_cost|citation_cost_per_token"
    r"|cache_creation_input_audio_token_cost|cache_read_input_image_token_cost"
    r"|(?:input|output)_dbu_cost_per_token|(?:input|output)_cost_per_video_token(?:_[a-z]+)?"
)

Raw = dict[str, int]
"""Rates by name as an entry states them; what it does not state is not there."""


@dataclass(frozen=True, slots=True)
class Habits:
    """How a provider bills, where LiteLLM's arithmetic for it differs from the common one.

    Attributes:
        tiers: A service tier changes the price.
        one_price: Input costs the same, cached or not, and however long the prompt.
        inclusive: A prompt that just reaches a threshold is above it.
        cached_divisor: A fresh token costs so many cached ones where the table does not say.
    """

    tiers: bool = True
    one_price: bool = False
    inclusive: bool = False
    cached_divisor: int = 1


_USUAL = Habits()
_HABITS = dict.fromkeys(
    ("dashscope", "deepseek", "qwen_ai_platform", "qwencloud", "tencent"), Habits(tiers=False)
) | {
    "fireworks_ai": Habits(tiers=False, cached_divisor=2),
    "perplexity": Habits(tiers=False, one_price=True),
    "xai": Habits(tiers=False, inclusive=True),
}


@dataclass(frozen=True, slots=True)
class TokenRates:
    """What one token of each kind costs, in units; `None` where nobody says."""

    input: int | None
    output: int | None
    cache_read: int
    cache_write: int
    cache_write_1h: int
    reasoning: int
    input_audio: int
    output_audio: int
    cache_read_audio: int
    input_image: int
    output_image: int
    request: int

    @classmethod
    def of(cls, raw: Raw, habits: Habits) -> Self:
        """Fill what is not stated: a kind without a rate of its own costs what plain tokens cost."""
        fresh = raw.get("input", 0)
        written = raw.get("cache_write", fresh)
        read = raw.get("cache_read", fresh // habits.cached_divisor)
        # A model that only makes images lists nothing else for its output.
        made = raw.get("output") or raw.get("output_image", raw.get("output"))
        return cls(
            input=raw.get("input"),
            output=made,
            cache_read=read,
            cache_write=written,
            cache_write_1h=raw.get("cache_write_1h", written),
            reasoning=raw.get("reasoning", made or 0),
            input_audio=raw.get("input_audio", fresh),
            output_audio=raw.get("output_audio", made or 0),
            cache_read_audio=raw.get("cache_read_audio", read),
            input_image=raw.get("input_image", fresh),
            output_image=raw.get("output_image", made or 0),
            request=raw.get("request", 0),
        )

    def plain(self, sent: int, made: int) -> int | None:
        """Price tokens of which no more is known; as `cost` does, and faster."""
        if (self.input is None and sent) or (self.output is None and made):
            return None
        return sent * (self.input or 0) + made * (self.output or 0) + self.request

    def cost(self, usage: Usage) -> int | None:
        """Price a usage; `None` if it has tokens of a direction that has no rate."""
        sent, made = self.input, self.output
        if (sent is None and usage.input_tokens) or (made is None and usage.output_tokens):
            return None
        return self._sent(usage, sent or 0) + self._made(usage, made or 0) + self.request

    def _sent(self, usage: Usage, rate: int) -> int:
        # Parts that exceed their whole are cut to it, the cached ones first to count.
        left = usage.input_tokens
        total = 0
        if usage.cache_read_tokens:
            read = min(usage.cache_read_tokens, left)
            audio = min(usage.cache_read_audio_tokens, read)
            total += (read - audio) * self.cache_read + audio * self.cache_read_audio
            left -= read
        if usage.cache_write_tokens:
            written = min(usage.cache_write_tokens, left)
            hour = min(usage.cache_write_1h_tokens, written)
            total += (written - hour) * self.cache_write + hour * self.cache_write_1h
            left -= written
        if usage.input_audio_tokens:
            audio = min(max(usage.input_audio_tokens - usage.cache_read_audio_tokens, 0), left)
            total += audio * self.input_audio
            left -= audio
        if usage.input_image_tokens:
            image = min(usage.input_image_tokens, left)
            total += image * self.input_image
            left -= image
        return total + left * rate

    def _made(self, usage: Usage, rate: int) -> int:
        left = usage.output_tokens
        total = 0
        if usage.output_audio_tokens:
            audio = min(usage.output_audio_tokens, left)
            total += audio * self.output_audio
            left -= audio
        if usage.output_image_tokens:
            image = min(usage.output_image_tokens, left)
            total += image * self.output_image
            left -= image
        if usage.reasoning_tokens:
            thought = min(usage.reasoning_tokens, left)
            total += thought * self.reasoning
            left -= thought
        return total + left * rate


@dataclass(frozen=True, slots=True)
class Rates:
    """All rates of a model for one service tier.

    Attributes:
        base: Those of a short prompt.
        steps: Those of longer ones, each with the most input tokens it does not yet hold for,
            ascending; the whole prompt and the whole answer cost the highest that is reached.
        schedule: When `off_peak` holds instead, if ever.
        off_peak: The rates of those hours.
    """

    base: TokenRates
    steps: tuple[tuple[int, TokenRates], ...] = ()
    schedule: Schedule | None = None
    off_peak: Rates | None = None

    @property
    def is_complete(self) -> bool:
        """Whether plain input and output both have a rate."""
        return self.base.input is not None and self.base.output is not None

    def cost(self, usage: Usage) -> int | None:
        """Price the usage of one call, in units; `None` if a rate that it needs is not known."""
        return self._at(usage.input_tokens).cost(usage)

    def plain(self, sent: int, made: int) -> int | None:
        """Price tokens of which no more is known than how many were sent and how many made."""
        return self._at(sent).plain(sent, made)

    def _at(self, sent: int) -> TokenRates:
        """Return the rates that hold now, for a prompt of that length."""
        if self.off_peak is not None and self.schedule is not None and self.schedule.is_open():
            return self.off_peak._at(sent)  # noqa: SLF001
        rates = self.base
        for limit, higher in self.steps:
            if sent > limit:
                rates = higher
        return rates


def rates_of(entry: Mapping[str, Any], service_tier: str | None) -> Rates:
    """Read the rates of one entry of LiteLLM's table.

    Raises:
        ValueError: A rate is negative or not a number.
        TypeError: The entry is not of the form that LiteLLM has.
    """
    habits = _HABITS.get(str(entry.get("litellm_provider")), _USUAL)
    suffix = _suffix(service_tier) if habits.tiers else ""
    steps = _one_price(entry) if habits.one_price else _tiers(entry) or _steps(entry, suffix, habits)
    rates = rates_of_steps(steps, habits)
    block = entry.get("off_peak_pricing")
    if not isinstance(block, Mapping):
        return rates
    lower = {name: rate for name in _OFF_PEAK if (rate := _units(block, _KEYS[name])) is not None}
    off_peak = rates_of_steps([(limit, raw | lower) for limit, raw in steps], habits)
    return replace(rates, schedule=Schedule.of(block), off_peak=off_peak)


def is_understood(entry: Mapping[str, Any]) -> bool:
    """Tell whether every rate per token of an entry has its place in this arithmetic."""
    return all(
        _UNDERSTOOD.fullmatch(key)
        for key, value in entry.items()
        if value is not None and _PER_TOKEN.search(key)
    )


def _suffix(service_tier: str | None) -> str:
    tier = (service_tier or "").lower()
    return _TIERS.get(tier, f"_{tier}")  # "_default" and the like are in no table: the plain rates hold


def rates_of_steps(steps: list[tuple[int, Raw]], habits: Habits = _USUAL) -> Rates:
    """Fill rates by length of prompt: the first are the base, the others hold above their limit."""
    base, *higher = [(limit, TokenRates.of(raw, habits)) for limit, raw in steps]
    return Rates(base[1], tuple(higher))


def _base(entry: Mapping[str, Any], suffix: str) -> Raw:
    raw = {
        name: rate for name, key in _KEYS.items() if (rate := _units(entry, key + suffix, key)) is not None
    }
    if entry.get("mode") == "embedding":
        raw.setdefault("output", 0)  # there is none
    faster = suffix and entry.get(_KEYS["output"] + suffix) is not None
    if faster and entry.get(_KEYS["reasoning"] + suffix) is None:
        raw.pop("reasoning", None)  # an answer of another tier costs that tier's rate, thought or said
    return raw


def _one_price(entry: Mapping[str, Any]) -> list[tuple[int, Raw]]:
    return [(0, {name: rate for name, rate in _base(entry, "").items() if name in _ONE_PRICE})]


def _steps(entry: Mapping[str, Any], suffix: str, habits: Habits) -> list[tuple[int, Raw]]:
    raw = _base(entry, suffix)
    steps = [(0, raw)]
    for mark, limit in sorted(_thresholds(entry).items(), key=itemgetter(1)):
        raw = raw | _above(entry, mark, suffix)
        steps.append((limit - habits.inclusive, raw))
    return steps


def _thresholds(entry: Mapping[str, Any]) -> dict[str, int]:
    marks = filter(None, map(_ABOVE.search, entry))
    return {mark[0]: int(mark[1]) * (1000 if mark[2] else 1) for mark in marks}


def _above(entry: Mapping[str, Any], mark: str, suffix: str) -> Raw:
    found = {}
    for name in _STEPPED:
        key = _KEYS[name] + mark
        # A batch rate without a step stays what it is; another tier takes the step of the plain rate.
        flat = suffix == _BATCHES and _KEYS[name] + suffix in entry
        if (rate := _units(entry, key + suffix, *(() if flat else (key,)))) is not None:
            found[name] = rate
    return found


def _tiers(entry: Mapping[str, Any]) -> list[tuple[int, Raw]]:
    """Read `tiered_pricing`, where each range of prompt lengths states all of its rates."""
    tiers = entry.get("tiered_pricing")
    found = [
        (int(tier["range"][0]), _tier(tier, entry))
        for tier in (tiers if isinstance(tiers, list) else ())
        if "range" in tier and _KEYS["input"] in tier
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
