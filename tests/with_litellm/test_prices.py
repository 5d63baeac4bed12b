"""Whose price a call has: LiteLLM's table, what was registered, what came with the call, or nobody's."""

from __future__ import annotations

from copy import deepcopy
from decimal import Decimal
from typing import Any

import litellm
import pytest
from calling import ASK, CALL_USD, NAMES, ask, call, read, run
from litellm import Router

import payloads
from payloads import U
from provider import Provider
from steptrack_callbacks import BudgetExhausted, UnknownCostWarning, UnpricedModel, pricing, step

CHAT = ("completion", "acompletion")

UNKNOWN = "openai/a-model-of-our-own"


@pytest.mark.parametrize("name", NAMES)
def test_a_model_without_a_price_is_refused_where_dollars_are_limited(name: str, provider: Provider) -> None:
    with pytest.raises(UnpricedModel), step("plan", max_usd=1) as plan:
        call(name, provider, model=UNKNOWN)
    assert provider.count() == plan.usage.calls == 0


@pytest.mark.parametrize("name", CHAT)
def test_a_step_may_let_models_without_a_price_through(name: str, provider: Provider) -> None:
    with step("plan", max_usd=1, unpriced="free") as plan:
        call(name, provider, model=UNKNOWN)
    assert (plan.usage.calls, plan.usage.unpriced_calls, plan.cost_usd) == (1, 1, 0)
    with (
        step("plan", max_usd=1, unpriced="warn") as plan,
        pytest.warns(UnknownCostWarning, match="a-model-of-our-own"),
    ):
        call(name, provider, model=UNKNOWN)
    assert plan.usage.unpriced_calls == 1


def test_a_model_without_a_price_is_counted_as_such_where_no_dollars_are_limited(provider: Provider) -> None:
    with step("plan", max_tokens=1000) as plan:
        call("completion", provider, model=UNKNOWN)
        read("completion", provider, model=UNKNOWN)
    assert (plan.usage.unpriced_calls, plan.usage.total_tokens) == (2, 600)


INPUT_ONLY = {"input_usd_per_mtok": 1}


@pytest.mark.parametrize("name", ["embedding", "aembedding"])
def test_embeddings_need_no_price_for_their_output(name: str, provider: Provider) -> None:
    pricing.set_prices({"a-model-of-our-own": INPUT_ONLY})
    with step("plan", max_usd=1) as plan:
        call(name, provider, model=UNKNOWN)
    assert plan.usage.calls == 1
    assert plan.cost_usd == plan.usage.input_tokens * Decimal("1e-6") > 0


@pytest.mark.parametrize("name", CHAT)
def test_a_price_without_an_output_rate_is_said_to_lack_it(name: str, provider: Provider) -> None:
    pricing.set_prices({"a-model-of-our-own": INPUT_ONLY})
    with pytest.raises(UnpricedModel, match="has no output_usd_per_mtok") as caught, step("plan", max_usd=1):
        call(name, provider, model=UNKNOWN)
    assert caught.value.lacks == "output_usd_per_mtok"
    assert provider.count() == 0


