"""What models report, and what they do not: translated once, never 0 for an answer that was given."""

from __future__ import annotations

import asyncio
from decimal import Decimal
from typing import Any

import pytest
from asking import CALL_TOKENS, CALL_USD, INPUT_USD, OUTPUT_USD, FakeChat, FakeCompletion, chat
from langchain_core.caches import InMemoryCache
from langchain_core.globals import set_llm_cache
from langchain_core.language_models.fake_chat_models import FakeListChatModel, GenericFakeChatModel
from langchain_core.language_models.llms import BaseLLM
from langchain_core.messages import AIMessage, HumanMessage
from langchain_core.outputs import ChatGeneration, Generation, LLMResult
from langchain_openai import OpenAI

import steptrack_callbacks as steptrack
from provider import Provider
from steptrack_callbacks import UnpricedModel, step
from steptrack_callbacks.integrations.usage import read_usage


def result(usage: Any = None, *, text: str = "yes", llm_output: Any = None, **told: Any) -> LLMResult:
    message = AIMessage(text, response_metadata=told)
    message.usage_metadata = usage
    return LLMResult(generations=[[ChatGeneration(message=message)]], llm_output=llm_output)


@pytest.mark.parametrize("n", [2, 3])
@pytest.mark.parametrize("mode", ["invoke", "stream"])
def test_several_answers_to_one_request_count_once(n: int, mode: str, provider: Provider) -> None:
    with step("plan", max_usd=1) as plan:
        model = chat(provider, n=n)
        model.generate([[HumanMessage("hello")]]) if mode == "invoke" else list(model.stream("hello"))
    assert (plan.usage.calls, plan.usage.input_tokens, plan.usage.output_tokens) == (1, 100, n * 200)


@pytest.mark.parametrize("mode", ["invoke", "ainvoke"])
def test_a_hit_of_the_cache_is_free_and_no_call(mode: str, provider: Provider) -> None:
    model = chat(provider, cache=InMemoryCache())
    with step("plan", max_usd=1) as plan:
        for _ in range(3):
            model.invoke("hello") if mode == "invoke" else asyncio.run(model.ainvoke("hello"))
    assert provider.count() == plan.usage.calls == 1
    assert plan.cost_usd == CALL_USD


@pytest.mark.parametrize("says_output", [True, False])
def test_a_paid_call_is_charged_though_a_hit_of_its_answer_was_read_before(
    says_output: bool, provider: Provider
) -> None:
    model: Any = chat(provider) if says_output else FakeChat()
    model.cache = InMemoryCache()  # it keeps the very object that the paid call is about to report
    with step("plan") as plan:
        model.generate([[HumanMessage("hello")], [HumanMessage("hello")]])
    assert (plan.usage.calls, plan.usage.estimated_calls) == (1, 0)
    assert plan.usage.total_tokens == (CALL_TOKENS if says_output else 14)


def test_a_hit_of_the_cache_is_free_for_a_model_that_reports_nothing() -> None:
    model = FakeListChatModel(responses=["a", "b"], cache=InMemoryCache())
    with step("plan") as plan:
        model.invoke("hello")
        model.invoke("hello")
    assert plan.usage.calls == plan.usage.estimated_calls == 1


def test_a_hit_of_the_cache_under_a_limiter_is_free(provider: Provider) -> None:
    model = chat(provider, cache=InMemoryCache(), rate_limiter=steptrack_admission())

    async def main() -> None:
        with step("plan", max_usd=1) as plan:
            await model.ainvoke("hello")
            await model.ainvoke("hello")
        assert plan.usage.calls == 1

    asyncio.run(main())
    assert provider.count() == 1


def test_a_limiter_admits_the_prompt_that_is_sent_and_not_one_before_it_that_the_cache_has() -> None:
    model = FakeChat(rate_limiter=steptrack_admission(), cache=InMemoryCache())

    async def main() -> None:
        await model.agenerate([[HumanMessage("hello")]])
        async with step("plan", max_calls=1, error_boundary="continue") as plan:
            await model.agenerate([[HumanMessage(text)] for text in ("hello", "one", "two")])
        assert (plan.exhausted, plan.usage.calls) == (True, 1)

    asyncio.run(main())
    assert model.sent == 2


def steptrack_admission() -> Any:
    from steptrack_callbacks.langchain import admission

    return admission


def test_a_hit_of_the_cache_in_an_exhausted_step_is_refused_where_langchain_looks_too_late(
    provider: Provider,
) -> None:
    model = chat(provider, cache=InMemoryCache())
    with step("plan", max_calls=1, error_boundary="continue") as plan:
        model.invoke("hello")
        model.invoke("hello")
    assert plan.exhausted

    async def main() -> None:
        limited = chat(provider, cache=model.cache, rate_limiter=steptrack_admission())
        async with step("plan", max_calls=0) as plan:
            await limited.ainvoke("hello")
        assert plan.usage.calls == 0

    asyncio.run(main())
    assert provider.count() == 1


