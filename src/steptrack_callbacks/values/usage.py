"""What model calls used: tokens by kind, tools of the provider, money, and how sure of it we are."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from decimal import Decimal
from functools import cache
from operator import attrgetter
from typing import Any, ClassVar

from .money import NO_USD, count_of, decimal_of, to_units, to_usd

MOST_TOKENS = 10**9
"""More tokens than any one call has: whoever reports more makes no sense, and counts as saying nothing."""
LEAST_USD, MOST_USD = 1e-12, 10**6
"""No call costs less, unless it is free, and none costs more."""
_MOST_SUM = 10**15


@dataclass(frozen=True, kw_only=True)  # without slots, so that what is not said is the class's
class Usage:
    """Tokens and money of one call or the sum over many; add them with `+`, take a part off with `-`.

    Totals are inclusive, as LangChain and LiteLLM report them: `input_tokens` contains what was
    read from and written to a cache, `output_tokens` contains reasoning. Raw Anthropic usage is
    not of this form and must be converted first.

    Attributes:
        input_tokens: All tokens that were sent, cached ones included.
        output_tokens: All tokens that were produced, reasoning included.
        cache_read_tokens: Part of `input_tokens` read from the provider's prompt cache.
        cache_write_tokens: Part of `input_tokens` written to it, whatever the lifetime.
        cache_write_1h_tokens: Part of `cache_write_tokens` kept for an hour (priced apart).
        cache_write_12h_tokens: Part of `cache_write_tokens` kept for twelve hours (priced apart).
        reasoning_tokens: Part of `output_tokens` that was thinking.
        input_audio_tokens: Part of `input_tokens` that was audio.
        output_audio_tokens: Part of `output_tokens` that was audio.
        cache_read_audio_tokens: Part of both `cache_read_tokens` and `input_audio_tokens`.
        input_image_tokens: Part of `input_tokens` that was images.
        output_image_tokens: Part of `output_tokens` that was images.
        cache_read_image_tokens: Part of both `cache_read_tokens` and `input_image_tokens`.
        input_video_tokens: Part of `input_tokens` that was video.
        output_video_tokens: Part of `output_tokens` that was video.
        web_search_requests: Searches of the web that the provider made for the answer, and bills apart
            from tokens, as the other tools of its own below.
        google_maps_requests: Times that it asked Google Maps.
        file_search_requests: Searches of files that are stored with it.
        code_interpreter_sessions: Containers that it ran code in.
        cost_usd: What the calls of known price cost. A sum that has `unpriced_calls` is a
            lower bound, never the whole.
        calls: Requests that were sent, failed ones included.
        failed_calls: Those of `calls` that the provider answered with an error.
        estimated_calls: Those of `calls` whose tokens were counted by us, not reported.
        unpriced_calls: Those of `calls` whose price nobody knows.
        ungated_calls: Those of `calls` that were seen only after they had been sent, where nothing
            could refuse them.
        is_text: Whether no other count than the two totals is set, which spares looking at the others.

    Raises:
        ValueError: A count is negative, no whole number or above 1e15, or the cost is negative, not
            finite or above 1e15.

    Example:
        >>> total = Usage(input_tokens=10, output_tokens=5, calls=1) + Usage(input_tokens=1, calls=1)
        >>> total.input_tokens, total.total_tokens, total.calls
        (11, 16, 2)
    """

    input_tokens: int = 0
    output_tokens: int = 0
    cache_read_tokens: int = 0
    cache_write_tokens: int = 0
    cache_write_1h_tokens: int = 0
    cache_write_12h_tokens: int = 0
    reasoning_tokens: int = 0
    input_audio_tokens: int = 0
    output_audio_tokens: int = 0
    cache_read_audio_tokens: int = 0
    input_image_tokens: int = 0
    output_image_tokens: int = 0
    cache_read_image_tokens: int = 0
    input_video_tokens: int = 0
    output_video_tokens: int = 0
    web_search_requests: int = 0
    google_maps_requests: int = 0
    file_search_requests: int = 0
    code_interpreter_sessions: int = 0
    cost_usd: Decimal = NO_USD
    calls: int = 0
    failed_calls: int = 0
    estimated_calls: int = 0
    unpriced_calls: int = 0
    ungated_calls: int = 0
    is_text: ClassVar[bool] = False

    def __post_init__(self) -> None:
        for value in _counts_of(self):
            if type(value) is not int or not 0 <= value <= _MOST_SUM:  # what is mostly true is asked fast
                self._check_counts()
        if self.cost_usd is not NO_USD:
            object.__setattr__(self, "cost_usd", decimal_of(self.cost_usd, "cost_usd"))

    def _check_counts(self) -> None:
        for name in count_names():
            if count_of(value := getattr(self, name), name) > _MOST_SUM:
                raise ValueError(f"{name} must be at most {_MOST_SUM}, which is enough, not {value!r}")

    @property
    def total_tokens(self) -> int:
        """Input and output together: what `max_tokens` limits."""
        return self.input_tokens + self.output_tokens

    def __add__(self, other: Usage) -> Usage:
        if not isinstance(other, Usage):
            return NotImplemented
        sums: dict[str, Any] = {name: getattr(self, name) + getattr(other, name) for name in count_names()}
        cost = to_units(self.cost_usd, "cost_usd") + to_units(other.cost_usd, "cost_usd")
        return Usage(**sums, cost_usd=to_usd(cost))

    def __sub__(self, other: Usage) -> Usage:
        if not isinstance(other, Usage):
            return NotImplemented
        rest: dict[str, Any] = {name: getattr(self, name) - getattr(other, name) for name in count_names()}
        cost = to_units(self.cost_usd, "cost_usd") - to_units(other.cost_usd, "cost_usd")
        return Usage(**rest, cost_usd=to_usd(cost))

    def __radd__(self, other: object) -> Usage:
        return self if other == 0 else NotImplemented  # so that sum() works

    def replace(self, **changes: Any) -> Usage:
        """Return a copy with some fields changed, checked like a new one.

        Raises:
            TypeError: There is no such field, or a count is not a whole number.
            ValueError: A count is negative, or too large.

        Example:
            >>> from steptrack_callbacks import Usage
            >>> Usage(input_tokens=10).replace(output_tokens=5).total_tokens
            15
        """
        return replace(self, **changes)

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON values; `cost_usd` becomes a float."""
        return {field.name: getattr(self, field.name) for field in fields(self)} | {
            "cost_usd": float(self.cost_usd)
        }


