"""What Google says beside its counts is charged: media, tiers of its own words, what answers are grounded in."""

from __future__ import annotations

import asyncio
import importlib
from collections.abc import Callable
from decimal import Decimal
from typing import Any

import litellm
import pytest

import noise
from left_out import FASTAPI
from provider import Provider
from steptrack_callbacks import step

pytestmark = [pytest.mark.filterwarnings(each) for each in noise.LITELLM]

Json = dict[str, Any]
M = Decimal("1e-6")
PLAIN_USD = 1_000 * Decimal("0.3") * M + 250 * Decimal("2.5") * M
CONTENTS = [{"role": "user", "parts": [{"text": "hello"}]}]


def answer(usage: Json, **beside: Any) -> Json:
    """Write an answer of `generateContent`: its stream tells what was used with its last piece."""
    usage = {
        "promptTokenCount": 1_000,
        "candidatesTokenCount": 200,
        "thoughtsTokenCount": 50,
        "totalTokenCount": 1_250,
    } | usage
    said = {"content": {"role": "model", "parts": [{"text": "word"}]}, "index": 0}
    last = {"candidates": [said | {"finishReason": "STOP"} | beside], "usageMetadata": usage}
    first = {"candidates": [said], "usageMetadata": {"promptTokenCount": 1_000, "totalTokenCount": 1_000}}
    model = {"modelVersion": "gemini-2.5-flash"}
    return {"whole": last | model, "pieces": (first | model, last | model)}


def by_medium(**tokens: int) -> list[Json]:
    return [{"modality": medium.upper(), "tokenCount": count} for medium, count in tokens.items()]


SOUND = pytest.mark.needs("litellm>=1.108", "before, it loses how much of the cache was sound")
CASES: dict[str, tuple[Json, dict[str, int], Decimal]] = {
    "plain": (answer({}), {}, PLAIN_USD),
    "sound, some of it cached": (
        answer(
            {
                "promptTokensDetails": by_medium(audio=600, text=400),
                "cachedContentTokenCount": 300,
                "cacheTokensDetails": by_medium(audio=200, text=100),
            }
        ),
        {"input_audio_tokens": 600, "cache_read_tokens": 300, "cache_read_audio_tokens": 200},
        400 * 1 * M
        + 200 * Decimal("0.1") * M
        + 100 * Decimal("0.03") * M
        + 300 * Decimal("0.3") * M
        + 250 * Decimal("2.5") * M,
    ),
    "what its tools have read": (
        answer({"toolUsePromptTokenCount": 70, "totalTokenCount": 1_320}),
        {"input_tokens": 1_070},
        PLAIN_USD + 70 * Decimal("0.3") * M,
    ),
    "priority": (
        answer({"trafficType": "ON_DEMAND_PRIORITY"}),
        {},
        1_000 * Decimal("0.54") * M + 250 * Decimal("4.5") * M,
    ),
    "flex": (answer({"trafficType": "ON_DEMAND_FLEX"}), {}, PLAIN_USD / 2),
    "no tier": (answer({"trafficType": "ON_DEMAND"}), {}, PLAIN_USD),
    "searches of the web, paid once": (
        answer({}, groundingMetadata={"webSearchQueries": ["a", "b", "a"], "groundingChunks": [{"web": {}}]}),
        {"web_search_requests": 2},
        PLAIN_USD + Decimal("0.035"),
    ),
    "a question to maps": (
        answer(
            {}, groundingMetadata={"webSearchQueries": ["a"], "groundingChunks": [{"maps": {"uri": "u"}}]}
        ),
        {"google_maps_requests": 1},
        PLAIN_USD + Decimal("0.025"),
    ),
}


def chat(provider: Provider, *, stream: bool) -> None:
    ask = [{"role": "user", "content": "hello"}]
    given = {"api_base": provider.url, "api_key": "none", "max_retries": 0}
    said = litellm.completion("gemini/gemini-2.5-flash", ask, stream=stream, **given)
    if stream:
        list(said)


def contents(provider: Provider, *, stream: bool) -> None:
    google: Any = importlib.import_module("litellm.google_genai")
    given = {"model": "gemini/gemini-2.5-flash", "api_base": provider.url, "api_key": "none"}
    if stream:
        list(google.generate_content_stream(contents=CONTENTS, **given))
    else:
        google.generate_content(contents=CONTENTS, **given)


def async_contents(provider: Provider, *, stream: bool) -> None:
    google: Any = importlib.import_module("litellm.google_genai")
    given = {"model": "gemini/gemini-2.5-flash", "api_base": provider.url, "api_key": "none"}

    async def ask() -> None:
        if stream:
            async for _ in await google.agenerate_content_stream(contents=CONTENTS, **given):
                pass
        else:
            await google.agenerate_content(contents=CONTENTS, **given)
        await litellm.close_litellm_async_clients()

    try:
        asyncio.run(ask())
    finally:
        litellm.in_memory_llm_clients_cache.flush_cache()


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
@pytest.mark.parametrize(
    "make", [chat, pytest.param(contents, marks=FASTAPI), pytest.param(async_contents, marks=FASTAPI)]
)
@pytest.mark.parametrize(
    "case", [pytest.param(name, marks=SOUND if name.startswith("sound") else []) for name in CASES]
)
def test_what_google_says_of_an_answer_is_charged(
    case: str, make: Callable[..., None], stream: bool, provider: Provider
) -> None:
    said, more, usd = CASES[case]
    provider.behave(**said)
    with step("plan") as plan:
        make(provider, stream=stream)
    right = {"input_tokens": 1_000, "output_tokens": 250, "reasoning_tokens": 50} | more
    assert {name: getattr(plan.usage, name) for name in right} == right
    assert plan.usage.cost_usd == usd
    assert (plan.usage.calls, plan.usage.estimated_calls, plan.usage.unpriced_calls) == (1, 0, 0)
