"""Each entry point is charged once, exactly, and at once; and is refused before it is sent."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import litellm
import pytest
from calling import (
    CALL_USD,
    MODEL,
    NAMES,
    STREAMING,
    Events,
    acall,
    arguments,
    ask,
    call,
    read,
    run,
)

import steptrack_callbacks as steptrack
from provider import Provider
from steptrack_callbacks import BudgetExhausted, step
from steptrack_callbacks.steps.attribution import unattributed_usage
from steptrack_callbacks.testing import recorder

pytestmark = pytest.mark.contract

WAYS = [(name, stream) for name in NAMES for stream in (False, True) if name in STREAMING or not stream]
each_way = pytest.mark.parametrize(
    ("name", "stream"), WAYS, ids=[f"{name}{'-stream' * stream}" for name, stream in WAYS]
)


def expected(name: str) -> tuple[int, int, int]:
    """Tell the calls, input and output tokens that one call comes to."""
    return 1, 100, 0 if "embedding" in name else 200


def counted(usage: Any) -> tuple[int, int, int]:
    return usage.calls, usage.input_tokens, usage.output_tokens


@each_way
def test_a_call_is_charged_once_to_its_step_and_those_around_as_soon_as_it_is_answered(
    name: str, stream: bool, provider: Provider
) -> None:
    with step("outer") as outer, step("inner") as inner:
        ask(name, provider, stream=stream)
        assert counted(inner.usage) == expected(name)
        assert counted(inner.own_usage) == expected(name)
        assert counted(outer.usage) == expected(name)
        assert outer.own_usage.calls == 0
        assert inner.usage.estimated_calls == inner.usage.ungated_calls == inner.usage.unpriced_calls == 0
        assert provider.count() == 1
    assert unattributed_usage().calls == 0


@pytest.mark.parametrize("name", NAMES)
def test_a_call_costs_what_litellm_says_it_does(name: str, provider: Provider) -> None:
    with step("plan") as plan:
        answer = call(name, provider)
    stated = answer._hidden_params["response_cost"]
    assert stated > 0
    assert plan.cost_usd == Decimal(f"{stated:.15g}")


@pytest.mark.parametrize("name", STREAMING)
def test_a_stream_costs_what_the_whole_answer_would(name: str, provider: Provider) -> None:
    with step("plan") as plan:
        read(name, provider)
    assert plan.cost_usd == CALL_USD


@each_way
def test_a_report_that_comes_later_changes_nothing(
    name: str, stream: bool, provider: Provider, events: Events
) -> None:
    async def ask_async() -> None:
        answer = await acall(name, provider, **({"stream": True} if stream else {}))
        if stream:
            async for _ in answer:
                pass
        await events.wait_for_async()

    with step("plan") as plan:
        if name.startswith("a"):
            run(ask_async())
        else:
            ask(name, provider, stream=stream)
            events.wait_for()
        assert counted(plan.usage) == expected(name)
    assert unattributed_usage().calls == 0


@each_way
def test_without_room_nothing_is_sent(name: str, stream: bool, provider: Provider) -> None:
    with recorder() as seen, pytest.raises(BudgetExhausted) as refused, step("plan", max_calls=0):
        ask(name, provider, stream=stream)
    assert (refused.value.limit, refused.value.phase) == ("max_calls", "denied")
    assert provider.count() == 0
    assert len(seen.denied) == 1
    assert not seen.calls


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("limits", [{"max_usd": 1e-9}, {"max_tokens": 2}, {"max_seconds": 1e-9}])
def test_every_limit_is_held(name: str, limits: dict[str, Any], provider: Provider) -> None:
    key = next(key for key in ("messages", "prompt", "input") if key in arguments(name, provider))
    content: Any = "why is the sky blue?"
    content = [{"role": "user", "content": content}] if key == "messages" else content
    with pytest.raises(BudgetExhausted) as refused, step("plan", **limits):
        call(name, provider, **{key: content})
    assert refused.value.limit in limits
    assert provider.count() == 0


@each_way
def test_a_call_outside_of_steps_is_unattributed(name: str, stream: bool, provider: Provider) -> None:
    ask(name, provider, stream=stream)
    assert counted(unattributed_usage()) == expected(name)


@pytest.mark.parametrize("name", NAMES)
def test_arguments_may_be_given_by_position(name: str, provider: Provider) -> None:
    given = arguments(name, provider)
    content = next(key for key in ("messages", "prompt", "input") if key in given)
    first = [content, "model"] if content == "prompt" or "responses" in name else ["model", content]
    positional = [given.pop(key) for key in first]

    async def ask_async() -> None:
        await getattr(litellm, name)(*positional, **given)

    with step("plan", max_usd=1) as plan:
        if name.startswith("a"):
            run(ask_async())
        else:
            getattr(litellm, name)(*positional, **given)
        assert counted(plan.usage) == expected(name)
        assert MODEL in plan.record().models or "embedding" in name


@pytest.mark.parametrize("name", NAMES)
def test_the_same_arguments_reach_the_provider_as_without_us(name: str, provider: Provider) -> None:
    given = {"temperature": 0.5, "user": "me"} if "embedding" not in name else {"user": "me"}
    with step("plan", max_usd=1):
        call(name, provider, **given)
    steptrack.uninstall()
    call(name, provider, **given)
    ours, plain = provider.requests
    assert (ours.path, ours.body) == (plain.path, plain.body)


def test_cached_and_reasoning_tokens_are_told_apart(provider: Provider) -> None:
    provider.behave(cached_tokens=60, reasoning_tokens=50)
    for name in ("completion", "responses"):
        for stream in (False, True):
            with step("plan") as plan:
                ask(name, provider, stream=stream)
            assert (plan.usage.cache_read_tokens, plan.usage.reasoning_tokens) == (60, 50), (name, stream)
            assert plan.cost_usd == Decimal("0.002175"), (name, stream)
