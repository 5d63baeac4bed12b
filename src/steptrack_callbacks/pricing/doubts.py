"""Keys of a table entry that this package does not understand, and which calls could meet them."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from steptrack_callbacks.values.money import to_units
from steptrack_callbacks.values.usage import Usage

from .entries import KEYS, STEPPED, thresholds_of

_DIRECTIONS = ("input", "output")
_PER_TOKEN = re.compile(r"cost.*_token(?!s)|_token(?!s).*cost")
_STEPS = "|".join(KEYS[name] for name in STEPPED)
_UNDERSTOOD = re.compile(
    rf"(?:(?:{_STEPS})_above_\d+[km]?_tokens|{'|'.join(KEYS.values())})(?:_[a-z]+)?"
    # Copies of another rate, and what no `Usage` counts.
    r"|input_cost_per_token_cache_hit|explicit_cache_read_input_token_cost|citation_cost_per_token"
    r"|cache_creation_input_audio_token_cost"
    r"|(?:input|output)_dbu_cost_per_token"
)
_STANDARD_TIERS = re.compile(r"_(flex|priority|balanced|ultrafast|batches)$")
_KINDS = (
    # what is in a key, and the counts of which a call has some if it meets that key's rate
    ("reasoning", ("reasoning_tokens",)),
    ("thinking", ("reasoning_tokens",)),
    ("thought", ("reasoning_tokens",)),
    ("cache_creation", ("cache_write_tokens",)),
    ("cache_write", ("cache_write_tokens",)),
    ("cache_read", ("cache_read_tokens",)),
    ("cached", ("cache_read_tokens",)),
    ("cache_hit", ("cache_read_tokens",)),
    ("cache_storage", ("cache_read_tokens", "cache_write_tokens")),
    ("audio", ("input_audio_tokens", "output_audio_tokens")),
    ("image", ("input_image_tokens", "output_image_tokens")),
    ("video", ("input_video_tokens", "output_video_tokens")),
    ("search", ("web_search_requests",)),
)


@dataclass(frozen=True, slots=True)
class Doubt:
    """A rate of an entry that has no place in this arithmetic.

    Attributes:
        counts: Groups of counts; a call that has nothing of a whole group cannot meet it.
        above: It holds for longer prompts only.
        tier: It holds for this service tier only; empty for any.
        rate: Units a token; `None` if it is not a number.
    """

    counts: tuple[tuple[str, ...], ...]
    above: int
    tier: str
    rate: int | None

    def is_met(self, usage: Usage) -> bool:
        """Tell whether this rate may be among those that a call costs."""
        return usage.input_tokens > self.above and all(
            any(getattr(usage, name) for name in group) for group in self.counts
        )

    def most(self, usage: Usage) -> int | None:
        """Bound what it may add to the cost of a usage; `None` if nobody can."""
        tokens = max(max(getattr(usage, name) for name in group) for group in self.counts)
        return None if self.rate is None else self.rate * tokens


def doubts_of(entry: Mapping[str, Any], service_tier: str | None) -> tuple[Doubt, ...]:
    """Find the rates of an entry that are not understood and that calls of a service tier could meet."""
    tier = (service_tier or "").lower()
    return tuple(doubt for doubt in _doubts(entry) if doubt.tier in {"", tier})


def _doubts(entry: Mapping[str, Any]) -> Iterator[Doubt]:
    for key, value in entry.items():
        if value is not None and _PER_TOKEN.search(key) and not _UNDERSTOOD.fullmatch(key):
            yield _doubt(key, value)


def _doubt(key: str, value: object) -> Doubt:
    tier = _STANDARD_TIERS.search(key)
    threshold = thresholds_of(key)
    try:
        rate = to_units(value, key)
    except ValueError:
        rate = None
    return Doubt(
        counts=tuple(_groups(key)),
        above=threshold[1] if threshold else -1,
        tier=tier[1].replace("batches", "batch") if tier else "",
        rate=rate,
    )


def _groups(key: str) -> Iterator[tuple[str, ...]]:
    """Yield what a call must have something of to meet the rate of a key."""
    direction = next((each for each in _DIRECTIONS if each in key), "")
    named = [counts for word, counts in _KINDS if word in key]
    if not named:
        yield (f"{direction}_tokens",) if direction else ("input_tokens", "output_tokens")
    for counts in named:
        yield tuple(name for name in counts if direction in name) or counts
