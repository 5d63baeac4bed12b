"""Fifty requests at once on a default budget of ten calls, and twenty on one with room for all, on the proxy."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import openai
import pytest
from serving import Proxy, named, proxy

from provider import Provider

CALL_USD = 100 * 1.5e-7 + 200 * 6e-7
LIMITS = f"""
[steps.roomy]
max_usd = {75 * CALL_USD:.9f}

[steps.tight]
max_usd = {10 * CALL_USD:.9f}
"""
HANDLER = "litellm_settings: {{callbacks: steptrack_callbacks.litellm_proxy.proxy_handler_instance}}\n"
A_HUNDRED_TOKENS = [{"role": "user", "content": " word" * 93}]
HISTORIES, CAPS = ("cold", "warm"), {"max_tokens": 200, "none": None}
NAMES = [f"{history}-{cap}-{count}" for history in HISTORIES for cap in CAPS for count in (50, 20)]
"""A model for each trial, so that nobody has seen it before."""


def a_model(name: str) -> str:
    return f"""
  - model_name: {name}
    litellm_params:
      {{{{model: openai/{name}, api_base: "{{provider}}", api_key: none, max_retries: 0,
        input_cost_per_token: 1.5e-7, output_cost_per_token: 6e-7}}}}
"""


MODELS = (
    f"model_list:{''.join(map(a_model, NAMES))}{HANDLER}general_settings: {{{{master_key: sk-master}}}}\n"
)


@pytest.fixture(scope="module")
def upstream() -> Iterator[Provider]:
    with Provider(input_tokens=100, output_tokens=200) as provider:
        yield provider


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory, upstream: Provider) -> Iterator[Proxy]:
    with proxy(tmp_path_factory.mktemp("estimates"), upstream.url, LIMITS, models=MODELS) as started:
        yield started


async def ask_at_once(running: Proxy, model: str, step: str, count: int, cap: int | None) -> list[int]:
    """Send so many requests at once; returns their statuses."""
    options = {} if cap is None else {"max_tokens": cap}

    async def ask() -> int:
        try:
            await client.chat.completions.create(
                model=model,
                messages=A_HUNDRED_TOKENS,
                extra_headers=named(run=f"run-{model}", step=step),
                **options,
            )
        except openai.APIStatusError as error:
            return error.status_code
        return 200

    async with running.async_client() as client:
        return await asyncio.gather(*(ask() for _ in range(count)))


def statuses(running: Proxy, upstream: Provider, model: str, step: str, count: int, cap: int | None) -> list:
    """Let them all be on their way before the first is answered; `warm` models have been seen once."""
    if model.startswith("warm"):
        assert asyncio.run(ask_at_once(running, model, "before", 1, cap)) == [200]
    upstream.requests.clear()
    upstream.hold()
    with ThreadPoolExecutor(1) as pool:
        asked = pool.submit(asyncio.run, ask_at_once(running, model, step, count, cap))
        try:
            upstream.wait_for(1, timeout=60)
        finally:
            upstream.release()
        return asked.result()


@pytest.mark.parametrize("cap", CAPS)
@pytest.mark.parametrize("history", HISTORIES)
def test_of_50_requests_that_are_worth_10_at_most_ten_are_sent_and_nine_answered(
    history: str, cap: str, running: Proxy, upstream: Provider
) -> None:
    found = statuses(running, upstream, f"{history}-{cap}-50", "tight", 50, CAPS[cap])
    assert set(found) == {200, 402}
    assert 9 <= found.count(200) == upstream.count() <= 10


@pytest.mark.parametrize("cap", CAPS)
@pytest.mark.parametrize("history", HISTORIES)
def test_20_requests_that_all_fit_are_all_answered(
    history: str, cap: str, running: Proxy, upstream: Provider
) -> None:
    found = statuses(running, upstream, f"{history}-{cap}-20", "roomy", 20, CAPS[cap])
    assert found == [200] * 20
    assert upstream.count() == 20
