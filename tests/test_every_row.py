"""Every model of LiteLLM's table has a price, and a key that nobody has met yet takes it from few calls."""

from __future__ import annotations

import importlib
from decimal import Decimal

import pytest

from steptrack_callbacks import pricing
from steptrack_callbacks.pricing import cost_usd, prices_of, reset, source_of, sources, table
from steptrack_callbacks.pricing.doubts import doubts_of
from steptrack_callbacks.pricing.table import installed
from steptrack_callbacks.values.usage import Usage, count_names

pytestmark = pytest.mark.contract

MODES = {"chat", "responses", "embedding"}
ONE = 10**24
PRICE = {"input_cost_per_token": 1, "output_cost_per_token": 2, "litellm_provider": "openai", "mode": "chat"}
PLAIN = Usage(input_tokens=1_000, output_tokens=100)


@pytest.fixture(autouse=True)
def _clean():
    reset()
    yield
    reset()


@pytest.fixture
def listed(monkeypatch):
    """Put one entry in the place of LiteLLM's table, which is then not imported."""

    def put(rates):
        monkeypatch.setattr(table, "_loaded", [table.Table({"m": PRICE | rates})])
        monkeypatch.setattr(sources, "live_entries", lambda: None)
        reset()

    return put


def states_a_price(entry):
    return any(value for name, value in entry.items() if "cost" in name or name.endswith("_pricing"))


def test_every_row_that_states_a_price_is_priced_for_plain_usage():
    asked, unknown = 0, {}
    for key, entry in installed().entries.items():
        if entry.get("mode") in MODES and states_a_price(entry):
            asked += 1
            usage = PLAIN if entry["mode"] != "embedding" else Usage(input_tokens=1_000)
            if cost_usd(key, usage, provider=entry["litellm_provider"], duration_s=2.0) is None:
                unknown[key] = entry
    assert asked > 3_000
    assert len(unknown) <= asked / 1_000
    assert all("code_interpreter_cost_per_session" in entry for entry in unknown.values()), (
        unknown
    )  # no models


def test_every_other_name_of_a_model_has_its_price():
    table = installed()
    others = {key: model for key, entry in table.entries.items() if (model := entry.get("alias_of"))}
    prices = {key: (cost_usd(key, PLAIN), cost_usd(model, PLAIN)) for key, model in others.items()}
    assert {key: costs for key, costs in prices.items() if costs[0] != costs[1] or costs[0] is None} == {}


def test_the_prices_of_every_row_are_looked_up_without_importing_litellm_but_for_few():
    helped = [
        key
        for key, entry in installed().entries.items()
        if entry.get("mode") in MODES and doubts_of(entry, None)
    ]
    assert helped == []


@pytest.mark.parametrize(
    ("key", "met"),
    [
        ("cache_creation_input_token_cost_above_24hr", {"cache_write_tokens": 10}),
        ("cache_read_input_token_cost_above_1d", {"cache_read_tokens": 10}),
        ("input_cost_per_cached_video_token", {"cache_read_tokens": 10, "input_video_tokens": 10}),
        ("output_cost_per_thinking_token", {"reasoning_tokens": 10}),
        ("input_cost_per_audio_token_spoken_fast", {"input_audio_tokens": 10}),
        ("output_cost_per_hd_image_token", {"output_image_tokens": 10}),
        ("input_cost_per_image_token_above_200k_tokens", {"input_image_tokens": 10, "input_tokens": 200_001}),
        ("input_cost_per_token_on_sundays_above_1m_tokens", {"input_tokens": 1_000_001}),
        ("search_result_cost_per_token", {"web_search_requests": 1}),
    ],
)
def test_a_key_that_is_unknown_takes_the_price_only_from_calls_that_could_meet_it(listed, key, met):
    plain = {"input_tokens": 1_000, "output_tokens": 100} | dict.fromkeys(PARTS, 0)
    listed({key: 1_000})
    assert cost_usd("m", PLAIN) == 1_200
    assert source_of("m") == "litellm"
    meeting = Usage(**(plain | met))
    listed({})
    known = cost_usd("m", meeting)
    listed({key: 1_000})
    assert known is None or cost_usd("m", meeting) > known


