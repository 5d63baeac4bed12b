from __future__ import annotations

import importlib
import subprocess
import sys
import threading
from datetime import UTC, datetime
from decimal import Decimal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from steptrack_callbacks.pricing import (
    cost_units,
    cost_usd,
    max_output_tokens,
    reset,
    set_prices,
    source_of,
    sources,
    table,
)
from steptrack_callbacks.pricing.doubts import doubts_of
from steptrack_callbacks.pricing.entries import rates_of
from steptrack_callbacks.pricing.names import accepts, canonical, split
from steptrack_callbacks.pricing.off_peak import Schedule
from steptrack_callbacks.values.usage import Usage

MTOK = Usage(input_tokens=10**6, output_tokens=10**6)
HELLO = Usage(input_tokens=10, output_tokens=5)


@pytest.fixture(autouse=True)
def _clean():
    reset()
    yield
    reset()


@pytest.fixture
def listed(monkeypatch):
    """Put entries in the place of LiteLLM's table."""

    def put(**entries):
        monkeypatch.setattr(
            table,
            "_loaded",
            [table.Table({k: {"litellm_provider": "openai"} | v for k, v in entries.items()})],
        )
        monkeypatch.setattr(sources, "live_entries", lambda: None)
        reset()

    return put


@pytest.fixture
def litellm(monkeypatch):
    monkeypatch.setenv("LITELLM_LOCAL_MODEL_COST_MAP", "True")
    module = importlib.import_module("litellm")
    monkeypatch.setattr(module, "model_cost", dict(module.model_cost))
    return module


# What is known, and by whom


def test_known_model_costs_its_list_price():
    assert cost_usd("gpt-4o-mini", MTOK) == Decimal("0.75")
    assert cost_units("gpt-4o-mini", MTOK) == 75 * 10**22
    assert source_of("gpt-4o-mini") == "litellm"


@pytest.mark.parametrize(
    ("model", "provider"),
    [
        ("gpt-4o-mini", "openai"),
        ("openai/gpt-4o-mini", None),
        ("openai/gpt-4o-mini", "openai"),
        ("GPT-4o-mini", None),
        ("gpt-4o-mini", "litellm_proxy"),
        ("litellm_proxy/openai/gpt-4o-mini", None),
        ("gpt-4o-mini", "gateway"),
        ("gpt-4o-mini", "azure_openai"),
        ("azure/gpt-4o-mini", None),
        ("ft:gpt-4o-mini-2024-07-18:org::id", None),
        ("accounts/fireworks/models/llama-v3p1-8b-instruct", None),
    ],
)
def test_a_model_is_found_by_any_of_its_names(model, provider):
    assert cost_usd(model, HELLO, provider=provider) is not None


@pytest.mark.parametrize(
    ("model", "provider", "key"),
    [
        ("gemini-2.5-flash", "google_genai", "gemini/gemini-2.5-flash"),
        ("models/gemini-2.5-flash", "google", "gemini/gemini-2.5-flash"),
        ("mistral-small-latest", None, "mistral/mistral-small-latest"),
        ("us.amazon.nova-lite-v1:0", "amazon_bedrock", "us.amazon.nova-lite-v1:0"),
        ("bedrock/converse/us.amazon.nova-lite-v1:0", None, "us.amazon.nova-lite-v1:0"),
        ("openai/gpt-oss-120b", "groq", "groq/openai/gpt-oss-120b"),
        ("llama3.1-8b", "snowflake", "snowflake/llama3.1-8b"),
    ],
)
def test_each_spelling_leads_to_the_entry_of_the_table(model, provider, key):
    entry = table.installed().entries[key]
    assert cost_units(model, HELLO, provider=provider) == rates_of(entry, None).cost(HELLO)


@pytest.mark.parametrize(
    ("model", "provider"),
    [
        ("gpt-4o", "local"),
        ("gpt-4o", "my-openai-host"),
        ("hosted_vllm/gpt-4o", None),
        ("claude-sonnet-4-6", "huggingface"),
        ("gpt-oss:20b", "ollama"),
        ("gpt-4o", "anthropic"),
        ("zai/GLM-5.2", "crusoe"),
        ("no-such-model", None),
        ("no-such-model", "openai"),
        ("openai/", None),
        ("/", None),
        ("", None),
    ],
)
def test_nobody_borrows_the_price_of_another(model, provider):
    assert cost_usd(model, HELLO, provider=provider) is None
    assert source_of(model, provider=provider) is None
    assert max_output_tokens(model, provider=provider) is None


