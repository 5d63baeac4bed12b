"""What the calls in flight hold on an account, and whether one more fits beside them.

Each is held at a mean with a variance, and the sums of both are kept: a call is admitted by a few
additions. It may go if

- what they usually come to, and half of its own usual answer, fits the limit;
- the expected total with two deviations, or everything at its `max_tokens` if that is less, fits the
  limit and a twentieth, or a tenth where nothing bounds its answer, or a quarter where the last call
  can be bounded and a long answer is a large part of the limit;
- for one that could be given the last as its `max_tokens`, where another one has it: the longest answer
  that is reckoned with fits beside the others with three deviations, the limit and an eighth;
- for one whose answer costs at most a tenth of the limit at its `max_tokens`: those of its kind in
  flight at theirs, and the others at their means, fit the limit and a tenth.

The means of those in flight change with each answer that ends. They are worked out again only when the
next call asks and the limit is near.
"""

from __future__ import annotations

from math import isqrt
from operator import attrgetter
from typing import Protocol

from steptrack_callbacks.concurrency.lock import LOCK

from . import output_stats
from .forecasts import UNBOUNDED, Ahead, Forecast
from .holds import (
    CHEAP_SHARE,
    DEVIATIONS,
    MONEY,
    TOKENS,
    UNCAPPED_DEVIATIONS,
    Amount,
    Bound,
    Estimate,
    Hold,
)


class Uncounted(Protocol):
    """A call that holds a bound of what it can come to."""

    number: int
    bound: Bound | None

    def count(self) -> None:
        """Hold what is expected of it instead, if it is still in flight."""


class SetAside(Protocol):
    """Room that such calls hold together: an `Allowance`."""

    calls: dict[int, Uncounted]
    calls_left: int

    def release(self) -> None:
        """Set no more aside than what those in flight hold."""


class HeldSums:
    """Sums over the calls in flight, in one unit; all but the first are of outputs."""

    __slots__ = ("far", "firm", "inputs", "mean", "most", "usual", "variance")

    def __init__(self) -> None:
        self.inputs = self.mean = self.usual = self.variance = self.most = self.firm = self.far = 0

    def count(self, hold: Hold, unit: int, sign: int) -> None:
        """Add a call, or take it off again."""
        forecast, own = hold.forecast, hold.estimate.rates[unit]
        rate = sign * own
        self.inputs += sign * hold.estimate.inputs[unit]
        self.mean += forecast.mean * rate
        self.usual += forecast.usual * rate
        self.variance += forecast.variance * rate * own
        self.most += forecast.most * rate
        self.firm += (forecast.most if hold.cheap[unit] else forecast.mean) * rate
        self.far += hold.far * rate


class _Doubt:
    """By how much the mean of a model's answers may be wrong, for all calls of it that are in flight."""

    __slots__ = ("calls", "rates", "seen", "variance")

    def __init__(self) -> None:
        self.calls = self.variance = self.seen = 0
        self.rates = [0, 0]

    def count(self, hold: Hold, sign: int) -> None:
        self.calls += sign
        for unit in (MONEY, TOKENS):
            self.rates[unit] += sign * hold.estimate.rates[unit]
        if sign > 0:  # the last to begin knows most
            self.variance, self.seen = hold.estimate.forecast.variance, hold.estimate.forecast.seen


