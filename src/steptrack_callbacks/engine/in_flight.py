"""What the calls in flight on an account will come to together, and whether one more fits beside them.

Each is held at a mean with a variance, and the sums of both are kept: a call is admitted by a few
additions. It may go if

- what they usually come to, and half of its own usual answer, fits the limit;
- the expected total with two deviations, or everything at its `max_tokens` if that is less, fits the
  limit and a twentieth, or a tenth where nothing bounds its answer;
- for one whose answer costs at most a tenth of the limit at its `max_tokens`: those of its kind in
  flight at theirs, and the others at their means, fit the limit and a tenth.

The means of those in flight change with each answer that ends. They are worked out again only when the
next call asks and the limit is near.
"""

from __future__ import annotations

from math import isqrt
from typing import NamedTuple

from . import output_stats
from .forecasts import UNBOUNDED, Ahead, Flight, Forecast, caution_for

DEVIATIONS = 2
SLACK_SHARE, WIDE_SLACK_SHARE = 20, 10
"""What the expected total may pass a limit by: one in so many; the second where nothing bounds an answer."""
CHEAP_SHARE = 10
"""One in so many of a limit: what a cheap answer costs at most, and what such answers may pass it by."""
FAR_TIMES = 4
"""A limit is far if every answer could be so many times as long as the longest that is reckoned with."""

MONEY, TOKENS = 0, 1


class Outlook(NamedTuple):
    """What one call will come to.

    Attributes:
        model: The model's name, by which answers are remembered.
        inputs: Of its input, in money units and in tokens.
        rates: What a token of output adds to each: money units, and one.
        forecast: Its output.
        last: Tokens of output for which there has to be room if nothing else is in flight.
        far: Tokens of output that it has at most as far as anybody would reckon.
        clamps: Whether it may get what is left as its `max_tokens`.
    """

    model: str
    inputs: tuple[int, int]
    rates: tuple[int, int]
    forecast: Forecast
    last: int
    far: int
    clamps: bool = False

    @property
    def reckoned(self) -> int:
        """Tokens of output of the longest answer that is reckoned with."""
        return self.far // FAR_TIMES if self.forecast.seen else UNBOUNDED

    def mean(self, unit: int) -> int:
        """What is expected of it."""
        return self.inputs[unit] + self.forecast.mean * self.rates[unit]

    def most(self, unit: int) -> int:
        """The most that it can come to."""
        return self.inputs[unit] + self.forecast.most * self.rates[unit]

    @property
    def slack_share(self) -> int:
        """One in so many of a limit: what the expected total may pass it by."""
        is_bounded = self.clamps or self.forecast.most < UNBOUNDED
        return SLACK_SHARE if is_bounded else WIDE_SLACK_SHARE

    def is_cheap(self, unit: int, limit: int) -> bool:
        """Tell whether its longest answer is a small part of a limit."""
        return self.forecast.most * self.rates[unit] * CHEAP_SHARE <= limit

    def share(self, unit: int, limit: int) -> tuple[int, int]:
        """Say what to hold for it where others cannot know its spread, and how far that may pass the limit.

        Such shares add up to at least what the calls are held at together.
        """
        if self.is_cheap(unit, limit):
            return self.most(unit), limit // CHEAP_SHARE
        rate = self.rates[unit]
        margin = DEVIATIONS * isqrt(self.forecast.variance * rate * rate)
        return min(self.mean(unit) + margin, self.most(unit)), limit // self.slack_share


class HeldCall:
    """What is held for one call on one account."""

    __slots__ = ("cheap", "far", "flight", "forecast", "outlook")

    def __init__(
        self, outlook: Outlook, forecast: Forecast, flight: Flight, cheap: tuple[bool, bool]
    ) -> None:
        self.outlook = outlook
        self.flight = flight
        self.forecast = forecast
        self.far = outlook.far
        self.cheap = cheap

    def expect(self, forecast: Forecast) -> None:
        """Take a newer forecast of it, which no longer counts it as near what it has left behind."""
        self.forecast = forecast
        self.far = max(self.outlook.far, min(forecast.most, FAR_TIMES * forecast.mean))

    def mean(self, unit: int) -> int:
        """What is expected of it by now."""
        return self.outlook.inputs[unit] + self.forecast.mean * self.outlook.rates[unit]


