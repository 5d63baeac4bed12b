"""The counts in a reported usage, whoever's words they are in, and what they come to.

Providers and packages say the same things under some sixty names. Two of them use one name for different
things: of some, the input leaves out what came from the cache, and of some, the output leaves out what
was thought. So counts are first taken down as they are told, those of a stream's pieces over each
other, and made sense of together.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from steptrack_callbacks.values.untrusted import fields_of, items, whole_number
from steptrack_callbacks.values.usage import MOST_TOKENS, Usage, text_usage

Counts = dict[str, int]
"""Counts by the names of `Usage`, and a few more: `total_tokens` and those that begin with a `+`."""

SENT, MADE, TOTAL = "input_tokens", "output_tokens", "total_tokens"
READ, WRITTEN, THOUGHT = "cache_read_tokens", "cache_write_tokens", "reasoning_tokens"
SHORT, HOUR, HALF_DAY = "+written_for_minutes", "cache_write_1h_tokens", "cache_write_12h_tokens"
BESIDE = "+cache_is_beside"
"""Told as 1: by whose words these are, the input leaves out what was read from a cache or written to it."""
MISREAD = "+misread_by_frameworks"
"""Told as 1: a part stands at the top level, where packages miss it, or is below 0, which it takes off."""
_FLAT = "+told_flat"
"""Told as 1: a package has made inclusive totals of Anthropic's, in which what was not told is nothing."""
_THOUGHTS, _TOOL_PROMPTS = "+thoughts_beside", "+tool_prompts_beside"

_WHOLE = {
    **dict.fromkeys(("prompt_tokens", "input_tokens", "prompt_token_count", "promptTokenCount"), SENT),
    **dict.fromkeys(("inputTokens", "prompt_eval_count", "input_token_count"), SENT),
    **dict.fromkeys(("completion_tokens", "output_tokens", "candidates_token_count"), MADE),
    **dict.fromkeys(("candidatesTokenCount", "outputTokens", "eval_count", "generated_token_count"), MADE),
    **dict.fromkeys(("response_token_count", "responseTokenCount", "output_token_count"), MADE),
    **dict.fromkeys(("total_tokens", "totalTokens", "total_token_count", "totalTokenCount"), TOTAL),
    **dict.fromkeys(("cached_tokens", "cached_input_tokens", "prompt_cache_hit_tokens"), READ),
    "num_cached_tokens": READ,
    **dict.fromkeys(("cached_content_token_count", "cachedContentTokenCount"), READ),
    **dict.fromkeys(("cache_read_input_tokens", "cacheReadInputTokens"), READ),
    **dict.fromkeys(("cache_creation_input_tokens", "cacheWriteInputTokens", "cache_write_tokens"), WRITTEN),
    "cache_write_input_tokens": WRITTEN,
    "reasoning_tokens": THOUGHT,
    "num_search_queries": "web_search_requests",
    **dict.fromkeys(("thoughts_token_count", "thoughtsTokenCount"), _THOUGHTS),
    **dict.fromkeys(("tool_use_prompt_token_count", "toolUsePromptTokenCount"), _TOOL_PROMPTS),
}
_OF_ANTHROPIC = frozenset(
    {
        "cache_read_input_tokens",
        "cache_creation_input_tokens",
        "cache_write_input_tokens",
        "cacheReadInputTokens",
        "cacheWriteInputTokens",
    }
)
_OVERLOOKED = frozenset({"cached_tokens", "cached_input_tokens", "num_cached_tokens", "reasoning_tokens"})

