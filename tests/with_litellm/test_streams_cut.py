"""Streams that run past a limit are cut, and the reader gets what there is."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import litellm
import pytest
from calling import STREAMING, acall, call, read, run, text_of, wait_until
from litellm.exceptions import GuardrailRaisedException

from internals import left_on
from provider import Provider, words
from spending import open_call
from steptrack_callbacks import BudgetExhausted, Grant, StepDenied, step
from steptrack_callbacks.hooks import CallSettled, on
from steptrack_callbacks.litellm import stream_closing
from steptrack_callbacks.litellm.streams import Meter, metered

TIMEOUT_S = 60

LIMITS = {
    "max_tokens": {"max_tokens": 60},
    "max_usd": {"max_usd": 0.0006},  # counted: 8 tokens in cost 0.00002, so 58 out fit
}


@pytest.fixture
def provider() -> Any:
    with Provider(output_tokens=200_000) as provider:
        yield provider


def read_on(
    name: str,
    provider: Provider,
    chunks: list[Any],
    before_each: Callable[[], None] = lambda: None,
    **options: Any,
) -> Any:
    """Read a stream into a list until it ends or raises, and return it."""

    async def read_async() -> Any:
        stream = await acall(name, provider, stream=True, **options)
        try:
            async for chunk in stream:
                chunks.append(chunk)
                before_each()
        finally:
            await asyncio.to_thread(provider.wait_until, lambda: provider.requests[-1].end != "open")
        return stream

    if name.startswith("a"):
        return run(read_async())
    stream = call(name, provider, stream=True, **options)
    for chunk in stream:
        chunks.append(chunk)
        before_each()
    return stream


def assert_cut(refused: BudgetExhausted, plan: Any, provider: Provider, chunks: list[Any]) -> None:
    assert isinstance(refused, GuardrailRaisedException)
    assert refused.phase == "stream"
    assert refused.step == "plan"
    seen, partial = text_of(chunks), refused.response
    assert isinstance(partial, str)
    assert partial.startswith(seen)
    assert len(partial.split()) - len(seen.split()) == 1  # what passed the limit was received and not shown
    usage = plan.usage
    assert (usage.calls, usage.estimated_calls) == (1, 1)
    assert usage.output_tokens == len(partial.split())
    account = plan.account
    assert account.held_calls == account.held_tokens == account.held_cost == account.in_flight.running[1] == 0
    provider.wait_until(lambda: provider.requests[0].end == "client closed")
    assert provider.requests[0].tokens_sent < 200_000
    assert provider.count() == 1


@pytest.mark.parametrize("name", STREAMING)
@pytest.mark.parametrize("limit", LIMITS)
def test_a_stream_that_passes_a_limit_is_cut(name: str, limit: str, provider: Provider) -> None:
    chunks: list[Any] = []
    with pytest.raises(BudgetExhausted) as refused, step("plan", **LIMITS[limit]) as plan:
        read_on(name, provider, chunks)
    assert refused.value.limit == limit
    assert 45 <= plan.usage.output_tokens <= 62
    consumed = plan.cost_usd if limit == "max_usd" else plan.usage.total_tokens
    assert refused.value.breaches[0].consumed == consumed > refused.value.limit_value
    assert (refused.value.consumed_tokens, refused.value.consumed_cost_usd) == (
        plan.usage.total_tokens,
        plan.cost_usd,
    )
    assert_cut(refused.value, plan, provider, chunks)


@pytest.mark.parametrize("name", STREAMING)
def test_a_stream_that_a_function_returns_is_cut_by_the_step_around_it(name: str, provider: Provider) -> None:
    @step("inner")
    def begun() -> Any:
        return call(name, provider, stream=True)

    @step("inner")
    async def begun_async() -> Any:
        return await acall(name, provider, stream=True)

    chunks: list[Any] = []

    async def read_async() -> None:
        chunks.extend([chunk async for chunk in await begun_async()])

    with pytest.raises(BudgetExhausted) as refused, step("outer", max_tokens=160) as outer:
        if name.startswith("a"):
            run(read_async())
        else:
            for chunk in begun():
                chunks.append(chunk)
    assert (refused.value.phase, refused.value.step) == ("stream", "outer")
    assert 160 < outer.usage.total_tokens <= 162


@pytest.mark.parametrize("name", STREAMING)
def test_a_stream_that_passes_its_time_is_cut(name: str, provider: Provider) -> None:
    call("completion", provider, max_tokens=1)  # what is slow for once is over
    provider.requests.clear()
    provider.hold(after_chunks=8)
    chunks: list[Any] = []

    def let_time_pass() -> None:
        if len(text_of(chunks).split()) == 8:
            wait_until(lambda: plan.account.seconds_left() < 0)
            provider.release()

    with pytest.raises(BudgetExhausted) as refused, step("plan", max_seconds=0.3) as plan:
        read_on(name, provider, chunks, let_time_pass)
    assert refused.value.limit == "max_seconds"
    assert 8 <= plan.usage.output_tokens <= 10
    assert_cut(refused.value, plan, provider, chunks)


@pytest.mark.parametrize("name", ["completion", "text_completion", "responses"])
def test_a_cut_stream_has_ended(name: str, provider: Provider) -> None:
    with step("plan", max_tokens=60, error_boundary="continue") as plan:
        stream = call(name, provider, stream=True)
        with pytest.raises(BudgetExhausted):
            list(stream)
        usage = plan.usage
        assert list(stream) == []
        stream.close()
        assert plan.usage == usage
    assert plan.exhausted


def test_an_outer_step_cuts_too_and_owns_the_error(provider: Provider) -> None:
    with pytest.raises(BudgetExhausted) as refused, step("outer", max_tokens=60) as outer, step("inner"):
        read("completion", provider)
    assert refused.value.step == "outer"
    assert outer.usage.output_tokens == len(refused.value.response.split())


def test_what_an_earlier_answer_has_used_counts(provider: Provider) -> None:
    chunks: list[Any] = []
    with step("plan", max_tokens=400, error_boundary="continue") as plan:
        call("completion", provider, max_tokens=200)
        assert plan.usage.total_tokens == 300
        read_on("completion", provider, chunks)
    assert plan.exhausted
    assert plan.usage.input_tokens < 120  # of the second, more cannot be in so short a text
    assert 400 < plan.usage.total_tokens <= 402


def test_streams_of_a_step_share_its_limit(provider: Provider) -> None:
    provider.behave(input_tokens=8, output_tokens=10)
    call("completion", provider)  # so that ten tokens are expected of each
    provider.behave(output_tokens=200_000)
    chunks: list[Any] = []
    with step("plan", max_tokens=100, error_boundary="continue") as plan:
        streams = [call("completion", provider, stream=True) for _ in range(3)]
        with pytest.raises(BudgetExhausted) as refused:
            for trio in zip(*streams, strict=False):
                chunks += trio
        assert (refused.value.phase, refused.value.consumed_tokens) == ("stream", 101)
        assert 70 < len(text_of(chunks).split()) <= 76
        del streams
        assert 101 <= plan.usage.total_tokens <= 103
        assert plan.usage.calls == 3


def test_a_step_may_let_streams_run(provider: Provider) -> None:
    provider.behave(output_tokens=300)
    with step("plan", max_tokens=60, cut_streams=False, error_boundary="continue") as plan:
        assert text_of(read("completion", provider)) == "".join(words(300))
        assert plan.usage.output_tokens == 300
    assert plan.exhausted


def test_an_observed_step_cuts_nothing(provider: Provider) -> None:
    provider.behave(output_tokens=300)
    with step("plan", max_tokens=60, enforce="observe"):
        assert text_of(read("completion", provider)) == "".join(words(300))


@pytest.mark.parametrize("name", ["completion", "acompletion"])
def test_a_grant_lets_a_stream_run_on(name: str, provider: Provider) -> None:
    provider.behave(output_tokens=100)
    asked = []

    def grant(error: BudgetExhausted) -> Grant:
        asked.append(error)
        return Grant(max_tokens=1000)

    with step("plan", max_tokens=60, error_boundary="escalate", escalation=grant) as plan:
        chunks = read(name, provider)
    assert text_of(chunks) == "".join(words(100))
    assert len(asked) == 1
    assert asked[0].phase == "stream"
    assert plan.usage.output_tokens == 100


def test_a_sync_stream_on_a_running_loop_is_cut(provider: Provider) -> None:
    provider.hold(after_chunks=150)  # it cannot be done before it is stopped

    async def main() -> None:
        with pytest.raises(BudgetExhausted), step("plan", max_tokens=60):
            for _ in litellm.completion(
                model="openai/gpt-4o",
                messages=[{"role": "user", "content": "hello"}],
                api_base=provider.url,
                api_key="none",
                stream=True,
            ):
                pass

    run(main())
    provider.wait_until(lambda: provider.requests[0].end == "client closed")


def test_a_stream_with_a_cap_that_fits_is_not_cut(provider: Provider) -> None:
    with step("plan", max_tokens=200) as plan:
        chunks = read("completion", provider, max_tokens=50)
    assert len(text_of(chunks).split()) == 50
    assert plan.usage.total_tokens == 150


def test_a_stream_of_single_letters_is_cut_by_its_tokens() -> None:
    def generate() -> Any:
        for letter in "".join(words(1000)):
            yield litellm.ModelResponseStream(choices=[{"index": 0, "delta": {"content": letter}}])

    chunks: list[Any] = []
    with step("plan", max_tokens=110, error_boundary="continue") as plan:
        for chunk in metered(generate(), Meter(open_call(10), None), hides_usage=False):
            chunks.append(chunk)  # noqa: PERF402 - what was read until the cut is looked at
    assert plan.exhausted
    assert len(text_of(chunks).split()) == 100
    assert 101 <= plan.usage.output_tokens <= 102


class Endless:
    """An async stream of words that never ends; closing it takes until it is let go on, or is cancelled."""

    def __init__(self) -> None:
        self.is_closing, self.go_on = asyncio.Event(), asyncio.Event()
        self.closed = 0

    def __aiter__(self) -> Any:
        return self

    async def __anext__(self) -> Any:
        return litellm.ModelResponseStream(choices=[{"index": 0, "delta": {"content": " word"}}])

    async def aclose(self) -> None:
        self.is_closing.set()
        await self.go_on.wait()
        self.closed += 1


async def read_to_the_end(reader: Any) -> None:
    async for _ in reader:
        pass


def test_a_reader_that_is_cancelled_while_its_cut_stream_is_closed_has_been_charged() -> None:
    async def main() -> None:
        async with step("plan", max_tokens=30, error_boundary="continue") as plan:
            stream = Endless()
            reader = metered(stream, Meter(open_call(10), None), hides_usage=False)
            task = asyncio.create_task(read_to_the_end(reader))
            await stream.is_closing.wait()
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            assert (plan.usage.calls, plan.usage.total_tokens) == (1, 31)
            assert left_on(plan.account) == {}
            assert [chunk async for chunk in reader] == []

    run(asyncio.wait_for(main(), TIMEOUT_S))


def test_a_reader_that_is_cancelled_while_somebody_is_asked_for_more_has_been_charged() -> None:
    async def main() -> None:
        is_asked, answer = asyncio.Event(), asyncio.Event()

        async def ask(_: BudgetExhausted) -> Grant:
            is_asked.set()
            await answer.wait()
            return Grant(max_tokens=100)

        async with step("plan", max_tokens=30, error_boundary="escalate", escalation=ask) as plan:
            stream = Endless()
            stream.go_on.set()
            reader = metered(stream, Meter(open_call(10), None), hides_usage=False)
            task = asyncio.create_task(read_to_the_end(reader))
            await is_asked.wait()
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            assert (plan.usage.calls, plan.usage.total_tokens) == (1, 31)
            assert left_on(plan.account) == {}
            assert stream.closed == 1
            answer.set()  # it is asked once more when it ends, being over its limit

    run(asyncio.wait_for(main(), TIMEOUT_S))


def test_a_hook_that_refuses_the_charge_of_a_cut_stream_does_not_keep_it_from_being_closed() -> None:
    def refuse(_: CallSettled) -> None:
        raise StepDenied("not this")

    async def main() -> None:
        async with step("plan", max_tokens=30, error_boundary="continue") as plan:
            stream = Endless()
            stream.go_on.set()
            reader = metered(stream, Meter(open_call(10), None), hides_usage=False)
            off = on(CallSettled, refuse)
            with pytest.raises(StepDenied):
                await read_to_the_end(reader)
            off()
            assert stream.closed == 1
            assert plan.usage.total_tokens == 31

    run(asyncio.wait_for(main(), TIMEOUT_S))


def test_a_collected_stream_is_closed_though_nothing_else_holds_the_task_that_closes_it() -> None:
    async def main() -> None:
        async with step("plan", max_tokens=1000):
            stream = Endless()
            reader = metered(stream, Meter(open_call(10), None), hides_usage=False)
            await anext(reader)
            tasks = asyncio.all_tasks()
            del reader
            await stream.is_closing.wait()
            (task,) = asyncio.all_tasks() - tasks
            assert task in stream_closing._closing
            stream.go_on.set()
            await task
            assert stream.closed == 1
            assert not stream_closing._closing

    run(asyncio.wait_for(main(), TIMEOUT_S))


class Interrupting:
    """A stream of words that never ends; whoever closes it is interrupted."""

    def __iter__(self) -> Any:
        return self

    def __next__(self) -> Any:
        return litellm.ModelResponseStream(choices=[{"index": 0, "delta": {"content": " word"}}])

    def close(self) -> None:
        raise KeyboardInterrupt


def test_a_cut_stream_whose_closing_is_interrupted_has_been_charged() -> None:
    with step("plan", max_tokens=30, error_boundary="continue") as plan:
        reader = metered(Interrupting(), Meter(open_call(10), None), hides_usage=False)
        with pytest.raises(KeyboardInterrupt):
            list(reader)
        assert (plan.usage.calls, plan.usage.total_tokens) == (1, 31)
        assert left_on(plan.account) == {}


def test_a_stream_is_charged_and_has_ended_when_whoever_is_asked_for_more_fails() -> None:
    def fail(_: BudgetExhausted) -> Grant:
        if not failed:
            failed.append(True)
            raise ConnectionError("nobody there")
        return Grant(max_tokens=100)  # it is asked once more when the step ends, being over its limit

    def generate() -> Any:
        while True:
            yield litellm.ModelResponseStream(choices=[{"index": 0, "delta": {"content": " word"}}])

    failed: list[bool] = []
    with step("plan", max_tokens=30, error_boundary="escalate", escalation=fail) as plan:
        reader = metered(generate(), Meter(open_call(10), None), hides_usage=False)
        with pytest.raises(ConnectionError):
            list(reader)
        assert (plan.usage.calls, plan.usage.total_tokens) == (1, 31)
        assert left_on(plan.account) == {}
        assert list(reader) == []
