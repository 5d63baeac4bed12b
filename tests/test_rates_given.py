"""Rates that come with a call, its tier, speed and place, and what a strict limit makes of them."""

from __future__ import annotations

from decimal import Decimal
from functools import partial

import pytest

from steptrack_callbacks import BudgetExhausted, UnknownCostWarning, UnpricedModel, Usage, pricing, step
from steptrack_callbacks.engine import output_stats
from steptrack_callbacks.engine.call import Call
from steptrack_callbacks.engine.request import Request
from steptrack_callbacks.integrations.request_terms import kinds_in, terms_asked
from steptrack_callbacks.litellm.requests import request_of
from steptrack_callbacks.pricing import Terms, prices_of, rates_in
from steptrack_callbacks.pricing.quotes import Asked
from steptrack_callbacks.steps.attribution import new_call
from steptrack_callbacks.tokens import InputCount

ONE = 10**24
MESSAGES = [{"role": "user", "content": "hi"}]
HOUSE = {
    "input_cost_per_token": 1e-6,
    "output_cost_per_token": 2e-6,
    "cache_read_input_token_cost": 1e-7,
}
MOSTLY_CACHED = Usage(input_tokens=10_000, output_tokens=100, cache_read_tokens=9_000)


@pytest.fixture(autouse=True)
def _clean():
    pricing.reset()
    output_stats.reset()
    yield
    pricing.reset()
    output_stats.reset()


def asked(model="openai/house", **options):
    return request_of("chat", model, MESSAGES, options)


def usd(request, usage, **told):
    units = request.cost_of(usage, **told)
    return None if units is None else Decimal(units) / ONE


# Rates that are given


@pytest.mark.parametrize(
    "options",
    [
        HOUSE,
        {"model_info": HOUSE},
        {"model_info": HOUSE | {"input_cost_per_token": 9.0}, "input_cost_per_token": 1e-6},
        {name: str(rate) for name, rate in HOUSE.items()},
    ],
)
def test_all_rates_that_are_given_with_a_call_are_charged_wherever_they_stand(options):
    assert usd(asked(**options), MOSTLY_CACHED) == Decimal("0.0021")


def test_the_answering_models_own_price_does_not_go_before_rates_that_were_given():
    assert usd(asked(**HOUSE), MOSTLY_CACHED, model="gpt-4o") == Decimal("0.0021")


@pytest.mark.parametrize(
    ("extra", "usage", "expected"),
    [
        (
            {"cache_creation_input_token_cost_above_1hr": 3e-6},
            Usage(input_tokens=1_000, cache_write_tokens=1_000, cache_write_1h_tokens=1_000),
            "0.003",
        ),
        (
            {"input_cost_per_token_above_200k_tokens": 2e-6},
            Usage(input_tokens=200_001),
            "0.400002",
        ),
        ({"output_cost_per_reasoning_token": 5e-6}, Usage(output_tokens=10, reasoning_tokens=10), "0.00005"),
        ({"input_cost_per_audio_token": 4e-6}, Usage(input_tokens=10, input_audio_tokens=10), "0.00004"),
        (
            {"search_context_cost_per_query": {"search_context_size_medium": 0.02}},
            Usage(input_tokens=10, web_search_requests=2),
            "0.04001",
        ),
        ({"tiered_pricing": [{"range": [0, 99], "input_cost_per_token": 5}]}, Usage(input_tokens=1), "5"),
    ],
)
def test_every_kind_of_rate_may_be_given(extra, usage, expected):
    assert usd(asked(**HOUSE, **extra), usage) == Decimal(expected)


@pytest.mark.parametrize(("tier", "expected"), [("priority", "0.009"), ("flex", "0.0005"), (None, "0.001")])
def test_the_tier_that_served_has_its_rate_among_those_that_were_given(tier, expected):
    request = asked(**HOUSE, input_cost_per_token_priority=9e-6, input_cost_per_token_flex=5e-7)
    assert usd(request, Usage(input_tokens=1_000), terms=Terms(service_tier=tier)) == Decimal(expected)


def test_who_gives_a_rate_of_input_gives_all_of_input_and_nothing_of_output():
    request = asked("anthropic/claude-sonnet-4-5", input_cost_per_token=1e-6)
    usage = Usage(input_tokens=1_000, cache_read_tokens=500, output_tokens=10)
    assert usd(request, usage) == Decimal("0.001") + Decimal("0.00015")