def test_a_hit_of_the_cache_of_a_completion_model_is_free() -> None:
    set_llm_cache(InMemoryCache())
    try:
        with step("plan") as plan:
            FakeCompletion().invoke("hello")
            FakeCompletion().invoke("hello")
    finally:
        set_llm_cache(None)
    assert plan.usage.calls == 1


def test_a_model_that_reports_nothing_is_counted_and_marked_estimated() -> None:
    with step("plan") as plan:
        FakeListChatModel(responses=["a short answer of seven tokens only"]).invoke("hello")
        list(GenericFakeChatModel(messages=iter(["another answer"])).stream("hello"))
    assert plan.usage.calls == plan.usage.estimated_calls == 2
    assert plan.usage.output_tokens >= 8
    assert plan.usage.input_tokens > 0


@pytest.mark.parametrize("mode", ["invoke", "ainvoke", "stream", "batch"])
def test_a_completion_model_without_usage_is_counted(mode: str) -> None:
    model = FakeCompletion()
    with step("plan", max_usd=1) as plan:
        if mode == "ainvoke":
            asyncio.run(model.ainvoke("hello"))
        else:
            {
                "invoke": model.invoke,
                "stream": lambda q: list(model.stream(q)),
                "batch": lambda q: model.batch([q]),
            }[mode]("hello")
    assert plan.usage.calls == plan.usage.estimated_calls == 1
    assert plan.usage.output_tokens == 50
    assert plan.cost_usd > 0


def test_a_completion_model_that_reports_usage_is_charged_by_it(provider: Provider) -> None:
    with step("plan", max_usd=1) as plan:
        OpenAI(base_url=provider.url, api_key="none", max_retries=0, max_tokens=200).invoke("hello")
    assert (plan.usage.input_tokens, plan.usage.output_tokens, plan.usage.estimated_calls) == (100, 200, 0)


def test_a_batch_of_prompts_is_charged_for_each() -> None:
    with step("plan", max_usd=1) as plan:
        FakeCompletion().batch(["a", "b", "c"])
    assert plan.usage.calls == 3
    assert plan.usage.output_tokens == 150


@pytest.mark.parametrize(("reports", "expected"), [(True, (30, 12, 0)), (False, (3, 3, 3))])
@pytest.mark.parametrize("mode", ["batch", "abatch"])
def test_prompts_that_share_a_request_are_charged_its_usage_once(
    mode: str, reports: bool, expected: tuple[int, int, int]
) -> None:
    class AtOnce(BaseLLM):
        model: str = "gpt-3.5-turbo-instruct"

        @property
        def _llm_type(self) -> str:
            return "fake"

        def _generate(self, prompts: list[str], *args: Any, **kwargs: Any) -> LLMResult:
            used = {"prompt_tokens": 30, "completion_tokens": 12} if reports else {}
            generations = [[Generation(text="yes")] for _ in prompts]
            return LLMResult(
                generations=generations, llm_output={"token_usage": used, "model_name": self.model}
            )

    with step("plan", max_usd=1) as plan:
        if mode == "batch":
            AtOnce().batch(["a", "b", "c"])
        else:
            asyncio.run(AtOnce().abatch(["a", "b", "c"]))
    assert (plan.usage.input_tokens, plan.usage.output_tokens, plan.usage.estimated_calls) == expected
    assert plan.usage.calls == 3


def test_a_streamed_completion_without_usage_is_counted(provider: Provider) -> None:
    model = OpenAI(base_url=provider.url, api_key="none", max_retries=0, streaming=True)
    with step("plan", max_usd=1) as plan:
        model.invoke("hello")
    assert (plan.usage.output_tokens, plan.usage.estimated_calls) == (200, 1)


def test_a_refused_batch_of_prompts_gives_back_what_it_held() -> None:
    with pytest.raises(steptrack.BudgetExhausted), step("plan", max_calls=2) as plan:
        FakeCompletion().batch(["a", "b", "c"])
    assert plan.usage.calls == 0


def test_the_responses_api_is_charged_by_what_it_reports(provider: Provider) -> None:
    with step("plan", max_usd=1) as plan:
        chat(provider, use_responses_api=True).invoke("hello")
    assert (plan.usage.total_tokens, plan.cost_usd) == (CALL_TOKENS, CALL_USD)


