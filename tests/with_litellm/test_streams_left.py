"""Streams that are not read to their end: charged what was seen, and the provider is stopped."""

from __future__ import annotations

import asyncio
import gc
import threading
from typing import Any

import pytest
from calling import ASYNC_STREAMING, SYNC_STREAMING, acall, call, run, text_of, wait_until

from provider import Provider
from steptrack_callbacks import BudgetExhausted, step
from steptrack_callbacks.steps.attribution import unattributed_usage

SEEN = 8


@pytest.fixture
def provider() -> Any:
    with Provider(output_tokens=2000) as provider:
        provider.hold(after_chunks=SEEN)
        yield provider


def take(stream: Any) -> list[Any]:
    chunks = []
    while len(text_of(chunks).split()) < SEEN:
        chunks.append(next(stream))
    return chunks


async def take_async(stream: Any) -> list[Any]:
    chunks = []
    while len(text_of(chunks).split()) < SEEN:
        chunks.append(await anext(stream))
    return chunks


def assert_broken_off(plan: Any, provider: Provider) -> None:
    """The books hold what was seen, and the provider has noticed that nobody listens."""
    usage = plan.usage
    assert (usage.calls, usage.output_tokens, usage.estimated_calls) == (1, SEEN, 1)
    assert usage.input_tokens > 0
    account = plan.account
    assert account.held_cost == account.held_tokens == account.held_calls == account.open_calls == 0
    provider.wait_until(lambda: provider.requests[0].end == "client closed")


@pytest.mark.parametrize("name", SYNC_STREAMING)
def test_a_closed_stream_is_charged_what_was_seen_and_stops_the_provider(
    name: str, provider: Provider
) -> None:
    with step("plan", max_usd=1) as plan:
        stream = call(name, provider, stream=True)
        take(stream)
        stream.close()
        assert_broken_off(plan, provider)
        stream.close()
        assert list(stream) == []
    assert plan.usage.calls == 1


@pytest.mark.parametrize("name", ASYNC_STREAMING)
def test_a_closed_async_stream_is_charged_what_was_seen_and_stops_the_provider(
    name: str, provider: Provider
) -> None:
    async def main() -> None:
        async with step("plan", max_usd=1) as plan:
            stream = await acall(name, provider, stream=True)
            await take_async(stream)
            await stream.aclose()
            await asyncio.to_thread(assert_broken_off, plan, provider)
            await stream.aclose()
            assert [chunk async for chunk in stream] == []
        assert plan.usage.calls == 1

    run(main())


@pytest.mark.parametrize("name", SYNC_STREAMING)
def test_a_loop_that_is_left_by_break_is_charged_what_was_seen_and_stops_the_provider(
    name: str, provider: Provider
) -> None:
    with step("plan", max_usd=1) as plan:
        chunks = []
        for chunk in call(name, provider, stream=True):
            chunks.append(chunk)
            if len(text_of(chunks).split()) == SEEN:
                break
        assert_broken_off(plan, provider)


@pytest.mark.parametrize("name", ASYNC_STREAMING)
def test_an_async_loop_that_is_left_by_break_is_charged_what_was_seen_and_stops_the_provider(
    name: str, provider: Provider
) -> None:
    async def read_a_little() -> None:
        chunks = []
        async for chunk in await acall(name, provider, stream=True):
            chunks.append(chunk)
            if len(text_of(chunks).split()) == SEEN:
                break

    async def main() -> None:
        async with step("plan", max_usd=1) as plan:
            await read_a_little()
            await asyncio.to_thread(assert_broken_off, plan, provider)

    run(main())


@pytest.mark.parametrize("name", SYNC_STREAMING)
def test_a_stream_that_was_never_read_is_charged_its_input_and_stops_the_provider(
    name: str, provider: Provider
) -> None:
    with step("plan", max_usd=1) as plan:
        stream = call(name, provider, stream=True)
        provider.wait_for(1)
        del stream
        usage = plan.usage
        assert (usage.calls, usage.output_tokens, usage.estimated_calls) == (1, 0, 1)
        provider.wait_until(lambda: provider.requests[0].end == "client closed")


@pytest.mark.parametrize("name", ASYNC_STREAMING)
def test_an_async_stream_that_was_never_read_is_charged_its_input_and_stops_the_provider(
    name: str, provider: Provider
) -> None:
    async def main() -> None:
        async with step("plan", max_usd=1) as plan:
            stream = await acall(name, provider, stream=True)
            await asyncio.to_thread(provider.wait_for, 1)
            del stream
            usage = plan.usage
            assert (usage.calls, usage.output_tokens, usage.estimated_calls) == (1, 0, 1)
            await asyncio.to_thread(provider.wait_until, lambda: provider.requests[0].end == "client closed")

    run(main())