PARTS = [
    name
    for name in count_names()
    if not name.endswith("calls") and name not in {"input_tokens", "output_tokens"}
]


@pytest.mark.parametrize("tier", ["flex", "priority", "balanced", "ultrafast"])
def test_a_key_that_is_unknown_and_of_a_tier_concerns_that_tier_alone(listed, tier):
    listed({f"output_cost_per_smell_token_{tier}": 1_000})
    assert [cost_usd("m", PLAIN, service_tier=each) for each in (None, "default")] == [1_200, 1_200]
    assert cost_usd("m", PLAIN, service_tier=tier) == 1_200 + 100 * 1_000


def test_a_call_that_could_meet_it_is_priced_by_litellm_first(monkeypatch):
    litellm = importlib.import_module("litellm")
    strange = PRICE | {"input_cost_per_token": 1e-6, "output_cost_per_token": 2e-6}
    entry = strange | {"cache_read_input_token_cost_above_1d": 1e-3}
    monkeypatch.setattr(litellm, "model_cost", {**litellm.model_cost, "strange-cache": entry})
    usage = Usage(input_tokens=1_000, cache_read_tokens=10)
    assert float(cost_usd("strange-cache", usage, provider="openai")) == pytest.approx(0.001)


def test_then_by_genai_prices_and_then_bounded_from_above(listed, monkeypatch):
    key = {"cache_read_input_token_cost_above_1d": 1_000}
    listed({})
    monkeypatch.setattr(
        table, "_loaded", [table.Table({"gpt-4o": PRICE | key, "no-such-model": PRICE | key})]
    )
    reset()
    usage = Usage(input_tokens=1_000, cache_read_tokens=10)
    # LiteLLM, which is asked first, knows neither of these two entries; the model's own it prices.
    assert 0 < cost_usd("gpt-4o", usage) < 1
    assert cost_usd("no-such-model", usage, provider="openai") == 1_000 + 10 * 1_000


def test_a_rate_that_is_unknown_and_no_number_bounds_nothing(listed):
    listed({"input_cost_per_scent_token": {"rose": 1}})
    assert cost_usd("m", PLAIN, provider="openai") is None


@pytest.mark.parametrize(
    ("rates", "usd"),
    [
        ({"input_cost_per_query": 7}, 7),
        ({"input_cost_per_image": 5}, 5),
        ({"input_cost_per_character": 1, "output_cost_per_character": 2}, 16 * 1_000 + 32 * 100),
    ],
)
def test_a_model_that_is_priced_by_no_token_is_priced_by_what_one_request_has_at_least_or_at_most(
    monkeypatch, rates, usd
):
    entry = {"litellm_provider": "meta", "mode": "responses"} | rates
    monkeypatch.setattr(table, "_loaded", [table.Table({"m": entry})])
    monkeypatch.setattr(sources, "live_entries", lambda: None)
    assert cost_usd("m", PLAIN, provider="meta") == usd


def test_a_bound_is_no_price_of_a_direction_that_has_none(listed):
    listed({"input_cost_per_token": None, "input_cost_per_smell_token": 5})
    assert cost_usd("m", PLAIN, provider="openai") is None
    assert prices_of("m", provider="openai").most(1, 1) is None


def test_twelve_flagships_with_a_rate_for_half_a_day_have_a_price(listed):
    long = {
        f"cache_creation_input_token_cost_above_12hr{step}{tier}": rate
        for step, rate in (("", 5), ("_above_272k_tokens", 9))
        for tier in ("", "_flex", "_priority", "_batches", "_ultrafast")
    }
    listed(long)
    assert cost_usd("m", PLAIN) == 1_200
    written = Usage(input_tokens=10, cache_write_tokens=10, cache_write_12h_tokens=4)
    assert cost_usd("m", written) == 6 + 4 * 5
    assert cost_usd("m", written.replace(input_tokens=272_001)) == 272_001 - 4 + 4 * 9
    assert not doubts_of(PRICE | long, None)


def test_prices_that_come_in_text_are_numbers(listed):
    listed({"input_cost_per_token": "1.5e0"})
    assert cost_usd("m", Usage(input_tokens=2)) == Decimal(3)
    assert pricing.cost_units("m", Usage(input_tokens=2)) == 3 * ONE
