"""What an answer's terms, its tools and its rarer tokens cost: the arithmetic of providers' price lists."""

from __future__ import annotations

from decimal import Decimal

import pytest

from steptrack_callbacks.pricing import (
    Terms,
    cost_units,
    cost_usd,
    max_output_tokens,
    prices_of,
    reset,
    set_prices,
    source_of,
    sources,
    table,
)
from steptrack_callbacks.values.usage import Usage

HELLO = Usage(input_tokens=10, output_tokens=5)
PRICE = {"input_cost_per_token": 1, "output_cost_per_token": 2}


@pytest.fixture(autouse=True)
def _clean():
    reset()
    yield
    reset()


@pytest.fixture
def listed(monkeypatch):
    """Put entries in the place of LiteLLM's table, which is not imported."""

    def put(entries):
        monkeypatch.setattr(table, "_loaded", [table.Table(entries)])
        monkeypatch.setattr(sources, "live_entries", lambda: None)
        reset()

    return put


# As providers bill


@pytest.mark.parametrize(
    ("model", "usage", "terms", "usd"),
    [
        ("gpt-5", Usage(input_tokens=1_000, output_tokens=500), {"service_tier": "priority"}, "0.0125"),
        ("gpt-5", Usage(input_tokens=1_000, output_tokens=500), {"service_tier": "default"}, "0.00625"),
        ("azure/gpt-4o-2024-08-06", Usage(input_tokens=1_000, output_tokens=500), {}, "0.0075"),
        (
            "moonshot/kimi-k2.5",
            Usage(input_tokens=10_000, output_tokens=500, cache_read_tokens=8_000),
            {},
            "0.0035",
        ),
        (
            "claude-sonnet-4-5",
            Usage(
                input_tokens=50_020,
                output_tokens=300,
                cache_write_tokens=50_000,
                cache_write_1h_tokens=50_000,
            ),
            {},
            "0.30456",
        ),
        (
            "xai/grok-4.20",
            Usage(input_tokens=10_120, cache_read_tokens=128, output_tokens=4_308, reasoning_tokens=2_809),
            {},
            "0.0232856",
        ),
        ("claude-opus-5", Usage(input_tokens=1_000, output_tokens=1_000), {"speed": "fast"}, "0.06"),
        ("claude-opus-5", Usage(input_tokens=1_000, output_tokens=1_000), {"speed": "standard"}, "0.03"),
        (
            "claude-sonnet-4-5",
            Usage(input_tokens=1_000, output_tokens=100, web_search_requests=5),
            {},
            "0.0545",
        ),
        (
            "claude-sonnet-4-5",
            Usage(
                input_tokens=50 + 180_000 + 400_000,
                output_tokens=1_000,
                cache_write_tokens=180_000,
                cache_read_tokens=400_000,
                web_search_requests=5,
            ),
            {},
            "0.86015",
        ),
        # two more of each
        ("gpt-5-mini", Usage(input_tokens=1_000, output_tokens=500), {"service_tier": "flex"}, "0.000625"),
        ("gpt-5", Usage(input_tokens=1_000, output_tokens=500), {"service_tier": "batch"}, "0.003125"),
        ("azure/gpt-4o-mini", Usage(input_tokens=1_000, output_tokens=500), {}, "0.00045"),
        (
            "claude-sonnet-4-5",
            Usage(input_tokens=3_000, cache_write_tokens=2_000, cache_write_1h_tokens=500, output_tokens=10),
            {},
            "0.011775",
        ),
        ("claude-opus-5", Usage(input_tokens=1_000, output_tokens=1_000), {"region": "us"}, "0.033"),
        (
            "claude-opus-5",
            Usage(input_tokens=1_000, output_tokens=1_000),
            {"region": "us", "speed": "fast"},
            "0.066",
        ),
        ("claude-opus-5", Usage(input_tokens=1_000, output_tokens=1_000), {"region": "global"}, "0.03"),
        ("claude-haiku-4-5", Usage(output_tokens=1_000, web_search_requests=1), {}, "0.015"),
        ("gpt-5", Usage(input_tokens=1_000, web_search_requests=3), {}, "0.03125"),
        ("gpt-5", Usage(input_tokens=1_000, file_search_requests=2), {}, "0.00625"),
        ("gpt-5", Usage(input_tokens=1_000, code_interpreter_sessions=1), {}, "0.03125"),
    ],
)
def test_a_usage_costs_what_the_provider_bills_for_it(model, usage, terms, usd):
    assert cost_usd(model, usage, **terms) == Decimal(usd)


