"""Who is asked for a price, what of the question reaches them, and for how long an answer stands."""

from __future__ import annotations

import importlib
from decimal import Decimal

import pytest
from genai_prices.types import ModelPrice

from steptrack_callbacks.pricing import (
    cost_usd,
    genai,
    max_output_tokens,
    prices_of,
    reset,
    set_prices,
    source_of,
    sources,
    table,
)
from steptrack_callbacks.pricing.per_item import image_prices
from steptrack_callbacks.values.usage import Usage

ONE = 10**24
HELLO = Usage(input_tokens=10, output_tokens=5)
PRICE = {"input_cost_per_token": 1e-6, "output_cost_per_token": 2e-6, "mode": "chat"}
COLD_DAYS = {"input_cost_per_token_on_cold_days": 9e-6}
"""A rate that only LiteLLM could know; its `cost_per_token` charges the others."""


@pytest.fixture(autouse=True)
def _clean():
    reset()
    yield
    reset()


@pytest.fixture
def litellm(monkeypatch):
    monkeypatch.setenv("LITELLM_LOCAL_MODEL_COST_MAP", "True")
    module = importlib.import_module("litellm")
    monkeypatch.setattr(module, "model_cost", dict(module.model_cost))
    return module


@pytest.fixture
def listed(monkeypatch):
    """Put entries in the place of LiteLLM's table, which is not imported."""

    def put(entries):
        monkeypatch.setattr(table, "_loaded", [table.Table(entries)])
        monkeypatch.setattr(sources, "live_entries", lambda: None)
        reset()

    return put


# LiteLLM's own arithmetic


def test_what_is_handed_to_litellm_is_priced_for_the_provider_and_the_tier_of_the_call(litellm):
    strange = PRICE | COLD_DAYS | {"input_cost_per_token_flex": 5e-7, "litellm_provider": "groq"}
    litellm.model_cost["groq/strange-one"] = strange
    plain, flex = (
        cost_usd("strange-one", HELLO, provider="groq", service_tier=tier) for tier in (None, "flex")
    )
    assert (float(plain), float(flex)) == (pytest.approx(20e-6), pytest.approx(15e-6))


