"""`budgeted`: a step around a runnable, in all eight call modes, and what happens at its limit."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
from asking import CALL_USD, FakeChat, chat
from langchain_core.embeddings import Embeddings
from langchain_core.output_parsers import StrOutputParser
from langchain_core.runnables import RunnableLambda
from langchain_openai import OpenAIEmbeddings

from provider import Provider
from steptrack_callbacks import (
    BudgetEscalated,
    BudgetExhausted,
    Grant,
    StepDefinition,
    peek_completed_steps,
    step,
)
from steptrack_callbacks.langchain import attach, budgeted


async def _read(stream: Any) -> list[Any]:
    return [chunk async for chunk in stream]


async def _given(item: Any) -> Any:
    yield item


EIGHT: dict[str, Callable[[Any], list[Any]]] = {
    "invoke": lambda r: [r.invoke("hello")],
    "ainvoke": lambda r: [asyncio.run(r.ainvoke("hello"))],
    "batch": lambda r: r.batch(["hello"]),
    "abatch": lambda r: asyncio.run(r.abatch(["hello"])),
    "stream": lambda r: list(r.stream("hello")),
    "astream": lambda r: asyncio.run(_read(r.astream("hello"))),
    "transform": lambda r: list(r.transform(iter(["hello"]))),
    "atransform": lambda r: asyncio.run(_read(r.atransform(_given("hello")))),
}
STREAMING = ["stream", "astream", "transform", "atransform"]


def said(chunks: list[Any]) -> str:
    return "".join(getattr(chunk, "text", chunk) for chunk in chunks)


def statuses() -> list[tuple[str, str]]:
    return [(record.path, record.status) for record in peek_completed_steps()]


@pytest.mark.parametrize("mode", EIGHT)
def test_a_call_within_budget_is_charged_to_its_step(mode: str, provider: Provider) -> None:
    with step("plan") as plan:
        assert said(EIGHT[mode](budgeted(chat(provider), step="ask", max_usd=1)))
    assert statuses() == [("plan/ask", "completed"), ("plan", "completed")]
    assert plan.usage.calls == provider.count() == 1
    assert plan.cost_usd == CALL_USD
    assert plan.own_usage.calls == 0


@pytest.mark.parametrize("mode", EIGHT)
def test_continue_gives_the_default(mode: str, provider: Provider) -> None:
    ask = budgeted(chat(provider), step="ask", max_usd=0, error_boundary="continue", default="nothing")
    assert EIGHT[mode](ask) == ["nothing"]
    assert provider.count() == 0
    assert statuses() == [("ask", "continued")]


@pytest.mark.parametrize("mode", EIGHT)
def test_a_default_may_be_a_function_of_the_exhaustion(mode: str, provider: Provider) -> None:
    ask = budgeted(
        chat(provider), step="ask", max_usd=0, error_boundary="continue", default=lambda error: error.limit
    )
    assert EIGHT[mode](ask) == ["max_usd"]


@pytest.mark.parametrize("mode", EIGHT)
@pytest.mark.parametrize(("boundary", "error"), [("fail", BudgetExhausted), ("escalate", BudgetEscalated)])
def test_fail_and_escalate_raise(mode: str, boundary: Any, error: Any, provider: Provider) -> None:
    with pytest.raises(error):
        EIGHT[mode](budgeted(chat(provider), step="ask", max_usd=0, error_boundary=boundary))
    assert provider.count() == 0


@pytest.mark.parametrize("mode", EIGHT)
def test_an_escalation_that_grants_more_lets_the_call_through(mode: str, provider: Provider) -> None:
    ask = budgeted(
        chat(provider),
        step="ask",
        max_usd=0,
        error_boundary="escalate",
        escalation=lambda error: Grant(max_usd=1),
    )
    assert said(EIGHT[mode](ask))
    assert provider.count() == 1


@pytest.mark.parametrize("mode", STREAMING)
def test_continue_in_a_running_stream_keeps_what_was_streamed(mode: str, provider: Provider) -> None:
    provider.behave(output_tokens=2_000)
    ask = budgeted(chat(provider), step="ask", max_tokens=100, error_boundary="continue", default="nothing")
    answer = said(EIGHT[mode](ask))
    assert answer.startswith(" word time")
    assert "nothing" not in answer
    assert 60 < len(answer.split()) < 120
    assert statuses() == [("ask", "continued")]


@pytest.mark.parametrize("mode", EIGHT)
def test_in_the_middle_of_a_sequence_continue_goes_on_with_the_default(mode: str, provider: Provider) -> None:
    ask = budgeted(chat(provider), step="ask", max_usd=0, error_boundary="continue", default="nothing")
    chain = RunnableLambda(lambda q: q) | ask | StrOutputParser() | RunnableLambda(str.upper)
    assert EIGHT[mode](chain) == ["NOTHING"]


@pytest.mark.parametrize("mode", EIGHT)
def test_in_the_middle_of_a_sequence_no_default_goes_on_as_none(mode: str, provider: Provider) -> None:
    ask = budgeted(chat(provider), step="ask", max_usd=0, error_boundary="continue")
    assert EIGHT[mode](RunnableLambda(lambda q: q) | ask | RunnableLambda(str)) == ["None"]


@pytest.mark.parametrize("mode", STREAMING)
def test_in_the_middle_of_a_sequence_it_goes_on_with_what_had_been_streamed(
    mode: str, provider: Provider
) -> None:
    provider.behave(output_tokens=2_000)
    ask = budgeted(chat(provider), step="ask", max_tokens=100, error_boundary="continue", default="nothing")
    chunks = EIGHT[mode](RunnableLambda(lambda q: q) | ask | StrOutputParser())
    assert len(chunks) > 20
    assert "".join(chunks).startswith(" word time")


@pytest.mark.parametrize("mode", EIGHT)
def test_an_outer_exhaustion_passes_through_an_inner_continue(mode: str, provider: Provider) -> None:
    inner = budgeted(chat(provider), step="inner", error_boundary="continue", default="inner")
    outer = budgeted(inner, step="outer", max_usd=0, error_boundary="continue", default="outer")
    assert EIGHT[mode](outer) == ["outer"]
    assert statuses() == [("outer/inner", "stopped"), ("outer", "continued")]


@pytest.mark.parametrize("mode", EIGHT)
def test_an_inner_exhaustion_stops_at_its_own_boundary(mode: str, provider: Provider) -> None:
    inner = budgeted(chat(provider), step="inner", max_usd=0, error_boundary="continue", default="inner")
    assert EIGHT[mode](budgeted(inner, step="outer", max_usd=1)) == ["inner"]
    assert statuses() == [("outer/inner", "continued"), ("outer", "completed")]


@pytest.mark.parametrize("mode", EIGHT)
def test_any_other_error_passes_untouched(mode: str) -> None:
    def fail(_: Any) -> Any:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        EIGHT[mode](budgeted(RunnableLambda(fail), step="ask", error_boundary="continue"))
    assert statuses() == [("ask", "error")]


@pytest.mark.parametrize("mode", ["batch", "abatch"])
def test_a_batch_decides_item_by_item(mode: str) -> None:
    ask = budgeted(
        RunnableLambda(lambda n: [FakeChat().invoke("hello") for _ in range(n)][-1].text),
        step="ask", max_calls=2, error_boundary="continue", default="too many",
    )  # fmt: skip
    answers = ask.batch([1, 3, 2]) if mode == "batch" else asyncio.run(ask.abatch([1, 3, 2]))
    assert [answer[:4] for answer in answers] == ["word", "too ", "word"]


def test_what_comes_before_it_in_a_sequence_is_charged_outside_of_it(provider: Provider) -> None:
    draft = chat(provider) | StrOutputParser()
    write = budgeted(chat(provider), step="write")
    with step("plan") as plan:
        list((draft | write).stream("hello"))
        assert (plan.usage.calls, plan.own_usage.calls) == (2, 1)
        asyncio.run(_read((draft | write).astream("hello")))
    assert (plan.usage.calls, plan.own_usage.calls) == (4, 2)


def test_its_step_is_not_active_in_its_reader(provider: Provider) -> None:
    from steptrack_callbacks import current_step

    for _ in budgeted(chat(provider), step="ask").stream("hello"):
        assert current_step() is None


def test_breaking_off_ends_its_step(provider: Provider) -> None:
    stream = budgeted(chat(provider), step="ask", max_usd=1).stream("hello")
    next(stream)
    stream.close()
    [record] = peek_completed_steps()
    assert (record.status, record.usage.calls, record.usage.estimated_calls) == ("cancelled", 1, 1)


def test_it_sees_its_calls_where_nothing_is_attached(provider: Provider) -> None:
    attach()()
    for ask in (lambda r: r.invoke("hello"), lambda r: asyncio.run(r.ainvoke("hello"))):
        ask(budgeted(chat(provider), step="ask", max_usd=1))
    assert [record.usage.calls for record in peek_completed_steps()] == [1, 1]


def test_a_sequence_of_it_can_be_configured_and_drawn() -> None:
    ask = budgeted(FakeChat(), step="ask")
    assert (ask.with_config(run_name="x") | StrOutputParser()).invoke("hello")
    assert "FakeChat" in ask.get_graph().draw_mermaid()
    assert ask.get_name() == "FakeChat"
    assert ask.with_retry().invoke("hello")
    assert ask.input_schema is not None


def test_a_declaration_may_be_given_whole() -> None:
    declared = StepDefinition(name="ask", max_calls=0, error_boundary="continue", default="no")
    assert budgeted(FakeChat(), declared).invoke("hello") == "no"
    with pytest.raises(ValueError, match="say it in the definition"):
        budgeted(FakeChat(), declared, max_usd=1)


def test_what_is_wrong_is_said_at_once() -> None:
    with pytest.raises(TypeError, match="runnable or embeddings"):
        budgeted(lambda x: x)  # type: ignore[call-overload]
    with pytest.raises(TypeError, match="max_dollars"):
        budgeted(FakeChat(), max_dollars=1)
    with pytest.raises(ValueError, match="makes the step itself: give it a name and options"):
        budgeted(FakeChat(), step=step("ask"))  # type: ignore[call-overload]
    with pytest.raises(ValueError, match="a step needs a name"):
        budgeted(FakeChat(), step=5)  # type: ignore[call-overload]
    with pytest.raises(ValueError, match="max_usd"):
        budgeted(FakeChat(), max_usd=-1)


class Vectors(Embeddings):
    model = "text-embedding-3-small"

    def embed_documents(self, texts: list[str]) -> list[list[float]]:
        return [[1.0] for _ in texts]

    def embed_query(self, text: str) -> list[float]:
        return [1.0]


EMBEDDINGS: dict[str, Callable[[Any], Any]] = {
    "embed_documents": lambda e: e.embed_documents(["a text", "another"]),
    "embed_query": lambda e: e.embed_query("a text"),
    "aembed_documents": lambda e: asyncio.run(e.aembed_documents(["a text", "another"])),
    "aembed_query": lambda e: asyncio.run(e.aembed_query("a text")),
}


@pytest.mark.parametrize("mode", EMBEDDINGS)
def test_embeddings_are_counted_in_a_step_of_their_own(mode: str) -> None:
    with step("plan", max_usd=1) as plan:
        assert EMBEDDINGS[mode](budgeted(Vectors(), step="embed"))
    assert plan.usage.calls == plan.usage.estimated_calls == 1
    assert plan.usage.input_tokens in (2, 3)
    assert plan.usage.output_tokens == 0
    assert plan.cost_usd > 0
    assert statuses()[0] == ("plan/embed", "completed")


@pytest.mark.parametrize("mode", EMBEDDINGS)
def test_embeddings_without_budget_are_not_sent(mode: str, provider: Provider) -> None:
    vectors = OpenAIEmbeddings(base_url=provider.url, api_key="none", check_embedding_ctx_length=False)
    embed = budgeted(vectors, step="embed", max_usd=0, error_boundary="continue", default=[])
    assert EMBEDDINGS[mode](embed) == []
    assert provider.count() == 0
    assert EMBEDDINGS[mode](budgeted(vectors, step="embed", max_usd=1))
    assert provider.count() == 1


def test_embeddings_that_fail_are_counted_as_failed(provider: Provider) -> None:
    provider.fail_next(1)
    vectors = OpenAIEmbeddings(
        base_url=provider.url, api_key="none", max_retries=0, check_embedding_ctx_length=False
    )
    with pytest.raises(Exception, match="500"), step("plan") as plan:
        budgeted(vectors, step="embed").embed_query("a text")
    assert (plan.usage.calls, plan.usage.failed_calls) == (1, 1)


@pytest.mark.parametrize("method", ["bind_tools", "with_structured_output"])
def test_what_has_to_be_done_before_is_said(method: str) -> None:
    with pytest.raises(AttributeError, match=rf"budgeted\(model\.{method}\(\.\.\.\)\)"):
        getattr(budgeted(FakeChat()), method)
    assert not hasattr(budgeted(FakeChat()), method)


@pytest.mark.parametrize("method", ["astream", "atransform"])
def test_closing_a_budgeted_stream_ends_its_step_and_charges_what_was_seen(
    method: str, provider: Provider
) -> None:
    provider.hold(after_chunks=50)
    ask = budgeted(chat(provider), step="ask")

    async def main() -> None:
        async with step("plan", max_usd=1) as plan:
            stream = ask.astream("hello") if method == "astream" else ask.atransform(_given("hello"))
            for _ in range(5):
                await anext(stream)
            await stream.aclose()
            assert [record.path for record in peek_completed_steps()] == ["plan/ask"]
            assert plan.usage.calls == plan.usage.estimated_calls == 1
            if method == "astream":  # LangChain's own atransform leaves the model's stream to Python
                assert plan.usage.output_tokens <= 5

    asyncio.run(main())