def test_genai_prices_knows_retired_models_and_openrouter():
    assert cost_usd("claude-3-opus-20240229", MTOK) == 90
    assert cost_usd("anthropic/claude-sonnet-4.5", HELLO, provider="openrouter") == Decimal("0.000105")
    assert source_of("openrouter/anthropic/claude-sonnet-4.5") == "genai-prices"


def test_genai_prices_steps_up_above_a_threshold():
    short, long = (Usage(input_tokens=n, output_tokens=0) for n in (200_000, 200_001))
    assert cost_usd("openrouter/anthropic/claude-sonnet-4.5", short) == Decimal("0.6")
    assert cost_usd("openrouter/anthropic/claude-sonnet-4.5", long) == Decimal("1.200006")


def test_no_genai_prices_is_no_error(monkeypatch):
    monkeypatch.setattr("steptrack_callbacks.pricing.genai.package_folder", lambda _: None)
    assert cost_usd("claude-3-opus-20240229", MTOK) is None


def test_no_litellm_is_no_error(monkeypatch):
    monkeypatch.setattr(table, "_loaded", [])
    monkeypatch.setattr(table, "package_folder", lambda _: None)
    monkeypatch.setattr(sources, "live_entries", lambda: None)
    assert table.installed().entries == {}


def test_longest_answer():
    assert max_output_tokens("gpt-4o-mini") == 16_384
    assert max_output_tokens("gpt-4o-mini", provider="azure") == 16_384
    assert max_output_tokens("text-embedding-3-small") is None


# Zero and unknown


def test_zero_is_a_price_only_where_it_is_listed(listed):
    listed(
        free={"input_cost_per_token": 0, "output_cost_per_token": 0.0},
        silent={"mode": "chat"},
        half={"input_cost_per_token": 1e-6},
        vectors={"input_cost_per_token": 1e-6, "mode": "embedding"},
    )
    assert cost_usd("free", HELLO) == 0
    assert cost_usd("silent", HELLO) is None
    assert cost_usd("half", HELLO) is None
    assert cost_usd("half", Usage(input_tokens=10)) == Decimal("0.00001")
    assert cost_usd("vectors", Usage(input_tokens=10)) == Decimal("0.00001")


# The user's own prices


def test_the_users_prices_go_first():
    set_prices({"gpt-4o-mini": {"input_usd_per_mtok": 1, "output_usd_per_mtok": "2.5"}})
    assert cost_usd("gpt-4o-mini", MTOK) == Decimal("3.5")
    assert cost_usd("openai/gpt-4o-mini", MTOK) == Decimal("3.5")
    assert source_of("gpt-4o-mini") == "user"
    assert max_output_tokens("gpt-4o-mini") == 16_384
    reset()
    assert cost_usd("gpt-4o-mini", MTOK) == Decimal("0.75")


def test_the_users_prices_reach_providers_that_nobody_lists():
    set_prices({"my-model": {"input_cost_per_token": 1e-6, "output_cost_per_token": 0}})
    assert cost_usd("my-model", MTOK, provider="local") == 1
    assert cost_usd("hosted_vllm/my-model", MTOK) == 1


def test_a_price_may_be_for_one_provider_only():
    set_prices({"azure/gpt-4o-mini": {"input_usd_per_mtok": 9, "output_usd_per_mtok": 0}})
    assert cost_usd("gpt-4o-mini", MTOK, provider="azure") == 9
    assert cost_usd("gpt-4o-mini", MTOK) == Decimal("0.75")


def test_a_price_may_name_its_provider_as_litellm_does():
    set_prices({"my-model": {"input_usd_per_mtok": 9, "output_usd_per_mtok": 0, "litellm_provider": "azure"}})
    assert cost_usd("my-model", MTOK) == cost_usd("azure/my-model", MTOK) == 9
    assert cost_usd("my-model", MTOK, provider="openai") is None


def test_a_rate_that_the_user_left_out_is_asked_of_the_next():
    set_prices({"gpt-4o-mini": {"input_usd_per_mtok": 9}})
    assert cost_usd("gpt-4o-mini", Usage(input_tokens=10**6)) == 9
    assert cost_usd("gpt-4o-mini", MTOK) == Decimal("0.75")