class InFlight:
    """What calls in flight hold on an account, and how many wait for that.

    Whoever changes or reads it holds the lock of the accounts. Pairs are of money units and of tokens.

    Attributes:
        counted: How many calls have reserved room of which it is known what they hold.
        tools: How many of them are uses of tools, which do not count as calls.
        sums: Over those of them that are held at what is expected of them.
        fixed: What others hold: under `strict`, or elsewhere.
        allowances: Where those hold a bound of what they can come to that nobody has counted.
        aside: What is set aside for these, and perhaps for others to come.
        running: What streams have produced so far.
        cold: Models of which a call with nothing to go by is in flight.
        waiting: Calls that wait for room.
    """

    __slots__ = (
        "_ahead",
        "_doubts",
        "_fresh",
        "_holds",
        "_known",
        "_stale",
        "allowances",
        "aside",
        "cold",
        "counted",
        "fixed",
        "running",
        "sums",
        "tools",
        "waiting",
    )

    def __init__(self) -> None:
        self.counted = self.tools = self.waiting = 0
        self.sums = (HeldSums(), HeldSums())
        self.fixed, self.aside, self.running = [0, 0], [0, 0], [0, 0]
        self.allowances: dict[SetAside, None] = {}
        self.cold: dict[str, int] = {}
        self._holds: dict[Hold, None] = {}
        self._doubts: dict[str, _Doubt] = {}
        self._ahead: dict[str, list[Ahead]] = {}
        self._fresh: dict[tuple[str, int, bool], Forecast] = {}
        self._known = 0
        self._stale = False

    def held(self, unit: int) -> int:
        """Return what all of them hold."""
        self.count_all()
        return self.fixed[unit] + self.mean(unit)

    def mean(self, unit: int) -> int:
        """Return what those are expected to come to that are held at that."""
        return self.sums[unit].inputs + self.sums[unit].mean

    @property
    def calls(self) -> int:
        """How many calls have reserved room."""
        return self.counted + self.uncounted if self.allowances else self.counted

    @property
    def uncounted(self) -> int:
        """How many of them hold a bound of what they can come to."""
        return sum([len(each.calls) for each in list(self.allowances)])

    @property
    def promised(self) -> int:
        """The same, with those that may do so without asking."""
        return self.uncounted + sum([each.calls_left for each in list(self.allowances)])

    def bounds(self, unit: int) -> int:
        """Return what those hold that nobody has counted."""
        calls = [call for each in list(self.allowances) for call in list(each.calls.values())]
        return sum([(call.bound.cost, call.bound.tokens)[unit] for call in calls if call.bound])

    def count_all(self) -> None:
        """Count the calls that are not, since somebody wants to know what they will come to."""
        if not self.allowances:
            return
        calls = [call for each in list(self.allowances) for call in list(each.calls.values())]
        for call in sorted(calls, key=attrgetter("number")):
            call.count()
        self.release()

    def release(self) -> None:
        """Set no more aside than what those hold that are not counted."""
        with LOCK:
            for each in list(self.allowances):
                each.release()

    def add(self, hold: Hold, money: int | None, tokens: int | None) -> None:
        """Hold what a call asks, under these limits."""
        estimate = hold.estimate
        if hold.is_fixed:
            self._fix(estimate.worst, 1)
        else:
            self._expect(hold, money, tokens)
        self.counted += 1
        self.tools += not estimate.counts
        if hold.cold:
            self.cold[estimate.model] = self.cold.get(estimate.model, 0) + 1

    def remove(self, hold: Hold) -> None:
        """Give back what is held for a call."""
        estimate, model = hold.estimate, hold.estimate.model
        if hold.is_fixed:
            self._fix(estimate.worst, -1)
        else:
            self._expect_no_more(hold)
        self.counted -= 1
        self.tools -= not estimate.counts
        if hold.cold:
            self.cold[model] -= 1
            if not self.cold[model]:
                del self.cold[model]

    def _fix(self, amount: Amount, sign: int) -> None:
        self.fixed[MONEY] += sign * amount[MONEY]
        self.fixed[TOKENS] += sign * amount[TOKENS]

    def _expect(self, hold: Hold, money: int | None, tokens: int | None) -> None:
        estimate = hold.estimate
        hold.forecast = self._behind(estimate)
        hold.cheap = (
            money is not None and estimate.is_cheap(MONEY, money),
            tokens is not None and estimate.is_cheap(TOKENS, tokens),
        )
        self._holds[hold] = None
        self._count(hold, 1)

    def _expect_no_more(self, hold: Hold) -> None:
        """Forget a call; what the others will come to is worked out when next asked."""
        del self._holds[hold]
        self._count(hold, -1)
        self._stale = True
        if not self._holds:
            self._ahead.clear()
            self._fresh.clear()

    def note_growth(self, hold: Hold, tokens: int) -> None:
        """Let a stream that has gone further than it is held at take the room that it has used."""
        hold.tokens = tokens
        if tokens > hold.forecast.mean:
            self._count_sums(hold, -1)
            hold.expect(hold.forecast._replace(mean=tokens, usual=max(tokens, hold.forecast.usual)))
            self._count_sums(hold, 1)
            self._stale = True

    def is_far(self, estimate: Estimate, unit: int, left: int) -> bool:
        """Tell whether all would fit, however long the answers."""
        sums = self.sums[unit]
        asked = estimate.inputs[unit] + estimate.far * estimate.rates[unit]
        return sums.inputs + sums.far + asked <= left

    def fits(self, estimate: Estimate, unit: int, left: int, limit: int) -> bool:
        """Tell whether a call fits beside those in flight.

        Args:
            estimate: The call.
            unit: `MONEY` or `TOKENS`.
            left: What is neither settled nor held by others that are not known here.
            limit: The limit itself.
        """
        sums, forecast, rate = self.sums[unit], self._behind(estimate), estimate.rates[unit]
        room = left - sums.inputs - estimate.inputs[unit]
        if sums.usual + forecast.excess * rate > room:
            return False
        most = forecast.most * rate
        variance = sums.variance + forecast.variance * rate * rate + self._doubt(estimate, forecast, unit)
        expected = sums.mean + forecast.mean * rate + DEVIATIONS * isqrt(variance)
        if min(expected, sums.most + most) > room + estimate.slack(unit, limit):
            return False
        return not estimate.is_cheap(unit, limit) or sums.firm + most <= room + limit // CHEAP_SHARE

    def left_for(self, estimate: Estimate, unit: int, left: int) -> int:
        """Return the tokens of output that the others leave to a call, a deviation of theirs kept free."""
        room, rate = left - self._usual(unit, 1) - estimate.inputs[unit], estimate.rates[unit]
        return room // rate if rate else UNBOUNDED

    def fits_uncapped(self, estimate: Estimate, unit: int, left: int, limit: int) -> bool:
        """Tell whether the longest answer that is reckoned with fits beside the others."""
        return estimate.fits_uncapped(unit, left - self._usual(unit, UNCAPPED_DEVIATIONS), limit)

    def _usual(self, unit: int, deviations: int) -> int:
        sums = self.sums[unit]
        return sums.inputs + sums.usual + deviations * isqrt(sums.variance)

    def refresh(self, now: float) -> None:
        """Work out again what those in flight will come to, if anything was learned."""
        revisions = sum(output_stats.of(model).revision for model in self._doubts)
        if not self._holds or (not self._stale and revisions == self._known):
            return
        self._stale, self._known = False, revisions
        self._ahead.clear()
        self._fresh.clear()
        self.sums = (HeldSums(), HeldSums())
        for model in self._doubts:
            self._forecast(model, [hold for hold in self._holds if hold.estimate.model == model], now)

    def _forecast(self, model: str, holds: list[Hold], now: float) -> None:
        forecasts, self._ahead[model] = output_stats.of(model).in_flight(holds, now)
        for hold, forecast in zip(holds, forecasts, strict=True):
            hold.expect(forecast)
            self._count_sums(hold, 1)

    def _count_sums(self, hold: Hold, sign: int) -> None:
        self.sums[MONEY].count(hold, MONEY, sign)
        self.sums[TOKENS].count(hold, TOKENS, sign)

    def _count(self, hold: Hold, sign: int) -> None:
        self._count_sums(hold, sign)
        model = hold.estimate.model
        doubt = self._doubts.get(model)
        if doubt is None:
            doubt = self._doubts[model] = _Doubt()
        doubt.count(hold, sign)
        if not doubt.calls:
            del self._doubts[model]

    def _behind(self, estimate: Estimate) -> Forecast:
        """Forecast a call that is still to be sent: those in flight count as answers, too."""
        ahead = self._ahead.get(estimate.model)
        if not ahead:
            return estimate.forecast
        asked = (model, most, clamps) = (estimate.model, estimate.forecast.most, estimate.clamps)
        forecast = self._fresh.get(asked)
        if forecast is None:
            forecast = self._fresh[asked] = output_stats.of(model).behind(ahead, most, clamps=clamps)
        return forecast

    def _doubt(self, estimate: Estimate, forecast: Forecast, unit: int) -> int:
        rate = estimate.rates[unit]
        total = 0
        for model, doubt in self._doubts.items():
            if model != estimate.model:
                total += doubt.rates[unit] ** 2 * doubt.variance // (doubt.seen + 1)
            else:
                rate += doubt.rates[unit]
        return total + rate**2 * forecast.variance // (forecast.seen + 1)
