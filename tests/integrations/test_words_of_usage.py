"""A usage is read in the words of whoever reports it."""

from __future__ import annotations

import enum
from types import SimpleNamespace
from typing import Any

import pytest

from steptrack_callbacks import Usage
from steptrack_callbacks.integrations.counts import counts_in, sum_of
from steptrack_callbacks.integrations.usage import read_usage


def parts(usage: Usage | None) -> dict[str, int]:
    assert usage is not None
    return {name: count for name, count in usage.to_dict().items() if count}


class Medium(enum.StrEnum):
    """As a client of Google's names it."""

    AUDIO = "AUDIO"


WORDS: dict[str, tuple[dict[str, Any], dict[str, int]]] = {
    "openai": (
        {
            "prompt_tokens": 100,
            "completion_tokens": 50,
            "total_tokens": 150,
            "prompt_tokens_details": {"cached_tokens": 40, "audio_tokens": 10, "cache_write_tokens": 5},
            "completion_tokens_details": {"reasoning_tokens": 20, "audio_tokens": 0},
        },
        {
            "input_tokens": 100,
            "output_tokens": 50,
            "cache_read_tokens": 40,
            "cache_write_tokens": 5,
            "input_audio_tokens": 10,
            "reasoning_tokens": 20,
        },
    ),
    "responses": (
        {
            "input_tokens": 100,
            "input_tokens_details": {
                "cached_tokens": 40,
                "cached_tokens_details": {"image_tokens": 30},
                "image_tokens": 60,
                "cache_write_tokens": 8,
                "cache_write_tokens_details": {"ttl_30m_tokens": 2, "ttl_12h_tokens": 6},
            },
            "output_tokens": 50,
            "output_tokens_details": {"reasoning_tokens": 20},
        },
        {
            "input_tokens": 100,
            "output_tokens": 50,
            "cache_read_tokens": 40,
            "cache_read_image_tokens": 30,
            "input_image_tokens": 60,
            "cache_write_tokens": 8,
            "cache_write_12h_tokens": 6,
            "reasoning_tokens": 20,
        },
    ),
    "anthropic": (
        {
            "input_tokens": 10,
            "cache_read_input_tokens": 40,
            "cache_creation_input_tokens": 50,
            "cache_creation": {"ephemeral_5m_input_tokens": 20, "ephemeral_1h_input_tokens": 30},
            "output_tokens": 50,
            "output_tokens_details": {"thinking_tokens": 20},
            "server_tool_use": {"web_search_requests": 2, "web_fetch_requests": 9},
        },
        {
            "input_tokens": 100,
            "output_tokens": 50,
            "cache_read_tokens": 40,
            "cache_write_tokens": 50,
            "cache_write_1h_tokens": 30,
            "reasoning_tokens": 20,
            "web_search_requests": 2,
        },
    ),
    "bedrock": (
        {
            "inputTokens": 10,
            "outputTokens": 50,
            "totalTokens": 150,
            "cacheReadInputTokens": 40,
            "cacheWriteInputTokens": 50,
            "cacheDetails": [{"ttl": "1h", "inputTokens": 30}, {"ttl": "5m", "inputTokens": 20}],
        },
        {
            "input_tokens": 100,
            "output_tokens": 50,
            "cache_read_tokens": 40,
            "cache_write_tokens": 50,
            "cache_write_1h_tokens": 30,
        },
    ),
    "gemini": (
        {
            "promptTokenCount": 90,
            "toolUsePromptTokenCount": 10,
            "cachedContentTokenCount": 40,
            "candidatesTokenCount": 30,
            "thoughtsTokenCount": 20,
            "totalTokenCount": 150,
        },
        {"input_tokens": 100, "output_tokens": 50, "cache_read_tokens": 40, "reasoning_tokens": 20},
    ),
    "langchain": (
        {
            "input_tokens": 100,
            "output_tokens": 50,
            "total_tokens": 150,
            "input_token_details": {"cache_read": 40, "cache_creation": 5, "audio": 10},
            "output_token_details": {"reasoning": 20},
        },
        {
            "input_tokens": 100,
            "output_tokens": 50,
            "cache_read_tokens": 40,
            "cache_write_tokens": 5,
            "input_audio_tokens": 10,
            "reasoning_tokens": 20,
        },
    ),
    "ollama": ({"prompt_eval_count": 100, "eval_count": 50}, {"input_tokens": 100, "output_tokens": 50}),
    "deepseek": (
        {
            "prompt_tokens": 100,
            "completion_tokens": 50,
            "prompt_cache_hit_tokens": 40,
            "prompt_cache_miss_tokens": 60,
        },
        {"input_tokens": 100, "output_tokens": 50, "cache_read_tokens": 40},
    ),
    "litellm": (
        {
            "prompt_tokens": 100,
            "completion_tokens": 50,
            "total_tokens": 150,
            "cache_read_input_tokens": 40,
            "cache_creation_input_tokens": 5,
        },
        {"input_tokens": 100, "output_tokens": 50, "cache_read_tokens": 40, "cache_write_tokens": 5},
    ),
    "gemini, by medium": (
        {
            "promptTokenCount": 90,
            "promptTokensDetails": [
                {"modality": "TEXT", "tokenCount": 20},
                {"modality": "AUDIO", "tokenCount": 40},
                {"modality": "IMAGE", "tokenCount": 30},
            ],
            "cachedContentTokenCount": 40,
            "cacheTokensDetails": [
                {"modality": "AUDIO", "tokenCount": 25},
                {"modality": "TEXT", "tokenCount": 15},
            ],
            "candidatesTokenCount": 30,
            "candidatesTokensDetails": [
                {"modality": "IMAGE", "tokenCount": 20},
                {"modality": "TEXT", "tokenCount": 10},
            ],
            "totalTokenCount": 120,
        },
        {
            "input_tokens": 90,
            "output_tokens": 30,
            "cache_read_tokens": 40,
            "cache_read_audio_tokens": 25,
            "input_audio_tokens": 40,
            "input_image_tokens": 30,
            "output_image_tokens": 20,
        },
    ),
    "vertex": (
        {
            "prompt_token_count": 90,
            "prompt_tokens_details": [{"modality": Medium.AUDIO, "token_count": 40}],
            "candidates_token_count": 30,
            "candidates_tokens_details": [{"modality": 4, "token_count": 30}],
            "thoughts_token_count": 5,
            "total_token_count": 125,
            "traffic_type": "ON_DEMAND",
        },
        {
            "input_tokens": 90,
            "output_tokens": 35,
            "input_audio_tokens": 40,
            "output_audio_tokens": 30,
            "reasoning_tokens": 5,
        },
    ),
    "gemini, live": (
        {
            "promptTokenCount": 90,
            "responseTokenCount": 30,
            "responseTokensDetails": [{"modality": "AUDIO", "tokenCount": 30}],
            "totalTokenCount": 120,
        },
        {"input_tokens": 90, "output_tokens": 30, "output_audio_tokens": 30},
    ),
    "cohere": (
        {
            "billed_units": {"input_tokens": 5.0, "output_tokens": 40.0},
            "tokens": {"input_tokens": 71.0, "output_tokens": 42.0},
        },
        {"input_tokens": 5, "output_tokens": 40},
    ),
    "mistral": (
        {
            "prompt_tokens": 100,
            "completion_tokens": 50,
            "total_tokens": 150,
            "prompt_audio_seconds": {},
            "num_cached_tokens": 40,
        },
        {"input_tokens": 100, "output_tokens": 50, "cache_read_tokens": 40},
    ),
    "groq": (
        {
            "queue_time": 0.018,
            "prompt_tokens": 100,
            "prompt_time": 0.004,
            "completion_tokens": 50,
            "completion_time": 0.4,
            "total_tokens": 150,
            "prompt_tokens_details": {"cached_tokens": 40},
        },
        {"input_tokens": 100, "output_tokens": 50, "cache_read_tokens": 40},
    ),
    "bedrock, by its older client": (
        {
            "prompt_tokens": 100,
            "completion_tokens": 50,
            "total_tokens": 150,
            "cache_read_input_tokens": 40,
            "cache_write_input_tokens": 5,
        },
        {"input_tokens": 100, "output_tokens": 50, "cache_read_tokens": 40, "cache_write_tokens": 5},
    ),
    "dashscope": (
        {
            "prompt_tokens": 100,
            "completion_tokens": 50,
            "prompt_tokens_details": {
                "cached_tokens": 0,
                "cache_creation_input_tokens": 60,
                "cache_creation": {"ephemeral_5m_input_tokens": 60},
                "cache_type": "ephemeral",
            },
        },
        {"input_tokens": 100, "output_tokens": 50, "cache_write_tokens": 60},
    ),
    "replicate": (
        {"input_token_count": 100, "output_token_count": 50, "predict_time": 1.5},
        {"input_tokens": 100, "output_tokens": 50},
    ),
    "perplexity": (
        {"prompt_tokens": 100, "completion_tokens": 50, "total_tokens": 150, "num_search_queries": 3},
        {"input_tokens": 100, "output_tokens": 50, "web_search_requests": 3},
    ),
    "xai": (
        {
            "prompt_tokens": 100,
            "completion_tokens": 50,
            "total_tokens": 150,
            "num_sources_used": 0,
            "server_side_tool_usage_details": {"web_search_calls": 2, "x_search_calls": 0},
        },
        {"input_tokens": 100, "output_tokens": 50, "web_search_requests": 2},
    ),
    "openai, a transcription": (
        {
            "type": "tokens",
            "input_tokens": 100,
            "input_token_details": {"text_tokens": 10, "audio_tokens": 90},
            "output_tokens": 50,
            "total_tokens": 150,
        },
        {"input_tokens": 100, "output_tokens": 50, "input_audio_tokens": 90},
    ),
}


@pytest.mark.parametrize("whose", WORDS)
def test_a_usage_is_read_in_the_words_of(whose: str) -> None:
    reported, right = WORDS[whose]
    found = sum_of(counts_in(reported))
    assert found is not None
    assert parts(found.usage) == right
    assert not found.is_contradictory


@pytest.mark.parametrize("whose", WORDS)
def test_an_object_says_the_same_as_a_table(whose: str) -> None:
    reported, right = WORDS[whose]
    assert parts(read_usage(SimpleNamespace(**reported))) == right
