"""The last answers of each model, and what the next ones will come to by them."""

from __future__ import annotations

import math
from bisect import bisect_left, insort
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from steptrack_callbacks import pricing
from steptrack_callbacks.concurrency.lock import LOCK

from .forecasts import (
    CLAMPED_UNSEEN_TIMES,
    CLAMPED_UNSEEN_TOKENS,
    LONGEST_KNOWN,
    UNBOUNDED,
    UNSEEN_TIMES,
    UNSEEN_TOKENS,
    Ahead,
    Forecast,
    Table,
    joined,
    moments,
    rounded,
)
from .holds import Hold

REMEMBERED_ANSWERS = 200
RECENT_ANSWERS = 20
MOST_UNSORTED = 8
"""Fewer new answers are sorted in one by one; for so many, all are sorted anew."""
MOST_MODELS = 2_000
"""Of so many models answers are remembered at most."""
MOST_TIERS = 8
"""More than any provider has; what a strange server makes up is not kept without end."""
START_OUTPUT_TOKENS = 500
"""Output expected of a model of which nothing is known, where its first call cannot go alone."""

START_TOKENS_PER_S = 50.0

FURTHER_TIMES, FURTHER_TIMES_BY_AGE = 2, 3
"""How many times as long an answer becomes that is longer already than all that were seen.

Its age alone says less than its tokens do: and when a budget is nearly spent, it is the long answers that
are still in flight.
"""


Went = tuple[float, int]
"""How far an answer went, in seconds or in tokens, and how long it was in tokens."""


