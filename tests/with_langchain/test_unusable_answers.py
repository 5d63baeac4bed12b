"""Answers that were paid for and cannot be used: charged all the same, and refusals not at all."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Callable
from typing import Any

import httpx
import pytest
from asking import CALL_TOKENS, CALL_USD, FakeChat, chat
from langchain_core.exceptions import ModelError, OutputParserException
from langchain_core.outputs import ChatResult
from langchain_openai import OpenAIEmbeddings
from openai import APIError, LengthFinishReasonError
from openai.types.chat import ChatCompletion
from pydantic import BaseModel, TypeAdapter

from provider import Provider
from steptrack_callbacks import BudgetExhausted, step
from steptrack_callbacks.engine import output_stats
from steptrack_callbacks.langchain import budgeted, failures


class Plan(BaseModel):
    """What the model is asked for, and the provider's words are not."""

    title: str


async def _read(stream: Any) -> list[Any]:
    return [chunk async for chunk in stream]


WHOLE: dict[str, Callable[[Any], Any]] = {
    "invoke": lambda m: m.invoke("hello"),
    "ainvoke": lambda m: asyncio.run(m.ainvoke("hello")),
    "batch": lambda m: m.batch(["hello"]),
}
STREAMED: dict[str, Callable[[Any], Any]] = {
    "stream": lambda m: list(m.stream("hello")),
    "astream": lambda m: asyncio.run(_read(m.astream("hello"))),
    "astream_events v2": lambda m: asyncio.run(_read(m.astream_events("hello", version="v2"))),
}
MODES = WHOLE | STREAMED
ends = pytest.mark.parametrize("options", [{}, {"max_tokens": 200}], ids=["stop", "length"])


@ends
@pytest.mark.parametrize("mode", WHOLE)
def test_an_answer_that_cannot_be_parsed_is_charged_what_it_reports(
    mode: str, options: Any, provider: Provider
) -> None:
    provider.behave(output_tokens=200 if not options else 300, cached_tokens=40)
    model = chat(provider, **options).with_structured_output(Plan)
    with pytest.raises(Exception, match="Plan|length limit"), step("plan", max_usd=1) as plan:
        WHOLE[mode](model)
    assert (plan.usage.calls, plan.usage.failed_calls, plan.usage.estimated_calls) == (1, 0, 0)
    assert (plan.usage.total_tokens, plan.usage.cache_read_tokens) == (CALL_TOKENS, 40)
    assert 0 < plan.cost_usd < CALL_USD


@pytest.mark.parametrize("mode", WHOLE)
def test_an_answer_that_cannot_be_parsed_is_as_long_as_it_says(mode: str, provider: Provider) -> None:
    provider.behave(output_tokens=20)
    with step("learn"):
        chat(provider).invoke("hello")
    with pytest.raises(ValueError, match="Plan"), step("plan"):
        WHOLE[mode](chat(provider).with_structured_output(Plan))
    (stats,) = output_stats._seen.values()
    assert [tokens for _, tokens in stats._answers] == [20, 20]


@pytest.mark.parametrize("mode", STREAMED)
def test_a_stream_whose_first_words_cannot_be_parsed_is_charged_an_estimate(
    mode: str, provider: Provider
) -> None:
    model = chat(provider).with_structured_output(Plan)
    with pytest.raises(ValueError, match="expected value"), step("plan", max_usd=1) as plan:
        STREAMED[mode](model)
    assert (plan.usage.calls, plan.usage.failed_calls, plan.usage.estimated_calls) == (1, 0, 1)
    assert plan.usage.output_tokens > 0


@pytest.mark.parametrize("mode", ["invoke", "batch", "stream"])
def test_a_limit_holds_over_answers_that_cannot_be_parsed(mode: str, provider: Provider) -> None:
    model = chat(provider).with_structured_output(Plan)
    with step("plan", max_usd=CALL_USD * 3 / 2, error_boundary="continue") as plan:
        for _ in range(10):
            with contextlib.suppress(ValueError):
                MODES[mode](model)
    assert plan.exhausted
    assert 1 <= provider.count() <= 2


@pytest.mark.parametrize("mode", ["ainvoke", "astream"])
def test_a_limit_holds_over_async_answers_that_cannot_be_parsed(mode: str, provider: Provider) -> None:
    model = chat(provider).with_structured_output(Plan)

    async def main() -> None:
        for _ in range(10):
            with contextlib.suppress(ValueError):
                await (model.ainvoke("hello") if mode == "ainvoke" else _read(model.astream("hello")))

    with step("plan", max_usd=CALL_USD * 3 / 2, error_boundary="continue") as plan:
        asyncio.run(main())
    assert plan.exhausted
    assert 1 <= provider.count() <= 2


