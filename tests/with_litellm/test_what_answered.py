"""What is charged is what has answered: its rates, its tier, its model, what it says that it cost.

A stream is an answer that comes in pieces, so each case is asked for both ways.
"""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import litellm
import pytest
from calling import ASK, run

import payloads
import steptrack_callbacks as steptrack
from payloads import U
from provider import Provider
from steptrack_callbacks import Usage, step

MODES = ["whole", "stream", "async whole", "async stream"]


@pytest.fixture(params=MODES)
def mode(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def charged(
    mode: str, provider: Provider, payload: Any = None, *, ask: Any = litellm, **options: Any
) -> Usage:
    """Ask once, read the answer to its end, and return what was charged."""
    if payload is not None:
        provider.behave(**payload)
    path = "/messages" if str(options.get("model")).startswith("anthropic/") else ""
    sent = {"api_base": provider.url + path, "api_key": "none", "messages": ASK, "max_retries": 0}
    if ask is not litellm:
        del sent["api_base"], sent["api_key"], sent["max_retries"]
    with step("plan") as plan:
        if mode == "whole":
            ask.completion(**sent | options)
        elif mode == "stream":
            list(ask.completion(**sent | options, stream=True))
        else:
            run(_asked(mode, ask, sent | options))
    return plan.usage


async def _asked(mode: str, ask: Any, options: dict[str, Any]) -> None:
    answer = await ask.acompletion(**options, stream="stream" in mode)
    if "stream" in mode:
        [chunk async for chunk in answer]


# Rates that are given with the call

HOUSE = {
    "input_cost_per_token": 1e-6,
    "output_cost_per_token": 2e-6,
    "cache_read_input_token_cost": 1e-7,
}
CACHED = {
    "prompt_tokens": 10_000,
    "completion_tokens": 100,
    "total_tokens": 10_100,
    "prompt_tokens_details": {"cached_tokens": 9_000},
}
HOUSE_USD = 1_000 * Decimal("1e-6") + 9_000 * Decimal("1e-7") + 100 * Decimal("2e-6")


def test_every_rate_that_is_given_with_a_call_counts(mode: str, provider: Provider) -> None:
    used = charged(mode, provider, payloads.chat(CACHED, "house"), model="openai/house", **HOUSE)
    assert used.cost_usd == HOUSE_USD == Decimal("0.0021")
    assert used.estimated_calls == used.unpriced_calls == 0


@pytest.mark.parametrize("place", ["litellm_params", "model_info"])
def test_every_rate_of_a_routers_deployment_counts(place: str, mode: str, provider: Provider) -> None:
    deployment: Any = {
        "model_name": "ours",
        "litellm_params": {
            "model": "openai/house",
            "api_base": provider.url,
            "api_key": "none",
            "max_retries": 0,
        },
        "model_info": {},
    }
    deployment[place] |= HOUSE
    router = litellm.Router(model_list=[deployment], num_retries=0)
    used = charged(mode, provider, payloads.chat(CACHED, "house"), ask=router, model="ours")
    assert used.cost_usd == HOUSE_USD


def test_a_rate_for_thinking_that_is_given_with_a_call_counts(mode: str, provider: Provider) -> None:
    thought = U | {"completion_tokens_details": {"reasoning_tokens": 400}}
    rates = HOUSE | {"output_cost_per_reasoning_token": 5e-6}
    used = charged(mode, provider, payloads.chat(thought, "thinker"), model="openai/thinker", **rates)
    assert used.cost_usd == 1_000 * Decimal("1e-6") + 100 * Decimal("2e-6") + 400 * Decimal("5e-6")


def test_a_rate_above_a_length_that_is_given_with_a_call_counts(mode: str, provider: Provider) -> None:
    long = {"prompt_tokens": 300_000, "completion_tokens": 10, "total_tokens": 300_010}
    rates = {
        "input_cost_per_token": 1e-6,
        "output_cost_per_token": 2e-6,
        "input_cost_per_token_above_200k_tokens": 3e-6,
        "output_cost_per_token_above_200k_tokens": 4e-6,
    }
    used = charged(mode, provider, payloads.chat(long, "lengthy"), model="openai/lengthy", **rates)
    assert used.cost_usd == 300_000 * Decimal("3e-6") + 10 * Decimal("4e-6")


# The tier that served


@pytest.mark.parametrize(
    ("asked", "served", "usd"),
    [
        (None, "priority", "0.0125"),
        ("priority", "default", "0.00625"),
        ("priority", "priority", "0.0125"),
        ("flex", "flex", "0.003125"),
        ("priority", "flex", "0.003125"),
        (None, "default", "0.00625"),
    ],
)
def test_the_tier_that_served_is_charged(
    asked: str | None, served: str, usd: str, mode: str, provider: Provider
) -> None:
    options = {} if asked is None else {"service_tier": asked}
    payload = payloads.chat(U, "gpt-5", service_tier=served)
    assert charged(mode, provider, payload, model="openai/gpt-5", **options).cost_usd == Decimal(usd)


# The model that answered


def test_a_deployment_is_charged_as_the_model_that_answered(mode: str, provider: Provider) -> None:
    payload = payloads.chat(U, "gpt-4o-2024-08-06")
    used = charged(mode, provider, payload, model="azure/my-dep", api_version="2024-10-21")
    assert used.cost_usd == 1_000 * Decimal("2.5e-6") + 500 * Decimal("1e-5") == Decimal("0.0075")
    assert used.unpriced_calls == 0


def test_another_deployment_of_another_model_has_that_ones_price(mode: str, provider: Provider) -> None:
    payload = payloads.chat(U, "gpt-4o-mini-2024-07-18")
    used = charged(mode, provider, payload, model="azure/chat", api_version="2024-10-21")
    assert used.cost_usd == 1_000 * Decimal("1.5e-7") + 500 * Decimal("6e-7")


@pytest.mark.parametrize(
    ("asked", "answered", "usd"),
    [
        ("openai/gpt-4o", "gpt-4o-2024-05-13", "0.0125"),
        ("openai/house", "gpt-4o-mini", "0.00045"),
        ("openrouter/openrouter/auto", "openai/gpt-4o-mini", "0.00045"),
    ],
    ids=["an older one of the name", "a name of one's own", "a router's choice"],
)
def test_another_model_than_was_asked_for_has_its_own_price(
    asked: str, answered: str, usd: str, mode: str, provider: Provider
) -> None:
    used = charged(mode, provider, payloads.chat(U, answered), model=asked)
    assert (used.cost_usd, used.unpriced_calls) == (Decimal(usd), 0)


# What you have said that a model costs

OURS = {"input_usd_per_mtok": 1, "output_usd_per_mtok": 1}


@pytest.mark.parametrize("priced", ["gpt-4o", "openai/gpt-4o"])
@pytest.mark.parametrize("answered", ["gpt-4o", "gpt-4o-2024-08-06", "gpt-4o-mini"])
def test_a_price_of_your_own_counts_whatever_name_the_answer_has(
    priced: str, answered: str, mode: str, provider: Provider
) -> None:
    steptrack.install(prices={priced: OURS})
    used = charged(mode, provider, payloads.chat(U, answered), model="openai/gpt-4o")
    assert used.cost_usd == 1_500 * Decimal("1e-6")


@pytest.mark.parametrize("asked", [{}, {"gpt-4o": {"input_usd_per_mtok": 9, "output_usd_per_mtok": 9}}])
def test_a_price_of_your_own_of_the_model_that_answered_goes_before_all(
    asked: Any, mode: str, provider: Provider
) -> None:
    steptrack.install(prices={"gpt-4o-mini": OURS, **asked})
    used = charged(mode, provider, payloads.chat(U, "gpt-4o-mini"), model="openai/gpt-4o")
    assert used.cost_usd == 1_500 * Decimal("1e-6")


def test_a_price_of_your_own_goes_before_what_litellm_has_worked_out_of_cached_tokens(
    mode: str, provider: Provider
) -> None:
    steptrack.install(prices={"gpt-4o": OURS | {"cache_read_usd_per_mtok": 0}})
    used = charged(mode, provider, payloads.chat(CACHED, "gpt-4o"), model="openai/gpt-4o")
    assert used.cost_usd == 1_100 * Decimal("1e-6")


def test_a_rate_of_one_direction_leaves_the_others_as_published(mode: str, provider: Provider) -> None:
    given = {"input_cost_per_token": 1e-6}
    used = charged(mode, provider, payloads.chat(U, "gpt-4o"), model="openai/gpt-4o", **given)
    assert used.cost_usd == 1_000 * Decimal("1e-6") + 500 * Decimal("10e-6")


# What the provider says that it cost


def test_a_cost_that_the_provider_states_is_charged(mode: str, provider: Provider) -> None:
    payload = payloads.chat(U | {"cost": 0.0123}, "somebody/unlisted-model")
    used = charged(mode, provider, payload, model="openrouter/somebody/unlisted-model")
    assert used.cost_usd == Decimal("0.0123")
    assert used.unpriced_calls == 0


def test_what_a_key_of_ones_own_is_billed_for_upstream_counts(mode: str, provider: Provider) -> None:
    told = {"cost": 0, "is_byok": True, "cost_details": {"upstream_inference_cost": 0.02}}
    payload = payloads.chat(U | told, "somebody/unlisted-model")
    used = charged(mode, provider, payload, model="openrouter/somebody/unlisted-model")
    assert used.cost_usd == Decimal("0.02")


def test_a_cost_in_a_usage_is_no_bill_where_the_model_has_a_price(mode: str, provider: Provider) -> None:
    payload = payloads.chat(U | {"cost": 9.5}, "gpt-4o")
    assert charged(mode, provider, payload, model="openai/gpt-4o").cost_usd == Decimal("0.0075")


def test_a_cost_in_a_usage_counts_where_nobody_has_a_price(mode: str, provider: Provider) -> None:
    payload = payloads.chat(U | {"cost": 0.0125}, "nobody-knows")
    used = charged(mode, provider, payload, model="openai/nobody-knows")
    assert (used.cost_usd, used.unpriced_calls) == (Decimal("0.0125"), 0)


def test_ticks_of_a_cent_are_a_bill(mode: str, provider: Provider) -> None:
    payload = payloads.chat(U | {"cost_in_usd_ticks": 123_000_000}, "grok-of-tomorrow")
    assert charged(mode, provider, payload, model="xai/grok-of-tomorrow").cost_usd == Decimal("0.0123")


# Counts that stand elsewhere, or are corrected


def test_counts_at_the_top_level_count(mode: str, provider: Provider) -> None:
    told = {"prompt_tokens": 10_000, "completion_tokens": 500, "total_tokens": 10_500, "cached_tokens": 8_000}
    used = charged(mode, provider, payloads.chat(told, "kimi-k2.5"), model="moonshot/kimi-k2.5")
    usd = 2_000 * Decimal("6e-7") + 8_000 * Decimal("1e-7") + 500 * Decimal("3e-6")
    assert used.cost_usd == usd == Decimal("0.0035")
    assert (used.cache_read_tokens, used.estimated_calls) == (8_000, 0)


@pytest.mark.parametrize("asked", [{}, {"stream_options": {"include_usage": True}}], ids=["unasked", "asked"])
@pytest.mark.parametrize("mode", ["stream", "async stream"])
def test_a_usage_that_litellm_has_counted_itself_is_an_estimate(
    asked: Any, mode: str, provider: Provider
) -> None:
    provider.behave(usage_in_stream="never")
    used = charged(mode, provider, model="openai/gpt-4o", **asked)
    assert (used.output_tokens, used.estimated_calls) == (200, 1)


@pytest.mark.parametrize("asked", [{}, {"stream_options": {"include_usage": True}}], ids=["unasked", "asked"])
@pytest.mark.parametrize("mode", ["stream", "async stream"])
def test_what_is_counted_of_litellms_own_mock_is_what_the_provider_says(
    asked: Any, mode: str, provider: Provider
) -> None:
    used = charged(mode, provider, model="openai/gpt-4o", mock_response="Rayleigh scattering.", **asked)
    assert used.output_tokens > 0
    assert (provider.count(), used.calls, used.estimated_calls) == (0, 1, 0)


def test_a_later_count_replaces_an_earlier_one_and_a_zero_does_too(mode: str, provider: Provider) -> None:
    start = {"input_tokens": 14, "cache_creation_input_tokens": 35_000, "output_tokens": 1}
    end = {"cache_creation_input_tokens": 0, "cache_read_input_tokens": 35_000, "output_tokens": 100}
    used = charged(mode, provider, payloads.message(start, end), model="anthropic/claude-sonnet-4-5")
    assert (used.input_tokens, used.cache_read_tokens, used.cache_write_tokens) == (35_014, 35_000, 0)
    usd = 14 * Decimal("3e-6") + 35_000 * Decimal("3e-7") + 100 * Decimal("15e-6")
    assert used.cost_usd == usd == Decimal("0.012042")


def test_an_end_that_tells_the_output_alone_takes_no_input_back(mode: str, provider: Provider) -> None:
    start = {
        "input_tokens": 14,
        "cache_creation_input_tokens": 500,
        "cache_read_input_tokens": 70,
        "output_tokens": 1,
    }
    payload = payloads.message(start, {"output_tokens": 100})
    used = charged(mode, provider, payload, model="anthropic/claude-sonnet-4-5")
    assert (used.input_tokens, used.cache_read_tokens, used.cache_write_tokens) == (584, 70, 500)
    assert (used.output_tokens, used.estimated_calls) == (100, 0)


def test_usage_that_grows_with_every_chunk_is_the_last_one(provider: Provider) -> None:
    last = payloads.chat(U)["pieces"]
    growing = tuple(
        piece | {"usage": {"prompt_tokens": 1000, "completion_tokens": made, "total_tokens": 1000 + made}}
        for piece, made in zip(last[:2], (1, 250), strict=True)
    )
    used = charged("stream", provider, {"pieces": (*growing, last[2])}, model="openai/gpt-4o")
    assert (used.input_tokens, used.output_tokens, used.cost_usd) == (1000, 500, Decimal("0.0075"))


# What is billed beside tokens

SEARCHED = {
    "input_tokens": 50,
    "cache_creation_input_tokens": 180_000,
    "cache_read_input_tokens": 400_000,
    "output_tokens": 1,
}


@pytest.mark.needs("litellm>=1.108", "before, its table has other rates for this model past 200,000 tokens")
def test_searches_of_the_web_are_charged(mode: str, provider: Provider) -> None:
    end = {"output_tokens": 1_000, "server_tool_use": {"web_search_requests": 5}}
    used = charged(mode, provider, payloads.message(SEARCHED, end), model="anthropic/claude-sonnet-4-5")
    assert used.web_search_requests == 5
    assert used.cost_usd == Decimal("0.81015") + 5 * Decimal("0.01") == Decimal("0.86015")


CITED = {"title": "A", "url": "http://a", "start_index": 0, "end_index": 3}
CITATION = {"type": "url_citation", "url_citation": CITED}


@pytest.mark.parametrize("at", [1, 2], ids=["in the midst of a stream", "at its end"])
def test_a_chat_that_cites_what_it_has_found_has_searched(at: int, mode: str, provider: Provider) -> None:
    payload = payloads.chat(U, "gpt-4o-search-preview")
    payload["whole"]["choices"][0]["message"]["annotations"] = [CITATION]
    first, end, usage = payload["pieces"]
    pieces = [first, first, end, usage]
    said = {"index": 0, "delta": {"content": "", "annotations": [CITATION]}, "finish_reason": None}
    pieces.insert(at, first | {"choices": [said]})
    payload["pieces"] = tuple(pieces)
    used = charged(mode, provider, payload, model="openai/gpt-4o-search-preview")
    assert used.web_search_requests == 1
    assert used.cost_usd == Decimal("0.0075") + Decimal("0.025")


ROUNDS = [
    {"type": "message", "input_tokens": 1_000, "output_tokens": 100},
    {"type": "advisor_message", "model": "claude-opus-4-6", "input_tokens": 2_000, "output_tokens": 20},
    {"type": "message", "input_tokens": 1_200, "output_tokens": 10},
]


def test_rounds_of_another_model_have_its_price(mode: str, provider: Provider) -> None:
    start = {"input_tokens": 2_200, "output_tokens": 1}
    payload = payloads.message(start, {"input_tokens": 2_200, "output_tokens": 110, "iterations": ROUNDS})
    used = charged(mode, provider, payload, model="anthropic/claude-sonnet-4-5")
    assert (used.input_tokens, used.output_tokens) == (4_200, 130)
    own = 2_200 * Decimal("3e-6") + 110 * Decimal("15e-6")
    assert used.cost_usd == own + 2_000 * Decimal("5e-6") + 20 * Decimal("25e-6")
