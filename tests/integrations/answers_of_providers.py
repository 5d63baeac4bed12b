"""For each sort of provider an answer with its figures, and what it costs: data for a test of all ways to ask."""

from __future__ import annotations

from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

import payloads

Json = dict[str, Any]


@dataclass(frozen=True)
class Case:
    """An answer of a provider, and what is right.

    Attributes:
        name: Of the provider, and what is special.
        model: As LiteLLM calls it.
        payload: What the provider sends.
        usd: The arithmetic.
        counts: Those that are not 0, inclusive.
        api: Which of its interfaces.
        langchain: How LangChain asks for it, if a client of ours does.
        is_kept: Whether LangChain's streams keep what the price depends on.
        is_free: Whether its bill says that it costs nothing; else nothing is a price that nobody knows.
    """

    name: str
    model: str
    payload: Json
    usd: Decimal
    counts: dict[str, int]
    api: str = "chat"
    langchain: Json | None = field(default_factory=dict)
    is_kept: bool = True
    is_free: bool = False


def chat(sent: int, made: int, *, total: int | None = None, **more: Any) -> Json:
    counts = {"prompt_tokens": sent, "completion_tokens": made}
    return counts | {"total_tokens": sent + made if total is None else total} | more


def given(**parts: Any) -> Json:
    return {"prompt_tokens_details": parts}


def thought(tokens: int) -> Json:
    return {"completion_tokens_details": {"reasoning_tokens": tokens}}


