"""The arithmetic: what a usage costs at the rates of one model, in whole units and without rounding."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass, fields, replace
from fractions import Fraction
from typing import Self

from steptrack_callbacks.values.usage import Usage

from .off_peak import Schedule

Raw = dict[str, int]
"""Rates by name as an entry states them; what it does not state is not there."""

_MICROSECONDS = 10**6


@dataclass(frozen=True, slots=True)
class Habits:
    """How a provider bills, where LiteLLM's arithmetic for it differs from the common one.

    Attributes:
        tiers: A service tier changes the price.
        one_price: However long the prompt, and written to a cache or not, its tokens cost the same.
        inclusive: A prompt that just reaches a threshold is above it.
        cached_divisor: A fresh token costs so many cached ones where the table does not say.
        auto_tier: The dearest tier that a call may be served on if it leaves that to the provider.
    """

    tiers: bool = True
    one_price: bool = False
    inclusive: bool = False
    cached_divisor: int = 1
    auto_tier: str | None = None


USUAL = Habits()


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
    cache_write_12h: int = 0
    cache_read_image: int = 0
    input_video: int = 0
    output_video: int = 0

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
            cache_write_12h=raw.get("cache_write_12h", written),
            cache_read_image=raw.get("cache_read_image", read),
            input_video=raw.get("input_video", fresh),
            output_video=raw.get("output_video", made or 0),
        )

    def times(self, factor: Fraction) -> Self:
        """Return them dearer by a factor; what a request costs whatever is in it stays."""
        rates = {each.name: getattr(self, each.name) for each in fields(self) if each.name != "request"}
        return replace(self, **{name: rate and int(rate * factor) for name, rate in rates.items()})

    def plain(self, sent: int, made: int) -> int | None:
        """Price tokens of which no more is known; as `cost` does, and faster."""
        if (self.input is None and sent) or (self.output is None and made):
            return None
        return sent * (self.input or 0) + made * (self.output or 0) + self.request

    def most(self, sent: int, made: int, kinds: Collection[str]) -> int | None:
        """Price tokens as dearly as they may be billed: written to a cache, thought, or of these kinds."""
        if (self.input is None and sent) or (self.output is None and made):
            return None
        others: list[tuple[str, int]] = [(kind, getattr(self, kind)) for kind in kinds]
        into = max(self.input or 0, self.cache_write, *(rate for kind, rate in others if _is_input(kind)))
        out = max(self.output or 0, self.reasoning, *(rate for kind, rate in others if not _is_input(kind)))
        return sent * into + made * out + self.request

    def cost(self, usage: Usage) -> int | None:
        """Price a usage; `None` if it has tokens of a direction that has no rate."""
        sent, made = self.input, self.output
        if (sent is None and usage.input_tokens) or (made is None and usage.output_tokens):
            return None
        return self._sent(usage, sent or 0) + self._made(usage, made or 0) + self.request

    def _sent(self, usage: Usage, rate: int) -> int:
        """Price the input; parts that exceed their whole are cut to it, the cached ones first to count."""
        read = min(usage.cache_read_tokens, usage.input_tokens)
        written = min(usage.cache_write_tokens, usage.input_tokens - read)
        total = self._read(usage, read) if read else 0
        if written:
            total += self._written(usage, written)
        media = (
            (usage.input_audio_tokens - usage.cache_read_audio_tokens, self.input_audio),
            (usage.input_image_tokens - usage.cache_read_image_tokens, self.input_image),
            (usage.input_video_tokens, self.input_video),
        )
        return total + _by_kind(usage.input_tokens - read - written, media, rate)

    def _read(self, usage: Usage, read: int) -> int:
        media = (
            (usage.cache_read_audio_tokens, self.cache_read_audio),
            (usage.cache_read_image_tokens, self.cache_read_image),
        )
        return _by_kind(read, media, self.cache_read)

    def _written(self, usage: Usage, written: int) -> int:
        kept = (
            (usage.cache_write_12h_tokens, self.cache_write_12h),
            (usage.cache_write_1h_tokens, self.cache_write_1h),
        )
        return _by_kind(written, kept, self.cache_write)

    def _made(self, usage: Usage, rate: int) -> int:
        kinds = (
            (usage.output_audio_tokens, self.output_audio),
            (usage.output_image_tokens, self.output_image),
            (usage.output_video_tokens, self.output_video),
            (usage.reasoning_tokens, self.reasoning),
        )
        return _by_kind(usage.output_tokens, kinds, rate)


def _by_kind(tokens: int, kinds: Iterable[tuple[int, int]], rate: int) -> int:
    """Price tokens of which some are of kinds with rates of their own, those named first before others."""
    total = 0
    for count, its_rate in kinds:
        if count > 0:
            part = min(count, tokens)
            total += part * its_rate
            tokens -= part
    return total + tokens * rate


def _is_input(kind: str) -> bool:
    return not kind.startswith("output")


@dataclass(frozen=True, slots=True)
class Rates:
    """All rates of a model for one set of terms.

    Attributes:
        base: Those of a short prompt.
        steps: Those of longer ones, each with the most input tokens it does not yet hold for,
            ascending; the whole prompt and the whole answer cost the highest that is reached.
        schedule: When `off_peak` holds instead, if ever.
        off_peak: The rates of those hours.
        second: What a second of the call costs, for a model that is priced by nothing else.
    """

    base: TokenRates
    steps: tuple[tuple[int, TokenRates], ...] = ()
    schedule: Schedule | None = None
    off_peak: Rates | None = None
    second: int | None = None

    @property
    def is_complete(self) -> bool:
        """Whether plain input and output both have a rate."""
        return self.base.input is not None and self.base.output is not None

    def cost(self, usage: Usage, duration_s: float | None = None) -> int | None:
        """Price the usage of one call, in units; `None` if a rate that it needs is not known."""
        if self.second is not None:
            return None if duration_s is None else self._timed(self.second, duration_s)
        return self._at(usage.input_tokens).cost(usage)

    @staticmethod
    def _timed(rate: int, duration_s: float) -> int:
        return rate * round(duration_s * _MICROSECONDS) // _MICROSECONDS

    def plain(self, sent: int, made: int) -> int | None:
        """Price tokens of which no more is known than how many were sent and how many made."""
        return None if self.second is not None else self._at(sent).plain(sent, made)

    def most(self, sent: int, made: int, kinds: Collection[str]) -> int | None:
        """Price tokens as dearly as they may be billed at these rates, now or in dearer hours."""
        if self.second is not None:
            return None
        bounds = [self.base.most(sent, made, kinds)]
        bounds += [higher.most(sent, made, kinds) for limit, higher in self.steps if sent > limit]
        return None if bounds[0] is None else max(bound or 0 for bound in bounds)

    def times(self, factor: Fraction) -> Rates:
        """Return them dearer by a factor."""
        if factor == 1:
            return self
        steps = tuple((limit, rates.times(factor)) for limit, rates in self.steps)
        off_peak = self.off_peak and self.off_peak.times(factor)
        return replace(self, base=self.base.times(factor), steps=steps, off_peak=off_peak)

    def _at(self, sent: int) -> TokenRates:
        """Return the rates that hold now, for a prompt of that length."""
        if self.off_peak is not None and self.schedule is not None and self.schedule.is_open():
            return self.off_peak._at(sent)  # noqa: SLF001
        rates = self.base
        for limit, higher in self.steps:
            if sent > limit:
                rates = higher
        return rates


def rates_of_steps(steps: list[tuple[int, Raw]], habits: Habits = USUAL) -> Rates:
    """Fill rates by length of prompt: the first are the base, the others hold above their limit."""
    base, *higher = [(limit, TokenRates.of(raw, habits)) for limit, raw in steps]
    return Rates(base[1], tuple(higher))
