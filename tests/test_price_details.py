"""Prices where small things decide: borders, forms of names, kinds of entries; each shape of them beside LiteLLM's."""

from __future__ import annotations

import importlib
import json
from datetime import UTC, datetime
from decimal import Decimal

import pytest

from steptrack_callbacks.pricing import (
    cost_usd,
    genai,
    max_output_tokens,
    price_of,
    reset,
    set_prices,
    source_of,
    table,
)
from steptrack_callbacks.pricing.entries import rates_of
from steptrack_callbacks.pricing.litellm_cost import LiteLLMPrice, litellm_usage
from steptrack_callbacks.pricing.off_peak import Schedule
from steptrack_callbacks.pricing.rates import TokenRates
from steptrack_callbacks.pricing.terms import Terms
from steptrack_callbacks.values.usage import Usage
from test_pricing_against_litellm import MODES, USAGES, litellm_is_wrong, states_all_rates, theirs

ONE = 10**24
MTOK = Usage(input_tokens=10**6)


@pytest.fixture(autouse=True)
def _clean():
    reset()
    yield
    reset()


@pytest.fixture(scope="module")
def litellm():
    return importlib.import_module("litellm")


def cost(entry, usage, tier=None):
    return rates_of(entry, tier).cost(usage) // ONE


def of_every_shape():
    """Take one model of each set of rates that entries of the table have."""
    shapes = {}
    for key, entry in table.installed().entries.items():
        if entry.get("mode") in MODES:
            rates = frozenset(name for name in entry if "cost" in name or "pric" in name)
            shapes.setdefault((entry["litellm_provider"], entry["mode"] == "embedding", rates), key)
    return {key: table.installed().entries[key] for key in shapes.values()}


@pytest.mark.parametrize("service_tier", [None, "flex", "priority"])
def test_a_model_of_every_shape_costs_what_litellm_says(litellm, service_tier):
    wrong = []
    for key, entry in of_every_shape().items():
        if service_tier and not any(name.endswith(f"_{service_tier}") for name in entry):
            continue
        provider = entry["litellm_provider"]
        for usage in USAGES.values():
            if states_all_rates(entry, usage) and not litellm_is_wrong(entry, usage, service_tier):
                ours = cost_usd(key, usage, provider=provider, service_tier=service_tier)
                other = theirs(litellm, key, provider, usage, service_tier)
                if other is not None and (
                    ours is None or float(ours) != pytest.approx(other, rel=1e-9, abs=0)
                ):
                    wrong.append((key, usage, ours, other))
    assert wrong == []


def test_a_usage_reaches_litellm_with_all_its_parts(litellm):
    counts = {
        "input_tokens": 1000,
        "output_tokens": 300,
        "cache_read_tokens": 101,
        "cache_read_audio_tokens": 11,
        "cache_write_tokens": 50,
        "cache_write_1h_tokens": 20,
        "input_audio_tokens": 31,
        "input_image_tokens": 41,
        "reasoning_tokens": 51,
        "output_audio_tokens": 61,
        "output_image_tokens": 71,
        "output_video_tokens": 81,
    }
    told = litellm_usage(Usage(**counts))
    sent, made = told.prompt_tokens_details, told.completion_tokens_details
    assert (told.prompt_tokens, told.completion_tokens, told.total_tokens) == (1000, 300, 1300)
    assert (sent.cached_tokens, sent.cached_tokens_details.audio_tokens) == (101, 11)
    assert (sent.cache_creation_tokens, sent.audio_tokens, sent.image_tokens) == (50, 31, 41)
    written = sent.cache_creation_token_details
    assert (written.ephemeral_5m_input_tokens, written.ephemeral_1h_input_tokens) == (30, 20)
    assert (made.reasoning_tokens, made.audio_tokens, made.image_tokens) == (51, 61, 71)
    assert made.video_tokens == 81
    without_hour = litellm_usage(Usage(input_tokens=9, cache_write_tokens=5)).prompt_tokens_details
    assert getattr(without_hour, "cache_creation_token_details", None) is None


def test_what_is_handed_over_says_where_it_runs(litellm, monkeypatch):
    told = {}
    monkeypatch.setattr(litellm, "cost_per_token", lambda _model, **asked: told.update(asked) or (1.0, 0.0))
    for provider in ("openai", "vertex_ai", "mistral"):
        LiteLLMPrice("m", provider, Terms(region="eu")).cost(MTOK)
    assert (told["data_residency"], told["vertex_location"]) == ("eu", "eu")


