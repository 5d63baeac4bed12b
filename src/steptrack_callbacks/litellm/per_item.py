"""Calls that are billed per item, or may be: what they are asked for, and what that costs."""

from __future__ import annotations

import io
import wave
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import litellm

from steptrack_callbacks.engine.request import Fee, Request
from steptrack_callbacks.pricing import Prices, prices_of
from steptrack_callbacks.pricing.per_item import image_prices, rate, rates_per_item
from steptrack_callbacks.pricing.table import Entry
from steptrack_callbacks.tokens import InputCount, count_prompt
from steptrack_callbacks.values.usage import Usage

from .call_types import CALL_TYPES, Kind
from .refusals import no_advice

_UNKNOWN = Fee(likely=0, replaces_tokens=False)
_TOKEN_RATES = ("input_cost_per_token", "output_cost_per_token", "output_cost_per_image_token")
_MOST_ITEMS = 10_000
_USUAL_VIDEO_S = 4
"""Seconds of a video that says nothing of its length."""


def per_item_request(kind: Kind, options: Mapping[str, Any], rates: Mapping[str, Any]) -> Request:
    """Describe a call that is not billed by the words that it reads and writes, or not only.

    Args:
        kind: What sort of call it is.
        options: The arguments of its entry point.
        rates: Those among them that LiteLLM takes as rates.
    """
    call_type = CALL_TYPES[kind]
    named = _text(options.get(call_type.model)) or call_type.default_model
    model, provider = _served_by(kind, named, _text(options.get("custom_llm_provider")))
    entry = {**rates_per_item(model, provider), **rates}
    fee = _FEES.get(kind, _no_fee)(model, provider, entry, options)
    prices = prices_of(model, provider=provider)
    by_token = not fee.replaces_tokens and prices.plain(1, 0) is not None
    content = options.get(call_type.content)
    return Request(
        model=model,
        operation=call_type.operation,
        provider=provider,
        count_input=_counter(content, model) if by_token and content is not None else _nothing_to_count,
        max_output_tokens=None if kind == "image" and by_token else 0,
        price=_priced_by(prices, as_images=kind == "image"),
        fee=fee,
    )


def _served_by(kind: Kind, model: str, provider: str | None) -> tuple[str, str | None]:
    """Find who serves a model as LiteLLM does; its table calls searches by who makes them."""
    if kind == "search":
        maker = model or provider or ""
        return (maker if maker.endswith("/search") or not maker else f"{maker}/search"), None
    if provider is not None or not model:
        return model, provider
    with (
        suppress(Exception),
        no_advice(),
    ):  # what it does not know it refuses, as it will when the call is made
        return model, litellm.get_llm_provider(model)[1]
    return model, None


def _priced_by(prices: Prices, *, as_images: bool) -> Callable[[Usage], int | None]:
    """Price what is billed by tokens; a usage without any says nothing of the cost, unless all is free."""

    def price(usage: Usage) -> int | None:
        if not usage.total_tokens:
            return 0 if prices.plain(1, 1) == 0 else None
        if as_images and not usage.output_image_tokens:
            usage = usage.replace(output_image_tokens=usage.output_tokens)
        return prices.cost(usage)

    return price


def _counter(content: Any, model: str) -> Callable[[], InputCount]:
    return lambda: count_prompt(content, model)


def _nothing_to_count() -> InputCount:
    return InputCount(0, 0)


FeeOf = Callable[[str, str | None, Entry, Mapping[str, Any]], Fee]


def _no_fee(_model: str, _provider: str | None, _entry: Entry, _options: Mapping[str, Any]) -> Fee:
    return _UNKNOWN


def _fee_of_images(model: str, provider: str | None, entry: Entry, options: Mapping[str, Any]) -> Fee:
    asked = {"quality": options.get("quality"), "size": options.get("size")}
    prices = image_prices(model, provider, **asked)
    if prices is None:
        return _UNKNOWN
    images = _items(options.get("n"))
    by_token = any(entry.get(key) for key in _TOKEN_RATES)
    likely = prices.most if by_token else prices.usual
    return Fee(likely=images * likely, most=images * prices.most, replaces_tokens=not by_token)


