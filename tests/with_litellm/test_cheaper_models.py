"""LiteLLM's calls go on with the next of a step's models, in every mode, and through a Router."""

from __future__ import annotations

import asyncio
import threading
from contextlib import suppress
from decimal import Decimal
from typing import Any

import litellm
import pytest
from calling import ASK, CALL_USD, NAMES, STREAMING, arguments, run
from calling import ask as ask_plainly
from litellm import Router

from provider import Provider
from steptrack_callbacks import BudgetExhausted, bind, drain_completed_steps, step

LADDER = ["openai/gpt-4o", "openai/gpt-4o-mini"]
MINI_USD = CALL_USD * Decimal("0.06")
LIMIT = CALL_USD + MINI_USD * 3
"""What has room for one call of the dear model, and for a few of the cheap one."""

WITHOUT_VECTORS = [name for name in NAMES if "embedding" not in name]


def capped(name: str) -> dict[str, int]:
    """Cap an answer at the length that it has: more than that is not to be expected of it then."""
    return {"max_output_tokens" if "responses" in name else "max_tokens": 200}


def ask(name: str, provider: Provider, **options: Any) -> Any:
    return ask_plainly(name, provider, **({} if "embedding" in name else capped(name)) | options)


def models_at(provider: Provider) -> list[str]:
    return [request.body["model"] for request in provider.requests]


@pytest.fixture(autouse=True)
def _both_models_were_seen(provider: Provider, _attached: None) -> None:
    for model in LADDER:
        ask("completion", provider, model=model)
    provider.requests.clear()


@pytest.mark.parametrize("name", WITHOUT_VECTORS)
def test_a_call_that_does_not_fit_is_sent_with_the_next_model(name: str, provider: Provider) -> None:
    with step("answer", max_usd=LIMIT, models=LADDER) as answer:
        answers = [ask(name, provider) for _ in range(3)]
        assert models_at(provider) == ["gpt-4o", "gpt-4o-mini", "gpt-4o-mini"]
        assert answer.cost_usd == CALL_USD + 2 * MINI_USD
        assert answer.usage.calls == 3
    assert "steptrack_swap" not in answers[0]._hidden_params
    hidden = answers[1]._hidden_params
    assert hidden["steptrack_swap"] == {
        "asked": "openai/gpt-4o",
        "used": "openai/gpt-4o-mini",
        "why": "max_usd",
    }
    assert hidden["additional_headers"]["x-steptrack-model-used"] == "openai/gpt-4o-mini"
    (record,) = drain_completed_steps()
    assert [(swap.asked, swap.used, swap.calls) for swap in record.swaps] == [(*LADDER, 2)]


@pytest.mark.parametrize("name", STREAMING)
def test_a_stream_that_does_not_fit_is_begun_with_the_next_model(name: str, provider: Provider) -> None:
    with step("answer", max_usd=LIMIT, models=LADDER, downgrade_at=0.5) as answer:
        for _ in range(3):
            ask(name, provider, stream=True)
        assert models_at(provider) == ["gpt-4o", "gpt-4o-mini", "gpt-4o-mini"]
        assert answer.cost_usd == CALL_USD + 2 * MINI_USD
    (swap,) = drain_completed_steps()[0].swaps
    assert (swap.why, swap.calls) == ("downgrade_at", 2)


@pytest.mark.parametrize("is_async", [False, True])
def test_a_stream_says_with_which_model_it_was_made(is_async: bool, provider: Provider) -> None:
    options = arguments("completion", provider, stream=True)
    with step("answer", max_usd=1, models=LADDER, downgrade_at=0):

        async def main() -> Any:
            stream = await litellm.acompletion(**options)
            [chunk async for chunk in stream]
            return stream

        stream = run(main()) if is_async else litellm.completion(**options)
        assert stream._hidden_params["steptrack_swap"]["used"] == "openai/gpt-4o-mini"
        if not is_async:
            list(stream)