_INPUT_PARTS = {
    **dict.fromkeys(("cached_tokens", "cache_read"), READ),
    **dict.fromkeys(("cache_creation", "cache_creation_tokens", "cache_write_tokens"), WRITTEN),
    "cache_creation_input_tokens": WRITTEN,
    **dict.fromkeys(("ephemeral_5m_input_tokens", "ephemeral_30m_input_tokens", "ttl_30m_tokens"), SHORT),
    "ephemeral_1h_input_tokens": HOUR,
    **dict.fromkeys(("ephemeral_12h_input_tokens", "ttl_12h_tokens"), HALF_DAY),
    **dict.fromkeys(("audio_tokens", "audio"), "input_audio_tokens"),
    **dict.fromkeys(("image_tokens", "image"), "input_image_tokens"),
    **dict.fromkeys(("video_tokens", "video"), "input_video_tokens"),
    "web_search_requests": "web_search_requests",
    "google_maps_grounding_requests": "google_maps_requests",
}
_CACHED_PARTS = {
    **dict.fromkeys(("audio_tokens", "audio"), "cache_read_audio_tokens"),
    **dict.fromkeys(("image_tokens", "image"), "cache_read_image_tokens"),
}
_OUTPUT_PARTS = {
    **dict.fromkeys(("reasoning_tokens", "reasoning", "thinking_tokens"), THOUGHT),
    **dict.fromkeys(("audio_tokens", "audio"), "output_audio_tokens"),
    **dict.fromkeys(("image_tokens", "image"), "output_image_tokens"),
    **dict.fromkeys(("video_tokens", "video"), "output_video_tokens"),
}
_INPUT_DETAILS = ("prompt_tokens_details", "input_tokens_details", "input_token_details")
_TABLES = {
    **dict.fromkeys((*_INPUT_DETAILS, "promptTokensDetails"), _INPUT_PARTS),
    **dict.fromkeys(("cache_creation", "cache_creation_token_details"), _INPUT_PARTS),
    "cache_write_tokens_details": _INPUT_PARTS,
    **dict.fromkeys(("cached_tokens_details", "cache_tokens_details", "cacheTokensDetails"), _CACHED_PARTS),
    **dict.fromkeys(
        ("completion_tokens_details", "output_tokens_details", "output_token_details"), _OUTPUT_PARTS
    ),
    **dict.fromkeys(("candidates_tokens_details", "candidatesTokensDetails"), _OUTPUT_PARTS),
    **dict.fromkeys(("response_tokens_details", "responseTokensDetails"), _OUTPUT_PARTS),
    "server_tool_use": {"web_search_requests": "web_search_requests"},
    "server_side_tool_usage_details": {"web_search_calls": "web_search_requests"},
}
_MEDIA_BY_NUMBER = {"2": "image", "3": "video", "4": "audio"}
"""As one of Google's clients writes them."""
_CACHE_LISTS = ("cacheDetails", "cache_details")
TIERS = ("priority", "flex")
"""Service tiers that LangChain puts before the names of details."""

TOOLS = frozenset({"web_search_requests", "google_maps_requests"})
_INPUT_SIDE = frozenset({SENT, BESIDE, _FLAT, *_INPUT_PARTS.values(), *_CACHED_PARTS.values()}) - TOOLS
PARTS = (_INPUT_SIDE | TOOLS | frozenset(_OUTPUT_PARTS.values()) | {MISREAD}) - {SENT, BESIDE, _FLAT}
"""What a second report of one answer may add to the first."""


class Sum(NamedTuple):
    """What counts come to.

    Attributes:
        usage: With inclusive totals.
        is_corrected: Whether a total is not the one that was told, since it had left something out.
        is_contradictory: Whether the counts cannot all be true; those that cost most are taken then.
        tells_lifetimes: Whether they say for how long the cache keeps what was written to it.
    """

    usage: Usage
    is_corrected: bool = False
    is_contradictory: bool = False
    tells_lifetimes: bool = False