class HeldSums:
    """Sums over the calls in flight, in one unit; all but the first are of outputs."""

    __slots__ = ("far", "firm", "inputs", "mean", "most", "usual", "variance")

    def __init__(self) -> None:
        self.inputs = self.mean = self.usual = self.variance = self.most = self.firm = self.far = 0

    def count(self, hold: HeldCall, unit: int, sign: int) -> None:
        """Add a call, or take it off again."""
        forecast, rate = hold.forecast, sign * hold.outlook.rates[unit]
        self.inputs += sign * hold.outlook.inputs[unit]
        self.mean += forecast.mean * rate
        self.usual += forecast.usual * rate
        self.variance += forecast.variance * rate * hold.outlook.rates[unit]
        self.most += forecast.most * rate
        self.firm += (forecast.most if hold.cheap[unit] else forecast.mean) * rate
        self.far += hold.far * rate


class _Doubt:
    """By how much the mean of a model's answers may be wrong, for all calls of it that are in flight."""

    __slots__ = ("calls", "rates", "seen", "variance")

    def __init__(self) -> None:
        self.calls = self.variance = self.seen = 0
        self.rates = [0, 0]

    def count(self, hold: HeldCall, sign: int) -> None:
        self.calls += sign
        for unit in (MONEY, TOKENS):
            self.rates[unit] += sign * hold.outlook.rates[unit]
        self.variance, self.seen = hold.outlook.forecast.variance, hold.outlook.forecast.seen


