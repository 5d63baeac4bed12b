"""The last call of a budget gets what is left as its `max_tokens`, through every entry point that has one."""

from __future__ import annotations

from typing import Any

import litellm
import pytest
from calling import CALL_USD, HUNDRED_TOKENS, INPUT_USD, NAMES, OUTPUT_USD, ask, call

from provider import Provider
from steptrack_callbacks import BudgetExhausted, report, step

WORDS = " word" * 93
LONG: dict[str, dict[str, Any]] = {
    "completion": {"messages": HUNDRED_TOKENS},
    "text_completion": {"prompt": WORDS},
    "responses": {"input": WORDS},
}
CAPPED = [name for name in NAMES if "embedding" not in name]
ROOM = CALL_USD + 110 * OUTPUT_USD
"""Room for a call, and a half of its answer."""


def caps(provider: Provider, index: int = -1) -> list[int]:
    body = provider.requests[index].body
    return [body[name] for name in body if name.startswith("max_") and name.endswith("_tokens")]


@pytest.fixture
def warm(provider: Provider) -> Provider:
    """The provider, of which five answers of 200 tokens were seen."""
    for _ in range(5):
        call("completion", provider, messages=HUNDRED_TOKENS)
    provider.requests.clear()
    return provider


@pytest.mark.parametrize("name", CAPPED)
def test_the_last_call_is_given_what_is_left_and_one_that_is_cut_says_so(name: str, warm: Provider) -> None:
    content = LONG[name.removeprefix("a")]
    warm.behave(output_tokens=900)
    with step("plan", max_usd=ROOM, error_boundary="continue") as plan:
        ask(name, warm, **content)
        ask(name, warm, **content)
    (cap,) = caps(warm)
    assert 200 <= cap <= 320
    assert warm.count() == 1
    assert plan.cost_usd <= ROOM + 10 * INPUT_USD  # the provider counts some more tokens than are sent
    assert plan.record().cut_calls == 1
    assert "1 call cut short by what was left" in str(report())


def test_a_cap_takes_the_place_of_one_that_was_given_by_position(warm: Provider) -> None:
    positional = ("openai/gpt-4o", HUNDRED_TOKENS, None, None, None, None, None, None, None, None, None)
    with step("plan", max_usd=ROOM, error_boundary="continue"):
        call("completion", warm, messages=HUNDRED_TOKENS)
        litellm.completion(*positional, api_base=warm.url, api_key="none", max_retries=0)
    assert 200 <= caps(warm)[0] <= 320


def test_a_call_far_from_the_limit_is_sent_as_it_is(warm: Provider) -> None:
    with step("plan", max_usd=100 * ROOM):
        call("completion", warm)
    assert caps(warm) == []


def test_where_less_than_the_usual_answer_is_left_the_call_is_refused(warm: Provider) -> None:
    with pytest.raises(BudgetExhausted), step("plan", max_usd=ROOM - 140 * OUTPUT_USD):
        call("completion", warm, messages=HUNDRED_TOKENS)
    assert warm.count() == 0


@pytest.mark.parametrize(
    "options",
    [
        {"max_tokens": 250},
        {"response_format": {"type": "json_object"}},
        {"tools": [{"type": "function", "function": {"name": "look", "parameters": {}}}]},
        {"reasoning_effort": "low"},
        {"extra_body": {"max_completion_tokens": 250}},
        {"extra_body": {"response_format": {"type": "json_object"}}},
    ],
    ids=str,
)
def test_what_must_not_be_cut_is_sent_as_it_is(options: dict[str, Any], warm: Provider) -> None:
    with step("plan", max_usd=ROOM):
        call("completion", warm, drop_params=True, **options)
    assert caps(warm) in ([], [250])


@pytest.mark.needs("litellm>=1.108", "before, it hands `thinking` to a client that knows no such argument")
def test_thinking_is_sent_as_it_is(warm: Provider) -> None:
    with step("plan", max_usd=ROOM):
        call(
            "completion",
            warm,
            thinking={"type": "enabled", "budget_tokens": 1024},
            allowed_openai_params=["thinking"],
        )
    assert caps(warm) == []


def test_a_stream_is_cut_as_it_runs_instead(warm: Provider) -> None:
    with step("plan", max_usd=ROOM):
        ask("completion", warm, stream=True)
    assert caps(warm) == []


def test_clamp_false_sends_every_call_as_it_is(warm: Provider) -> None:
    with step("plan", max_usd=ROOM, clamp=False):
        call("completion", warm)
    assert caps(warm) == []


@pytest.mark.parametrize("enforce", ["estimate", "strict"])
def test_several_answers_share_what_is_left(enforce: Any, warm: Provider) -> None:
    room = CALL_USD + 700 * OUTPUT_USD
    warm.behave(output_tokens=900)
    with step("plan", max_usd=room, enforce=enforce, error_boundary="continue") as plan:
        call("completion", warm, messages=HUNDRED_TOKENS, n=3)
    (cap,) = caps(warm)
    assert cap <= 900 // 3
    assert plan.cost_usd <= room
    assert plan.record().strict_breaches == 0


def test_a_fallback_of_the_router_is_given_what_is_left_for_it(warm: Provider) -> None:
    def deployment(name: str) -> dict[str, Any]:
        where = {"api_base": warm.url, "api_key": "none", "max_retries": 0}
        return {"model_name": name, "litellm_params": {"model": "openai/gpt-4o", **where}}

    router = litellm.Router(
        [deployment("first"), deployment("second")], fallbacks=[{"first": ["second"]}], num_retries=0
    )
    warm.fail_next(1, status=400)
    with step("plan", max_usd=ROOM):
        router.completion(model="first", messages=HUNDRED_TOKENS)
    assert [len(caps(warm, index)) for index in (0, 1)] == [1, 1]
