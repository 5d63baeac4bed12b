"""An answer is charged the same, whoever hands it over: whole or in pieces, by LiteLLM, LangChain or the proxy.

For each sort of provider there is one answer with its figures. It is sent through the real clients, whole
and cut into the pieces in which that provider streams, and is read as the proxy reads it.
"""

from __future__ import annotations

import gc
import json
from collections.abc import Callable, Iterator
from typing import Any

import litellm
import pytest
from answers_of_providers import CASES, Case, Json
from langchain_anthropic import ChatAnthropic
from langchain_openai import AzureChatOpenAI, ChatOpenAI
from langchain_openai.chat_models import _client_utils

import noise
import steptrack_callbacks as steptrack
from provider import Provider
from steptrack_callbacks import Usage, step
from steptrack_callbacks.litellm import charging
from steptrack_callbacks.litellm.requests import request_of
from steptrack_callbacks.steps.attribution import new_call

ADVICE = "ignore:Received unexpected tool content block:UserWarning"  # LangChain does not know it yet
pytestmark = [pytest.mark.filterwarnings(each) for each in (*noise.LITELLM, ADVICE)]

ASK = [{"role": "user", "content": "hello"}]


@pytest.fixture(autouse=True)
def _attached() -> Iterator[None]:
    steptrack.install()
    yield
    gc.collect(0)
    steptrack.uninstall()
    litellm.in_memory_llm_clients_cache.flush_cache()
    _client_utils._cached_sync_httpx_client.cache_clear()


@pytest.fixture
def provider() -> Iterator[Provider]:
    with Provider() as provider:
        yield provider


def by_litellm(case: Case, provider: Provider, *, stream: bool) -> None:
    base = f"{provider.url}/messages" if case.api == "messages" else provider.url
    options: Json = {"api_base": base, "api_key": "none", "max_retries": 0, "stream": stream}
    if case.model.startswith("azure/"):
        options["api_version"] = "2024-10-21"
    if case.api == "responses":
        answer = litellm.responses(model=case.model, input="hello", **options)
    else:
        answer = litellm.completion(model=case.model, messages=ASK, **options)
    if stream:
        list(answer)


def by_langchain(case: Case, provider: Provider, *, stream: bool) -> None:
    assert case.langchain is not None
    options: Json = {"api_key": "none", "max_retries": 0, "stream_usage": True, **case.langchain}
    vendor, _, name = case.model.partition("/")
    model: Any
    if case.api == "messages":
        del options["stream_usage"]
        model = ChatAnthropic(model=name, base_url=provider.url.removesuffix("/v1"), **options)
    elif vendor == "azure":
        where = {"azure_endpoint": provider.url, "api_version": "2024-10-21"}
        model = AzureChatOpenAI(azure_deployment=name, **where, **options)
    else:
        model = ChatOpenAI(model=name if vendor == "openai" else case.model, base_url=provider.url, **options)
    list(model.stream("hello")) if stream else model.invoke("hello")


def by_proxy(case: Case, provider: Provider, *, stream: bool) -> None:
    """Read what the provider sends as the proxy's own hooks get it: tables, or a stream as bytes."""
    kind: Any = case.api
    call = new_call(request_of("chat", case.model, ASK, {}))
    call.admit()
    if not stream:
        whole = case.payload["whole"]
        charging.settle(call, kind, whole if kind == "messages" else _as_litellm(case, whole))
        return
    meter = charging.meter_for(call, kind, None)
    for piece in case.payload["pieces"]:
        meter.see(_frame(piece) if kind == "messages" else _as_litellm(case, piece))
    meter.finish()


def _frame(piece: Json) -> bytes:
    return b"event: " + piece["type"].encode() + b"\ndata: " + json.dumps(piece).encode() + b"\n\n"


def _as_litellm(case: Case, table: Json) -> Any:
    """Give an answer, or a chunk, the class that LiteLLM has for it."""
    if case.api == "responses":
        return table
    kind = litellm.ModelResponse if "usage" in table and table["choices"] else litellm.ModelResponseStream
    return kind(**table)


WAYS: dict[str, Callable[..., None]] = {"litellm": by_litellm, "langchain": by_langchain, "proxy": by_proxy}


ALL = [
    pytest.param(case, way, id=f"{case.name}: {way}")
    for case in CASES
    for way in WAYS
    if way != "langchain" or case.langchain is not None
]


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
@pytest.mark.parametrize(("case", "way"), ALL)
def test_an_answer_is_charged_the_same_whoever_hands_it_over(
    case: Case, way: str, stream: bool, provider: Provider
) -> None:
    provider.behave(**case.payload)
    with step("plan") as plan:
        WAYS[way](case, provider, stream=stream)
    used = plan.usage
    if way == "langchain" and stream and not case.is_kept:
        told = (case.counts["input_tokens"], case.counts["output_tokens"])
        assert used.estimated_calls or (used.input_tokens, used.output_tokens) == told
        return
    assert counted(used) == case.counts
    assert used.cost_usd == case.usd
    assert used.unpriced_calls == (case.usd == 0 and not case.is_free)
    assert (used.calls, used.estimated_calls) == (1, 0)


def counted(used: Usage) -> dict[str, int]:
    """Return what was counted of tokens and tools."""
    told = used.to_dict()
    return {name: count for name, count in told.items() if count and not name.endswith(("calls", "usd"))}