@pytest.mark.parametrize(
    ("price", "error", "words"),
    [
        ({"input_cost_per_tokn": 1}, ValueError, "did you mean 'input_cost_per_token'"),
        ({"input_usd_per_mtok": -1}, ValueError, "from 0 to"),
        ({"input_cost_per_token": -1}, ValueError, "'input_cost_per_token'.*from 0 to"),
        ({"input_usd_per_mtok": float("nan")}, ValueError, "finite"),
        ({"input_usd_per_mtok": True}, ValueError, "number"),
        ({"input_usd_per_mtok": None}, ValueError, "number"),
        ({"input_usd_per_mtok": "cheap"}, ValueError, "number"),
        ({}, ValueError, "no rate"),
        ({"mode": "chat"}, ValueError, "no rate"),
        ({3: 1}, TypeError, "key"),
        (3, TypeError, "mapping"),
    ],
)
def test_a_wrong_price_is_refused_and_named(price, error, words):
    with pytest.raises(error, match=words) as caught:
        set_prices({"good": {"input_usd_per_mtok": 1}, "my-model": price})
    assert "'my-model'" in str(caught.value)
    assert cost_usd("good", Usage(input_tokens=1)) is None


def test_a_price_for_what_is_no_models_name_is_refused():
    with pytest.raises(TypeError, match="a model must be a string, such as 'gpt-4o', not 3"):
        set_prices({3: {"input_usd_per_mtok": 1}})


# LiteLLM, once it is imported


def test_what_is_registered_with_litellm_counts_at_once(litellm):
    assert cost_usd("brand-new", HELLO, provider="openai") is None
    litellm.model_cost["brand-new"] = {
        "input_cost_per_token": "1e-6",
        "output_cost_per_token": 0,
        "litellm_provider": "openai",
    }
    assert cost_usd("brand-new", HELLO, provider="openai") == Decimal("0.00001")


def test_an_entry_changed_in_place_counts_at_once(litellm):
    litellm.model_cost["gpt-4o-mini"] = entry = dict(litellm.model_cost["gpt-4o-mini"])
    assert cost_usd("gpt-4o-mini", MTOK) == Decimal("0.75")
    entry["input_cost_per_token"] = 1e-6
    assert cost_usd("gpt-4o-mini", MTOK) == Decimal("1.6")


def test_a_new_table_counts_at_once(litellm):
    assert cost_usd("gpt-4o-mini", MTOK) == Decimal("0.75")
    litellm.model_cost = {"gpt-4o-mini": {"input_cost_per_token": 0.0, "output_cost_per_token": 1e-6}}
    assert cost_usd("gpt-4o-mini", MTOK) == 1


def test_an_entry_that_litellm_made_up_without_a_price_is_not_free(litellm):
    litellm.model_cost["gpt-9-preview"] = {"litellm_provider": "openai", "mode": "chat"}
    assert cost_usd("gpt-9-preview", HELLO) is None


def test_a_rate_that_is_not_understood_is_handed_to_litellm(litellm):
    price = {
        "input_cost_per_token": 1e-6,
        "output_cost_per_token": 1e-6,
        "litellm_provider": "openai",
        "mode": "chat",
    }
    strange = price | {"input_cost_per_token_on_cold_days": 9e-6}
    assert not doubts_of(price, None)
    assert doubts_of(strange, None)
    litellm.register_model({"strange-three": strange})
    assert float(cost_usd("strange-three", HELLO, provider="openai")) == pytest.approx(15e-6)
    litellm.model_cost["strange-two"] = {"input_cost_per_thought_token": 1.0, "litellm_provider": "openai"}
    assert cost_usd("strange-two", HELLO, provider="openai") is None


@pytest.mark.parametrize("rate", ["cheap", -1.0, float("nan"), [1e-6], True])
def test_a_rate_that_is_no_number_is_no_price(litellm, rate):
    litellm.model_cost["broken"] = {"input_cost_per_token": rate, "output_cost_per_token": 1e-6}
    assert cost_usd("broken", HELLO, provider="openai") is None


# Arithmetic