def test_what_is_handed_to_litellm_is_litellms_price_for_plain_tokens_too(litellm):
    litellm.model_cost["strange-one"] = PRICE | COLD_DAYS | {"litellm_provider": "openai"}
    assert source_of("strange-one", provider="openai") == "litellm"
    units = prices_of("strange-one", provider="openai").plain(10, 5)
    assert units == pytest.approx(20 * ONE // 10**6, rel=1e-9)


@pytest.mark.parametrize(
    "rates", [{"input_cost_per_thought_token": 1.0}, PRICE | {"input_cost_per_token": "?"}]
)
def test_who_cannot_price_a_model_that_they_list_leaves_it_to_the_next(listed, rates):
    expected = cost_usd("claude-2.1", HELLO, provider="anthropic")
    listed({"claude-2.1": rates | {"litellm_provider": "anthropic"}})
    assert source_of("claude-2.1", provider="anthropic") == "genai-prices"
    assert cost_usd("claude-2.1", HELLO, provider="anthropic") == expected
    assert prices_of("claude-2.1", provider="anthropic").plain(10, 5) == int(expected * ONE)


# Whose model it is, and how long its answers


def test_a_model_that_one_provider_alone_lists_is_that_providers(listed):
    listed({"command-z": PRICE | {"litellm_provider": "novita"}})
    assert cost_usd("command-z", HELLO) == Decimal("0.00002")


def test_a_maker_whose_name_is_only_in_a_key_does_not_sell_the_model(listed):
    resold = PRICE | {"input_cost_per_token": 9, "litellm_provider": "groq"}
    listed({"openai/zap-9": resold, "mistral/zap-9": PRICE | {"litellm_provider": "mistral"}})
    assert cost_usd("zap-9", HELLO) == Decimal("0.00002")


@pytest.mark.parametrize("name", ["zap-latest", "ZAP-latest", "openai/zap-latest"])
def test_a_name_that_points_at_a_model_costs_what_the_model_does(listed, name):
    points = {"zap-latest": {"alias_of": "zap-9"}, "lost-latest": {"alias_of": "nowhere"}}
    listed(points | {"zap-9": PRICE | {"litellm_provider": "openai", "max_output_tokens": 77}})
    assert cost_usd(name, HELLO) == cost_usd("zap-9", HELLO) == Decimal("0.00002")
    assert max_output_tokens(name) == 77
    assert source_of("lost-latest") is None


def test_a_name_that_points_at_a_model_follows_the_price_that_is_registered_for_it(litellm):
    # So a LiteLLM that knows no such rows loads them from the network.
    litellm.model_cost["zap-latest"] = {"alias_of": "zap-9"}
    litellm.model_cost["zap-9"] = entry = PRICE | {"litellm_provider": "openai"}
    assert cost_usd("zap-latest", HELLO) == Decimal("0.00002")
    entry["input_cost_per_token"] = 2e-6
    assert cost_usd("zap-latest", HELLO) == Decimal("0.00003")


class _Adding(str):
    """Text that adds a model to LiteLLM's table while it is looked at, as another thread may at any time."""

    __slots__ = ("add",)

    def lower(self):
        self.add()
        return super().lower()

    def endswith(self, end):
        self.add()
        return super().endswith(end)

    def __str__(self):
        self.add()
        return super().__str__()


@pytest.fixture
def adding(litellm):
    """Make such text."""

    def make(text):
        made = _Adding(text)
        made.add = lambda: litellm.register_model({f"new-{len(litellm.model_cost)}": PRICE})
        return made

    return make


def test_a_model_may_be_registered_while_another_thread_looks_for_one(litellm, adding):
    litellm.model_cost[adding("nobodys/zap-9")] = {"input_cost_per_image": 1.0, "litellm_provider": "nobodys"}
    for name in ("zap-9", "ZAP-9"):
        assert cost_usd(name, HELLO, provider="somebodys") is None
    assert image_prices("zap-9", "nobodys", quality=None, size=None).usual == ONE


def test_a_model_may_be_registered_while_another_thread_looks_for_a_fee(litellm, adding):
    searches = {"litellm_provider": adding("perplexity"), "search_context_cost_per_query": 1.0}
    litellm.model_cost["perplexity/zap-9"] = PRICE | searches
    litellm.model_cost["perplexity/zap-8"] = PRICE | {"litellm_provider": "perplexity"}
    searched = Usage(input_tokens=10, output_tokens=5, web_search_requests=1)
    assert cost_usd("zap-8", searched, provider="perplexity") > 0


def test_an_answer_of_no_tokens_is_no_longest_one(listed):
    listed({"zap-9": PRICE | {"litellm_provider": "openai", "max_output_tokens": 0}})
    assert max_output_tokens("zap-9") is None


def test_the_longest_answer_of_a_providers_model_follows_its_own_entry(litellm):
    litellm.model_cost["azure/gpt-4o-mini"] = entry = dict(litellm.model_cost["azure/gpt-4o-mini"])
    assert max_output_tokens("gpt-4o-mini", provider="azure") == entry["max_output_tokens"]
    entry["max_output_tokens"] = 77
    assert max_output_tokens("gpt-4o-mini", provider="azure") == 77


def test_a_price_of_answers_alone_is_no_source_of_both():
    set_prices({"mine": {"output_usd_per_mtok": 1}})
    assert source_of("mine") is None


# How long an answer stands


@pytest.mark.parametrize("is_imported", [True, False])
@pytest.mark.parametrize("model", ["gpt-4o-mini", "no-such-model"])
def test_a_model_is_looked_up_once_while_nothing_changes(litellm, monkeypatch, is_imported, model):
    if not is_imported:
        monkeypatch.setattr(sources, "live_entries", lambda: None)
    found = prices_of(model)
    assert prices_of(model) is found
    set_prices({"another-model": {"input_usd_per_mtok": 1}})
    assert prices_of(model) is not found


def test_a_model_is_looked_up_anew_once_litellm_is_imported(litellm, monkeypatch):
    with monkeypatch.context() as before:
        before.setattr(sources, "live_entries", lambda: None)
        found = prices_of("gpt-4o-mini")
    assert prices_of("gpt-4o-mini") is not found


# genai-prices


def test_a_request_of_genai_prices_costs_its_thousandth():
    rates = genai._read(ModelPrice(input_mtok=Decimal(2), requests_kcount=Decimal(5)))
    assert rates.cost(Usage(input_tokens=10**6)) == 2 * ONE + 5 * ONE // 1000


def test_prices_of_genai_prices_that_changed_meanwhile_are_read_anew():
    found, dearer = (genai.find(model, "openai", None) for model in ("gpt-4o-mini", "gpt-4o"))
    cheap, dear = found.cost(HELLO), dearer.cost(HELLO)
    found.model = dearer.model
    assert found.cost(HELLO) == dear > cheap


def test_genai_prices_has_no_tier_of_a_model_that_is_borrowed_from_its_maker():
    assert genai.find("gpt-4o", "azure", "batch").context is None
