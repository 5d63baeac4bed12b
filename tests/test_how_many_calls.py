"""How many of our own Python calls one model call takes: counted, since a machine's mood changes times.

LiteLLM is imported: then a call of LangChain takes a few more, as it may be LiteLLM that sends it.
"""

import asyncio
import gc
import itertools
import weakref
from contextlib import contextmanager

import litellm
import pytest
from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage
from langchain_core.outputs import ChatGeneration, ChatResult

from counting import counted
from steptrack_callbacks import Budget, install, step, uninstall
from steptrack_callbacks.engine import fast_path, output_stats

WARM = 25
numbers = itertools.count()


class Model(BaseChatModel):
    """Answers at once, and says so where OpenAI's client of LangChain does."""

    model_name: str = "gpt-4o"

    @property
    def _llm_type(self) -> str:
        return "fake"

    def _generate(self, messages, stop=None, run_manager=None, **kwargs):
        counts = {"prompt_tokens": 30, "completion_tokens": 20, "total_tokens": 50}
        answer = AIMessage(
            "Rayleigh scattering.",
            usage_metadata={
                "input_tokens": 30,
                "output_tokens": 20,
                "total_tokens": 50,
                "input_token_details": {"audio": 0, "cache_read": 0},
                "output_token_details": {"audio": 0, "reasoning": 0},
            },
            response_metadata={
                "token_usage": counts,
                "model_name": "gpt-4o",
                "service_tier": "default",
                "finish_reason": "stop",
                "logprobs": None,
            },
        )
        return ChatResult(generations=[ChatGeneration(message=answer)], llm_output={"token_usage": counts})

    async def _agenerate(self, messages, stop=None, run_manager=None, **kwargs):
        return self._generate(messages)


@pytest.fixture(autouse=True)
def _nothing_learned():
    """Else an answer that was far denser than text, in another test, keeps calls off the fast path."""
    output_stats.reset()


@pytest.fixture
def installed():
    install()
    yield
    uninstall()


def calls_of(once, *, warm=WARM) -> int:
    for _ in range(warm):
        once()
    with counted() as found:
        once()
    return found.total()


@contextmanager
def three_steps():
    with step("outer", max_usd=10**6), step("middle", max_usd=10**6), step("inner", max_usd=10**6) as inner:
        yield inner


def question() -> str:
    return f"why is the sky blue on day {next(numbers):06}?"


def test_an_invoke_far_from_three_limits_takes_few_calls_of_ours(installed):
    model = Model()
    with three_steps() as inner:
        assert calls_of(lambda: model.invoke(question())) <= 49
        assert inner.account.settled.calls == WARM + 1


def test_an_ainvoke_takes_hardly_more(installed):
    model = Model()

    async def ask() -> int:
        for _ in range(WARM):
            await model.ainvoke(question())
        with counted() as found:
            await model.ainvoke(question())
        return found.total()

    with three_steps():
        assert asyncio.run(ask()) <= 68


def test_the_same_counted_takes_more_and_charges_the_same(installed, monkeypatch):
    model = Model()
    with three_steps() as fast:
        by_bound = calls_of(lambda: model.invoke(question()))
    monkeypatch.setattr(fast_path, "enabled", False)
    with three_steps() as slow:
        by_count = calls_of(lambda: model.invoke(question()))
    assert by_bound < by_count
    assert fast.usage == slow.usage


def litellm_call():
    return litellm.completion(
        model="gpt-4o",
        mock_response="Rayleigh.",
        max_tokens=200,
        messages=[{"role": "user", "content": question()}],
    )


def test_a_completion_takes_few_calls_of_ours(installed):
    with three_steps():
        assert calls_of(litellm_call) <= 112


def test_an_acompletion_takes_hardly_more(installed):
    async def once() -> None:
        messages = [{"role": "user", "content": question()}]
        await litellm.acompletion(
            model="gpt-4o", mock_response="Rayleigh.", max_tokens=200, messages=messages
        )

    async def ask() -> int:
        for _ in range(WARM):
            await once()
        with counted() as found:
            await once()
        return found.total()

    async def ask_some_times() -> int:  # LiteLLM's worker may tell of an earlier call in the middle of one
        return min([await ask() for _ in range(3)])

    with three_steps():
        assert asyncio.run(ask_some_times()) <= 114


def test_a_chunk_of_a_stream_far_from_limits_takes_few_calls_of_ours(installed):
    with three_steps():
        for _ in range(WARM):
            litellm_call()
        stream = litellm.completion(
            model="gpt-4o",
            mock_response="Rayleigh scattering. " * 30,
            max_tokens=2000,
            messages=[{"role": "user", "content": question()}],
            stream=True,
        )
        for _ in range(20):
            next(stream)
        with counted() as found:
            next(stream)
        assert found.total() <= 21
        assert len(list(stream)) > 20


def test_a_call_under_a_budget_in_a_file_takes_few_calls_of_ours(installed, tmp_path):
    install(ledger=f"sqlite:///{tmp_path}/steps.db")
    model = Model()
    with step("outer", budgets=[Budget("all", max_usd=10**6)]):
        assert calls_of(lambda: model.invoke(question())) <= 123


def enter_and_leave() -> None:
    with step("inner"):
        pass


def test_an_empty_step_takes_few_calls_of_ours():
    with step("outer"):
        assert calls_of(enter_and_leave) <= 52


def test_a_step_that_has_ended_is_not_left_to_the_garbage_collector():
    gc.disable()
    try:
        with step("inner", max_usd=1) as inner:
            pass
        gone = weakref.ref(inner)
        del inner
        assert gone() is None
    finally:
        gc.enable()