class InFlight:
    """The calls in flight on an account; whoever changes or reads it holds the lock of the accounts.

    Attributes:
        sums: Over all of them, in money units and in tokens.
    """

    __slots__ = ("_ahead", "_doubts", "_fresh", "_holds", "_known", "_stale", "sums")

    def __init__(self) -> None:
        self._holds: dict[HeldCall, None] = {}
        self.sums = (HeldSums(), HeldSums())
        self._doubts: dict[str, _Doubt] = {}
        self._ahead: dict[str, list[Ahead]] = {}
        self._fresh: dict[tuple[str, int, bool], Forecast] = {}
        self._known = 0
        self._stale = False

    def __len__(self) -> int:
        return len(self._holds)

    def mean(self, unit: int) -> int:
        """What they are expected to come to."""
        return self.sums[unit].inputs + self.sums[unit].mean

    def add(self, outlook: Outlook, flight: Flight, limits: tuple[int | None, int | None]) -> HeldCall:
        """Hold what a call is expected to come to."""
        money, tokens = limits
        cheap = (
            money is not None and outlook.is_cheap(MONEY, money),
            tokens is not None and outlook.is_cheap(TOKENS, tokens),
        )
        hold = HeldCall(outlook, self._behind(outlook), flight, cheap)
        self._holds[hold] = None
        self._count(hold, 1)
        return hold

    def remove(self, hold: HeldCall) -> None:
        """Give back what is held for a call; what the others will come to is worked out when next asked."""
        del self._holds[hold]
        self._count(hold, -1)
        self._stale = True
        if not self._holds:
            self._ahead.clear()
            self._fresh.clear()

    def note_growth(self, hold: HeldCall) -> None:
        """Let a stream that has gone further than it is held at take the room that it has used."""
        tokens = hold.flight.tokens or 0
        if tokens > hold.forecast.mean:
            self._count_sums(hold, -1)
            hold.expect(hold.forecast._replace(mean=tokens, usual=max(tokens, hold.forecast.usual)))
            self._count_sums(hold, 1)
            self._stale = True

    def is_far(self, outlook: Outlook, unit: int, left: int) -> bool:
        """Tell whether all would fit, however long the answers."""
        sums = self.sums[unit]
        asked = outlook.inputs[unit] + outlook.far * outlook.rates[unit]
        return sums.inputs + sums.far + asked <= left

    def fits(self, outlook: Outlook, unit: int, left: int, limit: int) -> bool:
        """Tell whether a call fits beside those in flight.

        Args:
            outlook: The call.
            unit: `MONEY` or `TOKENS`.
            left: What is neither settled nor held by others that are not known here.
            limit: The limit itself.
        """
        sums, forecast, rate = self.sums[unit], self._behind(outlook), outlook.rates[unit]
        room = left - sums.inputs - outlook.inputs[unit]
        if sums.usual + forecast.excess * rate > room:
            return False
        most = forecast.most * rate
        variance = sums.variance + forecast.variance * rate * rate + self._doubt(outlook, forecast, unit)
        expected = sums.mean + forecast.mean * rate + DEVIATIONS * isqrt(variance)
        if min(expected, sums.most + most) > room + limit // outlook.slack_share:
            return False
        return not outlook.is_cheap(unit, limit) or sums.firm + most <= room + limit // CHEAP_SHARE

    def left_for(self, outlook: Outlook, unit: int, left: int) -> int:
        """Return the tokens of output that the others leave to a call, a deviation of theirs kept free."""
        sums, rate = self.sums[unit], outlook.rates[unit]
        room = left - sums.inputs - outlook.inputs[unit] - sums.usual - isqrt(sums.variance)
        return room // rate if rate else UNBOUNDED

    def refresh(self, now: float) -> None:
        """Work out again what those in flight will come to, if anything was learned."""
        revisions = sum(output_stats.of(model).revision for model in self._doubts)
        if not self._holds or (not self._stale and revisions == self._known):
            return
        self._stale, self._known = False, revisions
        self._ahead.clear()
        self._fresh.clear()
        for sums in self.sums:
            sums.__init__()  # type: ignore[misc]
        for model in self._doubts:
            self._forecast(model, [hold for hold in self._holds if hold.outlook.model == model], now)

    def _forecast(self, model: str, holds: list[HeldCall], now: float) -> None:
        forecasts, self._ahead[model] = output_stats.of(model).in_flight([hold.flight for hold in holds], now)
        for hold, forecast in zip(holds, forecasts, strict=True):
            hold.expect(forecast)
            self._count_sums(hold, 1)

    def _count_sums(self, hold: HeldCall, sign: int) -> None:
        self.sums[MONEY].count(hold, MONEY, sign)
        self.sums[TOKENS].count(hold, TOKENS, sign)

    def _count(self, hold: HeldCall, sign: int) -> None:
        self._count_sums(hold, sign)
        model = hold.outlook.model
        doubt = self._doubts.get(model)
        if doubt is None:
            doubt = self._doubts[model] = _Doubt()
        doubt.count(hold, sign)
        if not doubt.calls:
            del self._doubts[model]

    def _behind(self, outlook: Outlook) -> Forecast:
        """Forecast a call that is still to be sent: those in flight count as answers, too."""
        ahead = self._ahead.get(outlook.model)
        if not ahead:
            return outlook.forecast
        asked = (outlook.model, outlook.forecast.most, outlook.clamps)
        forecast = self._fresh.get(asked)
        if forecast is None:
            stats, caution = output_stats.of(outlook.model), caution_for(clamps=outlook.clamps)
            forecast = self._fresh[asked] = stats.behind(ahead, outlook.forecast.most, caution)
        return forecast

    def _doubt(self, outlook: Outlook, forecast: Forecast, unit: int) -> int:
        rate = outlook.rates[unit]
        total = 0
        for model, doubt in self._doubts.items():
            if model != outlook.model:
                total += doubt.rates[unit] ** 2 * doubt.variance // (doubt.seen + 1)
            else:
                rate += doubt.rates[unit]
        return total + rate**2 * forecast.variance // (forecast.seen + 1)
