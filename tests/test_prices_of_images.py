"""What one image costs, of which a table has an entry by quality and size, by the image or by the pixel."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest

from steptrack_callbacks.pricing import sources, table
from steptrack_callbacks.pricing.per_item import image_prices, rates_per_item
from steptrack_callbacks.values.money import to_usd

OPENAI = {"litellm_provider": "openai"}
ENTRIES: dict[str, dict[str, Any]] = {
    "pic": OPENAI | {"mode": "image_generation"},
    "standard/1024-x-1024/pic": OPENAI | {"output_cost_per_image": 2},
    "hd/1024-x-1024/pic": OPENAI | {"input_cost_per_image": 4},
    "hd/1792-x-1024/pic": OPENAI | {"output_cost_per_image": 6},
    "256-x-256/pic": OPENAI | {"input_cost_per_pixel": "0.00001"},
    "azure/hd/1024-x-1024/pic": {"litellm_provider": "azure", "output_cost_per_image": 9},
    "openai/plain": OPENAI | {"output_cost_per_pixel": "0.000001"},
}


@pytest.fixture(autouse=True)
def _listed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Put entries in the place of LiteLLM's table."""
    monkeypatch.setattr(table, "_loaded", [table.Table(ENTRIES)])
    monkeypatch.setattr(sources, "live_entries", lambda: None)


def prices(model: str, provider: str | None = "openai", **asked: Any) -> tuple[Decimal, ...] | None:
    found = image_prices(model, provider, **{"quality": None, "size": None} | asked)
    return found and tuple(to_usd(price) for price in found)


@pytest.mark.parametrize(
    ("asked", "usual", "most"),
    [
        ({}, 2, 6),
        ({"quality": "auto", "size": "auto"}, 2, 6),
        ({"quality": "hd", "size": "1024x1024"}, 4, 4),
        ({"quality": "hd", "size": "1024-x-1024"}, 4, 4),
        ({"quality": "hd"}, 6, 6),
        ({"size": "1024x1024"}, 2, 4),
        ({"size": "256x256"}, Decimal("0.65536"), Decimal("0.65536")),
    ],
)
@pytest.mark.parametrize("provider", ["openai", None])
def test_an_image_costs_what_its_quality_and_size_do_and_at_most_the_dearest_of_them(
    asked, usual, most, provider
):
    assert prices("pic", provider, **asked) == (usual, most)


def test_another_provider_has_its_own_price():
    assert prices("pic", "azure") == (9, 9)


def test_a_price_by_the_pixel_is_for_any_quality_and_for_a_usual_size_where_none_is_asked_for():
    assert prices("plain", quality="hd", size="100x10") == (Decimal("0.001"), Decimal("0.001"))
    assert prices("plain") == (Decimal("1.048576"), Decimal("1.048576"))


@pytest.mark.parametrize("asked", [{"size": "7x7"}, {"quality": "tiny", "size": "1024x1024"}])
def test_a_quality_or_size_that_nobody_lists_has_no_price(asked):
    assert prices("pic", **asked) is None


def test_the_entry_of_a_model_is_found_by_its_name_and_provider():
    assert rates_per_item("pic", "openai")["mode"] == "image_generation"
    assert rates_per_item("unheard-of", "openai") == {}