@dataclass(slots=True)
class OutputStats:
    """The last answers of one model.

    Attributes:
        model: The model's name.
        surplus: By how many tokens inputs were undercounted at most; `None` if never compared.
        tiers: Service tiers that some were served on though nobody had asked for one.
        thinks: Whether some had thought before they answered, which no short `max_tokens` leaves room for.
        revision: Counts what was learned.
        densest: The input that came closest to its bound by bytes, and that bound: such a one is counted.
        reach: Tokens that no answer has which anybody reckons with: no less than `longest(clamps=True)`.
    """

    model: str = ""
    surplus: int | None = None
    tiers: frozenset[str] = frozenset()
    thinks: bool = False
    revision: int = 0
    densest: tuple[int, int] = (0, 1)
    reach: int = START_OUTPUT_TOKENS
    _outputs: deque[int] = field(default_factory=lambda: deque(maxlen=RECENT_ANSWERS))
    _surpluses: deque[int] = field(default_factory=lambda: deque(maxlen=RECENT_ANSWERS))
    _answers: deque[Went] = field(default_factory=deque)
    _tokens: int = 0
    _record: int = CLAMPED_UNSEEN_TOKENS
    _known_ceiling: int | None = None

    # What follows is of the answers up to a revision, and brought up to date when somebody asks for it.
    _revision: int = 0
    _dropped: deque[Went] = field(default_factory=lambda: deque(maxlen=MOST_UNSORTED))
    _by_age: list[Went] = field(default_factory=list)
    _by_length: list[Went] = field(default_factory=list)
    _seconds: float = 0.0
    _squares: int = 0
    _tables: dict[tuple[bool, int], Table] = field(default_factory=dict)
    _fresh: dict[tuple[int, bool], Forecast] = field(default_factory=dict)

    def add_output(self, tokens: int, took_s: float, *, whole: bool) -> None:
        """Remember an output, and how long it took; one that was cut short went at least so far."""
        if whole:
            self._outputs.append(tokens)
        else:
            tokens, took_s = self._completed(tokens, took_s)
        answers = self._answers
        if len(answers) >= REMEMBERED_ANSWERS:
            oldest = answers.popleft()
            self._dropped.append(oldest)
            self._tokens -= oldest[1]
        answers.append((took_s, tokens))
        self._tokens += tokens
        record = self._record
        if tokens > record:
            record = self._record = tokens
        self.reach = record
        if CLAMPED_UNSEEN_TIMES * self._tokens > record * len(answers):
            self.reach = math.ceil(CLAMPED_UNSEEN_TIMES * (self._tokens / len(answers)))
        self.revision += 1

    def add_tier(self, service_tier: str) -> None:
        """Remember on which tier an answer was served."""
        if service_tier not in self.tiers and len(self.tiers) < MOST_TIERS:
            self.tiers |= {service_tier}

    def add_surplus(self, tokens: int) -> None:
        """Remember by how many tokens an input was undercounted."""
        self._surpluses.append(tokens)
        self.surplus = max(self._surpluses)

    @property
    def output(self) -> int | None:
        """The largest of the last twenty outputs in tokens; `None` if none was seen whole."""
        return max(self._outputs, default=None)

    @property
    def seen(self) -> int:
        """How many answers are remembered."""
        return len(self._answers)

    @property
    def tokens_per_s(self) -> float:
        """How fast the answers came, first token and all."""
        self._lengths()
        return self._tokens / self._seconds if self._seconds > 0 else START_TOKENS_PER_S

    def median(self) -> int:
        """Return the length that half of the answers have at most; 0 if none was seen."""
        lengths = self._lengths()
        return int(lengths[len(lengths) // 2][0]) if lengths else 0

    def longest(self, *, clamps: bool) -> int:
        """Return how long the one unseen answer is taken to be; `clamps` is as in `Estimate`."""
        if not self._answers:
            return START_OUTPUT_TOKENS
        tokens, times = UNSEEN_TOKENS, UNSEEN_TIMES
        if clamps:
            tokens, times = CLAMPED_UNSEEN_TOKENS, CLAMPED_UNSEEN_TIMES
        return max(tokens, math.ceil(times * (self._tokens / len(self._answers))), self._lengths()[-1][1])

    def _further(self, so_far: float, *, clamps: bool, by_age: bool) -> int:
        """Return how long an unseen answer is taken to be that has come so far already.

        By its age alone, a call that hangs would be longer than anything that its model can write.
        """
        seen = self.longest(clamps=clamps)
        further = math.ceil(so_far * (FURTHER_TIMES_BY_AGE if by_age else FURTHER_TIMES))
        return max(seen, min(further, self._ceiling()) if by_age and further > seen else further)

    def _ceiling(self) -> int:
        if self._known_ceiling is None:
            self._known_ceiling = pricing.max_output_tokens(self.model) or LONGEST_KNOWN
        return self._known_ceiling

    def fresh(self, most: int, *, clamps: bool) -> Forecast:
        """Forecast the answer of a call that is still to be sent."""
        self._lengths()
        forecast = self._fresh.get((most, clamps))
        if forecast is None:
            forecast = self._fresh[most, clamps] = self._forecast_fresh(most, clamps=clamps)
        return forecast

    def _forecast_fresh(self, most: int, *, clamps: bool) -> Forecast:
        if not self._answers and most < UNBOUNDED:
            return Forecast(most, 0, most, most, most, 0)  # nothing is known but the bound
        count, total, squares = self._sums(most)
        unseen = min(most, self.longest(clamps=clamps))
        usual = total / count if count else unseen
        excess = squares / total / 2 if total else usual / 2
        return Forecast(
            *moments(count + 1, total + unseen, squares, unseen, most),
            min(most, math.ceil(usual)),
            math.floor(excess),
            most,
            count,
        )

    def _sums(self, most: int) -> tuple[int, int, int]:
        """Return how many answers there are, the sum of their lengths, and that of their squares."""
        if not self._answers or rounded(most) >= self._lengths()[-1][1]:
            return len(self._answers), self._tokens, self._squares
        return self._table(most, by_age=False).beyond(-1)

    def in_flight(self, holds: Sequence[Hold], now: float) -> tuple[list[Forecast], list[Ahead]]:
        """Forecast the answers of calls that are in flight together, those first that have gone furthest.

        Returns:
            A forecast for each, and what all of them are for a call that is still to be sent.
        """
        forecasts: dict[Hold, Forecast] = {}
        ahead = []
        for by_age in (True, False):
            some = [hold for hold in holds if (hold.tokens is None) is by_age]
            if some:
                ahead.append(self._forecast(some, now, forecasts, by_age=by_age))
        return [forecasts[hold] for hold in holds], ahead

    def behind(self, ahead: Sequence[Ahead], most: int, *, clamps: bool) -> Forecast:
        """Forecast the answer of a call that is still to be sent, behind others that are in flight."""
        alone = self.fresh(most, clamps=clamps)
        if not self._answers:
            return alone
        count, total, squares = self._sums(most)
        others, mean, usual, square = joined(ahead, most)
        unseen = min(most, self.longest(clamps=clamps))
        return Forecast(
            *moments(count + others + 1, total + mean + unseen, squares + square, unseen, most),
            min(most, math.ceil((total + usual) / (count + others))),
            alone.excess,
            most,
            count,
        )

    def _forecast(self, holds: list[Hold], now: float, into: dict[Hold, Forecast], *, by_age: bool) -> Ahead:
        """Go from the call that is furthest along to the last one (as Efron's estimate of survival does)."""
        rate = self.tokens_per_s if by_age else 1.0
        reached = [(now - hold.since if by_age else float(hold.tokens or 0), hold) for hold in holds]
        reached.sort(key=lambda pair: pair[0], reverse=True)
        bounds = {rounded(hold.most) for hold in holds}
        widest = max(bounds)
        ahead = {bound: Ahead() for bound in bounds}
        for so_far, hold in reached:
            least, most = so_far * rate, hold.most
            unseen = self._further(least, clamps=hold.estimate.clamps, by_age=by_age)
            if not self._answers and most < UNBOUNDED:
                unseen = most
            bound = rounded(most)
            beyond = self._table(bound, by_age=by_age).beyond(so_far)
            forecast = into[hold] = ahead[bound].forecast(beyond, unseen, least, most, self.seen)
            if bound < widest:  # for those behind that may go further, it counts as what it could have been
                wider = self._table(widest, by_age=by_age).beyond(so_far)
                forecast = ahead[widest].forecast(wider, unseen, least, widest, self.seen)
            for each, sums in ahead.items():
                sums.add(forecast, each)
        return ahead[widest]

    def _table(self, most: int, *, by_age: bool) -> Table:
        bound = rounded(most)
        if not self._answers or bound >= self._lengths()[-1][1]:
            bound = UNBOUNDED
        table = self._tables.get((by_age, bound))
        if table is None:
            table = self._tables[by_age, bound] = Table(self._by_age if by_age else self._by_length, bound)
        return table

    def _completed(self, tokens: int, took_s: float) -> tuple[int, float]:
        """Say how long an answer would have been that was cut short."""
        count, total, _ = self._table(UNBOUNDED, by_age=False).beyond(tokens)
        unseen = max(self.longest(clamps=False), 2 * tokens)
        whole = math.ceil((total + unseen) / (count + 1))
        return whole, took_s * whole / max(1, tokens)

    def _lengths(self) -> list[Went]:
        """Return the answers by their length, and take in what has come since somebody asked last.

        Far from all limits nobody asks.
        """
        while self._revision != self.revision:
            with LOCK:
                self._take_in(self.revision)
        return self._by_length

    def _take_in(self, revision: int) -> None:
        """Sort what has come up to a revision, unless a garbage collection charges a stream meanwhile."""
        answers, dropped = list(self._answers), list(self._dropped)
        count = revision - self._revision
        are_few = count < MOST_UNSORTED and len(self._by_age) + count == len(answers) + len(dropped)
        anew = None if are_few else _sorted(answers)
        if self.revision != revision:
            return
        self._revision = revision
        self._dropped.clear()
        self._tables.clear()
        self._fresh.clear()
        if anew is not None:
            self._by_age, self._by_length, self._seconds, self._squares = anew
        else:
            self._sort_in(answers[-count:], instead_of=dropped)
        self._record = max(CLAMPED_UNSEEN_TOKENS, self._by_length[-1][1])

    def _sort_in(self, news: list[Went], *, instead_of: list[Went]) -> None:
        for took_s, tokens in instead_of:
            del self._by_age[bisect_left(self._by_age, (took_s, tokens))]
            del self._by_length[bisect_left(self._by_length, (tokens, tokens))]
            self._seconds -= took_s
            self._squares -= tokens * tokens
        for took_s, tokens in news:
            insort(self._by_age, (took_s, tokens))
            insort(self._by_length, (tokens, tokens))
            self._seconds += took_s
            self._squares += tokens * tokens


def _sorted(answers: list[Went]) -> tuple[list[Went], list[Went], float, int]:
    """Return answers by their age and by their length, their seconds, and the squares of their lengths."""
    return (
        sorted(answers),
        sorted([(tokens, tokens) for _, tokens in answers]),
        sum([took_s for took_s, _ in answers]),
        sum([tokens * tokens for _, tokens in answers]),
    )


_seen: dict[str, OutputStats] = {}


find: Callable[[str], OutputStats | None] = _seen.get
"""Returns what is known of a model's answers, if there were any."""


def of(model: str) -> OutputStats:
    """Return what is known of a model's answers."""
    return _seen.get(model) or OutputStats(model)


def learn(
    model: str,
    *,
    output_tokens: int | None,
    counted_input: int | None,
    input_tokens: int,
    took_s: float = 0.0,
    truncated: bool = False,
    service_tier: str | None = None,
    thought: bool = False,
) -> None:
    """Remember an answer that a provider reported.

    Args:
        model: The model's name, as it was asked for.
        output_tokens: What it produced; `None` if that is not known.
        counted_input: Input tokens as counted before sending; `None` if they were not.
        input_tokens: Input tokens as reported.
        took_s: Seconds from sending to the answer's end.
        truncated: Whether its own `max_tokens` cut it short, so that it says how far it went at least.
        service_tier: On which tier it was served; `None` if that was asked for, or not told.
        thought: Whether a part of its output was thinking.
    """
    answers = _seen.get(model)
    if answers is None:
        if len(_seen) >= MOST_MODELS:
            _forget_the_rarest()
        answers = _seen[model] = OutputStats(model)
    if output_tokens is not None:
        answers.add_output(output_tokens, took_s, whole=not truncated)
    answers.thinks = answers.thinks or thought
    if service_tier is not None:
        answers.add_tier(service_tier)
    if counted_input is not None:
        answers.add_surplus(max(0, input_tokens - counted_input))


def _forget_the_rarest() -> None:
    """Forget the half of the models that have answered least: on a proxy, clients may make names up."""
    by_answers = sorted(_seen, key=lambda model: _seen[model].seen)
    for model in by_answers[: MOST_MODELS // 2]:
        del _seen[model]


def reset() -> None:
    """Forget all answers."""
    _seen.clear()