def test_a_rate_that_is_given_for_the_cache_alone_leaves_the_others_as_they_are():
    request = asked("anthropic/claude-sonnet-4-5", cache_read_input_token_cost=1e-6)
    usage = Usage(input_tokens=1_000, cache_read_tokens=500, output_tokens=10)
    assert usd(request, usage) == Decimal("0.0015") + Decimal("0.0005") + Decimal("0.00015")


def test_what_makes_no_sense_among_them_says_nothing():
    nonsense = {
        "input_cost_per_token": -1,
        "output_cost_per_token": "dear",
        "cache_read_input_token_cost": True,
    }
    assert rates_in(nonsense | {"max_tokens": 5, "my_cost_center": [], 7: 1.0}) == {}
    assert asked("gpt-4o", **nonsense).rates is None


def test_a_key_that_is_unknown_among_them_bounds_the_calls_that_may_meet_it():
    request = asked(model_info=HOUSE | {"cache_read_input_token_cost_on_mars": 1e-3})
    assert usd(request, Usage(input_tokens=1_000)) == Decimal("0.001")
    assert usd(request, MOSTLY_CACHED) == Decimal("0.0021") + 9


@pytest.mark.parametrize(
    "claimed",
    [
        {"metadata": {"model_info": HOUSE}},
        {"litellm_metadata": {"model_info": HOUSE}},
        {"my_cost_per_token": 0.0},
        {"off_peak_pricing": {"hours_utc": "00:00-00:00", "input_cost_per_token": 0.0}},
        {"provider_specific_entry": {"fast": 0.0}},
    ],
)
def test_what_a_client_of_the_proxy_could_write_is_no_rate(claimed):
    assert asked("gpt-4o", **claimed).rates is None


def test_the_base_model_of_a_deployment_is_charged_with_its_tiers():
    request = asked("azure/my-deployment", model_info={"base_model": "gpt-5"})
    usage = Usage(input_tokens=1_000, output_tokens=500)
    assert usd(request, usage) == Decimal("0.00625")
    assert usd(request, usage, terms=Terms(service_tier="priority")) == Decimal("0.0125")


# Prices by time


def test_a_price_by_the_second_is_charged_by_time():
    request = asked(input_cost_per_second=0.01)
    assert usd(request, Usage(input_tokens=5), duration_s=2.5) == Decimal("0.025")
    assert usd(request, Usage(input_tokens=5)) is None
    assert request.is_by_second


def test_a_price_by_the_second_holds_on_whatever_tier_the_answer_was_served():
    pricing.set_prices({"timed": {"cost_per_second": "0.01"}})
    request = Request(model="timed", count_input=lambda: InputCount(tokens=1, upper_bound=1))
    assert usd(request, Usage(), terms=Terms(service_tier="priority"), duration_s=3) == Decimal("0.03")


@pytest.mark.parametrize("key", ["cost_per_second", "input_cost_per_second", "output_cost_per_second"])
def test_every_price_by_time_is_one_and_goes_after_prices_of_tokens(key):
    assert usd(asked(**{key: 0.01}), Usage(), duration_s=1) == Decimal("0.01")
    assert usd(asked(**HOUSE, **{key: 0.01}), Usage(input_tokens=1_000), duration_s=1) == Decimal("0.001")
    pricing.set_prices({"timed": {key: "0.01"}})
    assert pricing.cost_usd("timed", Usage(), duration_s=3) == Decimal("0.03")


def test_a_dollar_limit_says_that_a_price_by_the_second_cannot_be_budgeted():
    with step("plan", max_usd=1), pytest.raises(UnpricedModel) as caught:
        new_call(asked(input_cost_per_second=0.01)).admit()
    assert str(caught.value) == (
        "step 'plan' has a max_usd, but model 'openai/house' is priced by the second, which cannot be budgeted"
        " before a call is sent: limit it by max_calls or max_seconds instead, or say unpriced='warn' on the"
        " step to charge calls when they end"
    )
    assert caught.value.by_second


def test_a_call_that_is_priced_by_the_second_is_charged_when_it_has_ended():
    with pytest.warns(UnknownCostWarning, match="is priced by the second, so max_usd of step 'plan' sees"):
        with step("plan", max_usd=1, unpriced="warn") as plan:
            call = new_call(asked(input_cost_per_second=0.01))
            call.admit()
            call.settle(Usage(input_tokens=5))
    assert plan.cost_usd > 0
    assert plan.usage.unpriced_calls == 0


