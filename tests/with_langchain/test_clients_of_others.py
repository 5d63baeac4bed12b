"""The clients of Anthropic and OpenRouter: what they keep of an answer is charged, and what they lose asked for."""

from __future__ import annotations

import importlib
from decimal import Decimal
from typing import Any

import pytest
from langchain_core.messages import HumanMessage, SystemMessage

import payloads
from payloads import U
from provider import Provider
from steptrack_callbacks import BudgetExhausted, UnknownCostWarning, Usage, step

MODES = ["invoke", "stream"]
CLAUDE_CLIENT = pytest.mark.needs("langchain-anthropic", "it is the client that is tried")
OPENROUTER_CLIENT = pytest.mark.needs("langchain-openrouter", "it is the client that is tried")
CLAUDE = "claude-sonnet-4-6"


@pytest.fixture(params=MODES)
def mode(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def claude(provider: Provider, payload: Any, mode: str, said: Any = "hello", model: str = CLAUDE) -> Usage:
    clients = importlib.import_module("langchain_anthropic")
    provider.behave(**payload)
    base = provider.url.removesuffix("/v1")
    client = clients.ChatAnthropic(
        model=model, base_url=base, api_key="none", max_retries=0, max_tokens=1_000
    )
    with step("plan") as plan:
        client.invoke(said) if mode == "invoke" else list(client.stream(said))
    return plan.usage


@CLAUDE_CLIENT
def test_a_cache_is_kept_for_an_hour_if_the_request_says_so(mode: str, provider: Provider) -> None:
    start = {
        "input_tokens": 20,
        "cache_creation_input_tokens": 50_000,
        "cache_read_input_tokens": 0,
        "cache_creation": {"ephemeral_5m_input_tokens": 0, "ephemeral_1h_input_tokens": 50_000},
        "output_tokens": 1,
    }
    end = {"input_tokens": 20, "cache_creation_input_tokens": 50_000, "output_tokens": 300}
    mark = {"type": "ephemeral", "ttl": "1h"}
    said = [SystemMessage([{"type": "text", "text": "be", "cache_control": mark}]), HumanMessage("hello")]
    used = claude(provider, payloads.message(start, end), mode, said)
    usd = 20 * Decimal("3e-6") + 50_000 * Decimal("6e-6") + 300 * Decimal("15e-6")
    assert (used.cost_usd, used.estimated_calls) == (usd, 0)
    assert usd == Decimal("0.30456")


@CLAUDE_CLIENT
def test_an_answer_that_says_that_it_was_fast_costs_more(provider: Provider) -> None:
    end = {"input_tokens": 1_000, "output_tokens": 1_000, "speed": "fast"}
    payload = payloads.message({"input_tokens": 1_000, "output_tokens": 1}, end, "claude-opus-5")
    assert claude(provider, payload, "invoke", model="claude-opus-5").cost_usd == Decimal("0.06")


@CLAUDE_CLIENT
@pytest.mark.filterwarnings("ignore:Received unexpected tool content block:UserWarning")
def test_searches_are_charged_though_a_stream_keeps_no_count_of_them(mode: str, provider: Provider) -> None:
    searches = tuple(
        {"type": "server_tool_use", "id": f"s{index}", "name": "web_search", "input": {"query": "x"}}
        for index in range(5)
    )
    end = {"input_tokens": 1_000, "output_tokens": 100, "server_tool_use": {"web_search_requests": 5}}
    payload = payloads.message({"input_tokens": 1_000, "output_tokens": 1}, end, content=searches)
    used = claude(provider, payload, mode)
    assert used.cost_usd == Decimal("0.0045") + 5 * Decimal("0.01") == Decimal("0.0545")


@CLAUDE_CLIENT
def test_a_stream_whose_end_tells_no_input_is_an_estimate(provider: Provider) -> None:
    payload = payloads.message({"input_tokens": 1_000, "output_tokens": 1}, {"output_tokens": 100})
    used = claude(provider, payload, "stream")
    assert used.estimated_calls == 1
    assert used.input_tokens > 0
    assert used.output_tokens == 100


def openrouter(provider: Provider) -> Any:
    clients = importlib.import_module("langchain_openrouter")
    told = payloads.chat(U | {"cost": 0.0402}, "somebody/unlisted", system_fingerprint="f")
    provider.behave(**told)
    return clients.ChatOpenRouter(
        model="somebody/unlisted", base_url=provider.url, api_key="none", max_retries=0
    )


@OPENROUTER_CLIENT
def test_what_openrouter_bills_is_charged(mode: str, provider: Provider) -> None:
    client = openrouter(provider)
    with step("plan") as plan:
        client.invoke("hello") if mode == "invoke" else list(client.stream("hello"))
    assert (plan.cost_usd, plan.usage.unpriced_calls) == (Decimal("0.0402"), 0)


@OPENROUTER_CLIENT
def test_what_openrouter_bills_keeps_a_budget(provider: Provider) -> None:
    client = openrouter(provider)
    with pytest.warns(UnknownCostWarning), pytest.raises(BudgetExhausted):
        with step("plan", max_usd=0.10, unpriced="warn") as plan:
            for _ in range(10):
                client.invoke("hello")
    assert provider.count() == 3
    assert plan.cost_usd == Decimal("0.1206")
