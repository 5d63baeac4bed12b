"""LangChain models that send through LiteLLM, both integrations attached: charged once, with LiteLLM's own cost."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from typing import Any

import litellm
import pytest
from asking import AT_ONCE, CALL_TOKENS, CALL_USD, MODES, chat
from langchain_core.language_models import LLM, BaseChatModel
from langchain_core.messages import AIMessage, AIMessageChunk
from langchain_core.outputs import ChatGeneration, ChatGenerationChunk, ChatResult
from langchain_litellm import ChatLiteLLM, ChatLiteLLMRouter
from litellm.caching.caching import Cache

import custom_providers
import steptrack_callbacks as steptrack
from left_out import FASTAPI
from provider import Provider
from steptrack_callbacks import BudgetExhausted, step
from steptrack_callbacks.langchain import budgeted

pytestmark = [
    pytest.mark.filterwarnings("ignore::UserWarning:pydantic"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:coroutine '.*' was never awaited:RuntimeWarning"),
    pytest.mark.filterwarnings("ignore:[Uu]nclosed:ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]
ASK = [{"role": "user", "content": "hello"}]


@pytest.fixture(autouse=True)
def _both_integrations() -> Iterator[None]:
    steptrack.install()
    yield
    steptrack.uninstall()
    litellm.cache = None
    litellm.in_memory_llm_clients_cache.flush_cache()


def through_litellm(provider: Provider, **options: Any) -> ChatLiteLLM:
    given = {"model": "openai/gpt-4o", "api_base": provider.url, "api_key": "none", "max_retries": 0}
    return ChatLiteLLM(**given | options)


def direct(provider: Provider, **options: Any) -> Any:
    return litellm.completion(
        model="openai/gpt-4o", messages=ASK, api_base=provider.url, api_key="none", max_retries=0, **options
    )


class UsersOwn(BaseChatModel):
    """A user's own model around LiteLLM, which passes on no usage and names no provider."""

    model: str = "openai/gpt-4o"
    api_base: str
    calls_each: int = 1

    @property
    def _llm_type(self) -> str:
        return "own"

    def _options(self) -> dict[str, Any]:
        return {
            "model": self.model,
            "messages": ASK,
            "api_base": self.api_base,
            "api_key": "none",
            "max_retries": 0,
        }

    def _generate(
        self, messages: Any, stop: Any = None, run_manager: Any = None, **kwargs: Any
    ) -> ChatResult:
        for _ in range(self.calls_each):
            answer = litellm.completion(**self._options())
        message = AIMessage(answer.choices[0].message.content)
        return ChatResult(generations=[ChatGeneration(message=message)])

    async def _agenerate(
        self, messages: Any, stop: Any = None, run_manager: Any = None, **kwargs: Any
    ) -> ChatResult:
        answer = await litellm.acompletion(**self._options())
        message = AIMessage(answer.choices[0].message.content)
        return ChatResult(generations=[ChatGeneration(message=message)])

    def _stream(
        self, messages: Any, stop: Any = None, run_manager: Any = None, **kwargs: Any
    ) -> Iterator[Any]:
        for chunk in litellm.completion(stream=True, **self._options()):
            yield ChatGenerationChunk(message=AIMessageChunk(chunk.choices[0].delta.content or ""))

    async def _astream(
        self, messages: Any, stop: Any = None, run_manager: Any = None, **kwargs: Any
    ) -> AsyncIterator[Any]:
        async for chunk in await litellm.acompletion(stream=True, **self._options()):
            yield ChatGenerationChunk(message=AIMessageChunk(chunk.choices[0].delta.content or ""))


class UsersOwnCompletion(LLM):
    """The same as a completion model: how it awaits is left to LangChain, which runs it in a thread."""

    model: str = "openai/gpt-4o"
    api_base: str

    @property
    def _llm_type(self) -> str:
        return "own"

    @property
    def _identifying_params(self) -> dict[str, Any]:
        return {"model": self.model}

    def _call(self, prompt: str, stop: Any = None, run_manager: Any = None, **kwargs: Any) -> str:
        given = {"api_base": self.api_base, "api_key": "none", "max_retries": 0}
        answer = litellm.completion(self.model, [{"role": "user", "content": prompt}], **given)
        return str(answer.choices[0].message.content)


