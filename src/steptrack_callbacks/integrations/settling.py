"""How a call is charged with what its answer says: the one way for whole answers and for streams."""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal

from steptrack_callbacks.engine.call import Call
from steptrack_callbacks.engine.request import Request
from steptrack_callbacks.pricing.terms import USUAL_TIERS
from steptrack_callbacks.tokens import count_text
from steptrack_callbacks.values.money import to_usd
from steptrack_callbacks.values.usage import Usage

from .usage import Answer

Priced = tuple[tuple[str, Usage], ...]
_NO_PARTS: Priced = ()
_LIFETIMES = frozenset({"cache_write_1h", "cache_write_12h"})


def settle(
    call: Call,
    answer: Answer,
    said: Callable[[], str],
    *,
    is_in_part: bool = False,
    is_whole: bool = True,
    response: object = None,
) -> bool:
    """Charge a call with its answer, and say whether the answer itself told all that it is charged.

    Args:
        call: The call.
        answer: What the answer says of itself.
        said: Returns its text, which is counted if it tells no output.
        is_in_part: Whether a part of it was not sent, and is told as one sum with the rest.
        is_whole: Whether the model ended it itself, as far as is known.
        response: The answer, for the error that a step may raise at its close.
    """
    request = call.request
    used, is_told = _completed(answer, said, request)
    is_sure = not answer.is_contradictory
    if used.cache_write_tokens and not answer.tells_lifetimes and not answer.parts:
        used, is_clear = _kept_as_asked(used, request)
        is_sure &= is_clear
    parts = _parts_of(request, answer, used)
    call.settle(
        used,
        cost_usd=_cost_of(request, answer, parts, is_told=is_told),
        model=answer.model if answer.usage is not None else None,
        terms=answer.terms,
        parts=parts,
        estimated=is_in_part or not is_told or not is_sure,
        truncated=answer.is_cut or not is_whole,
        response=response,
    )
    return is_told


def settle_plain(call: Call, answer: Answer, *, response: object = None) -> bool:
    """Charge a call whose answer tells how much was sent and made, and nothing else; see `settle`."""
    request, usage, model, terms = call.request, answer.usage, answer.model, answer.terms
    assert usage is not None  # that is what is plain
    is_usual = request.service_tier is None and terms.service_tier in USUAL_TIERS
    priced, parts = request.model, _NO_PARTS
    if model is not None and model != priced:
        priced = _priced_name(request, model)
        parts = ((priced, usage),)
    cost_usd = answer.computed_cost_usd
    call.settle(
        usage,
        cost_usd=None if cost_usd is None or request.has_own_price(priced) else cost_usd,
        model=model,
        terms=None if is_usual else terms,
        parts=parts,
        truncated=answer.is_cut,
        response=response,
    )
    return True


def settle_unseen(call: Call, answer: Answer) -> None:
    """Charge a call that was seen only after it had been sent, which may be one of things other than text."""
    request = call.request
    used = answer.usage or request.estimated_usage(0)
    parts = _parts_of(request, answer, used)
    cost = _cost_of(request, answer, parts, is_told=True)
    call.settle(
        used.replace(ungated_calls=1),
        cost_usd=cost,
        model=answer.model if answer.usage is not None else None,
        terms=answer.terms,
        parts=parts,
        estimated=answer.is_contradictory
        or (answer.usage is None and cost is None and used.total_tokens > 0),
    )


def abandon(call: Call, answer: Answer, output_tokens: int | None) -> None:
    """Charge a call whose answer was lost or broken off, by what it had said of itself until then.

    Args:
        call: The call.
        answer: What the answer says of itself.
        output_tokens: What was produced, as far as it was seen; `None` if nothing could be seen.
    """
    model = _priced_name(call.request, answer.model)
    call.abandon(output_tokens, reported=answer.usage, model=model, terms=answer.terms)


def fail(call: Call, answer: Answer, output_tokens: int) -> None:
    """Charge a call whose answer the provider has broken, by what was seen of it."""
    used = call.request.estimated_usage(output_tokens, answer.usage).replace(estimated_calls=1)
    call.fail(used, model=_priced_name(call.request, answer.model), terms=answer.terms)