@pytest.mark.parametrize("searches", [0, 5])
def test_searches_of_the_web_cost_their_fee_beside_the_tokens(searches):
    usage = Usage(
        input_tokens=50 + 18_000 + 40_000,
        output_tokens=1_000,
        cache_write_tokens=18_000,
        cache_read_tokens=40_000,
    )
    tokens = Decimal("0.00015") + Decimal("0.0675") + Decimal("0.012") + Decimal("0.015")
    searched = usage.replace(web_search_requests=searches)
    assert cost_usd("claude-sonnet-4-5", searched) == tokens + searches * Decimal("0.01")


# Tiers, speed and place


def test_terms_of_an_answer_go_before_what_was_asked():
    asked = Terms(service_tier="priority", speed="fast", region="eu", search_context_size="low")
    assert Terms().over(asked) == asked
    told = Terms(service_tier="default", region="us")
    assert told.over(asked) == Terms(
        service_tier="default", speed="fast", region="us", search_context_size="low"
    )


@pytest.mark.parametrize(
    ("tier", "expected"),
    [
        (None, 1),
        ("auto", 1),
        ("default", 1),
        ("standard", 1),
        ("scale", 1),
        ("no such tier", 1),
        ("above_1hr", 1),
        ("", 1),
        ("PRIORITY", 3),
        ("fast", 3),
        ("ON_DEMAND_PRIORITY", 3),
        ("ultrafast", 5),
        ("batch", 7),
    ],
)
def test_a_tier_that_a_model_has_no_rate_for_is_the_plain_one(listed, tier, expected):
    rates = {
        f"input_cost_per_token_{name}": rate
        for name, rate in (("priority", 3), ("ultrafast", 5), ("batches", 7))
    }
    listed({"m": PRICE | rates | {"litellm_provider": "openai"}})
    assert cost_usd("m", Usage(input_tokens=1), service_tier=tier) == expected


@pytest.mark.parametrize(
    ("entry", "region", "expected"),
    [
        ({"regional_processing_uplift_multiplier_eu": 1.1}, "eu", "11"),
        ({"regional_processing_uplift_multiplier_eu": 1.1}, "us", "10"),
        ({"fedramp_uplift_multiplier": 1.25}, "FedRAMP", "12.5"),
        ({"fedramp_uplift_multiplier": 1.25}, "eu", "10"),
        ({"litellm_provider": "vertex_ai", "regional_endpoint_uplift_multiplier": 1.1}, "us-east5", "11"),
        ({"litellm_provider": "vertex_ai", "regional_endpoint_uplift_multiplier": 1.1}, "global", "10"),
        ({"regional_endpoint_uplift_multiplier": 1.1}, "us-east5", "10"),
        ({"provider_specific_entry": {"us": 1.1, "fast": 6}}, "us", "11"),
        ({"provider_specific_entry": {"us": 1.1}}, "not_available", "10"),
    ],
)
def test_a_region_makes_dearer_what_its_entry_says(listed, entry, region, expected):
    listed({"m": {"litellm_provider": "openai"} | PRICE | entry})
    provider = entry.get("litellm_provider", "openai")
    usage = Usage(input_tokens=10)
    assert cost_usd("m", usage, provider=provider, region=region) == Decimal(expected)


def test_a_model_of_a_region_is_found_by_it(listed):
    local = PRICE | {"litellm_provider": "azure", "input_cost_per_token": 7}
    listed({"azure/gpt-9": PRICE | {"litellm_provider": "azure"}, "azure/eu/gpt-9": local})
    one = Usage(input_tokens=1)
    assert [cost_usd("azure/gpt-9", one, region=region) for region in (None, "eu", "us")] == [1, 7, 1]


def test_what_is_dearer_does_not_make_fees_dearer(listed):
    entry = PRICE | {
        "litellm_provider": "anthropic",
        "input_cost_per_request": 3,
        "provider_specific_entry": {"fast": 6},
        "search_context_cost_per_query": {"search_context_size_medium": 5},
    }
    listed({"m": entry})
    assert cost_usd("m", Usage(input_tokens=1, web_search_requests=1), speed="fast") == 6 + 3 + 5


# Fees of tools


