"""Prompts that share a request wait for none of each other, and are charged once, or not at all."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Awaitable, Callable
from decimal import Decimal
from typing import Any

import pytest
from asking import FakeChat
from langchain_core.language_models.llms import BaseLLM
from langchain_core.messages import HumanMessage
from langchain_core.outputs import Generation, LLMResult
from langchain_openai import OpenAI

from fake_framework import until_async
from internals import left_on
from provider import Provider
from steptrack_callbacks import Budget, BudgetExhausted, step
from steptrack_callbacks.engine import queue

PROMPTS = ["a", "b", "c", "d"]
AN_HOUR_S = 3600.0
PATIENT: Any = {"max_usd": 1, "wait_s": AN_HOUR_S}


class AtOnce(BaseLLM):
    """A completion model with one request for all prompts, which is answered once it may be."""

    model: str = "gpt-3.5-turbo-instruct"
    sent: int = 0
    may_answer: Any = None

    @property
    def _llm_type(self) -> str:
        return "fake"

    @property
    def _identifying_params(self) -> dict[str, Any]:
        return {"model": self.model}

    def _generate(self, prompts: list[str], *args: Any, **kwargs: Any) -> LLMResult:
        self.sent += 1
        used = {"prompt_tokens": 10 * len(prompts), "completion_tokens": 4 * len(prompts)}
        generations = [[Generation(text="yes")] for _ in prompts]
        return LLMResult(generations=generations, llm_output={"token_usage": used, "model_name": self.model})

    async def _agenerate(self, prompts: list[str], *args: Any, **kwargs: Any) -> LLMResult:
        result = self._generate(prompts)
        if self.may_answer is not None:
            await self.may_answer.wait()
        return result


async def _at_once(asked: Awaitable[Any]) -> Any:
    """Await what must not wait: nobody stands in line, however often the loop goes round."""
    task = asyncio.ensure_future(asked)
    await until_async(lambda: task.done() or queue.QUEUE)
    assert not queue.QUEUE
    return await task


WAYS: dict[str, Callable[[Any], Any]] = {
    "batch": lambda m: m.batch(PROMPTS),
    "generate": lambda m: m.generate(PROMPTS),
    "abatch": lambda m: asyncio.run(_at_once(m.abatch(PROMPTS))),
    "agenerate": lambda m: asyncio.run(_at_once(m.agenerate(PROMPTS))),
    "abatch in a task": lambda m: asyncio.run(_at_once(asyncio.wait_for(m.abatch(PROMPTS), 20))),
}
EACH_WAY = pytest.mark.parametrize("way", WAYS)


@pytest.mark.parametrize("shared", [False, True], ids=["alone", "shared"])
@EACH_WAY
def test_prompts_of_a_model_that_nobody_knows_wait_for_none_of_each_other(way: str, shared: bool) -> None:
    options = {"budgets": [Budget("team", max_usd=1)]} if shared else {}
    model = AtOnce()
    with step("plan", **PATIENT, **options) as plan:
        WAYS[way](model)
    assert model.sent == 1
    assert (plan.usage.calls, plan.usage.input_tokens, plan.usage.output_tokens) == (4, 40, 16)
    assert left_on(plan.account) == {}


@EACH_WAY
def test_prompts_of_one_request_of_langchain_openai_are_one_request_and_wait_for_nobody(
    way: str, provider: Provider
) -> None:
    model = OpenAI(base_url=provider.url, api_key="none", max_retries=0)
    with step("plan", **PATIENT) as plan:
        WAYS[way](model)
    assert provider.count() == 1
    assert (plan.usage.input_tokens, plan.usage.output_tokens) == (100, 4 * 200)


async def one_behind_another(model: AtOnce) -> tuple[asyncio.Task[Any], asyncio.Task[Any]]:
    """Begin a request, and then one of several prompts that wait for it."""
    first = asyncio.create_task(model.ainvoke("hello"))
    await until_async(lambda: model.sent)
    second = asyncio.create_task(model.abatch(PROMPTS))
    await until_async(lambda: len(queue.QUEUE.waiters) == len(PROMPTS))
    return first, second


def test_prompts_of_one_request_wait_for_another_request_and_then_go_together() -> None:
    async def main() -> None:
        model = AtOnce(may_answer=asyncio.Event())
        async with step("plan", **PATIENT) as plan:
            first, second = await one_behind_another(model)
            assert model.sent == 1  # nothing is known of the model, so one request goes first
            model.may_answer.set()
            await asyncio.gather(first, second)
            assert (model.sent, plan.usage.calls, plan.usage.output_tokens) == (2, 5, 20)

    asyncio.run(main())


@pytest.mark.parametrize("mode", ["batch", "abatch"])
@pytest.mark.parametrize("calls", range(1, 4))
def test_a_request_one_of_whose_prompts_is_refused_is_neither_sent_nor_charged(calls: int, mode: str) -> None:
    model = AtOnce()
    with pytest.raises(BudgetExhausted), step("plan", max_calls=calls) as plan:
        WAYS[mode](model)
    gc.collect()
    assert (model.sent, plan.usage.calls, plan.cost_usd) == (0, 0, 0)
    assert left_on(plan.account) == {}


def test_a_request_one_of_whose_prompts_is_refused_while_others_wait_is_not_charged() -> None:
    async def main() -> None:
        model = AtOnce(may_answer=asyncio.Event())
        async with step("plan", max_usd=1, max_calls=4, wait_s=AN_HOUR_S) as plan:
            first, second = await one_behind_another(model)
            model.may_answer.set()  # there is room for three more, and they are four
            answers = await asyncio.gather(first, second, return_exceptions=True)
            assert isinstance(answers[1], BudgetExhausted)
            del answers
            gc.collect()
            assert (model.sent, plan.usage.calls, plan.usage.estimated_calls) == (1, 1, 0)
            assert left_on(plan.account) == {}

    asyncio.run(main())


def test_a_request_that_is_cancelled_while_its_prompts_wait_is_not_charged() -> None:
    async def main() -> None:
        model = AtOnce(may_answer=asyncio.Event())
        async with step("plan", **PATIENT) as plan:
            first, second = await one_behind_another(model)
            second.cancel()
            with pytest.raises(asyncio.CancelledError):
                await second
            model.may_answer.set()
            await first
            assert (model.sent, plan.usage.calls) == (1, 1)

    asyncio.run(main())


def test_a_request_that_is_cancelled_once_it_is_sent_is_charged_an_estimate_of_each_prompt() -> None:
    async def main() -> None:
        model = AtOnce(may_answer=asyncio.Event())
        async with step("plan", **PATIENT) as plan:
            asked = asyncio.create_task(model.abatch(PROMPTS))
            await until_async(lambda: model.sent)
            asked.cancel()
            with pytest.raises(asyncio.CancelledError):
                await asked
            del asked
            gc.collect()
            assert plan.usage.calls == plan.usage.estimated_calls == len(PROMPTS)

    asyncio.run(main())


def test_prompts_of_one_request_take_no_more_than_the_limit_beside_what_others_hold() -> None:
    """Of three requests that are worth two thirds of the limit each, one is sent at a time."""

    async def main() -> None:
        model = AtOnce()
        await model.abatch(PROMPTS)  # so that it is known
        model.sent, model.may_answer = 0, asyncio.Event()
        async with step("plan", max_calls=6, wait_s=AN_HOUR_S) as plan:
            first = asyncio.create_task(model.abatch(PROMPTS))
            await until_async(lambda: model.sent)
            others = [asyncio.create_task(model.abatch(PROMPTS)) for _ in range(2)]
            await until_async(lambda: queue.QUEUE or all(other.done() for other in others))
            model.may_answer.set()
            await first
            answers = await asyncio.gather(*others, return_exceptions=True)
            assert all(isinstance(answer, BudgetExhausted) for answer in answers)
            gc.collect()
            assert (model.sent, plan.usage.calls) == (1, 4)

    asyncio.run(main())


@pytest.mark.parametrize("mode", ["generate", "agenerate"])
def test_several_chats_of_one_generate_wait_for_none_of_each_other(mode: str) -> None:
    model, chats = FakeChat(), [[HumanMessage(prompt)] for prompt in PROMPTS]
    with step("plan", **PATIENT) as plan:
        model.generate(chats) if mode == "generate" else asyncio.run(_at_once(model.agenerate(chats)))
    assert (model.sent, plan.usage.calls, plan.usage.estimated_calls) == (4, 4, 0)
    assert plan.cost_usd > Decimal(0)
