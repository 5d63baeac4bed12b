"""Streams that are not read to their end, and calls that are cancelled: charged, marked, nothing left."""

from __future__ import annotations

import asyncio
import gc
import sys
from typing import Any

import pytest
from asking import CALL_TOKENS, FakeChat, chat, in_generator, prompted
from langchain_core.runnables import RunnableLambda

from provider import Provider
from steptrack_callbacks import peek_completed_steps, step
from steptrack_callbacks.steps.attribution import unattributed_usage


def only_record() -> Any:
    [record] = peek_completed_steps()
    return record


def test_a_broken_off_stream_is_charged_what_was_seen(provider: Provider) -> None:
    with step("plan", max_usd=1) as plan:
        for number, _ in enumerate(chat(provider).stream("hello")):
            if number == 50:
                break
    gc.collect()
    assert provider.count() == plan.usage.calls == plan.usage.estimated_calls == 1
    assert 45 <= plan.usage.output_tokens <= 52
    assert 0 < plan.usage.input_tokens < 20
    assert plan.remaining("max_usd") == 1 - plan.cost_usd


def test_a_closed_stream_is_charged_at_once(provider: Provider) -> None:
    with step("plan", max_usd=1) as plan:
        stream = chat(provider).stream("hello")
        next(stream)
        next(stream)
        stream.close()
        assert plan.usage.estimated_calls == 1
        assert plan.usage.output_tokens < 5


def test_a_closed_async_stream_is_charged_at_once(provider: Provider) -> None:
    async def main() -> None:
        async with step("plan", max_usd=1) as plan:
            stream = chat(provider).astream("hello")
            await anext(stream)
            await stream.aclose()
            assert plan.usage.estimated_calls == 1

    asyncio.run(main())


@pytest.mark.parametrize("wrap", [prompted, in_generator], ids=["sequence", "generator"])
def test_a_broken_off_stream_of_a_chain_leaves_no_reservation(wrap: Any, provider: Provider) -> None:
    question = {"question": "hello"} if wrap is prompted else "hello"
    with step("plan", max_usd=1) as plan:
        stream = wrap(chat(provider)).stream(question)
        next(stream)
        stream.close()
    gc.collect()
    assert provider.count() == plan.usage.calls == 1
    assert plan.remaining("max_usd") == 1 - plan.cost_usd


@pytest.mark.parametrize("wrap", [prompted, in_generator], ids=["sequence", "generator"])
def test_a_broken_off_async_stream_of_a_chain_leaves_no_reservation(wrap: Any, provider: Provider) -> None:
    question = {"question": "hello"} if wrap is prompted else "hello"

    async def main() -> None:
        async with step("plan", max_usd=1) as plan:
            stream = wrap(chat(provider)).astream(question)
            await anext(stream)
            await stream.aclose()
        gc.collect()
        assert provider.count() == plan.usage.calls == plan.usage.estimated_calls == 1
        assert plan.remaining("max_usd") == 1 - plan.cost_usd

    asyncio.run(main())


def test_a_v3_stream_that_nobody_reads_on_leaves_no_reservation(provider: Provider) -> None:
    with step("plan", max_usd=1) as plan:
        stream = chat(provider).stream_events("hello", version="v3")
        next(iter(stream))
        del stream
        gc.collect()
        assert plan.remaining("max_usd") == 1 - plan.cost_usd
    assert provider.count() == plan.usage.calls == plan.usage.estimated_calls == 1


def test_a_stream_whose_reader_fails_is_charged(provider: Provider) -> None:
    with pytest.raises(ZeroDivisionError), step("plan", max_usd=1) as plan:
        for _ in chat(provider).stream("hello"):
            raise ZeroDivisionError
    gc.collect()
    assert plan.usage.calls == plan.usage.estimated_calls == 1
    assert only_record().status == "error"


def test_a_stream_that_the_provider_breaks_counts_as_failed(provider: Provider) -> None:
    provider.behave(drop_after_chunks=20)
    with pytest.raises(Exception, match="peer closed|Connection error"), step("plan", max_usd=1) as plan:
        list(chat(provider).stream("hello"))
    assert (plan.usage.calls, plan.usage.failed_calls) == (1, 1)
    assert plan.usage.output_tokens >= 20