def test_every_kind_of_token_has_its_rate():
    rates = rates_of(
        {
            "input_cost_per_token": 1,
            "output_cost_per_token": 2,
            "cache_read_input_token_cost": 4,
            "cache_creation_input_token_cost": 8,
            "cache_creation_input_token_cost_above_1hr": 16,
            "output_cost_per_reasoning_token": 32,
            "input_cost_per_audio_token": 64,
            "output_cost_per_audio_token": 128,
            "cache_read_input_audio_token_cost": 256,
            "input_cost_per_image_token": 512,
            "output_cost_per_image_token": 1024,
            "input_cost_per_request": 4096,
        },
        None,
    )
    usage = Usage(
        input_tokens=1000,
        output_tokens=100,
        cache_read_tokens=100,
        cache_read_audio_tokens=10,
        cache_write_tokens=20,
        cache_write_1h_tokens=5,
        input_audio_tokens=13,
        input_image_tokens=7,
        reasoning_tokens=30,
        output_audio_tokens=11,
        output_image_tokens=9,
    )
    text = 1000 - 100 - 20 - 3 - 7
    sent = text + 90 * 4 + 10 * 256 + 15 * 8 + 5 * 16 + 3 * 64 + 7 * 512
    made = 50 * 2 + 30 * 32 + 11 * 128 + 9 * 1024
    assert rates.cost(usage) == (sent + made + 4096) * 10**24