def counts_in(reported: Mapping[Any, Any]) -> Counts:
    """Take down what a usage says; what is not a count says nothing, and a zero says zero."""
    told: Counts = {}
    if billed := reported.get("billed_units"):  # of Cohere, which sends more than it bills
        return counts_in(fields_of(billed))
    for name, value in reported.items():
        if (kind := _WHOLE.get(name)) is not None:
            _take(told, kind, value if type(value) is int else whole_number(value))
        elif value is not None and (parts := _TABLES.get(name)) is not None:
            _add_details(told, value, parts)
        elif name in _CACHE_LISTS:
            _add_lifetimes(told, value)
    if not told.keys() <= {SENT, MADE, TOTAL}:
        _note_whose(told, reported)
    for kind, name in ((SENT, "prompt_tokens"), (MADE, "completion_tokens")):
        if count := _count(reported.get(name)):  # goes before what stands beside it
            told[kind] = count
    return told


def _take(told: Counts, kind: str, count: int | None) -> None:
    """Take a count down; of several names of one thing the most."""
    if count is None:
        return
    if told.get(kind, 0) <= count <= MOST_TOKENS:
        told[kind] = count
    elif count < 0:
        told[MISREAD] = 1


def _count(value: Any) -> int:
    count = whole_number(value) or 0
    return count if 0 < count <= MOST_TOKENS else 0


def _add_details(told: Counts, details: Any, parts: Mapping[str, str]) -> None:
    by_name = _by_medium(details) if isinstance(details, list) else fields_of(details)
    for name, value in by_name.items():
        count = value if type(value) is int else whole_number(value)
        if count is not None:
            if kind := parts.get(name) or _renamed(name, parts):
                _take(told, kind, count)
        elif value is not None and parts is _INPUT_PARTS and (inner := _TABLES.get(name)) is not None:
            _add_details(told, value, inner)


def _by_medium(details: list[Any]) -> dict[str, int]:
    """Read Google's list of what was sent or made, by its medium."""
    counts: dict[str, int] = {}
    for entry in map(fields_of, details):
        medium = entry.get("modality")
        name = str(getattr(medium, "value", medium)).lower()
        name = _MEDIA_BY_NUMBER.get(name, name)
        counts[name] = counts.get(name, 0) + _count(entry.get("tokenCount") or entry.get("token_count"))
    return counts


def _renamed(name: Any, parts: Mapping[str, str]) -> str | None:
    """Find a part whose name LangChain has put a service tier before."""
    tier, _, rest = name.partition("_") if isinstance(name, str) else ("", "", "")
    return parts.get(rest) if tier in TIERS else None


def _add_lifetimes(told: Counts, entries: Any) -> None:
    """Read Bedrock's list of what was written, by how long it is kept."""
    for entry in map(fields_of, items(entries)):
        kind = HOUR if entry.get("ttl") == "1h" else SHORT
        told[kind] = told.get(kind, 0) + _count(entry.get("inputTokens"))


def _note_whose(told: Counts, reported: Mapping[Any, Any]) -> None:
    names = reported.keys()
    if not _OF_ANTHROPIC.isdisjoint(names):
        is_inclusive = _count(reported.get("prompt_tokens")) or any(map(reported.get, _INPUT_DETAILS))
        told[_FLAT if is_inclusive else BESIDE] = 1
    if any(_count(reported[name]) for name in _OVERLOOKED & names):
        told[MISREAD] = 1


def over(before: Counts, later: Counts) -> Counts:
    """Lay the counts of a stream's later piece over those of earlier ones: they replace them, zeros too.

    An input of nothing is none that was told: pieces that tell the output alone have it.
    """
    if not before:
        return later
    if not later.get(SENT) and not later.get(READ) and not later.get(WRITTEN):
        later = {kind: count for kind, count in later.items() if kind not in _INPUT_SIDE}
    elif _FLAT in later and not _fresh(later) and later.get(SENT) != before.get(SENT):
        later = later | {SENT: later[SENT] + max(0, _fresh(before))}
    kept = before
    if TOTAL not in later and (SENT in later or MADE in later):
        kept = {kind: count for kind, count in before.items() if kind != TOTAL}
    return kept | later


