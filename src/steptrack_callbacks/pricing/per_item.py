"""What is billed per item, as LiteLLM's table lists it: images, seconds, characters, pages, queries."""

from __future__ import annotations

import re
from contextlib import suppress
from typing import NamedTuple

from steptrack_callbacks.values.money import to_units

from .names import accepts, split
from .sources import Question, maker_of, published
from .table import Entry, tables

_SIZE = re.compile(r"(\d+)-?x-?(\d+)")
_USUAL_SIZE = "1024x1024"
_USUAL_VARIANTS = (("", ""), ("standard", _USUAL_SIZE), ("", _USUAL_SIZE))
_ANY = (None, "", "auto")


def rates_per_item(model: str, provider: str | None = None) -> Entry:
    """Return what the table says of a model, whatever it is billed by; empty if it knows none of the name."""
    return next((found.entry for found in published(Question(model, provider))), {})


def rate(entry: Entry, *keys: str) -> int | None:
    """Return the first rate that an entry states, in units of 1e-24 US dollars; `None` if it states none."""
    for key in keys:
        if (value := entry.get(key)) is not None:
            with suppress(ValueError):  # no number, in a table that anybody can write to
                return to_units(value, key)
    return None


class ImagePrices(NamedTuple):
    """What one image may cost, in units.

    Attributes:
        usual: As it is where the request does not say more.
        most: At the dearest quality and size that it may be made in.
    """

    usual: int
    most: int


def image_prices(model: str, provider: str | None, *, quality: object, size: object) -> ImagePrices | None:
    """Find what one image of a model costs, of which the table may have an entry by quality and size.

    What the request does not say, or leaves to the provider (`auto`), may be any of them.
    """
    vendor, name = split(model, provider)
    for table in tables():
        owner = vendor or maker_of(name, table) or ""
        prices: dict[tuple[str, str], int] = {}
        for key, entry in list(table.entries.items()):
            variant = _variant(key, name)
            if variant is None or not accepts(owner, entry.get("litellm_provider")):
                continue
            if _meets(variant, quality, size) and (price := _price_of(entry, variant[1] or size)) is not None:
                prices[variant[0], _plain_size(variant[1])] = price
        if prices:
            most = max(prices.values())
            return ImagePrices(next((prices[v] for v in _USUAL_VARIANTS if v in prices), most), most)
    return None


def _variant(key: str, name: str) -> tuple[str, str] | None:
    """Read quality and size from `high/1024-x-1024/gpt-image-1`; `None` if it is another model."""
    if key != name and not key.endswith(f"/{name}"):
        return None
    before = key[: -len(name)].strip("/").split("/")
    size = next((part for part in before if _SIZE.fullmatch(part)), "")
    at = before.index(size) if size else 0
    return (before[at - 1] if at else ""), size


def _meets(variant: tuple[str, str], quality: object, size: object) -> bool:
    known_quality, known_size = variant
    asked = _plain_size(size)
    return (not known_quality or quality in _ANY or known_quality == quality) and (
        not known_size or size in _ANY or _plain_size(known_size) == asked
    )


def _plain_size(size: object) -> str:
    return str(size).replace("-", "")


def _price_of(entry: Entry, size: object) -> int | None:
    if price := rate(entry, "output_cost_per_image", "input_cost_per_image"):
        return price
    found = _SIZE.fullmatch(str(size)) or _SIZE.fullmatch(_USUAL_SIZE)
    per_pixel = (rate(entry, "input_cost_per_pixel") or 0) + (rate(entry, "output_cost_per_pixel") or 0)
    if not per_pixel or found is None:
        return None
    return per_pixel * int(found[1]) * int(found[2])
