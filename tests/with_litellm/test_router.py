"""The Router, and LiteLLM's own fallbacks and batches: each attempt is gated, charged and attributed."""

from __future__ import annotations

import warnings
from decimal import Decimal
from typing import Any

import litellm
import pytest
from calling import ASK, CALL_USD, arguments, run, text_of
from litellm import Router

import steptrack_callbacks as steptrack
from provider import Provider, words
from steptrack_callbacks import BudgetExhausted, step
from steptrack_callbacks.steps.attribution import unattributed_usage
from steptrack_callbacks.testing import recorder

MINI_USD = CALL_USD * Decimal("0.06")


def router_of(provider: Provider, copies: int = 1, **options: Any) -> Router:
    """Build a router of an expensive and a cheap model, each with so many deployments."""
    where = {"api_base": provider.url, "api_key": "none", "max_retries": 0}
    models = {"big": "openai/gpt-4o", "small": "openai/gpt-4o-mini"}
    return Router(
        model_list=[
            {"model_name": name, "litellm_params": {"model": model, **where}}
            for name, model in list(models.items()) * copies
        ],
        **{"num_retries": 0, "retry_after": 0, **options},
    )


def ask_sync(router: Router, **options: Any) -> Any:
    answer = router.completion(model="big", messages=ASK, **options)
    return list(answer) if options.get("stream") else answer


def ask_sync_on_a_loop(router: Router, **options: Any) -> Any:
    async def main() -> Any:
        return ask_sync(router, **options)

    return run(main())


def ask_async(router: Router, **options: Any) -> Any:
    async def main() -> Any:
        answer = await router.acompletion(model="big", messages=ASK, **options)
        return [chunk async for chunk in answer] if options.get("stream") else answer

    return run(main())


def cooled_down(router: Router) -> list[str]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # 1.110 has other words for it, which 1.109 lacks
        ids = [deployment["model_info"]["id"] for deployment in router.get_model_list()]
        return [each for each in ids if router.cooldown_cache.get_active_cooldowns([each], None)]


in_all_worlds = pytest.mark.parametrize("ask", [ask_sync, ask_sync_on_a_loop, ask_async])


@in_all_worlds
@pytest.mark.parametrize("stream", [False, True])
def test_a_call_is_charged_once_to_its_step(ask: Any, stream: bool, provider: Provider) -> None:
    with step("plan", max_usd=1) as plan:
        answer = ask(router_of(provider), stream=stream)
        assert plan.usage.calls == provider.count() == 1
        assert plan.cost_usd == CALL_USD
    assert not stream or text_of(answer) == "".join(words(200))
    assert unattributed_usage().calls == 0


@in_all_worlds
def test_a_router_built_before_install_is_gated_too(ask: Any, provider: Provider) -> None:
    steptrack.uninstall()
    router = router_of(provider)
    steptrack.install()
    with step("plan", max_calls=1, error_boundary="continue") as plan:
        ask(router)
        ask(router)
    assert plan.exhausted
    assert plan.usage.calls == provider.count() == 1
    assert plan.usage.ungated_calls == 0


@in_all_worlds
@pytest.mark.parametrize("stream", [False, True])
def test_a_refusal_is_neither_retried_nor_cooled_down_nor_fallen_back_on(
    ask: Any, stream: bool, provider: Provider
) -> None:
    router = router_of(provider, num_retries=3, fallbacks=[{"big": ["small"]}])
    with recorder() as seen, step("plan", max_calls=0) as plan:
        with pytest.raises(BudgetExhausted) as refused:
            ask(router, stream=stream)
        assert plan.usage.calls == 0
    assert refused.value.step == "plan"
    assert provider.count() == 0
    assert len(seen.denied) == 1
    assert cooled_down(router) == []
    with step("other") as other:
        ask(router, stream=stream)
    assert other.usage.calls == 1


@in_all_worlds
def test_an_error_cools_a_deployment_down_and_a_refusal_none(ask: Any, provider: Provider) -> None:
    router = router_of(provider, copies=2)
    with step("plan", max_calls=1, error_boundary="continue"):
        ask(router)
        ask(router)
    assert cooled_down(router) == []
    provider.fail_next(1, status=401)
    with pytest.raises(litellm.AuthenticationError):
        ask(router)
    assert cooled_down(router)


@in_all_worlds
def test_each_attempt_is_charged(ask: Any, provider: Provider) -> None:
    provider.fail_next(2, status=500)
    with step("plan", max_usd=1) as plan:
        ask(router_of(provider, num_retries=3))
    assert provider.count() == plan.usage.calls == 3
    assert (plan.usage.failed_calls, plan.cost_usd) == (2, CALL_USD)


@in_all_worlds
def test_a_failing_model_falls_back_to_another_and_both_are_charged(ask: Any, provider: Provider) -> None:
    provider.fail_next(1, status=500)
    with step("plan", max_usd=1) as plan:
        ask(router_of(provider, fallbacks=[{"big": ["small"]}]))
    assert provider.count() == plan.usage.calls == 2
    assert plan.usage.failed_calls == 1
    assert plan.cost_usd == MINI_USD
    assert [request.body["model"] for request in provider.requests] == ["gpt-4o", "gpt-4o-mini"]