def fee(listed, provider, entry, usage, model="m", **asked):
    listed({model: PRICE | {"litellm_provider": provider} | entry})
    return cost_usd(model, usage, provider=provider, **asked)


SIZES = {f"search_context_size_{size}": usd for size, usd in (("low", 1), ("medium", 2), ("high", 3))}


@pytest.mark.parametrize(
    ("provider", "size", "expected"),
    [
        ("openai", None, 4),
        ("openai", "low", 2),
        ("openai", "HIGH", 6),
        ("openai", "enormous", 4),
        ("perplexity", None, 2),
        ("perplexity", "high", 6),
        ("groq", None, 4),
    ],
)
def test_a_search_costs_what_its_size_does(listed, provider, size, expected):
    entry = {"search_context_cost_per_query": SIZES}
    usage = Usage(web_search_requests=2)
    assert fee(listed, provider, entry, usage, search_context_size=size) == expected


@pytest.mark.parametrize(("unit", "expected"), [(None, 2), ("per_prompt", 2), ("per_query", 8)])
def test_gemini_bills_searches_by_the_prompt_or_by_the_query(listed, unit, expected):
    entry = {"search_context_cost_per_query": SIZES, "web_search_billing_unit": unit}
    assert fee(listed, "gemini", entry, Usage(web_search_requests=4)) == expected


@pytest.mark.parametrize(
    ("entry", "expected"),
    [
        ({}, "0.025"),
        ({"web_search_billing_unit": "per_query"}, "0.042"),
        ({"google_maps_grounding_cost_per_query": 1}, "1"),
        ({"google_maps_grounding_cost_per_query": 1, "web_search_billing_unit": "per_query"}, "3"),
    ],
)
def test_questions_to_maps_are_billed_in_the_same_way(listed, entry, expected):
    assert fee(listed, "gemini", entry, Usage(google_maps_requests=3)) == Decimal(expected)


@pytest.mark.parametrize(("provider", "expected"), [("gemini", "0.035"), ("xai", "0.01")])
def test_a_fee_that_the_table_does_not_list_is_the_providers_list_price(listed, provider, expected):
    assert fee(listed, provider, {}, Usage(web_search_requests=2)) == Decimal(expected)


def test_a_model_without_a_fee_of_its_own_is_billed_the_dearest_of_its_provider(listed):
    sizes = {"search_context_cost_per_query": SIZES}
    dearer = {"search_context_cost_per_query": {"search_context_size_medium": 9}}
    mine = {"litellm_provider": "openai"} | PRICE
    listed({"m": mine, "n": mine | sizes, "o": mine | dearer, "p": dearer | {"litellm_provider": "groq"}})
    assert cost_usd("m", Usage(web_search_requests=1)) == 9


def test_the_dearest_of_a_provider_is_that_of_the_size_that_was_asked_for(listed):
    mine = {"litellm_provider": "openai"} | PRICE
    listed({"m": mine, "n": mine | {"search_context_cost_per_query": SIZES}})
    assert cost_usd("m", Usage(web_search_requests=1), search_context_size="high") == 3


def test_a_claude_on_vertex_bills_every_search(listed):
    listed({"m": PRICE | {"litellm_provider": "vertex_ai-anthropic_models"}})
    assert cost_usd("m", Usage(web_search_requests=4), provider="vertex_ai") == 4 * Decimal("0.035")


@pytest.mark.parametrize(
    "tool",
    ["web_search_requests", "google_maps_requests", "file_search_requests", "code_interpreter_sessions"],
)
def test_a_tool_whose_fee_nobody_knows_leaves_the_call_without_a_price(listed, tool):
    assert fee(listed, "somebody", {}, Usage(input_tokens=1)) == 1
    assert fee(listed, "somebody", {}, Usage(input_tokens=1, **{tool: 1})) is None


def test_a_container_costs_what_its_provider_lists_or_the_model_says(listed):
    box = {"litellm_provider": "openai", "code_interpreter_cost_per_session": 4}
    mine = PRICE | {"litellm_provider": "openai"}
    listed({"m": mine, "n": mine | {"code_interpreter_cost_per_session": 7}, "openai/container": box})
    used = Usage(code_interpreter_sessions=2)
    assert [cost_usd(model, used) for model in "mn"] == [8, 14]


# Rarer tokens