M = Decimal("1e-6")
CASES = [
    Case(
        "openai, cached and thought",
        "openai/gpt-5",
        payloads.chat(chat(1_300, 400, **given(cached_tokens=1_024), **thought(256)), "gpt-5-2025-08-07"),
        276 * 1 * M * Decimal("1.25") + 1_024 * Decimal("0.125") * M + 400 * 10 * M,
        {"input_tokens": 1_300, "output_tokens": 400, "cache_read_tokens": 1_024, "reasoning_tokens": 256},
    ),
    Case(
        "openai, served by a tier",
        "openai/gpt-5",
        payloads.chat(chat(1_000, 500), "gpt-5-2025-08-07", service_tier="priority"),
        1_000 * Decimal("2.5") * M + 500 * 20 * M,
        {"input_tokens": 1_000, "output_tokens": 500},
    ),
    Case(
        "openai, responses",
        "openai/gpt-5",
        payloads.response(
            {
                "input_tokens": 900,
                "input_tokens_details": {"cached_tokens": 512},
                "output_tokens": 120,
                "output_tokens_details": {"reasoning_tokens": 64},
                "total_tokens": 1_020,
            },
            "gpt-5-2025-08-07",
            service_tier="default",
        ),
        388 * Decimal("1.25") * M + 512 * Decimal("0.125") * M + 120 * 10 * M,
        {"input_tokens": 900, "output_tokens": 120, "cache_read_tokens": 512, "reasoning_tokens": 64},
        api="responses",
        langchain={"use_responses_api": True},
    ),
    Case(
        "azure, a deployment",
        "azure/our-deployment",
        payloads.chat(chat(400, 60), "gpt-4o-2024-11-20"),
        400 * Decimal("2.5") * M + 60 * 10 * M,
        {"input_tokens": 400, "output_tokens": 60},
    ),
    Case(
        "anthropic, a cache written and read",
        "anthropic/claude-sonnet-4-6",
        payloads.message(
            {
                "input_tokens": 14,
                "cache_creation_input_tokens": 2_000,
                "cache_read_input_tokens": 9_000,
                "output_tokens": 1,
            },
            {
                "input_tokens": 14,
                "cache_creation_input_tokens": 2_000,
                "cache_read_input_tokens": 9_000,
                "output_tokens": 250,
            },
        ),
        14 * 3 * M + 2_000 * Decimal("3.75") * M + 9_000 * Decimal("0.3") * M + 250 * 15 * M,
        {
            "input_tokens": 11_014,
            "output_tokens": 250,
            "cache_read_tokens": 9_000,
            "cache_write_tokens": 2_000,
        },
        api="messages",
    ),
    Case(
        "anthropic, corrected at the end",
        "anthropic/claude-sonnet-4-6",
        payloads.message(
            {"input_tokens": 30, "cache_creation_input_tokens": 7_000, "output_tokens": 1},
            {
                "input_tokens": 30,
                "cache_creation_input_tokens": 0,
                "cache_read_input_tokens": 7_000,
                "output_tokens": 80,
            },
        ),
        30 * 3 * M + 7_000 * Decimal("0.3") * M + 80 * 15 * M,
        {"input_tokens": 7_030, "output_tokens": 80, "cache_read_tokens": 7_000},
        api="messages",
    ),
    Case(
        "anthropic, kept for an hour",
        "anthropic/claude-sonnet-4-6",
        payloads.message(
            {
                "input_tokens": 5,
                "cache_creation_input_tokens": 3_000,
                "cache_creation": {"ephemeral_5m_input_tokens": 1_000, "ephemeral_1h_input_tokens": 2_000},
                "output_tokens": 1,
            },
            {"input_tokens": 5, "cache_creation_input_tokens": 3_000, "output_tokens": 40},
        ),
        5 * 3 * M + 1_000 * Decimal("3.75") * M + 2_000 * 6 * M + 40 * 15 * M,
        {
            "input_tokens": 3_005,
            "output_tokens": 40,
            "cache_write_tokens": 3_000,
            "cache_write_1h_tokens": 2_000,
        },
        api="messages",
        is_kept=False,
    ),
    Case(
        "anthropic, searches of the web",
        "anthropic/claude-sonnet-4-6",
        payloads.message(
            {"input_tokens": 6_000, "output_tokens": 1},
            {"input_tokens": 6_000, "output_tokens": 300, "server_tool_use": {"web_search_requests": 3}},
        ),
        6_000 * 3 * M + 300 * 15 * M + 3 * Decimal("0.01"),
        {"input_tokens": 6_000, "output_tokens": 300, "web_search_requests": 3},
        api="messages",
        is_kept=False,
    ),
    Case(
        "anthropic, an adviser of another model",
        "anthropic/claude-sonnet-4-6",
        payloads.message(
            {"input_tokens": 700, "output_tokens": 1},
            {
                "input_tokens": 700,
                "output_tokens": 90,
                "iterations": [
                    {"type": "message", "input_tokens": 300, "output_tokens": 80},
                    {
                        "type": "advisor_message",
                        "model": "claude-opus-4-6",
                        "input_tokens": 900,
                        "output_tokens": 20,
                    },
                    {"type": "message", "input_tokens": 400, "output_tokens": 10},
                ],
            },
            content=(
                {"type": "server_tool_use", "id": "srv-1", "name": "advisor", "input": {}},
                {
                    "type": "advisor_tool_result",
                    "tool_use_id": "srv-1",
                    "content": {"type": "advisor_result", "text": "yes"},
                },
            ),
        ),
        700 * 3 * M + 90 * 15 * M + 900 * 5 * M + 20 * 25 * M,
        {"input_tokens": 1_600, "output_tokens": 110},
        api="messages",
        is_kept=False,
    ),
    Case(
        "openrouter, which states its cost",
        "openrouter/somebody/unlisted",
        payloads.chat(
            chat(
                43,
                36,
                **thought(13),
                cost=0.000669,
                is_byok=False,
                cost_details={"upstream_inference_cost": 0.000669},
            ),
            "somebody/unlisted",
        ),
        Decimal("0.000669"),
        {"input_tokens": 43, "output_tokens": 36, "reasoning_tokens": 13},
        is_kept=False,
    ),
    Case(
        "deepseek, hits and misses of its cache",
        "deepseek/deepseek-chat",
        payloads.chat(
            chat(
                900, 60, prompt_cache_hit_tokens=832, prompt_cache_miss_tokens=68, **given(cached_tokens=832)
            ),
            "deepseek-chat",
        ),
        68 * Decimal("0.28") * M + 832 * Decimal("0.028") * M + 60 * Decimal("0.42") * M,
        {"input_tokens": 900, "output_tokens": 60, "cache_read_tokens": 832},
    ),
    Case(
        "moonshot, its cache at the top",
        "moonshot/kimi-k2.5",
        payloads.chat(chat(10_000, 500, cached_tokens=8_000), "kimi-k2.5"),
        2_000 * Decimal("0.6") * M + 8_000 * Decimal("0.1") * M + 500 * 3 * M,
        {"input_tokens": 10_000, "output_tokens": 500, "cache_read_tokens": 8_000},
        is_kept=False,
    ),
    Case(
        "xai, thinking beside the output",
        "xai/grok-4.20",
        payloads.chat(
            chat(10_120, 1_499, total=14_428, **given(cached_tokens=128), **thought(2_809)), "grok-4.20"
        ),
        9_992 * Decimal("1.25") * M + 128 * Decimal("0.2") * M + 4_308 * Decimal("2.5") * M,
        {"input_tokens": 10_120, "output_tokens": 4_308, "cache_read_tokens": 128, "reasoning_tokens": 2_809},
    ),
    Case(
        "groq",
        "groq/openai/gpt-oss-120b",
        payloads.chat(
            chat(336, 96, **given(cached_tokens=256), **thought(59)),
            "openai/gpt-oss-120b",
            service_tier="on_demand",
        ),
        80 * Decimal("0.15") * M + 256 * Decimal("0.075") * M + 96 * Decimal("0.6") * M,
        {"input_tokens": 336, "output_tokens": 96, "cache_read_tokens": 256, "reasoning_tokens": 59},
        langchain=None,
    ),
    Case(
        "mistral",
        "mistral/mistral-small-latest",
        payloads.chat(chat(96, 23), "mistral-small-latest"),
        96 * Decimal("0.15") * M + 23 * Decimal("0.6") * M,
        {"input_tokens": 96, "output_tokens": 23},
    ),
    Case(
        "cerebras",
        "cerebras/gpt-oss-120b",
        payloads.chat(chat(79, 37, **thought(25)), "gpt-oss-120b"),
        79 * Decimal("0.35") * M + 37 * Decimal("0.75") * M,
        {"input_tokens": 79, "output_tokens": 37, "reasoning_tokens": 25},
        langchain=None,
    ),
    Case(
        "together",
        "together_ai/meta-llama/Llama-3.3-70B-Instruct-Turbo",
        payloads.chat(chat(41, 15), "meta-llama/Llama-3.3-70B-Instruct-Turbo"),
        (41 + 15) * Decimal("1.04") * M,
        {"input_tokens": 41, "output_tokens": 15},
    ),
    Case(
        "zai",
        "zai/glm-4.6",
        payloads.chat(chat(435, 73, **given(cached_tokens=4), **thought(56)), "glm-4.6"),
        431 * Decimal("0.6") * M + 4 * Decimal("0.11") * M + 73 * Decimal("2.2") * M,
        {"input_tokens": 435, "output_tokens": 73, "cache_read_tokens": 4, "reasoning_tokens": 56},
    ),
    Case(
        "counts as text",
        "openai/gpt-4o",
        payloads.chat(
            {"prompt_tokens": "1000", "completion_tokens": "500", "total_tokens": "1500"}
            | given(cached_tokens="600"),
            "gpt-4o-2024-08-06",
        ),
        400 * Decimal("2.5") * M + 600 * Decimal("1.25") * M + 500 * 10 * M,
        {"input_tokens": 1_000, "output_tokens": 500, "cache_read_tokens": 600},
    ),
    Case(
        "counts with a fraction of zero",
        "openai/gpt-4o",
        payloads.chat(
            {"prompt_tokens": 1_000.0, "completion_tokens": 500.0, "total_tokens": 1_500.0},
            "gpt-4o-2024-08-06",
        ),
        1_000 * Decimal("2.5") * M + 500 * 10 * M,
        {"input_tokens": 1_000, "output_tokens": 500},
    ),
    Case(
        "a part below nothing",
        "openai/gpt-4o",
        payloads.chat(chat(1_000, 500, **given(cached_tokens=-5)), "gpt-4o-2024-08-06"),
        1_000 * Decimal("2.5") * M + 500 * 10 * M,
        {"input_tokens": 1_000, "output_tokens": 500},
    ),
    Case(
        "xai, a bill in ticks",
        "xai/grok-4.20",
        payloads.chat(chat(1_000, 500, cost_in_usd_ticks=123_000_000), "grok-4.20"),
        Decimal("0.0123"),
        {"input_tokens": 1_000, "output_tokens": 500},
        is_kept=False,
    ),
    Case(
        "xai, searches",
        "xai/grok-4.20",
        payloads.chat(chat(1_000, 500, server_side_tool_usage_details={"web_search_calls": 2}), "grok-4.20"),
        1_000 * Decimal("1.25") * M + 500 * Decimal("2.5") * M + 2 * Decimal("0.005"),
        {"input_tokens": 1_000, "output_tokens": 500, "web_search_requests": 2},
        is_kept=False,
    ),
    Case(
        "perplexity, a bill in parts",
        "perplexity/sonar",
        payloads.chat(
            chat(
                1_000,
                500,
                search_context_size="low",
                cost={"input_tokens_cost": 0.001, "request_cost": 0.005, "total_cost": 0.008},
            ),
            "sonar",
        ),
        Decimal("0.008"),
        {"input_tokens": 1_000, "output_tokens": 500},
        is_kept=False,
    ),
    Case(
        "openrouter, a bill of nothing",
        "openrouter/somebody/free:free",
        payloads.chat(
            chat(1_000, 500, cost=0, is_byok=False, cost_details={"upstream_inference_cost": 0}),
            "somebody/free:free",
        ),
        Decimal(0),
        {"input_tokens": 1_000, "output_tokens": 500},
        is_kept=False,
        is_free=True,
    ),
    Case(
        "a server of one's own",
        "hosted_vllm/ours",
        payloads.chat(chat(57, 20), "ours"),
        Decimal(0),
        {"input_tokens": 57, "output_tokens": 20},
    ),
    Case(
        "nobody's model",
        "openai/nobodys",
        payloads.chat(chat(96, 23), "nobodys"),
        Decimal(0),
        {"input_tokens": 96, "output_tokens": 23},
    ),
]