@pytest.mark.parametrize(
    "end", [lambda call: call.abandon(5), lambda call: call.fail(Usage(input_tokens=5)), Call.sweep]
)
def test_a_call_that_is_priced_by_the_second_is_charged_however_it_ends(end):
    with step("plan") as plan:
        call = new_call(asked(input_cost_per_second=0.01))
        call.admit()
        end(call)
    assert plan.cost_usd > 0
    assert plan.usage.unpriced_calls == 0


def test_a_dollar_limit_is_kept_by_what_calls_that_are_priced_by_the_second_came_to():
    with pytest.warns(UnknownCostWarning), pytest.raises(BudgetExhausted):
        with step("plan", max_usd=1e-9, unpriced="warn"):
            call = new_call(asked(input_cost_per_second=1000))
            call.admit()
            call.settle(Usage(input_tokens=5))
            call.check_overrun()


# What a request asks for


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"speed": "fast"}, {"speed": "fast"}),
        ({"api_base": "https://eu.api.openai.com/v1"}, {"region": "eu"}),
        ({"base_url": "https://gov.api.openai.com/v1"}, {"region": "fedramp"}),
        ({"api_base": "https://api.openai.com/v1"}, {}),
        ({"api_base": "http://[broken"}, {}),
        ({"vertex_location": "us-east5"}, {"region": "us-east5"}),
        ({"web_search_options": {"search_context_size": "high"}}, {"search_context_size": "high"}),
        (
            {"tools": [{"type": "web_search", "search_context_size": "low"}, "odd"]},
            {"search_context_size": "low"},
        ),
        ({"speed": 3, "tools": 7, "web_search_options": "many"}, {}),
    ],
)
def test_a_request_says_what_changes_its_price(options, expected):
    assert terms_asked(options) == expected


@pytest.mark.parametrize(
    ("content", "options", "expected"),
    [
        (MESSAGES, {}, set()),
        ([{"content": [{"type": "input_audio", "input_audio": {}}]}], {}, {"input_audio"}),
        ([{"content": [{"type": "image_url"}, {"type": "video"}]}], {}, {"input_image", "input_video"}),
        ([{"content": [{"type": "file", "mime_type": "audio/wav"}]}], {}, {"input_audio"}),
        (
            [{"content": [{"type": "text", "cache_control": {"type": "ephemeral", "ttl": "1h"}}]}],
            {},
            {"cache_write_1h"},
        ),
        (MESSAGES, {"cache_control": {"ttl": "12h"}}, {"cache_write_12h"}),
        (MESSAGES, {"tools": [{"name": "t", "cache_control": {"ttl": "1h"}}]}, {"cache_write_1h"}),
        (MESSAGES, {"modalities": ["text", "audio"]}, {"output_audio"}),
        ("just text", {"modalities": "audio"}, set()),
        ([{"parts": [{"inlineData": {"mimeType": "audio/wav"}}]}], {}, {"input_audio"}),
        ([{"parts": [{"file_data": {"mime_type": "video/mp4"}}]}], {}, {"input_video"}),
        (MESSAGES, {"config": {"response_modalities": ["TEXT", "IMAGE"]}}, {"output_image"}),
        (MESSAGES, {"generationConfig": {"responseModalities": ["AUDIO"]}}, {"output_audio"}),
    ],
)
def test_a_request_says_which_dearer_tokens_it_may_meet(content, options, expected):
    assert kinds_in(content, options) == expected


# Strict limits


def most_usd(model, *, sent=1_000, made=1_000, kinds=(), **asked_for):
    return Decimal(prices_of(model, **asked_for).most(sent, made, kinds)) / ONE


@pytest.mark.parametrize(
    ("asked_for", "expected"),
    [
        ({"service_tier": "default"}, "0.01125"),
        ({"service_tier": "flex"}, "0.01125"),  # it may be served as a plain one
        ({"service_tier": "priority"}, "0.0225"),
        ({}, "0.01125"),
        ({"service_tier": "auto"}, "0.0225"),  # a project may be set to it
    ],
)
def test_a_strict_limit_bounds_by_the_dearest_tier_that_may_serve(asked_for, expected):
    assert most_usd("gpt-5", **asked_for) == Decimal(expected)


def test_a_strict_limit_bounds_a_long_prompt_by_the_dearer_rates_of_long_ones():
    long = {"input_cost_per_token_above_200k_tokens": 3, "output_cost_per_token_above_200k_tokens": 2}
    given = {"input_cost_per_token": 1, "output_cost_per_token": 1} | long
    assert most_usd("m", sent=200_000, made=10, rates=given) == 200_000 + 10
    assert most_usd("m", sent=200_001, made=10, rates=given) == 3 * 200_001 + 2 * 10