class AwaitingCompletion(UsersOwnCompletion):
    """The same, which awaits by itself."""

    async def _acall(self, prompt: str, stop: Any = None, run_manager: Any = None, **kwargs: Any) -> str:
        given = {"api_base": self.api_base, "api_key": "none", "max_retries": 0}
        answer = await litellm.acompletion(self.model, [{"role": "user", "content": prompt}], **given)
        return str(answer.choices[0].message.content)


EVENTS = [name for name in MODES if name.startswith(("astream_events", "stream_events"))]
NO_TOOLS = [name for name in MODES if "structured" not in name and "tools" not in name]


@pytest.mark.parametrize("mode", NO_TOOLS)
def test_chat_litellm_is_charged_once_and_exactly(mode: str, provider: Provider) -> None:
    with step("plan", max_usd=1) as plan:
        MODES[mode](through_litellm(provider))
    assert provider.count() == plan.usage.calls == 1
    assert (plan.usage.total_tokens, plan.cost_usd, plan.usage.estimated_calls) == (CALL_TOKENS, CALL_USD, 0)


@pytest.mark.parametrize("mode", NO_TOOLS)
def test_a_users_own_model_around_litellm_is_charged_once_and_exactly(mode: str, provider: Provider) -> None:
    with step("plan", max_usd=1) as plan:
        MODES[mode](UsersOwn(api_base=provider.url))
    assert provider.count() == plan.usage.calls == 1
    assert (plan.usage.total_tokens, plan.cost_usd, plan.usage.estimated_calls) == (CALL_TOKENS, CALL_USD, 0)


@pytest.mark.parametrize("prompts", [1, 3])
@pytest.mark.parametrize("mode", ["batch", "abatch"])
@pytest.mark.parametrize("kind", [UsersOwnCompletion, AwaitingCompletion])
def test_prompts_of_a_users_own_completion_model_are_charged_each_once_and_exactly(
    kind: type[UsersOwnCompletion], mode: str, prompts: int, provider: Provider
) -> None:
    model, asked = kind(api_base=provider.url), ["hello"] * prompts

    async def abatch() -> None:
        await model.abatch(asked)
        await litellm.close_litellm_async_clients()

    with step("plan", max_usd=1, wait_s=5) as plan:  # nothing is known of the model, and nobody has to wait
        model.batch(asked) if mode == "batch" else asyncio.run(abatch())
    assert provider.count() == plan.usage.calls == prompts
    assert (plan.usage.total_tokens, plan.usage.estimated_calls) == (prompts * CALL_TOKENS, 0)


@pytest.mark.parametrize("mode", ["invoke", "ainvoke", "batch", "abatch", "stream", "astream", *EVENTS])
@pytest.mark.parametrize("kind", custom_providers.KINDS)
def test_a_provider_of_the_users_own_is_charged_once_and_exactly(
    kind: Any, mode: str, provider: Provider
) -> None:
    steptrack.install(prices={custom_providers.MODEL: custom_providers.RATES})
    with custom_providers.registered(kind(provider)), step("plan", max_usd=1) as plan:
        MODES[mode](ChatLiteLLM(model=custom_providers.MODEL, max_retries=1))
    assert provider.count() == plan.usage.calls == 1
    assert (plan.usage.total_tokens, plan.cost_usd, plan.usage.estimated_calls) == (CALL_TOKENS, CALL_USD, 0)


@pytest.mark.parametrize("kind", custom_providers.KINDS)
def test_each_try_of_a_provider_of_the_users_own_is_charged(kind: Any, provider: Provider) -> None:
    provider.fail_next(1)
    with custom_providers.registered(kind(provider)), step("plan", max_calls=9) as plan:
        ChatLiteLLM(model=custom_providers.MODEL, max_retries=1).with_retry(**AT_ONCE).invoke("hello")
    assert provider.count() == plan.usage.calls == 2
    assert (plan.usage.failed_calls, plan.usage.total_tokens) == (1, CALL_TOKENS)


def test_each_request_of_a_model_that_sends_several_is_charged(provider: Provider) -> None:
    with step("plan", max_usd=1) as plan:
        UsersOwn(api_base=provider.url, calls_each=3).invoke("hello")
    assert provider.count() == plan.usage.calls == 3


