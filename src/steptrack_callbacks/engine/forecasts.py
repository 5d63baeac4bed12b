"""What one answer will come to: its mean, its spread, and those that are further along.

What a call in flight will come to is random, and what several will come to together is a sum. So a
call is expected at a mean, with a variance, and not at a maximum: fifty calls need less than fifty
maxima. Three things keep the mean honest:

- Short answers end first, so those that have ended are a biased sample while others are in flight. A
  call in flight is expected at the mean of the answers that went further than it has, and calls that
  are further along count, at what they are expected at themselves, for those behind.
- One long answer more than were seen is always counted in. So few answers make the variance wide,
  and many make it narrow.
- An answer that its own `max_tokens` cut short says how long it was at least. It counts as long as
  those that went further.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Sequence
from itertools import accumulate
from typing import NamedTuple

UNBOUNDED = 1 << 30
"""More output tokens than any answer has: of a call whose output nothing bounds."""

LONGEST_KNOWN = 4096
"""Output tokens of the longest answer of a model of which nothing is known."""


UNSEEN_TOKENS, UNSEEN_TIMES = 600, 2.5
"""How long the one unseen answer is taken to be at least: in tokens, and in means of those that were seen."""
CLAMPED_UNSEEN_TOKENS, CLAMPED_UNSEEN_TIMES = 1000, 5.0
"""Of a call that may get what is left as its `max_tokens`: it can be waited for longer, and ends well."""


class Forecast(NamedTuple):
    """What one answer will come to, in tokens.

    Attributes:
        mean: Its expected length, with the unseen long answer counted in.
        variance: Of the same.
        usual: The mean of the answers that were seen alone.
        excess: By how much the last answer under a limit passes it on average, if it may begin as long
            as anything is left: the square mean over twice the mean.
        most: Its `max_tokens`, or `UNBOUNDED`.
        seen: How many answers it goes by.
    """

    mean: int
    variance: int
    usual: int
    excess: int
    most: int
    seen: int


class Table:
    """Answers, sorted by how far they went, and sums over those that went further.

    Args:
        answers: Pairs of how far (seconds or tokens) and how long (tokens), sorted.
        most: No answer counts as longer.
    """

    __slots__ = ("_reach", "_squares", "_sums", "count")

    def __init__(self, answers: Sequence[tuple[float, int]], most: int) -> None:
        lengths = [min(length, most) for _, length in reversed(answers)]
        self.count = len(lengths)
        self._reach = [reach for reach, _ in answers]
        self._sums = list(accumulate(lengths, initial=0))
        self._squares = list(accumulate((length * length for length in lengths), initial=0))

    def beyond(self, reached: float) -> tuple[int, int, int]:
        """Return how many answers went further, the sum of their lengths, and that of their squares."""
        count = self.count - bisect_right(self._reach, reached)
        return count, self._sums[count], self._squares[count]


class Ahead:
    """The sums over the calls that are further along, each at what it is expected at."""

    __slots__ = ("count", "mean", "squares", "usual")

    def __init__(self) -> None:
        self.count, self.mean, self.usual, self.squares = 0, 0.0, 0.0, 0.0

    def add(self, forecast: Forecast, most: int) -> None:
        """Count one more in, which may go so far at most."""
        mean = min(forecast.mean, most)
        self.count += 1
        self.mean += mean
        self.usual += min(forecast.usual, most)
        self.squares += mean * mean + (forecast.variance if mean < most else 0)

    def forecast(
        self, beyond: tuple[int, int, int], unseen: int, least: float, most: int, seen: int
    ) -> Forecast:
        """Forecast the next one behind them, from the answers that went further than it has."""
        count, total, squares = beyond
        number, unseen = count + self.count + 1, min(most, unseen)
        mean, variance = moments(number, total + self.mean + unseen, squares + self.squares, unseen, most)
        alone = min(2 * least, unseen) if seen else mean
        usual = (total + self.usual) / (number - 1) if number > 1 else alone
        return Forecast(mean, variance, min(most, math.ceil(usual)), 0, most, seen)


def joined(ahead: Sequence[Ahead], most: int) -> tuple[int, float, float, float]:
    """Add up what is ahead, as far as a call with such a `max_tokens` may go."""
    count = sum(each.count for each in ahead)
    mean, usual = (
        min(sum(amounts), count * most)
        for amounts in ([each.mean for each in ahead], [each.usual for each in ahead])
    )
    return count, mean, usual, min(sum(each.squares for each in ahead), mean * most)


def moments(number: int, total: float, squares: float, unseen: int, most: int) -> tuple[int, int]:
    """Return mean and variance of answers and an unseen one, which counts double if it may be even longer."""
    mean = min(most, total / number)
    square = (squares + unseen * unseen * (2 if unseen < most else 1)) / number
    return math.ceil(mean), math.ceil(max(0.0, square - mean * mean))


def rounded(most: int) -> int:
    """Round a bound up a little, so that calls with many different ones share few tables."""
    shift = max(0, most.bit_length() - 4)
    return -(-most >> shift) << shift