def _completed(answer: Answer, said: Callable[[], str], request: Request) -> tuple[Usage, bool]:
    """Count by ourselves what a report leaves out, or says to be nothing where there was something.

    Returns:
        The usage, and whether all of it was reported.
    """
    if answer.total_tokens and (split := _split(answer.total_tokens, request)):
        return split, request.max_output_tokens == 0
    usage = answer.usage
    used = usage or Usage()
    counted = {}
    if not used.input_tokens:
        counted["input_tokens"] = request.estimated_usage(0).input_tokens
    if not used.output_tokens and (text := said()):
        counted["output_tokens"] = count_text(text, request.model)
    counted = {name: tokens for name, tokens in counted.items() if tokens}
    return (used.replace(**counted) if counted else used), usage is not None and not counted


def _split(total_tokens: int, request: Request) -> Usage | None:
    """Take what the input does not need of a sum as output, of which embeddings have none."""
    if request.max_output_tokens == 0:
        return Usage(input_tokens=total_tokens)
    sent = request.estimated_usage(0).input_tokens
    made = total_tokens - sent
    return Usage(input_tokens=sent, output_tokens=made) if made > 0 else None


def _kept_as_asked(used: Usage, request: Request) -> tuple[Usage, bool]:
    """Take what was written to a cache as kept for as long as it was asked to be.

    Returns:
        The usage, and whether that leaves no doubt: parts of a request may ask for several lifetimes, of
        which the dearest is taken.
    """
    kinds = frozenset() if request.kinds is None else frozenset(request.kinds())
    asked = kinds & _LIFETIMES
    if not asked:
        return used, True
    dearest = "cache_write_12h" if "cache_write_12h" in asked else "cache_write_1h"
    is_clear = len(asked) == 1 and "cache_write" not in kinds
    return used.replace(**{f"{dearest}_tokens": used.cache_write_tokens}), is_clear


def _parts_of(request: Request, answer: Answer, used: Usage) -> Priced:
    if not answer.parts:
        return ((_priced_name(request, answer.model), used),)
    return tuple((_priced_name(request, model or answer.model), part) for model, part in answer.parts)


def _priced_name(request: Request, model: str | None) -> str:
    """Return the name that a model has a price by: with the provider that it was asked for by, if any."""
    vendor, slash, _ = request.model.partition("/")
    if not model:
        return request.model
    return model if not slash or request.provider or model.startswith(f"{vendor}/") else f"{vendor}/{model}"


def _cost_of(request: Request, answer: Answer, parts: Priced, *, is_told: bool) -> Decimal | None:
    """Choose whose word on the cost is taken; `None` leaves it to our own prices.

    The provider's bill goes first, and then the user's own prices. A package's sum knows discounts that we do
    not; but it is not taken where the package has overlooked something, nor may it know the fees of tools
    that were used.
    """
    computed_cost = answer.computed_cost_usd if is_told or answer.usage is None else None
    if computed_cost == answer.unsure_cost_usd:
        computed_cost = None  # it has worked out nothing, but repeats what stands in the usage
    if answer.cost_usd is not None or (computed_cost is None and answer.unsure_cost_usd is None):
        return answer.cost_usd
    has_overlooked = bool(answer.parts) or answer.is_corrected or answer.is_contradictory
    is_ours = has_overlooked or request.has_own_price(parts[0][0])
    used_tools = any(_used_tools(part) for _, part in parts)
    if computed_cost is not None and not is_ours and not used_tools:
        return computed_cost
    units = request.cost_of_parts(parts, answer.terms)
    if units is None:
        return computed_cost or answer.unsure_cost_usd
    return None if computed_cost is None or is_ours else max(computed_cost, to_usd(units))


def _used_tools(used: Usage) -> bool:
    searched = used.web_search_requests or used.google_maps_requests
    return bool(searched or used.file_search_requests or used.code_interpreter_sessions)
