"""Somebody else's callback that fails changes nothing in our books."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Iterator
from typing import Any

import litellm
import pytest
from langchain_core.callbacks import BaseCallbackHandler
from langchain_openai import ChatOpenAI
from litellm.integrations.custom_logger import CustomLogger

from provider import Provider
from steptrack_callbacks import step

ASK = [{"role": "user", "content": "hello"}]


class Clumsy(CustomLogger):
    """A logger of LiteLLM that fails wherever it is called."""

    def __init__(self, instance: str) -> None:
        super().__init__()
        self.instance_id = instance

    def _fail(self, *_: Any, **__: Any) -> Any:
        raise ZeroDivisionError("somebody else's")

    log_pre_api_call = log_post_api_call = log_success_event = log_failure_event = log_stream_event = _fail
    logging_hook = async_logging_hook = _fail

    async def _fail_async(self, *_: Any, **__: Any) -> Any:
        raise ZeroDivisionError("somebody else's")

    async_log_success_event = async_log_failure_event = async_log_stream_event = _fail_async
    async_post_call_success_deployment_hook = _fail_async


@pytest.fixture(params=["before ours", "after ours"])
def clumsy(request: pytest.FixtureRequest) -> Iterator[Clumsy]:
    callback = Clumsy(request.param)
    litellm.callbacks.insert(0 if request.param == "before ours" else len(litellm.callbacks), callback)
    yield callback
    for name in ("callbacks", "input_callback", "success_callback", "failure_callback"):
        for held in (getattr(litellm, name), getattr(litellm, f"_async_{name}", [])):
            held[:] = [each for each in held if each is not callback]


@pytest.mark.parametrize("stream", [False, True])
def test_a_logger_of_litellm_that_fails(stream: bool, clumsy: Clumsy, provider: Provider) -> None:
    given = {
        "model": "openai/gpt-4o",
        "messages": ASK,
        "api_base": provider.url,
        "api_key": "x",
        "max_retries": 0,
    }

    async def ask() -> None:
        answer = await litellm.acompletion(**given, stream=stream)
        if stream:
            async for _ in answer:
                pass
        await litellm.close_litellm_async_clients()

    with step("plan", max_usd=1) as plan:
        answer = litellm.completion(**given, stream=stream)
        if stream:
            list(answer)
        asyncio.run(ask())
        provider.fail_next(1)
        with pytest.raises(litellm.InternalServerError):
            litellm.completion(**given, stream=stream)
        assert plan.account.open_calls == plan.account.held_calls == 0
    litellm.in_memory_llm_clients_cache.flush_cache()
    assert plan.usage.calls == provider.count() == 3
    assert plan.usage.failed_calls == 1
    assert (plan.usage.input_tokens, plan.usage.output_tokens) == (200, 40)


class Rude(BaseCallbackHandler):
    """A handler of LangChain that fails in one of its methods, and insists on it."""

    raise_error = True
    run_inline = True

    def __init__(self, method: str) -> None:
        def fail(*_: Any, **__: Any) -> None:
            raise ZeroDivisionError("somebody else's")

        setattr(self, method, fail)


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("method", ["on_chat_model_start", "on_llm_new_token", "on_llm_end", "on_llm_error"])
def test_a_handler_of_langchain_that_fails(method: str, stream: bool, provider: Provider) -> None:
    model = ChatOpenAI(model="gpt-4o", base_url=provider.url, api_key="x", max_retries=0, stream_usage=True)
    if method == "on_llm_error":
        provider.fail_next(1)
    with step("plan", max_usd=1) as plan:
        try:
            handlers = {"callbacks": [Rude(method)]}
            list(model.stream("hello", handlers)) if stream else model.invoke("hello", handlers)
        except Exception as error:
            assert isinstance(error, ZeroDivisionError) or method == "on_llm_error"
        gc.collect(1)
        assert plan.account.held_calls == 0
        model.invoke("hello")
    assert plan.account.open_calls == 0
    assert plan.usage.calls == provider.count()