PRICE = {"input_cost_per_token": 1e-6, "output_cost_per_token": 3e-6}


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("name", CHAT)
def test_prices_that_come_with_the_call_are_used(
    name: str, stream: bool, provider: Provider, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(litellm, "model_cost", deepcopy(litellm.model_cost))
    with step("plan", max_usd=1) as plan:
        ask(name, provider, stream=stream, model="openai/priced-by-call", **PRICE)
    assert plan.cost_usd == Decimal("0.0007")
    with step("plan", max_usd=0.0005), pytest.raises(BudgetExhausted):
        ask(name, provider, model="openai/priced-by-call", **PRICE)
        ask(name, provider, model="openai/priced-by-call", **PRICE)


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("name", CHAT)
def test_prices_that_were_registered_with_litellm_are_used(
    name: str, stream: bool, provider: Provider, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(litellm, "model_cost", deepcopy(litellm.model_cost))
    litellm.register_model({"openai/registered": {**PRICE, "litellm_provider": "openai", "mode": "chat"}})
    with step("plan", max_usd=1) as plan:
        ask(name, provider, stream=stream, model="openai/registered")
    assert plan.cost_usd == Decimal("0.0007")


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("name", CHAT)
def test_the_api_that_is_used_does_not_change_the_price(name: str, stream: bool, provider: Provider) -> None:
    with step("plan", max_usd=1) as plan:
        ask(name, provider, stream=stream, model="openai/responses/gpt-4o")
    assert provider.requests[0].path == "/responses"
    assert (plan.usage.calls, plan.cost_usd) == (1, CALL_USD)


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("name", CHAT)
def test_a_deployment_is_priced_as_its_base_model(name: str, stream: bool, provider: Provider) -> None:
    with step("plan", max_usd=1) as plan:
        ask(name, provider, stream=stream, model="openai/deployment-7", base_model="openai/gpt-4o")
    assert (plan.usage.unpriced_calls, plan.cost_usd) == (0, CALL_USD)


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("world", ["sync", "async"])
@pytest.mark.parametrize(
    ("described", "cost"),
    [({"base_model": "openai/gpt-4o"}, CALL_USD), (PRICE, Decimal("0.0007"))],
    ids=["base_model", "prices"],
)
def test_a_router_may_describe_its_models(
    described: dict[str, Any],
    cost: Decimal,
    world: str,
    stream: bool,
    provider: Provider,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(litellm, "model_cost", deepcopy(litellm.model_cost))
    params = {"model": "openai/deployment-8", "api_base": provider.url, "api_key": "none"}
    router = Router(model_list=[{"model_name": "m", "litellm_params": params, "model_info": described}])

    async def main() -> None:
        answer = await router.acompletion(model="m", messages=ASK, stream=stream)
        [chunk async for chunk in answer] if stream else None

    with step("plan", max_usd=1) as plan:
        if world == "async":
            run(main())
        else:
            answer = router.completion(model="m", messages=ASK, stream=stream)
            list(answer) if stream else None
        assert (plan.usage.calls, plan.usage.unpriced_calls, plan.cost_usd) == (1, 0, cost)


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("name", CHAT)
def test_a_price_by_the_second_that_comes_with_the_call_is_charged_by_time(
    name: str, stream: bool, provider: Provider, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(litellm, "model_cost", deepcopy(litellm.model_cost))
    with step("plan") as plan:
        ask(name, provider, stream=stream, model="openai/timed", input_cost_per_second=0.01)
    assert plan.usage.unpriced_calls == 0
    assert 0 < plan.cost_usd < Decimal("0.3")


@pytest.mark.parametrize("name", CHAT)
def test_a_price_by_the_second_cannot_be_budgeted_and_the_refusal_says_what_can(
    name: str, provider: Provider, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(litellm, "model_cost", deepcopy(litellm.model_cost))
    with pytest.raises(UnpricedModel, match="priced by the second, .*: limit it by max_calls or max_seconds"):
        with step("plan", max_usd=1):
            ask(name, provider, model="openai/timed", input_cost_per_second=0.01)
    assert provider.count() == 0
    with step("plan", max_usd=1, unpriced="warn") as plan, pytest.warns(UnknownCostWarning, match="second"):
        ask(name, provider, model="openai/timed", input_cost_per_second=0.01)
    assert plan.cost_usd > 0


@pytest.mark.parametrize("name", CHAT)
def test_a_deployment_that_nobody_knows_may_be_given_its_model(name: str, provider: Provider) -> None:
    deployment = {"model": "azure/my-deployment", "api_version": "2024-10-21"}
    with pytest.raises(UnpricedModel) as refused, step("plan", max_usd=1):
        ask(name, provider, **deployment)
    assert 'say which model it is of beside it: base_model="azure/gpt-4o"' in str(refused.value)
    assert "install(prices" not in str(refused.value)
    provider.behave(**payloads.chat(U, "my-deployment"))
    with step("plan", max_usd=1) as plan:
        ask(name, provider, **deployment, base_model="azure/gpt-4o")
    assert plan.cost_usd == 1_000 * Decimal("2.5e-6") + 500 * Decimal("1e-5")


def test_a_router_leaves_the_rates_of_its_models_as_simple_as_they_were(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(litellm, "model_cost", deepcopy(litellm.model_cost))
    before = pricing.prices_of("gpt-4o")
    Router(model_list=[{"model_name": "m", "litellm_params": {"model": "openai/gpt-4o", "api_key": "none"}}])
    after = pricing.prices_of("gpt-4o")
    assert "input_cost_per_token_above_128k_tokens" in litellm.model_cost["gpt-4o"]  # without a rate
    assert (after.flat, after.quotes[0].rates) == (before.flat, before.quotes[0].rates)
    assert after.flat is not None