@pytest.mark.parametrize("mode", ["batch", "abatch", "gather"])
def test_many_at_once_are_charged_each_once(mode: str, provider: Provider) -> None:
    model = through_litellm(provider, max_tokens=200)

    async def both() -> None:
        await asyncio.gather(
            *(model.ainvoke("hello") for _ in range(4)),
            *(asyncio.to_thread(direct, provider, max_tokens=200) for _ in range(2)),
            *(chat(provider, max_tokens=200).ainvoke("hello") for _ in range(2)),
        )

    with step("plan", max_usd=1) as plan:
        if mode == "batch":
            model.batch(["hello"] * 8)
        else:
            asyncio.run(model.abatch(["hello"] * 8) if mode == "abatch" else both())
    assert provider.count() == plan.usage.calls == 8
    assert plan.cost_usd == 8 * CALL_USD


@pytest.mark.parametrize(
    "make", [through_litellm, chat, lambda p: UsersOwn(api_base=p.url)], ids=["lc", "openai", "own"]
)
def test_direct_calls_between_the_chunks_of_a_stream_are_calls_of_their_own(
    make: Any, provider: Provider
) -> None:
    with step("plan", max_usd=1) as plan:
        for number, _ in enumerate(make(provider).stream("hello")):
            if number == 3:
                direct(provider)
    assert provider.count() == plan.usage.calls == 2
    assert plan.cost_usd == 2 * CALL_USD


@pytest.mark.parametrize("make", [through_litellm, chat], ids=["lc", "openai"])
def test_direct_calls_between_the_chunks_of_an_async_stream_are_calls_of_their_own(
    make: Any, provider: Provider
) -> None:
    direct(provider)  # of a cold model, the second call would wait for what the first one teaches

    async def main() -> None:
        number = 0
        async for _ in make(provider).astream("hello"):
            if (number := number + 1) == 3:
                await asyncio.to_thread(direct, provider)

    with step("plan", max_usd=1) as plan:
        asyncio.run(main())
    assert (provider.count(), plan.usage.calls) == (3, 2)
    assert plan.cost_usd == 2 * CALL_USD


@pytest.mark.parametrize("make", [through_litellm, chat], ids=["lc", "openai"])
def test_direct_calls_after_a_model_are_calls_of_their_own(make: Any, provider: Provider) -> None:
    async def main() -> None:
        await make(provider).ainvoke("hello")
        await asyncio.to_thread(direct, provider)

    with step("plan", max_usd=1) as plan:
        make(provider).invoke("hello")
        direct(provider)
        asyncio.run(main())
    assert provider.count() == plan.usage.calls == 4
    assert plan.cost_usd == 4 * CALL_USD


def test_a_direct_call_after_one_that_failed_is_a_call_of_its_own(provider: Provider) -> None:
    provider.fail_next(1, 400)
    with step("plan", max_usd=1) as plan:
        with pytest.raises(Exception, match="400"):
            through_litellm(provider).invoke("hello")
        direct(provider)
    assert provider.count() == plan.usage.calls == 2
    assert (plan.usage.failed_calls, plan.cost_usd) == (1, CALL_USD)


@FASTAPI
def test_a_hit_of_litellms_cache_is_free(provider: Provider) -> None:
    litellm.cache = Cache()
    with step("plan", max_usd=1) as plan:
        for _ in range(3):
            through_litellm(provider, model_kwargs={"caching": True}).invoke("hello")
    assert provider.count() == plan.usage.calls == 1
    assert plan.cost_usd == CALL_USD


def router(provider: Provider, **options: Any) -> litellm.Router:
    where = {"model": "openai/gpt-4o", "api_base": provider.url, "api_key": "none", "max_retries": 0}
    return litellm.Router(model_list=[{"model_name": "mine", "litellm_params": where}], **options)


@pytest.mark.parametrize("mode", ["invoke", "ainvoke", "stream"])
def test_a_routers_own_name_for_a_model_is_left_to_litellm(mode: str, provider: Provider) -> None:
    model = ChatLiteLLMRouter(router=router(provider), model_name="mine", model="mine")
    with step("plan", max_usd=1) as plan:
        MODES[mode](model)
    assert provider.count() == plan.usage.calls == 1
    assert plan.cost_usd == CALL_USD


