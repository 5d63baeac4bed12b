"""What is charged is what has answered, also where LangChain keeps little of what it said."""

from __future__ import annotations

from collections.abc import Iterator
from decimal import Decimal
from typing import Any

import pytest
from asking import FakeChat, chat
from langchain_core.load import dumpd
from langchain_core.messages import AIMessage, AIMessageChunk, HumanMessage, SystemMessage
from langchain_core.outputs import ChatGeneration, ChatGenerationChunk, ChatResult

import payloads
from payloads import U
from provider import Provider
from steptrack_callbacks import BudgetExhausted, UnknownCostWarning, Usage, pricing, step
from steptrack_callbacks.langchain.requests import chat_request
from steptrack_callbacks.values.money import to_usd

MODES = ["invoke", "stream"]


class Saying(FakeChat):
    """A model whose answer says of itself what a test wants, whole or as the last chunk of a stream."""

    usage: Any = None
    told: Any = None
    content: Any = "yes"

    def _said(self, kind: Any) -> Any:
        message = kind(self.content, response_metadata=self.told or {})
        object.__setattr__(message, "usage_metadata", self.usage)
        return message

    def _generate(self, messages: Any, *args: Any, **kwargs: Any) -> ChatResult:
        return ChatResult(generations=[ChatGeneration(message=self._said(AIMessage))])

    def _stream(self, messages: Any, *args: Any, **kwargs: Any) -> Iterator[ChatGenerationChunk]:
        yield ChatGenerationChunk(message=self._said(AIMessageChunk))


def ask(model: Any, mode: str, said: Any = "hello") -> Usage:
    with step("plan") as plan:
        model.invoke(said) if mode == "invoke" else list(model.stream(said))
    return plan.usage