def test_details_are_parts_of_the_totals(provider: Provider) -> None:
    provider.behave(cached_tokens=40, reasoning_tokens=50)
    with step("plan", max_usd=1) as plan:
        chat(provider).invoke("hello")
    assert (plan.usage.cache_read_tokens, plan.usage.reasoning_tokens) == (40, 50)
    assert plan.usage.total_tokens == CALL_TOKENS
    assert plan.cost_usd == CALL_USD - 40 * INPUT_USD / 2


def test_renamed_details_of_a_service_tier_are_read_and_priced_by_it() -> None:
    usage = {
        "input_tokens": 1_000_000,
        "output_tokens": 10,
        "input_token_details": {"flex_cache_read": 400, "flex": 600},
        "output_token_details": {"flex_reasoning": 4, "flex": 6},
    }
    read = read_usage(usage)
    assert read is not None
    assert (read.cache_read_tokens, read.reasoning_tokens) == (400, 4)

    class Flex(FakeChat):
        model: str = "gpt-5"

        def _answer(self) -> AIMessage:
            return AIMessage("yes", usage_metadata=usage | {"total_tokens": 1_000_010})

    with step("plan") as plan:
        Flex().invoke("hello")
    assert plan.cost_usd == Decimal("0.62475") + 400 * Decimal("0.0625e-6") + 10 * Decimal("5e-6")


def test_cache_writes_of_either_lifetime_are_told_apart() -> None:
    details = {
        "cache_creation": 0,
        "ephemeral_5m_input_tokens": 30,
        "ephemeral_1h_input_tokens": 20,
        "cache_read": 5,
    }
    read = read_usage({"input_tokens": 100, "output_tokens": 1, "input_token_details": details})
    assert read is not None
    assert (read.cache_write_tokens, read.cache_write_1h_tokens, read.cache_read_tokens) == (50, 20, 5)


@pytest.mark.parametrize(
    "nonsense",
    [
        None,
        {},
        {"total_tokens": 5},
        {"input_tokens": None},
        {"input_tokens": -1, "output_tokens": True},
        "7",
        7,
    ],
)
def test_nonsense_for_usage_counts_as_not_reported(nonsense: Any) -> None:
    class Nonsense(FakeChat):
        def _answer(self) -> AIMessage:
            message = AIMessage("four words it is")
            object.__setattr__(message, "usage_metadata", nonsense)
            return message

    with step("plan") as plan:
        Nonsense().invoke("hello")
    assert plan.usage.calls == plan.usage.estimated_calls == 1
    assert plan.usage.output_tokens == 4


def test_an_input_of_zero_is_counted_instead() -> None:
    class NoInput(FakeChat):
        def _answer(self) -> AIMessage:
            return AIMessage("yes", usage_metadata={"input_tokens": 0, "output_tokens": 7, "total_tokens": 7})

    with step("plan") as plan:
        NoInput().invoke("hello")
    assert plan.usage.output_tokens == 7
    assert plan.usage.input_tokens > 0
    assert plan.usage.estimated_calls == 1


def test_a_cost_that_litellm_states_is_taken_and_its_zero_is_not() -> None:
    class Stating(FakeChat):
        cost: float = 0.125

        def _answer(self) -> AIMessage:
            message = super()._answer()
            message.response_metadata["response_cost"] = self.cost
            return message

    with step("plan") as plan:
        Stating().invoke("hello")
        assert plan.cost_usd == Decimal("0.125")
        Stating(cost=0.0).invoke("hello")
    assert plan.cost_usd == Decimal("0.125") + 10 * INPUT_USD + 4 * OUTPUT_USD


def test_an_openai_client_at_another_address_is_priced_by_the_models_maker(provider: Provider) -> None:
    with step("plan") as plan:
        chat(provider, model="deepseek-chat").invoke("hello")
    assert 0 < plan.cost_usd < CALL_USD / 2
    assert plan.usage.unpriced_calls == 0


def test_a_model_that_nobody_knows_is_refused_where_dollars_are_limited(provider: Provider) -> None:
    with pytest.raises(UnpricedModel, match="my-own"), step("plan", max_usd=1):
        chat(provider, model="my-own").invoke("hello")
    assert provider.count() == 0
    with step("plan", max_usd=1, unpriced="free") as plan:
        chat(provider, model="my-own").invoke("hello")
    assert plan.usage.unpriced_calls == 1


def test_a_provider_that_langchain_makes_up_from_a_class_name_is_nobody() -> None:
    with step("plan", max_usd=1) as plan:
        FakeChat().invoke("hello")
    assert plan.cost_usd == 10 * INPUT_USD + 4 * OUTPUT_USD


def test_an_answer_cut_short_teaches_nothing_about_the_next(provider: Provider) -> None:
    from steptrack_callbacks.engine import output_stats

    with step("plan"):
        chat(provider, max_tokens=20).invoke("hello")
    assert output_stats.of("gpt-4o").output is None