@in_all_worlds
def test_retries_end_where_the_step_has_no_room(ask: Any, provider: Provider) -> None:
    provider.fail_next(10, status=500)
    with step("plan", max_calls=2) as plan, pytest.raises(BudgetExhausted):
        ask(router_of(provider, num_retries=5, fallbacks=[{"big": ["small"]}]))
    assert provider.count() == plan.usage.calls == 2


def test_a_refusal_while_a_stream_of_the_router_runs_reaches_the_reader(provider: Provider) -> None:
    provider.behave(output_tokens=5000)
    provider.hold(after_chunks=200)  # it cannot be done before it is stopped
    for ask in (ask_sync, ask_async):
        provider.requests.clear()
        router = router_of(provider, num_retries=2, fallbacks=[{"big": ["small"]}])
        with pytest.raises(BudgetExhausted) as refused, step("plan", max_tokens=60) as plan:
            ask(router, stream=True)
        assert refused.value.phase == "stream"
        assert refused.value.response.startswith(" word time")
        assert provider.count() == plan.usage.calls == 1
        provider.wait_until(lambda: provider.requests[0].end == "client closed")


@pytest.mark.parametrize("world", ["sync", "on-loop", "async"])
def test_embeddings_of_the_router_are_charged(world: str, provider: Provider) -> None:
    where = {"api_base": provider.url, "api_key": "none"}
    params = {"model": "openai/text-embedding-3-small", **where}
    router = Router(model_list=[{"model_name": "e", "litellm_params": params}])

    async def on_loop() -> Any:
        return router.embedding(model="e", input="hello")

    with step("plan", max_calls=1, error_boundary="continue") as plan:
        for _ in range(2):
            if world == "sync":
                router.embedding(model="e", input="hello")
            else:
                run(on_loop() if world == "on-loop" else router.aembedding(model="e", input="hello"))
    assert plan.exhausted
    assert plan.usage.calls == provider.count() == 1


@pytest.mark.parametrize("world", ["sync", "async"])
@pytest.mark.parametrize("stream", [False, True])
def test_responses_of_a_router_built_after_install_are_gated(
    world: str, stream: bool, provider: Provider
) -> None:
    router = router_of(provider)

    async def main() -> None:
        answer = await router.aresponses(model="big", input="hello", stream=stream)
        if stream:
            [event async for event in answer]

    with step("plan", max_calls=1, error_boundary="continue") as plan:
        for _ in range(2):
            if world == "async":
                run(main())
            else:
                answer = router.responses(model="big", input="hello", stream=stream)
                list(answer) if stream else None
    assert plan.exhausted
    assert plan.usage.calls == provider.count() == 1
    assert plan.cost_usd == CALL_USD


# LiteLLM's own fallbacks and batches


def fall_back(name: str, provider: Provider) -> Any:
    given = arguments("completion", provider, fallbacks=["openai/gpt-4o-mini"])
    if name == "completion":
        return litellm.completion(**given)
    return run(litellm.acompletion(**given))


@pytest.mark.parametrize("name", ["completion", "acompletion"])
def test_fallbacks_without_room_keep_the_type_of_the_refusal(name: str, provider: Provider) -> None:
    with pytest.raises(BudgetExhausted) as refused, step("plan", max_calls=0):
        fall_back(name, provider)
    assert refused.value.step == "plan"
    assert provider.count() == 0


@pytest.mark.parametrize("name", ["completion", "acompletion"])
def test_each_attempt_of_a_fallback_is_charged(name: str, provider: Provider) -> None:
    provider.fail_next(1, status=400)
    with step("plan", max_usd=1) as plan:
        fall_back(name, provider)
    assert [request.body["model"] for request in provider.requests] == ["gpt-4o", "gpt-4o-mini"]
    assert (plan.usage.calls, plan.usage.failed_calls) == (2, 1)
    assert plan.cost_usd == MINI_USD
    assert unattributed_usage().calls == 0


@pytest.mark.parametrize("name", ["completion", "acompletion"])
def test_a_fallback_that_fits_may_go(name: str, provider: Provider) -> None:
    given = {"messages": [{"role": "user", "content": " word" * 500}], "fallbacks": ["openai/gpt-4o-mini"]}
    with step("plan", max_usd=0.0005) as plan:
        answer = (
            litellm.completion(**arguments("completion", provider, **given))
            if name == "completion"
            else run(litellm.acompletion(**arguments("completion", provider, **given)))
        )
    assert answer.model == "gpt-4o-mini"
    assert provider.count() == plan.usage.calls == 1
    assert plan.record().denied_calls == 1


def test_a_sync_fallback_on_a_running_loop_finds_its_step(provider: Provider) -> None:
    async def main() -> None:
        fall_back("completion", provider)

    with step("plan") as plan:
        run(main())
    assert plan.usage.calls == provider.count() == 1


def test_a_batch_is_attributed_and_gated(provider: Provider) -> None:
    given = arguments("completion", provider) | {"messages": [ASK] * 5}
    with step("plan", max_calls=3, error_boundary="continue") as plan:
        results = litellm.batch_completion(**given)
    assert provider.count() == plan.usage.calls == 3
    assert sum(isinstance(result, BudgetExhausted) for result in results) == 2
    assert unattributed_usage().calls == 0
