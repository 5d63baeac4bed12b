"""Responses that the provider keeps: retrieving one is not a model call, and one made in the background is charged then."""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal
from typing import Any

import litellm
import pytest
from calling import run

import payloads
from provider import Provider
from steptrack_callbacks import Step, step

MADE = payloads.response({"input_tokens": 1_000, "output_tokens": 500, "total_tokens": 1_500})["whole"]
QUEUED = MADE | {"status": "queued", "output": [], "usage": None}
USD = 1_000 * Decimal("1.25e-6") + 500 * Decimal("10e-6")


@pytest.fixture(params=["", "a"], ids=["sync", "async"])
def ask(request: pytest.FixtureRequest, provider: Provider) -> Callable[..., Any]:
    """Return what calls a function of LiteLLM, or its twin, and waits until LiteLLM has told of it."""

    def asked(name: str, **options: Any) -> Any:
        options |= {"api_base": provider.url, "api_key": "none"}
        function = getattr(litellm, request.param + name)
        answer = run(function(**options)) if request.param else function(**options)
        litellm.utils.executor.submit(lambda: None).result()  # type: ignore[attr-defined]
        return answer

    return asked


def made(ask: Callable[..., Any]) -> Any:
    return ask("responses", model="openai/gpt-5", input="hello")


def retrieve(ask: Callable[..., Any], answer: Any) -> None:
    for _ in range(3):
        ask("get_responses", response_id=answer.id, custom_llm_provider="openai")


def counted(plan: Step) -> tuple[int, int, int, Decimal]:
    used = plan.usage
    return used.calls, used.input_tokens, used.output_tokens, used.cost_usd


def test_a_response_that_is_retrieved_again_is_charged_once(
    ask: Callable[..., Any], provider: Provider
) -> None:
    provider.behave(whole=MADE)
    with step("plan") as plan:
        retrieve(ask, made(ask))
    assert counted(plan) == (1, 1_000, 500, USD)


@pytest.mark.needs("litellm>=1.108", "before, it does not tell its hook that a response is only retrieved")
def test_a_response_made_in_the_background_is_charged_when_it_is_retrieved(
    ask: Callable[..., Any], provider: Provider
) -> None:
    with step("plan", max_calls=1) as plan:
        provider.behave(whole=QUEUED)
        queued = made(ask)
        provider.behave(whole=MADE)
        retrieve(ask, queued)
    assert counted(plan) == (1, 1_000, 500, USD)
    assert plan.usage.estimated_calls == 0


def test_a_file_is_read_though_the_step_has_no_room_for_a_call(
    ask: Callable[..., Any], provider: Provider
) -> None:
    file = {"id": "file-1", "object": "file", "bytes": 1, "created_at": 1, "filename": "a"}
    provider.behave(whole=file | {"purpose": "batch", "status": "processed"})
    with step("plan", max_calls=0) as plan:
        for name in ("file_retrieve", "file_content"):
            ask(name, file_id="file-1", custom_llm_provider="openai")
    assert (provider.count(), plan.usage.calls) == (2, 0)


def test_one_that_is_retrieved_after_its_step_corrects_the_estimate(
    ask: Callable[..., Any], provider: Provider
) -> None:
    with step("plan") as plan:
        provider.behave(whole=QUEUED)
        queued = made(ask)
    assert plan.usage.estimated_calls == 1
    provider.behave(whole=MADE)
    retrieve(ask, queued)
    assert counted(plan) == (1, 1_000, 500, USD)