def test_a_limit_holds_over_the_retries_of_an_answer_that_cannot_be_parsed(provider: Provider) -> None:
    model = chat(provider).with_structured_output(Plan)
    tireless = model.with_retry(stop_after_attempt=5, wait_exponential_jitter=False)
    with pytest.raises(BudgetExhausted), step("plan", max_usd=CALL_USD * 5 / 2):
        tireless.invoke("hello")
    assert provider.count() == 2


class Failing(FakeChat):
    """A model that fails by itself, with whatever it is given."""

    error: Any = None

    def _generate(
        self, messages: Any, stop: Any = None, run_manager: Any = None, **kwargs: Any
    ) -> ChatResult:
        raise self.error


def invalid() -> Exception:
    try:
        TypeAdapter(int).validate_python("no number")
    except ValueError as error:
        return error
    raise AssertionError


@pytest.mark.parametrize(
    "error", [OutputParserException("no JSON"), KeyError("choices"), TypeError("null"), invalid()], ids=repr
)
@pytest.mark.parametrize("mode", WHOLE)
def test_an_error_that_may_come_after_the_answer_is_charged_an_estimate(mode: str, error: Exception) -> None:
    with pytest.raises(type(error)), step("plan", max_usd=1) as plan:
        WHOLE[mode](Failing(error=error))
    assert plan.usage.calls == plan.usage.estimated_calls == 1
    assert plan.usage.output_tokens > 0
    assert plan.cost_usd > 0


def test_the_usage_is_taken_from_the_completion_of_an_error_without_a_response() -> None:
    used = {"prompt_tokens": 100, "completion_tokens": 200, "total_tokens": 300}
    said = {"id": "1", "object": "chat.completion", "created": 1, "model": "gpt-4o", "choices": []}
    error = LengthFinishReasonError(completion=ChatCompletion.model_validate(said | {"usage": used}))
    with pytest.raises(LengthFinishReasonError), step("plan", max_usd=1) as plan:
        Failing(error=error).invoke("hello")
    assert (plan.usage.total_tokens, plan.cost_usd) == (CALL_TOKENS, CALL_USD)
    assert plan.usage.estimated_calls == 0


@pytest.mark.parametrize("status", [400, 401, 429, 500, 503])
@pytest.mark.parametrize("mode", MODES)
def test_what_the_provider_refuses_costs_nothing(mode: str, status: int, provider: Provider) -> None:
    provider.fail_next(1, status=status)
    with pytest.raises((APIError, ModelError)), step("plan", max_usd=1) as plan:
        MODES[mode](chat(provider).with_structured_output(Plan))
    assert (plan.usage.calls, plan.usage.failed_calls, plan.cost_usd) == (1, 1, 0)


@pytest.mark.parametrize("mode", MODES)
def test_a_provider_that_cannot_be_reached_costs_nothing(mode: str, provider: Provider) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        model = chat(provider, base_url=f"http://127.0.0.1:{unused.getsockname()[1]}/v1")
        with pytest.raises((APIError, ModelError)), step("plan", max_usd=1) as plan:
            MODES[mode](model)
    assert (plan.usage.calls, plan.usage.failed_calls, plan.cost_usd) == (1, 1, 0)


def from_botocore() -> Exception:
    return type("ClientError", (Exception,), {"__module__": "botocore.exceptions"})("throttled")


def wrapped(cause: Exception) -> Exception:
    error = ValueError("the model's own words")
    error.__cause__ = cause
    return error


def with_status(status: int) -> Exception:
    error = RuntimeError("the provider's own words")
    error.status_code = status  # type: ignore[attr-defined]
    return error


@pytest.mark.parametrize(
    ("error", "refused"),
    [
        (with_status(529), True),
        (with_status(200), False),
        (wrapped(with_status(404)), True),
        (with_status(1), False),
        (ConnectionRefusedError(), True),
        (TimeoutError(), False),
        (httpx.ReadTimeout("late"), False),
        (wrapped(httpx.ConnectTimeout("nobody there")), True),
        (from_botocore(), True),
        (wrapped(from_botocore()), True),
        (wrapped(KeyError()), False),
        (RuntimeError(), False),
    ],
)
def test_a_refusal_is_told_by_its_status_or_its_connection(error: Exception, refused: bool) -> None:
    assert failures.is_refusal(error) is refused


def test_an_error_that_is_its_own_cause_is_read_to_an_end() -> None:
    error = RuntimeError()
    error.__cause__ = error
    assert not failures.is_refusal(error)


def test_embeddings_that_cannot_be_read_are_charged_an_estimate(
    provider: Provider, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise KeyError("data")

    monkeypatch.setattr(OpenAIEmbeddings, "embed_documents", fail)
    vectors = OpenAIEmbeddings(base_url=provider.url, api_key="none")
    with pytest.raises(KeyError), step("plan", max_usd=1) as plan:
        budgeted(vectors, step="embed").embed_documents(["a text"])
    assert plan.usage.calls == plan.usage.estimated_calls == 1
    assert plan.usage.input_tokens == 2