@pytest.mark.parametrize("is_async", [False, True])
def test_what_is_given_by_position_is_sent_with_the_other_model(is_async: bool, provider: Provider) -> None:
    where = {"api_base": provider.url, "api_key": "none"}
    with step("answer", max_usd=1, models=LADDER, downgrade_at=0):
        if is_async:
            run(litellm.acompletion("openai/gpt-4o", ASK, **where))
        else:
            litellm.completion("openai/gpt-4o", ASK, **where)
    assert models_at(provider) == ["gpt-4o-mini"]
    assert provider.requests[0].body["messages"] == ASK


def test_the_rest_of_the_request_is_the_same_so_that_its_prefix_is(provider: Provider) -> None:
    tool = {"type": "function", "function": {"name": "look", "parameters": {"type": "object"}}}
    options = {"tools": [tool], "temperature": 0.5, "prompt_cache_key": "a", "user": "b"}
    ask("completion", provider, **options)
    with step("answer", max_usd=1, models=LADDER, downgrade_at=0):
        ask("completion", provider, **options)
    before, after = (request.body for request in provider.requests)
    assert after == {**before, "model": "gpt-4o-mini"}


def test_rates_that_were_given_with_the_call_are_not_those_of_the_other_model(provider: Provider) -> None:
    rates = {"input_cost_per_token": 0.5, "output_cost_per_token": 0.5, "base_model": "gpt-4o"}
    with step("answer", max_usd=1, models=LADDER) as answer:
        ask("completion", provider, model="openai/gpt-4o", **rates)
        assert models_at(provider) == ["gpt-4o-mini"]
        assert answer.cost_usd == MINI_USD


IMAGE = [
    {"role": "user", "content": [{"type": "image_url", "image_url": {"url": "data:image/png;base64,aa"}}]}
]
SCHEMA = {"type": "json_schema", "json_schema": {"name": "a", "schema": {}}}


@pytest.mark.parametrize(
    ("options", "used"),
    [
        ({"messages": IMAGE}, "gpt-4o-mini"),
        ({}, "gpt-3.5-turbo"),
        ({"messages": [{"role": "user", "content": " word" * 20_000}]}, "gpt-4o-mini"),
        ({"response_format": SCHEMA}, "gpt-4o-mini"),
    ],
)
def test_the_other_model_takes_what_the_request_has(
    options: dict[str, Any], used: str, provider: Provider
) -> None:
    models = ["openai/gpt-4o", "openai/gpt-3.5-turbo", "openai/gpt-4o-mini"]
    with step("answer", max_usd=1, models=models, downgrade_at=0):
        ask("completion", provider, **options)
    assert models_at(provider) == [used]


def test_vectors_of_one_model_are_never_mixed_with_those_of_another(provider: Provider) -> None:
    models = ["openai/text-embedding-3-large", "openai/text-embedding-3-small"]
    with step("answer", max_usd=1, models=models, downgrade_at=0):
        ask("embedding", provider, model=models[0])
    assert models_at(provider) == ["text-embedding-3-large"]


def test_what_fits_with_no_model_is_refused_and_nothing_is_sent(provider: Provider) -> None:
    with step("answer", max_usd=MINI_USD / 2, models=LADDER) as answer:
        with pytest.raises(BudgetExhausted, match="max_usd"):
            ask("completion", provider)
        assert answer.record().denied_calls == 1
    assert not provider.requests


# Through a Router, by its groups


def router_of(provider: Provider, **options: Any) -> Router:
    where = {"api_base": provider.url, "api_key": "none", "max_retries": 0}
    models = {"big": "openai/gpt-4o", "small": "openai/gpt-4o-mini"}
    listed = [
        {"model_name": name, "litellm_params": {"model": each, **where}} for name, each in models.items()
    ]
    return Router(model_list=listed, **{"num_retries": 0, "retry_after": 0, **options})