def _fee_of_speech(_model: str, _provider: str | None, entry: Entry, options: Mapping[str, Any]) -> Fee:
    per_character = rate(entry, "input_cost_per_character")
    if per_character is None:
        return _UNKNOWN
    return _owed_at_once(per_character * len(_text(options.get("input")) or ""))


def _fee_of_transcriptions(
    _model: str, _provider: str | None, entry: Entry, options: Mapping[str, Any]
) -> Fee:
    per_second = rate(entry, "input_cost_per_second")
    if per_second is None:
        return _UNKNOWN
    by_token = any(entry.get(key) for key in _TOKEN_RATES)
    seconds = seconds_of(options.get("file"))
    if seconds is None:
        return _UNKNOWN if by_token else Fee()  # the price is known, the length is not
    owed = round(per_second * seconds)
    return Fee(sent=owed, likely=owed, most=owed, replaces_tokens=not by_token)


def _fee_of_videos(_model: str, _provider: str | None, entry: Entry, options: Mapping[str, Any]) -> Fee:
    per_second = rate(entry, "output_cost_per_video_per_second", "output_cost_per_second")
    if per_second is None:
        return _UNKNOWN
    owed = round(per_second * (_number(options.get("seconds")) or _USUAL_VIDEO_S))
    return Fee(likely=owed, most=owed)


def _fee_of_pages(_model: str, _provider: str | None, entry: Entry, _options: Mapping[str, Any]) -> Fee:
    per_page = rate(entry, "ocr_cost_per_page")
    if per_page is None:
        return _UNKNOWN
    return Fee(sent=per_page, most=per_page)  # of how many there are, only the answer says


def _fee_of_queries(_model: str, _provider: str | None, entry: Entry, options: Mapping[str, Any]) -> Fee:
    per_query = rate(entry, "input_cost_per_query")
    if not per_query and any(entry.get(key) for key in _TOKEN_RATES):
        return _UNKNOWN
    if per_query is None:
        return _UNKNOWN
    query = options.get("query")
    return _owed_at_once(per_query * (len(query) if isinstance(query, list) else 1))


def _owed_at_once(owed: int) -> Fee:
    return Fee(sent=owed, likely=owed, most=owed)


_FEES: dict[Kind, FeeOf] = {
    "image": _fee_of_images,
    "video": _fee_of_videos,
    "speech": _fee_of_speech,
    "transcription": _fee_of_transcriptions,
    "ocr": _fee_of_pages,
    "rerank": _fee_of_queries,
    "search": _fee_of_queries,
}


def seconds_of(file: Any) -> float | None:
    """Return how long a recording is, if it is a WAV file that can be read twice; `None` if nobody knows."""
    if isinstance(file, tuple):
        file = file[1] if len(file) > 1 else None
    try:
        return _seconds_of(file)
    except (OSError, EOFError, ValueError, ZeroDivisionError, wave.Error):
        return None


def _seconds_of(file: Any) -> float | None:
    if isinstance(file, str | Path):
        with Path(file).open("rb") as opened:
            return _seconds_of(opened)
    if isinstance(file, bytes | bytearray):
        return _seconds_of(io.BytesIO(file))
    if not (hasattr(file, "seek") and hasattr(file, "tell") and hasattr(file, "read")):
        return None
    at = file.tell()
    try:
        with wave.open(file, "rb") as recording:
            return recording.getnframes() / recording.getframerate()
    finally:
        file.seek(at)


def _items(value: Any) -> int:
    return min(value, _MOST_ITEMS) if isinstance(value, int) and value > 0 else 1


def _number(value: Any) -> float | None:
    with suppress(TypeError, ValueError):
        number = float(value)
        return number if 0 < number <= _MOST_ITEMS else None
    return None


def _text(value: Any) -> str | None:
    return value if isinstance(value, str) and value else None