def text_usage(input_tokens: int, output_tokens: int) -> Usage:
    """Return the usage of a call of text alone, whose counts were looked at already.

    Nearly all are, and to set and check two counts takes a tenth of the time of all.
    """
    usage = object.__new__(Usage)
    _set_fields(usage, {"input_tokens": input_tokens, "output_tokens": output_tokens, "is_text": True})
    return usage


_set_fields: Callable[[Usage, dict[str, Any]], None] = vars(Usage)["__dict__"].__set__
"""Sets all fields of a usage at once; to fill those that it has takes longer."""


@cache
def count_names() -> tuple[str, ...]:
    """Name the fields of `Usage` that are whole numbers."""
    return tuple(field.name for field in fields(Usage) if field.name != "cost_usd")


_counts_of = attrgetter(*count_names())

DETAIL_NAMES = count_names()[2 : count_names().index("calls")]
"""Counts that say more of tokens than how many were sent and how many made, and of the provider's tools."""

LATER_COUNTS = frozenset(
    {
        "cache_write_12h_tokens",
        "cache_read_image_tokens",
        "input_video_tokens",
        "output_video_tokens",
        "web_search_requests",
        "google_maps_requests",
        "file_search_requests",
        "code_interpreter_sessions",
    }
)
"""Counts that older versions of this package did not write: where one is missing, it is 0."""
