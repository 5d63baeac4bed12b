"""Whatever a provider does to a call, it is counted once, nothing stays reserved, and what was said is charged."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from decimal import Decimal
from typing import Any

import litellm
import pytest
from langchain_openai import ChatOpenAI
from upstream import Line, Upstream, chat, chunk, usage

from steptrack_callbacks import Step, peek_completed_steps, step

ASK = [{"role": "user", "content": "one two three"}]
INPUT_USD, OUTPUT_USD = Decimal("2.5e-6"), Decimal("1e-5")  # a token of gpt-4o
TOKENS_SENT = 10


@pytest.fixture(scope="module")
def _upstream() -> Iterator[Upstream]:
    with Upstream() as upstream:
        yield upstream


@pytest.fixture
def upstream(_upstream: Upstream) -> Upstream:
    _upstream.count = 0
    return _upstream


def litellm_call(upstream: Upstream, **options: Any) -> None:
    litellm.completion("openai/gpt-4o", ASK, api_base=upstream.url, api_key="x", max_retries=0, **options)


def litellm_stream(upstream: Upstream, **options: Any) -> None:
    given = {"api_base": upstream.url, "api_key": "x", "max_retries": 0, "stream": True}
    list(litellm.completion("openai/gpt-4o", ASK, **given | options))


def litellm_async_stream(upstream: Upstream, **options: Any) -> None:
    async def read() -> None:
        given = {"api_base": upstream.url, "api_key": "x", "max_retries": 0, "stream": True}
        async for _ in await litellm.acompletion("openai/gpt-4o", ASK, **given | options):
            pass
        await litellm.close_litellm_async_clients()

    try:
        asyncio.run(read())
    finally:
        litellm.in_memory_llm_clients_cache.flush_cache()


def model(upstream: Upstream, **options: Any) -> ChatOpenAI:
    return ChatOpenAI(
        model="gpt-4o", base_url=upstream.url, api_key="x", max_retries=0, stream_usage=True, **options
    )


def langchain_call(upstream: Upstream, **options: Any) -> None:
    model(upstream, **options).invoke("one two three")


def langchain_stream(upstream: Upstream, **options: Any) -> None:
    list(model(upstream, **options).stream("one two three"))


WHOLE = [litellm_call, langchain_call]
STREAMS = [litellm_stream, litellm_async_stream, langchain_stream]


def outcome(make: Callable[..., None], upstream: Upstream, **options: Any) -> tuple[Step, Exception | None]:
    """Make a call in a step; returns the step, once nothing of it is open, and the error."""
    error: Exception | None = None
    with step("plan", max_usd=100) as plan:
        try:
            make(upstream, **options)
        except Exception as raised:
            error = raised
        account = plan.account
        assert (account.open_calls, account.held_calls, account.held_cost, account.held_tokens) == (
            0,
            0,
            0,
            0,
        )
        assert account.in_flight.running == [0, 0]
    assert plan.usage.calls == upstream.count
    return plan, error


@pytest.mark.parametrize("make", WHOLE)
@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b"null",
        b"[]",
        b"\xff\xfe",
        b"<html>gateway</html>",
        b'{"choices": []}',
        b'{"choices": 7, "usage": "x"}',
    ],
)
def test_an_answer_that_is_none_costs_no_more_than_a_call(
    make: Any, content: bytes, upstream: Upstream
) -> None:
    upstream.script = lambda line: line.answer(content)
    plan, _ = outcome(make, upstream)
    assert plan.usage.output_tokens <= 500
    assert plan.usage.calls == 1


@pytest.mark.parametrize("make", WHOLE + STREAMS)
def test_a_connection_that_is_dropped_at_once_is_a_failed_call(make: Any, upstream: Upstream) -> None:
    upstream.script = lambda _line: None
    plan, error = outcome(make, upstream)
    assert error is not None
    assert (plan.usage.calls, plan.usage.failed_calls, plan.usage.cost_usd) == (1, 1, 0)


@pytest.mark.parametrize("make", WHOLE + STREAMS)
def test_a_provider_that_stalls_may_have_been_paid_for(make: Any, upstream: Upstream) -> None:
    upstream.script = Line.stall
    plan, error = outcome(make, upstream, timeout=0.2)
    assert error is not None
    assert (plan.usage.calls, plan.usage.estimated_calls, plan.usage.failed_calls) == (1, 1, 0)
    assert plan.cost_usd > 0


def two_words(line: Line) -> None:
    line.begin_stream()
    for word in ("one ", "two "):
        line.event(chunk(word))


def half_a_chunk(line: Line) -> None:
    two_words(line)
    line.raw(b'data: {"id": "same-id", "choices": [{"ind')


def nonsense(line: Line) -> None:
    two_words(line)
    for event in ("nonsense", "[1]", "null", "{}", '{"choices": 7}'):
        line.event(event)


def stalls_in_the_middle(line: Line) -> None:
    two_words(line)
    line.stall()


def ends_without_usage(line: Line) -> None:
    two_words(line)
    line.event(chunk(None, "stop"))
    line.event("[DONE]")


@pytest.mark.parametrize(
    "script", [two_words, half_a_chunk, nonsense, stalls_in_the_middle, ends_without_usage]
)
@pytest.mark.parametrize("make", STREAMS)
def test_a_stream_that_goes_wrong_is_charged_what_was_seen_of_it(
    make: Any, script: Any, upstream: Upstream
) -> None:
    upstream.script = script
    plan, _ = outcome(make, upstream, timeout=0.4)
    assert plan.usage.calls == plan.usage.estimated_calls == 1
    assert TOKENS_SENT <= plan.usage.input_tokens <= TOKENS_SENT + 5
    assert 2 <= plan.usage.output_tokens <= 5
    expected = plan.usage.input_tokens * INPUT_USD + plan.usage.output_tokens * OUTPUT_USD
    assert plan.cost_usd == expected


LIES = [
    usage(-5, 5),
    usage(0, 0),
    usage(10**30, 5),
    usage(10, -(10**12)),
    {"prompt_tokens": "10", "completion_tokens": "2"},
    {"prompt_tokens": 1.5, "completion_tokens": 2.5},
    {"prompt_tokens": None, "completion_tokens": None},
    {"prompt_tokens": 10},
    {"completion_tokens": 2},
    {},
    "10 tokens",
    [10, 2],
    usage(10, 2) | {"prompt_tokens_details": "x", "completion_tokens_details": [1]},
    usage(10, 2) | {"cost": -1, "total_tokens": float("nan")},
]


@pytest.mark.parametrize("make", [litellm_call, litellm_stream, langchain_call, langchain_stream])
@pytest.mark.parametrize("lie", LIES, ids=[str(lie)[:60] for lie in LIES])
def test_a_provider_that_lies_about_usage_makes_no_call_free_and_none_break(
    make: Any, lie: Any, upstream: Upstream
) -> None:
    def script(line: Line) -> None:
        if not line.body.get("stream"):
            line.answer(chat(usage=lie))
            return
        two_words(line)
        line.event(chunk(None, "stop"))
        line.event(chunk(None) | {"choices": [], "usage": lie})
        line.event("[DONE]")

    upstream.script = script
    plan, error = outcome(make, upstream)
    used = plan.usage
    assert used.calls == 1
    if error is None:  # a client may refuse such an answer
        assert 1 <= used.input_tokens <= 20
        assert 1 <= used.output_tokens <= 10
        assert 0 < used.cost_usd <= 20 * INPUT_USD + 10 * OUTPUT_USD
    # The next call is none the worse for it.
    upstream.script = lambda line: line.answer(chat())
    upstream.count = 0
    after, error = outcome(litellm_call, upstream)
    assert error is None
    assert after.cost_usd == 10 * INPUT_USD + 2 * OUTPUT_USD


@pytest.mark.parametrize("make", [litellm_call, langchain_call])
def test_answers_that_share_an_id_are_charged_each(make: Any, upstream: Upstream) -> None:
    upstream.script = lambda line: line.answer(chat())
    with step("plan", max_usd=1) as plan:
        for _ in range(3):
            make(upstream)
    assert plan.usage.calls == upstream.count == 3
    assert plan.usage.input_tokens == 30


def test_an_answer_under_another_models_name_is_charged_as_that_model(upstream: Upstream) -> None:
    upstream.script = lambda line: line.answer(chat(model="gpt-4o-mini"))
    with step("plan", max_usd=1) as plan:
        langchain_call(upstream)
    assert 0 < plan.cost_usd < 10 * INPUT_USD + 2 * OUTPUT_USD


def test_a_huge_error_of_a_provider_leaves_a_record_that_can_be_read(upstream: Upstream) -> None:
    upstream.script = lambda line: line.answer(
        {"error": {"message": "x" * 10**5, "code": "\ud800"}}, status=400
    )
    plan, error = outcome(litellm_call, upstream)
    assert error is not None
    assert plan.usage.failed_calls == 1
    (record,) = peek_completed_steps()
    assert record.usage == plan.usage


class Mute(Exception):
    """An error whose own text fails."""

    def __str__(self) -> str:
        raise RuntimeError("no words")


def test_an_error_without_words_is_recorded_and_passed_on() -> None:
    with pytest.raises(Mute), step("plan"):
        raise Mute
    with pytest.raises(ValueError, match="x{100000}"), step("plan"):
        raise ValueError("x" * 10**5)
    assert [len(record.error or "") for record in peek_completed_steps()] == [4, 2000]
    assert [record.status for record in peek_completed_steps()] == ["error", "error"]