def test_a_strict_limit_learns_on_which_tier_calls_are_served_that_ask_for_none():
    def bound(**told):
        request = Request(
            model="gpt-5",
            count_input=lambda: InputCount(tokens=1, upper_bound=1),
            max_output_tokens=1,
            **told,
        )
        return Decimal(request.most_cost(1_000, 1_000)) / ONE

    assert bound() == Decimal("0.01125")
    with step("plan"):
        call = new_call(asked("gpt-5"))
        call.admit()
        call.settle(Usage(input_tokens=1, output_tokens=1), terms=Terms(service_tier="priority"))
    assert bound() == Decimal("0.0225")
    assert bound(service_tier="default") == Decimal("0.01125")


@pytest.mark.parametrize(
    ("kinds", "expected"),
    [((), "3.75"), (("cache_write_1h",), "6"), (("input_image",), "3.75")],
)
def test_a_strict_limit_bounds_by_the_dearest_kind_of_token_that_may_be_met(kinds, expected):
    assert most_usd("claude-sonnet-4-5", sent=1_000_000, made=0, kinds=kinds) >= Decimal(expected)
    short = most_usd("claude-sonnet-4-5", sent=1_000, made=0, kinds=kinds)
    assert short == Decimal(expected) / 1_000


def test_a_strict_limit_bounds_a_fast_model_in_a_dear_region_by_both():
    pricing.set_prices(
        {
            "swift": {
                "input_cost_per_token": 1,
                "output_cost_per_token": 1,
                "provider_specific_entry": {"fast": 2, "us": 1.1},
            }
        }
    )
    assert most_usd("swift", sent=10, made=0, speed="fast", region="us") == 22
    assert pricing.cost_usd("swift", Usage(input_tokens=10), speed="fast", region="US") == 22
    assert pricing.cost_usd("swift", Usage(input_tokens=10), speed="normal", region="eu") == 10


def test_a_strict_limit_bounds_what_is_not_understood_on_top():
    given = {"input_cost_per_token": 1, "output_cost_per_token": 1, "input_cost_per_token_on_mars": 5}
    assert Decimal(prices_of("m", rates=given).most(10, 0)) / ONE == 60


def test_a_strict_limit_bounds_what_is_not_understood_of_batches_for_batches_only():
    given = {"input_cost_per_token": 1, "output_cost_per_token": 1, "cost_per_token_on_mars_batches": 5}
    mars = Usage(input_tokens=10)
    assert Decimal(prices_of("m", rates=given).most(10, 0)) / ONE == 10
    assert Decimal(prices_of("m", rates=given, service_tier="batch").most(10, 0)) / ONE == 60
    assert Decimal(prices_of("m", rates=given, service_tier="batch").cost(mars)) / ONE == 60


def test_a_strict_limit_bounds_by_plain_tokens_where_a_cache_makes_them_cheaper():
    request = Request(
        model="house",
        count_input=lambda: InputCount(tokens=10, upper_bound=10),
        price=lambda usage: 2 * usage.input_tokens - usage.cache_write_tokens,
    )
    assert request.most_cost(10, 0) == 20


def test_a_strict_limit_bounds_what_another_package_prices_by_asking_it_for_every_dearer_kind():
    def price(usage):
        return usage.input_tokens + 2 * usage.cache_write_tokens + 100 * usage.output_audio_tokens

    quote = Asked("somebody", price, lambda: None)
    assert quote.most(10, 5, ()) == 10 + 2 * 10
    assert quote.most(10, 5, ("output_audio",)) == 10 + 100 * 5
    assert Asked("nobody", lambda _usage: None, lambda: None).most(10, 5, ()) is None


def test_a_strict_step_reserves_for_the_hour_that_a_cache_is_asked_to_keep():
    held = []
    for ttl in ("5m", "1h"):
        content = [{"type": "text", "text": "hi", "cache_control": {"type": "ephemeral", "ttl": ttl}}]
        request = Request(
            model="claude-sonnet-4-5",
            provider="anthropic",
            count_input=lambda: InputCount(tokens=1_000, upper_bound=1_000),
            max_output_tokens=10,
            kinds=partial(kinds_in, [{"role": "user", "content": content}], {}),
        )
        held.append(Decimal(request.most_cost(1_000, 0)) / ONE)
    assert held == [Decimal("0.00375"), Decimal("0.006")]
