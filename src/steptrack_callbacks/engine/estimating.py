"""What a call may come to, by what it sends and by the answers that were seen before."""

from __future__ import annotations

from . import output_stats
from .forecasts import UNBOUNDED, caution_for
from .holds import Estimate
from .in_flight import FAR_TIMES, Outlook
from .output_stats import OutputStats
from .request import MANY, Request

_NOTHING = (0, 0)


def estimate_of(
    request: Request, outputs: tuple[int, int] | None, *, in_usd: bool, clamps: bool = False
) -> Estimate:
    """Say what a call asks of each account around it.

    Args:
        request: What is sent; it keeps its estimate for the next time.
        outputs: The most output that the request will allow, and the least that it could be
            lowered to; `None` if nobody asks for the worst case.
        in_usd: Whether anybody asks for money.
        clamps: Whether all of them let the request get what is left as its `max_tokens`.
    """
    seen = output_stats.of(request.model)
    asked = (
        outputs,
        in_usd,
        clamps,
        request.must_fit,
        request.max_output_tokens,
        seen.surplus,
        seen.revision,
    )
    known = request.estimated
    if known is None or known[0] != asked:  # whoever waits in line is judged many times
        known = (asked, _worked_out(request, outputs, seen, in_usd=in_usd, clamps=clamps))
        request.estimated = known
    return known[1]


def _worked_out(
    request: Request, outputs: tuple[int, int] | None, seen: OutputStats, *, in_usd: bool, clamps: bool
) -> Estimate:
    outlook = _outlook(request, seen, in_usd=in_usd, clamps=clamps)
    counted, last, fee = request.counted.tokens, outlook.last, request.fee
    worst, least = _worst(request, *outputs, in_usd=in_usd) if outputs else (_NOTHING, _NOTHING)
    certain = max(request.cost(counted, 0) or 0, fee.sent) if in_usd else 0
    expected = (outlook.mean(0), outlook.mean(1))
    return Estimate(
        (certain, counted),
        expected if request.must_fit else (certain + last * outlook.rates[0], counted + last),
        expected,
        worst,
        least,
        request.model,
        outlook,
        unseen=seen.surplus is None and not fee.replaces_tokens,
        unbounded=request.max_output_tokens is None and not seen.seen,
        counts=request.counts,
    )


def _outlook(request: Request, seen: OutputStats, *, in_usd: bool, clamps: bool) -> Outlook:
    """Forecast the answer, and price what it will come to."""
    clamps = clamps and request.can_clamp and not (request.needs_whole_answer or request.streams)
    clamps = clamps and request.max_output_tokens is None and not seen.thinks
    caution = caution_for(clamps=clamps)
    most = UNBOUNDED if request.max_output_tokens is None else request.max_output_tokens
    forecast = seen.fresh(most, caution)
    last = 0 if request.streams or not forecast.seen else forecast.excess
    if clamps:
        last = max(seen.median(), request.least_clamp)
    likely = request.counted.tokens + (seen.surplus or 0)
    cost, rate = _priced(request, likely, forecast.mean) if in_usd else (0, 0)
    far = min(most, FAR_TIMES * seen.longest(caution)) if seen.seen or most == UNBOUNDED else most
    return Outlook(request.model, (cost, likely), (rate, 1), forecast, last, far, clamps)


def clamped(estimate: Estimate, most: int) -> Estimate:
    """Return what it asks of the accounts once it has been given a `max_tokens`."""
    forecast = estimate.outlook.forecast
    mean, usual = min(forecast.mean, most), min(forecast.usual, most)
    shorter = forecast._replace(mean=mean, usual=usual, most=most)
    return estimate._replace(outlook=estimate.outlook._replace(forecast=shorter))


def _priced(request: Request, input_tokens: int, output_tokens: int) -> tuple[int, int]:
    """Price what is sent, and one more token of output; what is paid by the piece counts as sent."""
    cost = request.cost(input_tokens, 0) or 0
    many = None if request.max_output_tokens == 0 else request.cost(input_tokens, MANY)
    rate = 0 if many is None else -(-(many - cost) // MANY)
    return max(cost, request.fee.sent, (request.fee.likely or 0) - rate * output_tokens), rate


def _worst(
    request: Request, worst: int, least: int, *, in_usd: bool
) -> tuple[tuple[int, int], tuple[int, int]]:
    most = request.most_input()
    worst_cost, least_cost = (
        max(request.most_cost(most, output), request.fee.most) if in_usd else 0 for output in (worst, least)
    )
    return (worst_cost, most + worst), (least_cost, most + least)