@pytest.mark.parametrize("name", ASYNC_STREAMING)
def test_a_stream_that_a_task_has_handed_out_is_finalised_like_any_other(
    name: str, provider: Provider
) -> None:
    async def main() -> None:
        async with step("plan", max_usd=1) as plan:
            stream = await asyncio.create_task(acall(name, provider, stream=True))
            await take_async(stream)
            del stream
            await asyncio.to_thread(assert_broken_off, plan, provider)

    run(main())


@pytest.mark.parametrize("name", ASYNC_STREAMING)
def test_a_task_cancelled_mid_stream_is_charged_what_was_seen_and_stops_the_provider(
    name: str, provider: Provider
) -> None:
    async def read_on(chunks: list[Any]) -> None:
        async for chunk in await acall(name, provider, stream=True):
            chunks.append(chunk)

    async def main() -> None:
        async with step("plan", max_usd=1) as plan:
            chunks: list[Any] = []
            task = asyncio.create_task(read_on(chunks))
            while len(text_of(chunks).split()) < SEEN:
                await asyncio.sleep(0.002)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            await asyncio.to_thread(assert_broken_off, plan, provider)

    run(main())


@pytest.mark.parametrize("name", SYNC_STREAMING)
def test_a_stream_left_open_when_its_step_ends_is_charged_an_estimate_and_once_dropped_what_was_seen(
    name: str, provider: Provider
) -> None:
    with step("plan", max_usd=1) as plan:
        stream = call(name, provider, stream=True, max_tokens=100)
        take(stream)
    assert (plan.usage.output_tokens, plan.usage.estimated_calls) == (100, 1)
    assert plan.record().in_flight_calls == 1
    del stream
    assert plan.usage.output_tokens == SEEN
    assert plan.record().in_flight_calls == 0
    assert_broken_off(plan, provider)


@pytest.mark.parametrize("name", SYNC_STREAMING)
def test_a_stream_collected_in_another_thread_is_charged_to_its_own_step(
    name: str, provider: Provider
) -> None:
    with step("plan", max_usd=1) as plan:

        def generate() -> Any:
            stream = call(name, provider, stream=True)
            yield from stream

        generator = generate()
        chunks = []
        while len(text_of(chunks).split()) < SEEN:
            chunks.append(next(generator))
        circle: list[Any] = [generator]
        circle.append(circle)
        del generator, circle
        collector = threading.Thread(target=gc.collect)
        collector.start()
        collector.join()
        assert_broken_off(plan, provider)
    assert unattributed_usage().calls == 0


@pytest.mark.parametrize("name", SYNC_STREAMING)
def test_a_connection_dropped_by_the_provider_is_charged_what_was_seen(name: str, provider: Provider) -> None:
    provider.behave(drop_after_chunks=SEEN)
    provider.release()
    chunks = []
    with step("plan", max_usd=1) as plan:
        with pytest.raises(Exception) as broken:
            for chunk in call(name, provider, stream=True):
                chunks.append(chunk)
        assert not isinstance(broken.value, BudgetExhausted)
        usage = plan.usage
        assert (usage.calls, usage.failed_calls, usage.output_tokens) == (1, 1, SEEN)
        assert usage.cost_usd > 0
        assert plan.account.held_calls == 0
    assert len(text_of(chunks).split()) == SEEN


@pytest.mark.parametrize("name", ASYNC_STREAMING)
def test_an_async_connection_dropped_by_the_provider_is_charged_what_was_seen(
    name: str, provider: Provider
) -> None:
    provider.behave(drop_after_chunks=SEEN)
    provider.release()

    async def main() -> None:
        async with step("plan", max_usd=1) as plan:
            with pytest.raises(Exception) as broken:
                async for _ in await acall(name, provider, stream=True):
                    pass
            assert not isinstance(broken.value, BudgetExhausted)
            usage = plan.usage
            assert (usage.calls, usage.failed_calls, usage.output_tokens) == (1, 1, SEEN)
            assert plan.account.held_calls == 0

    run(main())


def test_a_reader_that_raises_leaves_nothing_open(provider: Provider) -> None:
    with step("plan", max_usd=1) as plan:
        with pytest.raises(RuntimeError):
            for chunk in call("completion", provider, stream=True):
                if text_of([chunk]):
                    raise RuntimeError
        wait_until(lambda: plan.account.open_calls == 0)
        assert plan.usage.output_tokens == 1
        assert plan.account.held_calls == 0