def test_what_is_handed_over_is_priced_for_its_provider_and_tier_or_not_at_all(litellm):
    plain = LiteLLMPrice("gpt-5-mini", "openai", Terms()).cost(MTOK)
    flex = LiteLLMPrice("gpt-5-mini", "openai", Terms(service_tier="flex")).cost(MTOK)
    assert (plain, flex) == (250 * ONE // 1000, 125 * ONE // 1000)
    assert LiteLLMPrice("gpt-5-mini", "no-such-host", Terms()).cost(MTOK) is None


def test_a_service_tier_is_asked_for_by_the_call():
    plain, flex = (cost_usd("gpt-5-mini", MTOK, service_tier=tier) for tier in (None, "flex"))
    assert (plain, flex) == (Decimal("0.25"), Decimal("0.125"))


def test_rates_given_with_one_call_price_it_and_name_the_model_when_wrong():
    rates = {"input_cost_per_token": 1, "output_cost_per_token": 2}
    assert price_of("mine", rates)(Usage(input_tokens=3, output_tokens=4)) == 11 * ONE
    with pytest.raises(ValueError, match=r"prices\['mine'\]\['inputs'\] is not a known rate"):
        price_of("mine", {"inputs": 1})


def test_a_price_with_one_rate_only_is_a_source_for_that_direction_only():
    set_prices({"mine": {"input_usd_per_mtok": 1}})
    assert source_of("mine") is None
    assert cost_usd("mine", MTOK) == 1
    assert cost_usd("mine", Usage(output_tokens=1)) is None


@pytest.mark.parametrize(("sent", "made"), [(1, 0), (0, 1), (1, 1)])
def test_plain_tokens_of_a_direction_without_a_rate_have_no_price(sent, made):
    unknown = TokenRates(None, None, *[0] * 9, request=5)
    assert unknown.plain(sent, made) is None
    assert unknown.plain(0, 0) == 5


def test_a_hint_names_the_nearest_rate_or_those_of_a_million_tokens():
    with pytest.raises(ValueError, match="did you mean 'input_usd_per_mtok'"):
        set_prices({"mine": {"input_usd_per_mtk": 1}})
    with pytest.raises(ValueError, match="did you mean 'output_usd_per_mtok'"):
        set_prices({"mine": {"output": 1}})
    with pytest.raises(ValueError, match="known are input_usd_per_mtok, .*such as input_cost_per_token"):
        set_prices({"mine": {"zzz": 1}})


# Tiers and thresholds


def test_a_range_without_a_rate_for_answers_takes_the_plain_one_and_that_of_thoughts():
    entry = {
        "input_cost_per_token": 100,
        "output_cost_per_token": 7,
        "output_cost_per_reasoning_token": 9,
        "tiered_pricing": [{"range": [0, 1000], "input_cost_per_token": 1}],
    }
    assert cost(entry, Usage(input_tokens=10, output_tokens=5, reasoning_tokens=2)) == 10 + 3 * 7 + 2 * 9
    complete = entry | {
        "tiered_pricing": [{"range": [0, 9], "input_cost_per_token": 1, "output_cost_per_token": 2}]
    }
    assert cost(complete, Usage(output_tokens=5, reasoning_tokens=2)) == 10


def test_a_tier_without_a_step_of_its_own_takes_the_plain_step_and_a_batch_does_not():
    entry = {
        "input_cost_per_token": 1,
        "input_cost_per_token_above_200k_tokens": 5,
        "input_cost_per_token_flex": 3,
        "output_cost_per_token": 1,
        "output_cost_per_token_above_200k_tokens": 6,
        "input_cost_per_token_batches": 2,
    }
    long = Usage(input_tokens=200_001, output_tokens=1)
    assert cost(entry, long, "flex") == 200_001 * 5 + 6
    assert cost(entry, long, "batch") == 200_001 * 2 + 6


def test_thoughts_of_another_tier_cost_what_its_words_cost():
    entry = {
        "output_cost_per_token": 2,
        "output_cost_per_reasoning_token": 7,
        "output_cost_per_token_priority": 4,
    }
    usage = Usage(output_tokens=10, reasoning_tokens=4)
    assert [cost(entry, usage, tier) for tier in (None, "priority", "fast")] == [12 + 28, 40, 40]
    own = entry | {"output_cost_per_reasoning_token_priority": 9}
    assert cost(own, usage, "priority") == 24 + 36


def test_perplexity_charges_one_price_and_its_fee_however_long_the_prompt_but_another_for_what_it_had():
    entry = {
        "litellm_provider": "perplexity",
        "input_cost_per_token": 1,
        "output_cost_per_token": 2,
        "cache_read_input_token_cost": 50,
        "input_cost_per_token_above_200k_tokens": 60,
        "output_cost_per_reasoning_token": 3,
        "input_cost_per_request": 1000,
    }
    usage = Usage(input_tokens=300_000, output_tokens=10, cache_read_tokens=100, reasoning_tokens=4)
    assert cost(entry, usage) == 299_900 + 100 * 50 + 12 + 12 + 1000


@pytest.mark.parametrize(
    ("provider", "tier"),
    [("deepseek", "flex"), ("xai", "flex"), ("fireworks_ai", "flex"), ("dashscope", "batch")],
)
def test_providers_without_tiers_charge_the_plain_rate(provider, tier):
    entry = {"litellm_provider": provider, "input_cost_per_token": 1}
    entry |= {"input_cost_per_token_flex": 9, "input_cost_per_token_batches": 9}
    assert cost(entry, Usage(input_tokens=10), tier) == 10


# Hours


@pytest.mark.parametrize(
    ("hours", "clock", "is_open"),
    [
        ("10:00-12:00", "10:00", True),
        ("10:00-12:00", "12:00", False),
        ("22:00-02:00", "22:00", True),
        ("22:00-02:00", "02:00", False),
        (" 22:00 - 02:00 ", "01:59", True),
    ],
)
def test_a_window_begins_with_its_first_minute_and_ends_before_its_last(hours, clock, is_open):
    moment = datetime.fromisoformat(f"2026-11-20T{clock}").replace(tzinfo=UTC)
    assert Schedule.of({"hours_utc": hours}).is_open(moment) is is_open


def test_weekdays_are_those_of_the_places_calendar():
    block = {"windows": [{"hours_utc": "00:00-00:00", "weekdays": [1]}]}
    monday_in_shanghai = datetime(2026, 11, 22, 20, tzinfo=UTC)  # and still Sunday in UTC
    assert Schedule.of(block | {"weekday_timezone": "Asia/Shanghai"}).is_open(monday_in_shanghai)
    assert not Schedule.of(block).is_open(monday_in_shanghai)
    assert not Schedule.of(block | {"weekday_timezone": "No/Where"}).is_open(monday_in_shanghai)


def test_a_weekday_that_is_none_opens_no_window():
    block = {"windows": [{"hours_utc": "00:00-00:00", "weekdays": ["soon", None]}, {"weekdays": "mon"}]}
    assert not Schedule.of(block).is_open(datetime(2026, 11, 23, tzinfo=UTC))
    assert Schedule.of({"windows": [{"hours_utc": "00:00-00:00"}]}).is_open()


# Names


@pytest.mark.parametrize(
    "name",
    [
        "arn:aws:bedrock:us-east-1:123456789012:inference-profile/us.anthropic.claude-3-haiku-20240307-v1:0",
        "converse/anthropic.claude-3-haiku-20240307-v1:0",
        "bedrock/anthropic.claude-3-haiku-20240307-v1:0",
        "anthropic.claude-3-haiku-20240307-v1:0:48k",
        "invoke/anthropic.claude-3-haiku-20240307-v1:0:200k",
        "eu.anthropic.claude-3-haiku-20240307-v1:0",
    ],
)
def test_every_way_to_bedrock_leads_to_one_price(name):
    assert cost_usd(name, MTOK, provider="bedrock") == Decimal("0.25")


@pytest.mark.parametrize(
    ("name", "provider"),
    [
        ("models/gemini-2.5-flash", "gemini"),
        ("publishers/google/models/gemini-2.5-flash", "vertex_ai"),
        ("gemini-2.5-flash", "vertex_ai"),
    ],
)
def test_every_form_of_a_google_name_leads_to_one_price(name, provider):
    assert cost_usd(name, MTOK, provider=provider) == cost_usd("gemini-2.5-flash", MTOK, provider="gemini")


def test_the_table_holds_models_and_their_other_names_only(tmp_path, monkeypatch):
    folder = tmp_path / "litellm"
    folder.mkdir()
    new = {"aliases": ["other-name"], "input_cost_per_token": 1, "litellm_provider": "openai"}
    listed = {"sample_spec": {}, "fallback_generalizations": {}, "new-model": new, "other": {"mode": "chat"}}
    (folder / table._FILE).write_text(json.dumps(listed), encoding="utf-8")
    monkeypatch.setattr(table, "package_folder", {"litellm": folder}.get)
    assert table._read() == {"new-model": new, "other-name": new, "other": {"mode": "chat"}}
    (folder / table._FILE).write_text(json.dumps({"new-model": new}), encoding="utf-8")
    assert table._read() == {"new-model": new, "other-name": new}
    monkeypatch.setattr(table, "package_folder", {}.get)
    assert table._read() == {}


def test_the_longest_answer_follows_the_prices_that_are_given():
    assert max_output_tokens("mine") is None
    rates = {"input_usd_per_mtok": 1, "output_usd_per_mtok": 1, "supports_vision": True}
    for longest in (77, 1):
        set_prices({"mine": rates | {"max_output_tokens": longest}})
        assert max_output_tokens("mine") == longest
    assert max_output_tokens("gpt-4o") == 16_384


# genai-prices


def test_genai_prices_has_a_tier_only_of_the_owners_own_models():
    plain = genai.find("gpt-4o", "openai", None)
    batch = genai.find("gpt-4o", "openai", "BATCH")
    assert (plain.context, batch.context) == (None, {"processing": "batch"})
    assert batch.cost(MTOK) < plain.cost(MTOK)
    assert genai.find("gpt-4o", "openai", "flex").context == {"service_tier": "flex"}
    assert genai.find("gpt-4o", "my-openai-host", None) is None


def test_a_price_of_genai_prices_by_the_thousand_requests_is_one_of_each():
    assert genai._units("request", Decimal(5)) == 5 * ONE // 1000
    assert genai._units("input", Decimal(5)) == 5 * ONE // 10**6