@pytest.fixture(params=MODES)
def mode(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def tokens(sent: int, said: int, total: int | None = None, *, given: Any = None, made: Any = None) -> Any:
    """Write a usage as LangChain does."""
    return {
        "input_tokens": sent,
        "output_tokens": said,
        "total_tokens": sent + said if total is None else total,
        "input_token_details": given or {},
        "output_token_details": made or {},
    }


# For how long what was written to a cache is kept: some clients lose what the answer says of it

WRITTEN = tokens(50_020, 300, given={"cache_creation": 50_000, "cache_read": 0})
HOUR_USD = 20 * Decimal("3e-6") + 50_000 * Decimal("6e-6") + 300 * Decimal("15e-6")
MINUTES_USD = 20 * Decimal("3e-6") + 50_000 * Decimal("3.75e-6") + 300 * Decimal("15e-6")


def marked(*ttls: str | None) -> list[Any]:
    """Write a system prompt whose parts are to be kept for so long."""
    marks = [{"type": "ephemeral"} | ({} if ttl is None else {"ttl": ttl}) for ttl in ttls]
    return [SystemMessage([{"type": "text", "text": "be", "cache_control": mark} for mark in marks])]


@pytest.mark.parametrize(
    ("ttls", "usd", "estimated"),
    [
        (("1h",), HOUR_USD, 0),
        (("1h", "1h"), HOUR_USD, 0),
        (("5m",), MINUTES_USD, 0),
        ((None,), MINUTES_USD, 0),
        ((), MINUTES_USD, 0),
        (("1h", "5m"), HOUR_USD, 1),
        (("1h", None), HOUR_USD, 1),
    ],
)
def test_what_is_written_to_a_cache_is_kept_as_the_request_says(
    ttls: Any, usd: Decimal, estimated: int, mode: str
) -> None:
    model = Saying(model="claude-sonnet-4-5", usage=WRITTEN)
    used = ask(model, mode, [*marked(*ttls), HumanMessage("hello")])
    assert (used.cost_usd, used.estimated_calls) == (usd, estimated)
    assert Decimal("0.30456") == HOUR_USD


def test_what_the_answer_says_of_its_cache_goes_before_what_was_asked(mode: str) -> None:
    given = {"cache_creation": 0, "ephemeral_5m_input_tokens": 50_000, "ephemeral_1h_input_tokens": 0}
    model = Saying(model="claude-sonnet-4-5", usage=tokens(50_020, 300, given=given))
    assert ask(model, mode, [*marked("1h"), HumanMessage("hello")]).cost_usd == MINUTES_USD


def test_a_tool_may_be_what_is_kept(mode: str) -> None:
    tool = {"name": "look", "input_schema": {}, "cache_control": {"type": "ephemeral", "ttl": "1h"}}
    model = Saying(model="claude-sonnet-4-5", usage=WRITTEN).bind(tools=[tool])
    assert ask(model, mode).cost_usd == HOUR_USD


# Totals that leave out a part

THOUGHT_BESIDE = {
    "prompt_tokens": 10_120,
    "completion_tokens": 1_499,
    "total_tokens": 14_428,
    "prompt_tokens_details": {"cached_tokens": 128},
    "completion_tokens_details": {"reasoning_tokens": 2_809},
}


def test_a_total_says_that_reasoning_stands_beside_the_output(mode: str, provider: Provider) -> None:
    provider.behave(**payloads.chat(THOUGHT_BESIDE, "grok-4.20"))
    used = ask(chat(provider, model="grok-4.20"), mode)
    assert (used.output_tokens, used.reasoning_tokens, used.estimated_calls) == (4_308, 2_809, 0)
    usd = 9_992 * Decimal("1.25e-6") + 128 * Decimal("0.2e-6") + 4_308 * Decimal("2.5e-6")
    assert used.cost_usd == usd == Decimal("0.0232856")


def test_reasoning_within_the_output_is_counted_once(mode: str, provider: Provider) -> None:
    within = THOUGHT_BESIDE | {"completion_tokens": 4_308}
    provider.behave(**payloads.chat(within, "grok-4.20"))
    assert ask(chat(provider, model="grok-4.20"), mode).output_tokens == 4_308


def test_reasoning_that_the_output_cannot_hold_stands_beside_it(mode: str) -> None:
    used = ask(Saying(usage=tokens(100, 50, 0, made={"reasoning": 400})), mode)
    assert (used.output_tokens, used.reasoning_tokens) == (450, 400)


def test_a_cache_that_the_input_cannot_hold_stands_beside_it(mode: str) -> None:
    used = ask(Saying(usage=tokens(150, 50, given={"cache_read": 5_000})), mode)
    assert (used.input_tokens, used.cache_read_tokens, used.estimated_calls) == (5_150, 5_000, 0)


def test_what_only_a_total_has_is_charged_as_output_and_marked(mode: str) -> None:
    used = ask(Saying(usage=tokens(100, 50, 900)), mode)
    assert (used.input_tokens, used.output_tokens, used.estimated_calls) == (100, 800, 1)


def test_a_total_that_is_less_than_its_parts_is_a_contradiction(mode: str) -> None:
    used = ask(Saying(usage=tokens(100, 50, 30)), mode)
    assert (used.input_tokens, used.output_tokens, used.estimated_calls) == (100, 50, 1)


# How fast, and with which tools


@pytest.mark.parametrize("told", [{"usage": {"speed": "fast"}}, {"token_usage": {"speed": "fast"}}])
def test_a_fast_answer_costs_what_fast_ones_do(told: Any, mode: str) -> None:
    model = Saying(model="claude-opus-5", usage=tokens(1_000, 1_000), told=told)
    assert ask(model, mode).cost_usd == Decimal("0.06")


def test_a_fast_answer_was_asked_for_where_nothing_else_says_it(mode: str) -> None:
    model = Saying(model="claude-opus-5", usage=tokens(1_000, 1_000)).bind(speed="fast")
    assert ask(model, mode).cost_usd == Decimal("0.06")


def test_what_is_asked_in_an_extra_body_counts_as_any_other_option(mode: str) -> None:
    told = {"extra_body": {"speed": "fast"}}
    for options in (told, {"model_kwargs": told}):
        model = Saying(model="claude-opus-5", usage=tokens(1_000, 1_000)).bind(**options)
        assert ask(model, mode).cost_usd == Decimal("0.06")


SEARCHES = [{"type": "server_tool_use", "id": f"s{i}", "name": "web_search", "input": {}} for i in range(5)]


@pytest.mark.parametrize(
    ("told", "content"),
    [
        ({"usage": {"server_tool_use": {"web_search_requests": 5}}}, "yes"),
        ({}, [*SEARCHES, {"type": "text", "text": "yes"}]),
        (
            {"usage": {"server_tool_use": {"web_search_requests": 5}}},
            [*SEARCHES, {"type": "text", "text": "yes"}],
        ),
    ],
    ids=["told", "seen", "both"],
)
def test_searches_of_the_web_are_charged(told: Any, content: Any, mode: str) -> None:
    model = Saying(model="claude-sonnet-4-5", usage=tokens(1_000, 100), told=told, content=content)
    used = ask(model, mode)
    assert used.web_search_requests == 5
    assert used.cost_usd == Decimal("0.0045") + 5 * Decimal("0.01") == Decimal("0.0545")


@pytest.mark.parametrize(
    ("grounding", "usd"),
    [
        ({"web_search_queries": ["a", "b"], "grounding_chunks": [{"web": {"uri": "u"}}]}, "0.035"),
        ({"webSearchQueries": ["a"]}, "0.035"),
        ({"grounding_chunks": [{"maps": {"uri": "u"}, "web": None}]}, "0.025"),
        ({"web_search_queries": []}, "0"),
        ("nonsense", "0"),
    ],
)
def test_what_google_has_searched_for_is_charged(grounding: Any, usd: str, mode: str) -> None:
    told = {"grounding_metadata": grounding}
    model = Saying(model="gemini-2.5-flash", usage=tokens(1_000, 100), told=told)
    assert ask(model, mode).cost_usd == Decimal("0.00055") + Decimal(usd)


@pytest.mark.parametrize(("size", "usd"), [("low", "0.005"), ("high", "0.012"), ("highhigh", "0.012")])
def test_what_perplexity_has_searched_for_is_charged_by_its_size(size: str, usd: str, mode: str) -> None:
    told = {"num_search_queries": 1, "search_context_size": size, "model_name": "sonar"}
    model = Saying(model="perplexity/sonar", usage=tokens(1_000, 500), told=told)
    assert ask(model, mode).cost_usd == Decimal("0.0015") + Decimal(usd)


def test_a_model_that_each_chunk_has_named_is_one(mode: str) -> None:
    told = {"model_name": "gpt-4o-mini" * 3}
    model = Saying(model="gpt-4o", usage=tokens(1_000, 500), told=told)
    assert ask(model, mode).cost_usd == Decimal("0.00045")


def test_the_responses_apis_searches_are_charged(mode: str, provider: Provider) -> None:
    usage = {"input_tokens": 1_000, "output_tokens": 100, "total_tokens": 1_100}
    calls = tuple(
        {"type": "web_search_call", "id": f"ws{i}", "status": "completed", "action": action}
        for i, action in enumerate(
            [
                {"type": "search", "query": "a"},
                {"type": "open_page", "url": "b"},
                {"type": "search", "query": "c"},
            ]
        )
    )
    provider.behave(**payloads.response(usage, "gpt-5", tools=calls))
    used = ask(chat(provider, model="gpt-5", use_responses_api=True), mode)
    assert used.web_search_requests == 2
    assert used.cost_usd == Decimal("0.00225") + 2 * Decimal("0.01")


ADVICE = {
    "input_tokens": 2_200,
    "output_tokens": 110,
    "iterations": [
        {"type": "message", "input_tokens": 1_000, "output_tokens": 100},
        {"type": "advisor_message", "model": "claude-opus-4-6", "input_tokens": 2_000, "output_tokens": 20},
        {"type": "message", "input_tokens": 1_200, "output_tokens": 10},
    ],
}


def test_rounds_of_another_model_have_its_price(mode: str) -> None:
    used = ask(Saying(model="claude-sonnet-4-5", usage=tokens(2_200, 110), told={"usage": ADVICE}), mode)
    assert (used.input_tokens, used.output_tokens, used.estimated_calls) == (4_200, 130, 0)
    own = 2_200 * Decimal("3e-6") + 110 * Decimal("15e-6")
    assert used.cost_usd == own + 2_000 * Decimal("5e-6") + 20 * Decimal("25e-6")


def test_a_round_of_a_model_that_nobody_can_price_leaves_the_answer_without_one(mode: str) -> None:
    rounds = [each | ({"model": "oracle-9"} if "model" in each else {}) for each in ADVICE["iterations"]]
    told = {"usage": ADVICE | {"iterations": rounds}}
    used = ask(Saying(model="claude-sonnet-4-5", usage=tokens(2_200, 110), told=told), mode)
    assert (used.unpriced_calls, used.input_tokens) == (1, 4_200)


def test_rounds_that_are_missing_make_an_estimate(mode: str) -> None:
    content = [{"type": "advisor_tool_result", "content": {}}, {"type": "text", "text": "yes"}]
    model = Saying(model="claude-sonnet-4-5", usage=tokens(2_200, 110), content=content)
    assert ask(model, mode).estimated_calls == 1


# What the provider says that it cost


def test_a_cost_that_stands_beside_the_usage_is_the_bill(mode: str) -> None:
    told = {"cost": 0.0402, "cost_details": {"upstream_inference_cost": 0.0402}}
    used = ask(Saying(model="somebody/unlisted", usage=tokens(1_000, 500), told=told), mode)
    assert (used.cost_usd, used.unpriced_calls) == (Decimal("0.0402"), 0)


def test_a_cost_in_parts_is_their_sum(mode: str) -> None:
    told = {"token_usage": {"cost": {"input_tokens_cost": 0.01, "total_cost": 0.0402}}}
    used = ask(Saying(model="sonar-of-tomorrow", usage=tokens(1_000, 500), told=told), mode)
    assert used.cost_usd == Decimal("0.0402")


def test_a_stated_cost_goes_before_a_listed_price(provider: Provider) -> None:
    provider.behave(**payloads.chat(U | {"cost": 0.0402}, "gpt-4o"))
    assert ask(chat(provider, model="gpt-4o"), "invoke").cost_usd == Decimal("0.0402")


@pytest.mark.parametrize("answered", ["gpt-4o", "gpt-4o-2024-08-06"])
def test_a_price_of_your_own_counts_whatever_name_the_answer_has(
    answered: str, mode: str, provider: Provider
) -> None:
    pricing.set_prices({"gpt-4o": {"input_usd_per_mtok": 1, "output_usd_per_mtok": 1}})
    provider.behave(**payloads.chat(U, answered))
    assert ask(chat(provider, model="gpt-4o"), mode).cost_usd == 1_500 * Decimal("1e-6")


def test_stated_costs_keep_a_budget_though_the_model_has_no_price(provider: Provider) -> None:
    provider.behave(**payloads.chat(U | {"cost": 0.0402}, "somebody/unlisted"))
    model = chat(provider, model="somebody/unlisted")
    with pytest.warns(UnknownCostWarning), pytest.raises(BudgetExhausted):
        with step("plan", max_usd=0.10, unpriced="warn") as plan:
            for _ in range(10):
                model.invoke("hello")
    assert provider.count() == 3
    assert plan.cost_usd == 3 * Decimal("0.0402") == Decimal("0.1206")


# The tier that served, and counts that stand elsewhere


@pytest.mark.needs("langchain-openai>=1.7", "before, it fails on a tier without counts of what was cached")
@pytest.mark.parametrize(
    ("asked", "served", "usd"),
    [
        (None, "priority", "0.0125"),
        ("priority", "default", "0.00625"),
        ("flex", "flex", "0.003125"),
        ("priority", "flex", "0.003125"),
    ],
)
def test_the_tier_that_served_is_charged(
    asked: Any, served: str, usd: str, mode: str, provider: Provider
) -> None:
    provider.behave(**payloads.chat(U, "gpt-5", service_tier=served))
    assert ask(chat(provider, model="gpt-5", service_tier=asked), mode).cost_usd == Decimal(usd)


def test_counts_at_the_top_level_of_the_providers_usage_count(provider: Provider) -> None:
    told = {"prompt_tokens": 10_000, "completion_tokens": 500, "total_tokens": 10_500, "cached_tokens": 8_000}
    provider.behave(**payloads.chat(told, "kimi-k2.5"))
    used = ask(chat(provider, model="moonshot/kimi-k2.5"), "invoke")
    usd = 2_000 * Decimal("6e-7") + 8_000 * Decimal("1e-7") + 500 * Decimal("3e-6")
    assert used.cost_usd == usd == Decimal("0.0035")


def test_a_deployment_is_charged_as_the_model_that_answered(mode: str) -> None:
    told = {"model_name": "gpt-4o-2024-08-06"}
    used = ask(Saying(model="my-dep", usage=tokens(1_000, 500), told=told), mode)
    assert (used.cost_usd, used.unpriced_calls) == (Decimal("0.0075"), 0)


# Streams that report nothing


def test_a_stream_without_usage_counts_its_input_too(provider: Provider) -> None:
    provider.behave(usage_in_stream="never", output_tokens=50)
    with step("plan") as plan:
        list(chat(provider, stream_usage=False).stream(" word" * 993))
    assert (plan.usage.input_tokens, plan.usage.output_tokens) == (1_000, 50)
    assert plan.usage.estimated_calls == 1


@pytest.mark.parametrize("content", [[{"type": "text", "text": " word" * 993}], " word" * 993])
def test_its_input_is_counted_however_it_is_written(content: Any, provider: Provider) -> None:
    provider.behave(usage_in_stream="never")
    model = chat(provider, stream_usage=False, streaming=True)
    with step("plan", max_usd=1) as plan:
        model.invoke([SystemMessage(content), HumanMessage("hello")])
    assert 1_000 <= plan.usage.input_tokens <= 1_010
    assert to_usd(0) < plan.cost_usd


# Whose server it is


@pytest.mark.parametrize(
    ("address", "model", "provider", "usd"),
    [
        ("https://api.groq.com/openai/v1", "openai/gpt-oss-120b", "groq", "0.00045"),
        ("https://api.cerebras.ai/v1", "gpt-oss-120b", "cerebras", "0.000725"),
        ("https://api.x.ai/v1", "grok-4.20", "xai", "0.0025"),
        ("https://bedrock-mantle.us-east-1.api.aws/openai/v1", "openai.gpt-5.6-luna", "bedrock", None),
        ("http://localhost:8000/v1", "gpt-4o", None, "0.0075"),
        ("http://[", "gpt-4o", None, "0.0075"),
    ],
)
def test_openais_client_is_charged_as_the_server_that_it_talks_to(
    address: str, model: str, provider: str | None, usd: str | None
) -> None:
    serialized = {"name": "ChatOpenAI", "kwargs": {"openai_api_base": address}}
    told = {"ls_provider": "openai", "ls_model_name": model}
    request = chat_request(serialized, [], told, {})
    assert request.provider == provider
    cost = request.cost(1_000, 500)
    assert cost is not None
    assert usd is None or to_usd(cost) == Decimal(usd)


def test_langchain_tells_the_address_of_a_server(provider: Provider) -> None:
    assert dumpd(chat(provider))["kwargs"]["openai_api_base"] == provider.url