def test_rarer_tokens_have_their_rates_and_fall_back_on_those_of_their_whole(listed):
    rates = {
        "cache_read_input_token_cost": 3,
        "cache_read_input_image_token_cost": 5,
        "cache_creation_input_token_cost": 7,
        "cache_creation_input_token_cost_above_1hr": 11,
        "cache_creation_input_token_cost_above_12hr": 13,
        "input_cost_per_video_token": 17,
        "output_cost_per_video_token": 19,
    }
    usage = Usage(
        input_tokens=1_000,
        cache_read_tokens=100,
        cache_read_image_tokens=10,
        input_image_tokens=30,
        cache_write_tokens=200,
        cache_write_1h_tokens=40,
        cache_write_12h_tokens=60,
        input_video_tokens=50,
        output_tokens=20,
        output_video_tokens=5,
    )
    listed({"m": PRICE | rates | {"litellm_provider": "openai"}, "n": PRICE | {"litellm_provider": "openai"}})
    read, written, video = 10 * 5 + 90 * 3, 60 * 13 + 40 * 11 + 100 * 7, 50 * 17
    assert cost_usd("m", usage) == read + written + video + 650 + 5 * 19 + 15 * 2
    assert cost_usd("n", usage) == 1_000 + 40


def test_parts_that_exceed_their_whole_are_cut_to_it(listed):
    rates = {"cache_read_input_image_token_cost": 5, "cache_creation_input_token_cost_above_12hr": 13}
    listed({"m": PRICE | rates | {"litellm_provider": "openai"}})
    assert cost_usd("m", Usage(input_tokens=10, cache_read_tokens=4, cache_read_image_tokens=9)) == 6 + 4 * 5
    hours = Usage(input_tokens=10, cache_write_tokens=4, cache_write_12h_tokens=9, cache_write_1h_tokens=9)
    assert cost_usd("m", hours) == 6 + 4 * 13


# What is asked amiss


@pytest.mark.parametrize("name", ["provider", "service_tier", "speed", "region", "search_context_size"])
@pytest.mark.parametrize("value", [1, True, ["priority"], b"fast", 1.5])
def test_a_word_that_is_none_is_named_with_the_fix(name, value):
    with pytest.raises(TypeError, match=rf"^{name} must be a string, such as '.*', or None, not "):
        cost_usd("gpt-4o", HELLO, **{name: value})


@pytest.mark.parametrize(
    "ask", [source_of, max_output_tokens, prices_of, lambda model: cost_units(model, HELLO)]
)
@pytest.mark.parametrize("model", [None, 7, b"gpt-4o", ["gpt-4o"]])
def test_a_model_that_is_no_name_is_refused_by_everybody(ask, model):
    with pytest.raises(TypeError, match="^model must be a string, such as 'gpt-4o', not "):
        ask(model)


@pytest.mark.parametrize("usage", [None, {"input_tokens": 1}, 10])
def test_a_usage_that_is_none_is_refused(usage):
    with pytest.raises(TypeError, match=r"^usage must be a Usage, such as Usage\(input_tokens=1000\), not "):
        cost_usd("gpt-4o", usage)
    with pytest.raises(TypeError, match="^usage must be a Usage"):
        cost_units("gpt-4o", usage)


@pytest.mark.parametrize(
    ("duration", "error"),
    [
        ("2", TypeError),
        (True, TypeError),
        (-1, ValueError),
        (float("nan"), ValueError),
        (float("inf"), ValueError),
    ],
)
def test_a_time_that_is_none_is_refused(duration, error):
    with pytest.raises(error, match="^duration_s must be a number of seconds"):
        cost_usd("gpt-4o", HELLO, duration_s=duration)


def test_prices_of_all_kinds_may_be_given_and_a_table_that_is_none_is_refused():
    set_prices({"mine": PRICE | {"search_context_cost_per_query": {"search_context_size_low": "0.5"}}})
    assert cost_usd("mine", Usage(web_search_requests=2), search_context_size="low") == 1
    with pytest.raises(TypeError, match=r"prices\['mine'\]\['provider_specific_entry'\] must be a mapping"):
        set_prices({"mine": PRICE | {"provider_specific_entry": 2}})
    with pytest.raises(ValueError, match=r"\['provider_specific_entry'\]\['fast'\] must be a number"):
        set_prices({"mine": PRICE | {"provider_specific_entry": {"fast": "very"}}})
