"""The proxy charges what has answered: every rate of a deployment, its tier, counts that correct themselves, fees."""

from decimal import Decimal

import pytest
from endpoints import ENDPOINTS

import payloads
from payloads import U

CHAT = [ENDPOINTS["chat"], ENDPOINTS["chat stream"]]
MESSAGES = [ENDPOINTS["messages"], ENDPOINTS["messages stream"]]
BOTH = ["whole", "stream"]

CACHED = {
    "prompt_tokens": 10_000,
    "completion_tokens": 100,
    "total_tokens": 10_100,
    "prompt_tokens_details": {"cached_tokens": 9_000},
}


def charged(served, run, endpoint, model):
    status, _, body = endpoint.ask(served, run, "outer", model=model)
    assert status == 200, body
    step = served.settled(run, "outer")
    assert step["calls"] == 1
    return step, Decimal(str(step["cost_usd"]))


@pytest.mark.parametrize("model", ["rates-in-params", "rates-in-info"])
@pytest.mark.parametrize("endpoint", CHAT, ids=BOTH)
def test_every_rate_of_a_deployment_counts(served, provider, run, endpoint, model):
    provider.behave(**payloads.chat(CACHED, "our-house"))
    step, usd = charged(served, run, endpoint, model)
    assert (
        usd == 1_000 * Decimal("1e-6") + 9_000 * Decimal("1e-7") + 100 * Decimal("2e-6") == Decimal("0.0021")
    )


@pytest.mark.parametrize("endpoint", CHAT, ids=BOTH)
def test_the_tier_that_served_is_charged(served, provider, run, endpoint):
    provider.behave(**payloads.chat(U, "gpt-4o-mini", service_tier="priority"))
    _, usd = charged(served, run, endpoint, "fast")
    assert usd == 1_000 * Decimal("2.5e-7") + 500 * Decimal("1e-6")


@pytest.mark.parametrize("endpoint", MESSAGES, ids=BOTH)
def test_a_later_count_replaces_an_earlier_one_and_a_zero_does_too(served, provider, run, endpoint):
    start = {"input_tokens": 14, "cache_creation_input_tokens": 35_000, "output_tokens": 1}
    end = {"cache_creation_input_tokens": 0, "cache_read_input_tokens": 35_000, "output_tokens": 100}
    provider.behave(**payloads.message(start, end))
    step, usd = charged(served, run, endpoint, "claude")
    assert step["input_tokens"] == 35_014
    assert (
        usd == 14 * Decimal("3e-6") + 35_000 * Decimal("3e-7") + 100 * Decimal("15e-6") == Decimal("0.012042")
    )


@pytest.mark.parametrize("endpoint", MESSAGES, ids=BOTH)
def test_searches_of_the_web_are_charged(served, provider, run, endpoint):
    start = {
        "input_tokens": 50,
        "cache_creation_input_tokens": 180_000,
        "cache_read_input_tokens": 400_000,
        "output_tokens": 1,
    }
    end = {"output_tokens": 1_000, "server_tool_use": {"web_search_requests": 5}}
    provider.behave(**payloads.message(start, end))
    _, usd = charged(served, run, endpoint, "claude")
    assert usd == Decimal("0.81015") + 5 * Decimal("0.01") == Decimal("0.86015")


@pytest.mark.parametrize("endpoint", MESSAGES, ids=BOTH)
def test_rounds_of_another_model_have_its_price(served, provider, run, endpoint):
    rounds = [
        {"type": "message", "input_tokens": 1_000, "output_tokens": 100},
        {"type": "advisor_message", "model": "claude-opus-4-6", "input_tokens": 2_000, "output_tokens": 20},
    ]
    end = {"input_tokens": 1_000, "output_tokens": 100, "iterations": rounds}
    provider.behave(**payloads.message({"input_tokens": 1_000, "output_tokens": 1}, end))
    step, usd = charged(served, run, endpoint, "claude")
    own = 1_000 * Decimal("3e-6") + 100 * Decimal("15e-6")
    assert usd == own + 2_000 * Decimal("5e-6") + 20 * Decimal("25e-6")
    assert step["output_tokens"] == 120
