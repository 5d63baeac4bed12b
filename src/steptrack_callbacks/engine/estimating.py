"""What a call may come to, by what it sends and by the answers that were seen before."""

from __future__ import annotations

from . import output_stats
from .forecasts import UNBOUNDED, Forecast
from .holds import FAR_TIMES, Amount, Estimate
from .output_stats import OutputStats
from .request import MANY, Request

_NOTHING = (0, 0)


def estimate_of(
    request: Request,
    outputs: tuple[int, int] | None,
    *,
    in_usd: bool,
    clamps: bool = False,
    is_cut: bool = False,
) -> Estimate:
    """Say what a call asks of each account around it.

    Args:
        request: What is sent; it keeps its estimate for the next time.
        outputs: The most output that the request will allow, and the least that it could be
            lowered to; `None` if nobody asks for the worst case.
        in_usd: Whether anybody asks for money.
        clamps: Whether all of them let the request get what is left as its `max_tokens`.
        is_cut: Whether its answer is a stream that all of them cut where it passes them.
    """
    seen = output_stats.of(request.model)
    asked = (
        outputs,
        in_usd,
        clamps,
        is_cut,
        request.must_fit,
        request.max_output_tokens,
        seen.surplus,
        seen.revision,
    )
    known = request.estimated
    if known is None or known[0] != asked:  # whoever waits in line is judged many times
        known = (asked, _worked_out(request, outputs, seen, in_usd=in_usd, clamps=clamps, is_cut=is_cut))
        request.estimated = known
    return known[1]


def _worked_out(
    request: Request,
    outputs: tuple[int, int] | None,
    seen: OutputStats,
    *,
    in_usd: bool,
    clamps: bool,
    is_cut: bool,
) -> Estimate:
    clamps = clamps and _can_clamp(request, seen)
    most = UNBOUNDED if request.max_output_tokens is None else request.max_output_tokens
    forecast = seen.fresh(most, clamps=clamps)
    counted, fee = request.counted.tokens, request.fee
    likely = counted + (seen.surplus or 0)
    cost, rate = _priced(request, likely, forecast.mean) if in_usd else (0, 0)
    certain = max(request.cost(counted, 0) or 0, fee.sent) if in_usd else 0
    expected = (cost + forecast.mean * rate, likely + forecast.mean)
    last = 0 if is_cut else _last(request, seen, forecast, clamps=clamps)
    worst, least = _worst(request, *outputs, in_usd=in_usd) if outputs else (_NOTHING, _NOTHING)
    is_bounded = most < UNBOUNDED and not seen.seen
    return Estimate(
        model=request.model,
        certain=(certain, counted),
        alone=expected if request.must_fit else (certain + last * rate, counted + last),
        expected=expected,
        worst=worst,
        least=least,
        inputs=(cost, likely),
        rates=(rate, 1),
        forecast=forecast,
        far=most if is_bounded else min(most, FAR_TIMES * seen.longest(clamps=clamps)),
        clamps=clamps,
        unseen=seen.surplus is None and not fee.replaces_tokens,
        unbounded=request.max_output_tokens is None and not seen.seen,
        counts=request.counts,
    )


def _can_clamp(request: Request, seen: OutputStats) -> bool:
    """Tell whether a request can be given what is left as its `max_tokens`, and its answer be of use then."""
    needs_all = request.needs_whole_answer or request.streams or seen.thinks
    return request.can_clamp and request.max_output_tokens is None and not needs_all


def _last(request: Request, seen: OutputStats, forecast: Forecast, *, clamps: bool) -> int:
    """Count the tokens of output for which there has to be room if nothing else is in flight."""
    if clamps:
        return max(seen.median(), request.least_clamp)
    return forecast.excess if forecast.seen else 0


def _priced(request: Request, input_tokens: int, output_tokens: int) -> tuple[int, int]:
    """Price what is sent, and one more token of output; what is paid per item counts as sent."""
    cost = request.cost(input_tokens, 0) or 0
    many = None if request.max_output_tokens == 0 else request.cost(input_tokens, MANY)
    rate = 0 if many is None else -(-(many - cost) // MANY)
    return max(cost, request.fee.sent, (request.fee.likely or 0) - rate * output_tokens), rate


def _worst(request: Request, worst: int, least: int, *, in_usd: bool) -> tuple[Amount, Amount]:
    most = request.most_input()
    worst_cost, least_cost = (
        max(request.most_cost(most, output), request.fee.most) if in_usd else 0 for output in (worst, least)
    )
    return (worst_cost, most + worst), (least_cost, most + least)