def routed(name: str, router: Router, *, stream: bool = False) -> Any:
    content = {"responses": {"input": "hello"}, "text_completion": {"prompt": "hello"}}
    options = content.get(name.removeprefix("a"), {"messages": ASK}) | capped(name)
    options |= {"stream": True} if stream else {}

    async def main() -> Any:
        answer = await getattr(router, name)(model="big", **options)
        if stream:
            [chunk async for chunk in answer]
        return answer

    if name.startswith("a"):
        return run(main())
    answer = getattr(router, name)(model="big", **options)
    if stream:
        list(answer)
    return answer


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("name", ["completion", "acompletion", "aresponses", "atext_completion"])
def test_a_router_goes_on_with_the_next_group(name: str, stream: bool, provider: Provider) -> None:
    router = router_of(provider)
    with step("answer", max_usd=LIMIT, models=["big", "small"]) as answer:
        answers = [routed(name, router, stream=stream) for _ in range(3)]
        assert models_at(provider) == ["gpt-4o", "gpt-4o-mini", "gpt-4o-mini"]
        assert answer.cost_usd == CALL_USD + 2 * MINI_USD
        assert answer.record().denied_calls == 0
    told = {"asked": "big", "used": "small", "why": "max_usd"}
    assert answers[1]._hidden_params["steptrack_swap"] == told
    (swap,) = drain_completed_steps()[0].swaps
    assert (swap.asked, swap.used, swap.calls) == ("big", "small", 2)


def test_a_router_begins_with_the_next_group_from_a_share_on(provider: Provider) -> None:
    router = router_of(provider)
    with step("answer", max_usd=CALL_USD * 2, models=["big", "small"], downgrade_at=0.5):
        routed("acompletion", router)
        routed("completion", router)
    assert models_at(provider) == ["gpt-4o", "gpt-4o-mini"]


def test_a_group_that_a_router_does_not_have_is_passed_over_and_the_refusal_says_so(
    provider: Provider,
) -> None:
    router = router_of(provider)
    why = "tiny was passed over: the Router has no group of that name"
    with step("answer", max_usd=MINI_USD, models=["big", "tiny"]), pytest.raises(BudgetExhausted, match=why):
        routed("completion", router)
    assert not provider.requests


def test_within_a_group_its_deployments_go_on_with_the_models_that_a_step_names(provider: Provider) -> None:
    router = router_of(provider)
    with step("answer", max_usd=1, models=LADDER, downgrade_at=0):
        routed("completion", router)
    assert models_at(provider) == ["gpt-4o-mini"]


def fifty(provider: Provider, limit: Decimal, **options: Any) -> tuple[Decimal, dict[str, int]]:
    """Make fifty calls at once; returns what they cost, and how many were made with which model."""
    provider.hold()

    async def one() -> str:
        try:
            answer = await litellm.acompletion(**arguments("acompletion", provider, max_tokens=200))
        except BudgetExhausted:
            return "refused"
        return str(answer.model)

    async def main() -> list[str]:
        tasks = [asyncio.ensure_future(one()) for _ in range(50)]
        await asyncio.to_thread(provider.wait_for, 1)
        provider.release()
        return await asyncio.gather(*tasks)

    provider.requests.clear()
    with suppress(BudgetExhausted), step("answer", max_usd=limit, **options) as answer:
        done = run(main())
    counted = {name: done.count(name) for name in ("gpt-4o", "gpt-4o-mini", "refused")}
    assert sum(counted.values()) == 50
    assert len(provider.requests) == 50 - counted["refused"] == answer.usage.calls
    assert answer.cost_usd == counted["gpt-4o"] * CALL_USD + counted["gpt-4o-mini"] * MINI_USD
    return answer.cost_usd, counted


def test_fifty_at_once_pass_the_limit_no_more_than_without_swaps(provider: Provider) -> None:
    limit = CALL_USD * Decimal("10.5")
    without, _ = fifty(provider, limit)
    cost, counted = fifty(provider, limit, models=LADDER)
    assert limit * Decimal("0.9") <= cost <= max(without, limit * Decimal("1.05"))
    assert counted["gpt-4o-mini"] >= 1


def test_what_others_have_merely_reserved_is_waited_for(provider: Provider) -> None:
    provider.hold()
    with step("answer", max_usd=CALL_USD * Decimal("2.2"), models=LADDER):
        threads = [threading.Thread(target=bind(ask), args=("completion", provider)) for _ in range(3)]
        for thread in threads:
            thread.start()
        provider.wait_for(1)
        provider.release()
        for thread in threads:
            thread.join()
    assert sorted(models_at(provider)) == ["gpt-4o", "gpt-4o", "gpt-4o-mini"]