@pytest.mark.parametrize("wrap", [lambda m: m, lambda m: RunnableLambda(m.ainvoke)], ids=["model", "chain"])
@pytest.mark.parametrize("how", ["cancelled", "timed out"])
def test_a_call_that_is_given_up_is_charged_once_nobody_can_report_it(
    wrap: Any, how: str, provider: Provider
) -> None:
    provider.hold()

    async def main() -> None:
        async with step("plan", max_usd=1) as plan:
            model = wrap(chat(provider))
            task = asyncio.create_task(model.ainvoke("hello"))
            await asyncio.to_thread(provider.wait_for, 1)
            if how == "cancelled":
                task.cancel()
                await asyncio.wait([task])
            else:
                with pytest.raises(TimeoutError):
                    await asyncio.wait_for(task, 0.001)
            del task
            gc.collect()
            if how == "cancelled" or sys.version_info < (
                3,
                13,
            ):  # there asyncio keeps what has timed out for longer
                assert plan.usage.calls == plan.usage.estimated_calls == 1
                assert plan.remaining("max_usd") == 1 - plan.cost_usd
        assert plan.usage.calls == plan.usage.estimated_calls == 1
        assert only_record().in_flight_calls == (how != "cancelled" and sys.version_info >= (3, 13))

    asyncio.run(main())


def test_a_call_that_is_given_up_outside_of_steps_is_counted_too(provider: Provider) -> None:
    provider.hold()

    async def main() -> None:
        task = asyncio.create_task(chat(provider).ainvoke("hello"))
        await asyncio.to_thread(provider.wait_for, 1)
        task.cancel()
        await asyncio.wait([task])

    asyncio.run(main())
    gc.collect()
    assert unattributed_usage().estimated_calls == 1


def test_a_stream_is_charged_to_the_step_that_it_was_started_in(provider: Provider) -> None:
    with step("writer") as writer:
        stream = chat(provider).stream("hello")
        next(stream)
        with step("reader") as reader:
            list(stream)
        assert writer.own_usage.total_tokens == CALL_TOKENS
        assert reader.usage.calls == 0


def test_an_async_stream_is_charged_to_the_step_that_it_was_started_in(provider: Provider) -> None:
    async def main() -> None:
        async with step("writer") as writer:
            stream = chat(provider).astream("hello")
            await anext(stream)
            async with step("reader") as reader:
                [chunk async for chunk in stream]
            assert writer.own_usage.total_tokens == CALL_TOKENS
            assert reader.usage.calls == 0

    asyncio.run(main())


def test_a_stream_read_after_its_step_has_ended_is_charged_there_in_the_end(provider: Provider) -> None:
    with step("writer") as writer:
        stream = chat(provider).stream("hello")
        next(stream)
    assert writer.record().in_flight_calls == writer.usage.estimated_calls == 1
    list(stream)
    assert (writer.usage.total_tokens, writer.usage.estimated_calls) == (CALL_TOKENS, 0)
    assert writer.record().in_flight_calls == 0


def test_two_streams_read_in_turn_are_charged_each(provider: Provider) -> None:
    model = chat(provider)
    with step("plan") as plan:
        with step("a") as a:
            first = model.stream("hello")
            next(first)
        with step("b") as b:
            second = model.stream("hello")
            next(second)
        for _ in zip(first, second, strict=True):
            pass
        assert a.usage.total_tokens == b.usage.total_tokens == CALL_TOKENS
    assert plan.usage.calls == 2


def test_a_stream_starts_with_its_first_chunk(provider: Provider) -> None:
    with step("maker") as maker:
        stream = chat(provider).stream("hello")
    with step("reader") as reader:
        list(stream)
    assert (maker.usage.calls, reader.usage.calls) == (0, 1)


def test_a_stream_without_usage_is_counted_and_marked_estimated(provider: Provider) -> None:
    with step("plan", max_usd=1) as plan:
        list(chat(provider, stream_usage=None).stream("hello"))
    assert plan.usage.output_tokens == 200
    assert plan.usage.estimated_calls == 1
    assert plan.cost_usd > 0


def test_a_stream_shorter_than_the_stride_is_not_cut_but_charged() -> None:
    with step("plan", max_tokens=1_000) as plan:
        list(FakeChat().stream("hello"))
    assert plan.usage.total_tokens == 14
