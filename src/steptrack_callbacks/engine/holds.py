"""What a call asks of an account, and what it holds there.

An `Estimate` is what it asks, a `Hold` what it got on one account, and `Reserved` how much that is by now. A
`Bound` takes the place of the first two while every limit is far (`fast_path`).

A pair of amounts is of money units and of tokens: `MONEY` and `TOKENS` are its indices.
"""

from __future__ import annotations

from collections.abc import Hashable
from math import isqrt
from typing import NamedTuple, Self

from .forecasts import UNBOUNDED, Forecast

DEVIATIONS = 2
SLACK_SHARE, WIDE_SLACK_SHARE = 20, 10
"""What the expected total may pass a limit by: one in so many; the second where nothing bounds an answer."""
CHEAP_SHARE = 10
"""One in so many of a limit: what a cheap answer costs at most, and what such answers may pass it by."""
CAPPED_SLACK_SHARE = 4
"""As `SLACK_SHARE`, of calls that a limit is kept by because of their last one's `max_tokens`."""
UNCAPPED_DEVIATIONS, UNCAPPED_SLACK_SHARE = 3, 8
"""What a call wants that goes beside one that has got the last: the others' spread, and as `SLACK_SHARE`."""
FAR_TIMES = 4
"""A limit is far if every answer could be so many times as long as the longest that is reckoned with."""

MONEY, TOKENS = 0, 1
Amount = tuple[int, int]


class Estimate(NamedTuple):
    """What a call asks of an account, and what it will come to.

    Attributes:
        model: The model's name, by which answers are remembered.
        certain: What is charged whatever happens: the input.
        alone: What must fit where nothing else is in flight: the input, and a part of the usual answer.
        expected: The input with the output that is likely.
        worst: The most that it can become.
        least: The least that this can be lowered to, where the request may be changed.
        inputs: What is expected of its input.
        rates: What a token of output adds to that: money units, and one.
        forecast: Its output.
        far: Tokens of output that it has at most as far as anybody would reckon.
        clamps: Whether it may get what is left as its `max_tokens`.
        unseen: No answer of this model has been seen in this process.
        unbounded: It is unseen, and the request says nothing about its output either.
        counts: It counts as one of `max_calls`.
    """

    model: str
    certain: Amount
    alone: Amount
    expected: Amount
    worst: Amount
    least: Amount
    inputs: Amount
    rates: Amount
    forecast: Forecast
    far: int
    clamps: bool = False
    unseen: bool = False
    unbounded: bool = False
    counts: bool = True

    def clamped(self, most: int) -> Self:
        """Return the same once the request has been given a `max_tokens`."""
        mean, usual = min(self.forecast.mean, most), min(self.forecast.usual, most)
        return self._replace(forecast=self.forecast._replace(mean=mean, usual=usual, most=most))

    @property
    def longest(self) -> int:
        """Tokens of output of the longest answer that is reckoned with; of a model never seen, a guess."""
        return self.far // FAR_TIMES

    @property
    def reckoned(self) -> int:
        """The same; of a model never seen, more than any answer has."""
        return self.longest if self.forecast.seen else UNBOUNDED

    @property
    def at_longest(self) -> Amount:
        """The input with the longest answer that is reckoned with."""
        cost, tokens = self.inputs
        return cost + self.longest * self.rates[MONEY], tokens + self.longest * self.rates[TOKENS]

    def fits_uncapped(self, unit: int, left: int, limit: int) -> bool:
        """Tell whether its longest answer fits what is left, so that it needs no cap."""
        return self.at_longest[unit] <= left + limit // UNCAPPED_SLACK_SHARE

    @property
    def slack_share(self) -> int:
        """One in so many of a limit: what the expected total may pass it by."""
        is_bounded = self.clamps or self.forecast.most < UNBOUNDED
        return SLACK_SHARE if is_bounded else WIDE_SLACK_SHARE

    def is_cheap(self, unit: int, limit: int) -> bool:
        """Tell whether its longest answer is a small part of a limit."""
        return self.forecast.most * self.rates[unit] * CHEAP_SHARE <= limit

    def slack(self, unit: int, limit: int) -> int:
        """Return what the expected total may pass a limit by; more where the last call's cap keeps it."""
        is_kept_by_cap = self.clamps and self.longest * self.rates[unit] * CHEAP_SHARE > limit
        return limit // (CAPPED_SLACK_SHARE if is_kept_by_cap else self.slack_share)

    def share(self, unit: int, limit: int) -> tuple[int, int]:
        """Say what to hold for it where others cannot know its spread, and how far that may pass the limit.

        Such shares add up to at least what the calls are held at together.
        """
        sent, rate = self.inputs[unit], self.rates[unit]
        most = sent + self.forecast.most * rate
        if self.is_cheap(unit, limit):
            return most, limit // CHEAP_SHARE
        margin = DEVIATIONS * isqrt(self.forecast.variance * rate * rate)
        return min(sent + self.forecast.mean * rate + margin, most), limit // self.slack_share


class Reserved(NamedTuple):
    """How much one call, or several, have reserved on an account.

    Attributes:
        cost, tokens: Amounts.
        calls: How many calls that is.
        cold: For how many of them there was nothing to go by.
    """

    cost: int = 0
    tokens: int = 0
    calls: int = 0
    cold: int = 0


class Hold:
    """What one call holds on one account: the worst that it can come to, or what is expected of it by now.

    Attributes:
        estimate: What it has asked for.
        since: When it was sent, by the monotonic clock.
        tokens: What it has produced, if it streams; `None` if nobody can see that.
        is_fixed: Whether it holds the worst.
        cold: Whether there was nothing to go by.
        forecast: What is known of its output by now.
        far: Tokens of output that it has at most by that.
        cheap: Whether its longest answer is a small part of the limits of the account, of either unit.
    """

    __slots__ = ("cheap", "cold", "estimate", "far", "forecast", "is_fixed", "since", "tokens")

    def __init__(self, estimate: Estimate, since: float, *, is_fixed: bool, cold: bool) -> None:
        self.estimate = estimate
        self.since = since
        self.tokens: int | None = None
        self.is_fixed = is_fixed
        self.cold = cold
        self.forecast = estimate.forecast
        self.far = estimate.far
        self.cheap = (False, False)

    @property
    def most(self) -> int:
        """Its `max_tokens`, or `UNBOUNDED`."""
        return self.estimate.forecast.most

    def expect(self, forecast: Forecast) -> None:
        """Take a newer forecast of it, which no longer counts it as near what it has left behind."""
        self.forecast = forecast
        self.far = max(self.estimate.far, min(forecast.most, FAR_TIMES * forecast.mean))

    def reserved(self) -> Reserved:
        """Return how much that is now."""
        cost, tokens = self.estimate.worst
        if not self.is_fixed:
            cost, tokens = (
                sent + self.forecast.mean * rate
                for sent, rate in zip(self.estimate.inputs, self.estimate.rates, strict=True)
            )
        return Reserved(cost, tokens, 1, int(self.cold))


class Bound(NamedTuple):
    """The most that a call can come to, which it holds without being counted on each account around it.

    Attributes:
        cost: Money units; 0 if nobody asks for money.
        tokens: Tokens.
        sent: Those of them that are sent.
        owner: The task or thread that makes the call.
    """

    cost: int
    tokens: int
    sent: int
    owner: Hashable