def test_each_retry_of_a_router_is_charged_by_itself(provider: Provider) -> None:
    provider.fail_next(1)
    model = ChatLiteLLMRouter(
        router=router(provider, num_retries=1, retry_after=0), model_name="mine", model="mine"
    )
    with step("plan", max_usd=1) as plan:
        model.invoke("hello")
    assert provider.count() == plan.usage.calls == 2
    assert (plan.usage.failed_calls, plan.cost_usd) == (1, CALL_USD)


def test_a_call_by_http_is_charged_by_langchain_alone(provider: Provider) -> None:
    async def main() -> None:
        await chat(provider).ainvoke("hello")
        [chunk async for chunk in chat(provider).astream("hello")]

    with step("plan", max_usd=1) as plan:
        chat(provider).invoke("hello")
        list(chat(provider).stream("hello"))
        asyncio.run(main())
    assert provider.count() == plan.usage.calls == 4
    assert plan.cost_usd == 4 * CALL_USD


@pytest.mark.parametrize("mode", ["invoke", "ainvoke", "stream", "astream"])
def test_litellm_charges_where_langchain_is_not_attached(mode: str, provider: Provider) -> None:
    from steptrack_callbacks.langchain import attachment

    attachment._detach()
    with step("plan", max_usd=1) as plan:
        MODES[mode](through_litellm(provider))
    assert provider.count() == plan.usage.calls == 1
    assert plan.cost_usd == CALL_USD


@pytest.mark.parametrize("mode", ["invoke", "ainvoke", "stream", "astream"])
def test_langchain_charges_where_litellm_is_not_attached(mode: str, provider: Provider) -> None:
    from steptrack_callbacks.langchain import attach

    steptrack.uninstall()
    attach()
    with step("plan", max_usd=1) as plan:
        MODES[mode](through_litellm(provider))
    assert provider.count() == plan.usage.calls == 1
    assert plan.cost_usd == CALL_USD


@pytest.mark.parametrize("mode", NO_TOOLS)
def test_a_refusal_sends_nothing(mode: str, provider: Provider) -> None:
    with pytest.raises(BudgetExhausted), step("plan", max_usd=0):
        MODES[mode](through_litellm(provider))
    assert provider.count() == 0


@pytest.mark.parametrize("mode", ["stream", "astream"])
def test_a_joined_stream_is_cut_as_it_runs(mode: str, provider: Provider) -> None:
    provider.behave(output_tokens=2_000)
    with pytest.raises(BudgetExhausted) as cut, step("plan", max_tokens=100) as plan:
        MODES[mode](through_litellm(provider))
    assert cut.value.phase == "stream"
    assert provider.count() == plan.usage.calls == 1
    assert 100 < plan.usage.total_tokens < 130


def test_a_joined_stream_that_is_broken_off_is_charged_once(provider: Provider) -> None:
    with step("plan", max_usd=1) as plan:
        stream = through_litellm(provider).stream("hello")
        next(stream)
        next(stream)
        stream.close()
    assert plan.usage.calls == plan.usage.estimated_calls == 1


def test_budgeted_around_chat_litellm_is_charged_once(provider: Provider) -> None:
    with step("plan", max_usd=1) as plan:
        budgeted(through_litellm(provider), step="ask").invoke("hello")
        asyncio.run(budgeted(through_litellm(provider), step="ask").ainvoke("hello"))
    assert plan.usage.calls == 2
    assert plan.cost_usd == 2 * CALL_USD


@pytest.mark.parametrize("is_async", [False, True])
def test_a_model_that_calls_litellm_goes_on_with_the_next_of_a_steps_models(
    is_async: bool, provider: Provider
) -> None:
    model = through_litellm(provider)
    with step("answer", max_usd=1, models=["openai/gpt-4o", "openai/gpt-4o-mini"], downgrade_at=0) as answer:
        asyncio.run(model.ainvoke("hello")) if is_async else model.invoke("hello")
        assert (answer.usage.calls, answer.usage.total_tokens) == (1, CALL_TOKENS)
    assert [request.body["model"] for request in provider.requests] == ["gpt-4o-mini"]
    assert [swap.used for swap in answer.record().swaps] == ["openai/gpt-4o-mini"]