def test_a_service_tier_has_its_rates_where_it_is_listed():
    entry = {"input_cost_per_token": 1, "output_cost_per_token": 2, "input_cost_per_token_flex": 0.5}
    usage = Usage(input_tokens=10, output_tokens=10)
    costs = {
        tier: rates_of(entry, tier).cost(usage) for tier in (None, "default", "flex", "FLEX", "priority")
    }
    assert [cost // 10**24 for cost in costs.values()] == [30, 30, 25, 25, 30]


def test_a_batch_costs_its_batch_rate_however_long_the_prompt():
    entry = {
        "input_cost_per_token": 4,
        "input_cost_per_token_above_200k_tokens": 8,
        "input_cost_per_token_batches": 2,
    }
    assert rates_of(entry, "batch").cost(Usage(input_tokens=300_000)) == 600_000 * 10**24


def test_steps_hold_above_their_threshold_and_xai_begins_at_it():
    entry = {
        "input_cost_per_token": 1,
        "input_cost_per_token_above_128k_tokens": 2,
        "input_cost_per_token_above_200_tokens": 3,
    }
    costs = [
        rates_of(entry, None).cost(Usage(input_tokens=n)) // 10**24 for n in (200, 201, 128_000, 128_001)
    ]
    assert costs == [200, 603, 384_000, 256_002]
    xai = rates_of(entry | {"litellm_provider": "xai"}, None)
    assert xai.cost(Usage(input_tokens=200)) == 600 * 10**24


def test_prices_by_range_hold_for_the_whole_request():
    entry = {
        "tiered_pricing": [
            {"range": [1000, 2000], "input_cost_per_token": 3, "output_cost_per_token": 4},
            {"range": [0, 1000], "input_cost_per_token": 1, "output_cost_per_token": 2},
        ]
    }
    rates = rates_of(entry, None)
    assert rates.cost(Usage(input_tokens=1000, output_tokens=1)) == 1002 * 10**24
    assert rates.cost(Usage(input_tokens=1001, output_tokens=1)) == 3007 * 10**24
    assert rates.cost(Usage(input_tokens=9000)) == 27000 * 10**24


def test_fireworks_sells_cached_tokens_at_half():
    entry = {"input_cost_per_token": 2, "output_cost_per_token": 2, "litellm_provider": "fireworks_ai"}
    assert rates_of(entry, None).cost(Usage(input_tokens=10, cache_read_tokens=10)) == 10 * 10**24


@pytest.mark.parametrize(
    ("moment", "is_open"),
    [
        ("2026-11-20T00:59", True),  # a Friday
        ("2026-11-20T01:00", False),
        ("2026-11-20T23:59", True),
        ("2026-11-21T07:00", True),
        ("2026-11-23T07:00", False),
    ],
)
def test_hours_that_are_cheaper(moment, is_open):
    block = {
        "windows": [
            {"hours_utc": ["00:00-01:00", "10:00-00:00", "what-ever"], "weekdays": [1, 2, 3, 4, "fri"]},
            {"hours_utc": "00:00-00:00", "weekdays": ["Saturday", 7]},
        ],
        "weekday_timezone": "UTC",
    }
    assert Schedule.of(block).is_open(datetime.fromisoformat(moment).replace(tzinfo=UTC)) is is_open


def test_off_peak_rates_replace_those_that_they_name():
    always = {"hours_utc": "00:00-00:00", "input_cost_per_token": 1}
    entry = {"input_cost_per_token": 2, "output_cost_per_token": 8, "off_peak_pricing": always}
    usage = Usage(input_tokens=10, output_tokens=10, cache_read_tokens=5)
    assert rates_of(entry, None).cost(usage) == 90 * 10**24
    never = entry | {"off_peak_pricing": {"hours_utc": [], "input_cost_per_token": 1}}
    assert rates_of(never, None).cost(usage) == 100 * 10**24


counts = st.integers(0, 5_000_000)
usages = st.builds(
    Usage,
    **dict.fromkeys(
        (
            "input_tokens",
            "output_tokens",
            "cache_read_tokens",
            "cache_write_tokens",
            "cache_write_1h_tokens",
            "reasoning_tokens",
            "input_audio_tokens",
            "output_audio_tokens",
            "cache_read_audio_tokens",
            "input_image_tokens",
            "output_image_tokens",
        ),
        counts,
    ),
)
models = st.sampled_from(
    [
        "gpt-4o",
        "gpt-5.6-sol",
        "claude-sonnet-4-6",
        "gemini/gemini-2.5-flash",
        "gpt-4o-audio-preview",
        "deepseek/deepseek-v4-pro",
    ]
)


@given(models, usages, st.sampled_from([None, "flex", "priority", "batch"]))
def test_no_usage_costs_less_than_nothing_or_more_than_its_dearest_token(model, usage, tier):
    cost = cost_usd(model, usage, service_tier=tier)
    assert cost is not None
    assert cost.is_finite()
    assert 0 <= cost <= Decimal("0.001") * usage.total_tokens


@given(counts, counts, counts, counts)
def test_flat_rates_add_up(sent, made, more_sent, more_made):
    one = Usage(
        input_tokens=sent, output_tokens=made, cache_read_tokens=sent // 2, reasoning_tokens=made // 3
    )
    two = Usage(input_tokens=more_sent, output_tokens=more_made, cache_read_tokens=more_sent // 3)
    assert cost_units("gpt-4o", one + two) == cost_units("gpt-4o", one) + cost_units("gpt-4o", two)


@given(usages, st.integers(0, 1000), st.integers(0, 1000))
def test_more_tokens_never_cost_less(usage, sent, made):
    more = usage.replace(input_tokens=usage.input_tokens + sent, output_tokens=usage.output_tokens + made)
    assert cost_units("gpt-4o", more) >= cost_units("gpt-4o", usage)


@settings(max_examples=300)
@given(st.text(max_size=40), st.none() | st.text(max_size=20), st.none() | st.text(max_size=10))
def test_no_name_is_an_error(model, provider, tier):
    assert cost_usd(model, HELLO, provider=provider, service_tier=tier) is None or model


# Names


def test_providers_have_one_name():
    assert {canonical(name) for name in ("google_genai", "Google", "google-genai", "gemini")} == {"gemini"}
    assert canonical("vertex_ai-llama_models") == "vertex_ai"
    assert split("azure/gpt-4o", None) == ("azure", "gpt-4o")
    assert split("openai/gpt-oss-120b", "groq") == ("groq", "openai/gpt-oss-120b")
    assert split("groq/groq/x", "groq") == ("groq", "x")
    assert accepts("azure_ai", "openai")
    assert not accepts("openai", "azure")
    assert not accepts("openai", 3)


# Habits of the package


def test_importing_it_imports_nothing_heavy_and_reads_nothing():
    program = (
        "import sys; import steptrack_callbacks.pricing as p; from steptrack_callbacks.pricing import table;"
        "heavy = {'litellm', 'langchain', 'langchain_core', 'tiktoken', 'genai_prices'} & set(sys.modules);"
        "assert not heavy, heavy; assert not table._loaded;"
        "from steptrack_callbacks.values.usage import Usage;"
        "assert p.cost_usd('gpt-4o', Usage(input_tokens=1)) > 0; assert 'litellm' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", program], check=True, timeout=60)


def test_many_threads_read_the_table_once(monkeypatch):
    reads = []
    read = table._read
    monkeypatch.setattr(table, "_loaded", [])
    monkeypatch.setattr(table, "_read", lambda: reads.append(1) or read())
    threads = [threading.Thread(target=table.installed) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert reads == [1]


def test_answers_for_names_from_outside_do_not_pile_up(monkeypatch):
    monkeypatch.setattr(sources, "_MOST_ANSWERS", 10)
    for n in range(50):
        cost_usd(f"model-{n}", HELLO, provider="local")
    assert len(sources._answers) <= 10