def _fresh(told: Counts) -> int:
    return told.get(SENT, 0) - told.get(READ, 0) - told.get(WRITTEN, 0)


def sum_of(told: Counts) -> Sum | None:
    """Make sense of counts; `None` if they tell of nothing that was sent or made."""
    get = told.get
    sent, made = get(SENT, 0) + get(_TOOL_PROMPTS, 0), get(MADE, 0)
    total = get(TOTAL, 0)
    if total in (0, sent + made) and sum(told.values()) == get(SENT, 0) + made + total:  # no part of any kind
        return Sum(text_usage(sent, made)) if sent or made else None
    kept = get(SHORT, 0) + get(HOUR, 0) + get(HALF_DAY, 0)
    written = max(get(WRITTEN, 0), kept)
    cached, thought = get(READ, 0) + written, max(get(THOUGHT, 0), get(_THOUGHTS, 0))
    if not (sent or made or cached or thought):
        return None
    found = _Totals(sent, made)
    found.add_left_out(told, cached, thought, most_cached=max(get(READ, 0), written))
    found.add_large_parts(told)
    found.check(total, told, thought)
    parts: dict[str, Any] = {kind: told[kind] for kind in PARTS if kind in told and not kind.startswith("+")}
    parts |= {WRITTEN: written, THOUGHT: thought}
    usage = Usage(input_tokens=found.sent, output_tokens=found.made, **parts)
    is_corrected = MISREAD in told or (BESIDE not in told and (found.sent, found.made) != (sent, made))
    return Sum(usage, is_corrected, found.is_contradictory, tells_lifetimes=kept > 0)


class _Totals:
    """Totals while they are found.

    Attributes:
        sent: Input tokens.
        made: Output tokens.
        is_contradictory: Whether they cannot be what was told.
    """

    def __init__(self, sent: int, made: int) -> None:
        self._told = sent + made
        self.sent, self.made, self.is_contradictory = sent, made, False

    def add_left_out(self, told: Counts, cached: int, thought: int, *, most_cached: int) -> None:
        """Add what stands beside its total: as it is too large to be a part of it, or the sum says so."""
        rest = told.get(TOTAL, 0) - self._told
        without_cache, without_thought = told.get(BESIDE) == 1, bool(told.get(_THOUGHTS))
        if rest >= 0 and rest in (0, cached, thought, cached + thought):
            without_cache |= rest in (cached, cached + thought)
            without_thought |= rest in (thought, cached + thought) and not rest == cached != 0
        self.is_contradictory = cached > self.sent >= most_cached and not without_cache
        if without_cache or cached > self.sent:
            self._add("sent", cached)
        if without_thought or thought > self.made:
            self._add("made", thought)

    def add_large_parts(self, told: Counts) -> None:
        """Add every other part that its total cannot hold."""
        for side in ("input", "output"):
            for kind in ("audio", "image", "video"):
                whole = "sent" if side == "input" else "made"
                part = told.get(f"{side}_{kind}_tokens", 0)
                if part > getattr(self, whole):
                    self._add(whole, part)

    def check(self, total: int, told: Counts, thought: int) -> None:
        """Compare with the sum that was told; what only the sum has was made, as it costs most."""
        if total and total not in (self._told, self.sent + self.made):
            self.is_contradictory = True
            if str(total) != f"{told.get(SENT)}{told.get(MADE)}":  # a sum, and not two texts joined
                self._add("made", max(0, total - self.sent - self.made))
        shown = sum(told.get(f"output_{kind}_tokens", 0) for kind in ("audio", "image", "video"))
        cached_audio = told.get("cache_read_audio_tokens", 0)
        if thought + shown > self.made or cached_audio > told.get(READ, 0):
            self.is_contradictory = True

    def _add(self, whole: str, tokens: int) -> None:
        if getattr(self, whole) + tokens > MOST_TOKENS:
            self.is_contradictory = True
        else:
            setattr(self, whole, getattr(self, whole) + tokens)
