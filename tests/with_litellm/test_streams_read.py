"""Streams that are read to their end, as the reader and as the books see them."""

from __future__ import annotations

import asyncio
from typing import Any

import litellm
import pytest
from calling import (
    ASYNC_STREAMING,
    CALL_USD,
    STREAMING,
    SYNC_STREAMING,
    Events,
    acall,
    call,
    read,
    run,
    text_of,
    wait_until,
)

import steptrack_callbacks as steptrack
from provider import Provider, words
from spending import open_call
from steptrack_callbacks import bind, step
from steptrack_callbacks.litellm import entry_points
from steptrack_callbacks.litellm.streams import Meter, metered
from steptrack_callbacks.steps.attribution import unattributed_usage


def plain(chunks: list[Any]) -> list[Any]:
    """Strip what differs from one request to the next."""
    dumped = [chunk.model_dump() for chunk in chunks]
    for chunk in dumped:
        for holder in (chunk, chunk.get("response") or {}):
            for name in ("id", "created", "created_at", "completed_at"):
                holder.pop(name, None)
    return dumped


def read_without_us(name: str, provider: Provider, **options: Any) -> list[Any]:
    steptrack.uninstall()
    try:
        return read(name, provider, **options)
    finally:
        steptrack.install()


OPTIONS: list[dict[str, Any]] = [
    {},
    {"stream_options": {"include_usage": True}},
    {"stream_options": {"include_usage": False}},
]


@pytest.mark.parametrize(
    ("name", "options"),
    [(name, options) for name in STREAMING for options in OPTIONS if not (options and "responses" in name)],
)
def test_the_reader_sees_what_it_would_see_without_us(
    name: str, options: dict[str, Any], provider: Provider
) -> None:
    provider.behave(output_tokens=5)
    before = plain(read_without_us(name, provider, **options))
    with step("plan", max_usd=1):
        ours = plain(read(name, provider, **options))
    assert ours == before
    assert len(ours) > 5


@pytest.mark.parametrize("name", [name for name in STREAMING if "responses" not in name])
def test_the_users_own_stream_options_reach_the_provider(name: str, provider: Provider) -> None:
    for options in ({"include_usage": True}, {"include_usage": False}):
        with step("plan"):
            read(name, provider, stream_options=options)
        assert provider.requests[-1].body["stream_options"] == options


@pytest.mark.parametrize("name", [name for name in STREAMING if "responses" not in name])
def test_usage_is_asked_for_where_nobody_did(name: str, provider: Provider) -> None:
    with step("plan"):
        read(name, provider)
    assert provider.requests[-1].body["stream_options"] == {"include_usage": True}


@pytest.mark.parametrize("name", STREAMING)
def test_a_stream_that_reports_no_usage_is_counted_and_marked_estimated(
    name: str, provider: Provider
) -> None:
    provider.behave(usage_in_stream="never", output_tokens=50)
    with step("plan") as plan:
        read(name, provider)
    assert plan.usage.output_tokens == 50
    assert 0 < plan.usage.input_tokens < 20
    # LiteLLM itself counts for the responses API, and does not say that it did.
    assert (plan.usage.calls, plan.usage.estimated_calls) == (1, int("responses" not in name))
    assert plan.cost_usd > 50 * CALL_USD / 300


@pytest.mark.parametrize("name", ["completion", "acompletion", "text_completion", "atext_completion"])
def test_a_user_who_wants_no_usage_is_charged_by_counting(name: str, provider: Provider) -> None:
    provider.behave(output_tokens=50)
    with step("plan") as plan:
        read(name, provider, stream_options={"include_usage": False})
    assert plan.usage.output_tokens == 50
    assert plan.usage.estimated_calls == 1


@pytest.mark.parametrize("name", ["completion", "acompletion", "text_completion", "atext_completion"])
def test_a_server_that_rejects_stream_options_is_asked_without_once_and_remembered(
    name: str, provider: Provider, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(litellm, "suppress_debug_info", False)
    provider.behave(reject_stream_options=True, output_tokens=50)
    with step("plan", max_usd=1) as plan:
        first, again = read(name, provider), read(name, provider)
    sent = ["stream_options" in request.body for request in provider.requests]
    assert sent == [True, False, False]
    assert capfd.readouterr().out == ""  # LiteLLM would print advice about an error that nobody sees
    assert text_of(first) == text_of(again) == "".join(words(50))
    assert plan.usage.output_tokens == 100
    assert (plan.usage.calls, plan.usage.failed_calls) == (2, 0), "what we alone have asked is no call"


@pytest.mark.parametrize("name", ["completion", "acompletion", "text_completion", "atext_completion"])
def test_a_server_that_rejects_our_stream_options_takes_no_call_of_a_step(
    name: str, provider: Provider
) -> None:
    provider.behave(reject_stream_options=True, output_tokens=5)
    with step("plan", max_calls=1) as plan:
        assert text_of(read(name, provider)) == "".join(words(5))
    assert (provider.count(), plan.usage.calls) == (2, 1)


def test_streams_at_once_are_all_asked_without_options_that_a_server_rejects(provider: Provider) -> None:
    provider.behave(reject_stream_options=True, output_tokens=5)

    async def one() -> str:
        return text_of([chunk async for chunk in await acall("acompletion", provider, stream=True)])

    async def main() -> list[str]:
        return await asyncio.gather(*(one() for _ in range(5)))

    with step("plan") as plan:
        assert run(main()) == ["".join(words(5))] * 5
    assert (plan.usage.calls, plan.usage.failed_calls) == (5, 0)


def test_usage_that_we_ask_for_stays_hidden_though_another_call_learns_that_the_server_minds(
    provider: Provider, monkeypatch: pytest.MonkeyPatch
) -> None:
    provider.behave(output_tokens=5)
    before = plain(read_without_us("completion", provider))

    def learn(*_: Any) -> None:
        entry_points._refuses_stream_options.add(provider.url)

    monkeypatch.setattr(entry_points, "tell", learn)
    with step("plan") as plan:
        assert plain(read("completion", provider)) == before
    assert plan.usage.estimated_calls == 0


@pytest.mark.parametrize("name", ["completion", "acompletion"])
def test_a_server_that_rejects_the_users_own_stream_options_says_so_to_the_user(
    name: str, provider: Provider
) -> None:
    provider.behave(reject_stream_options=True)
    with step("plan", max_usd=1) as plan, pytest.raises(litellm.BadRequestError):
        read(name, provider, stream_options={"include_usage": True})
    assert provider.count() == plan.usage.calls == plan.usage.failed_calls == 1


@pytest.mark.parametrize("name", ["completion", "acompletion"])
def test_several_answers_in_one_stream_count_once(name: str, provider: Provider) -> None:
    provider.behave(output_tokens=20)
    with step("plan", max_usd=1) as plan:
        chunks = read(name, provider, n=2)
    assert {choice.index for chunk in chunks for choice in chunk.choices} == {0, 1}
    assert (plan.usage.calls, plan.usage.output_tokens) == (1, 40)


@pytest.mark.parametrize("name", ["completion", "acompletion"])
def test_a_streamed_tool_call_without_usage_is_counted(name: str, provider: Provider) -> None:
    provider.behave(tool="look_up_the_weather_of_tomorrow", usage_in_stream="never")
    with step("plan") as plan:
        read(name, provider)
    assert plan.usage.output_tokens > 3
    assert plan.usage.estimated_calls == 1


@pytest.mark.parametrize("name", SYNC_STREAMING)
def test_a_stream_is_charged_to_the_step_that_it_was_started_in(name: str, provider: Provider) -> None:
    with step("writer") as writer:
        stream = call(name, provider, stream=True)
        with step("reader") as reader:
            list(stream)
        assert writer.own_usage.output_tokens == 200
        assert reader.usage.calls == 0


@pytest.mark.parametrize("name", ASYNC_STREAMING)
def test_an_async_stream_is_charged_to_the_step_that_it_was_started_in(name: str, provider: Provider) -> None:
    async def main() -> None:
        async with step("writer") as writer:
            stream = await acall(name, provider, stream=True)
            async with step("reader") as reader:
                [chunk async for chunk in stream]
            assert writer.own_usage.output_tokens == 200
            assert reader.usage.calls == 0

    run(main())


@pytest.mark.parametrize("name", SYNC_STREAMING)
def test_a_stream_read_after_its_step_has_ended_is_charged_there_in_the_end(
    name: str, provider: Provider
) -> None:
    with step("writer") as writer:
        stream = call(name, provider, stream=True)
    assert writer.usage.estimated_calls == 1
    assert writer.record().in_flight_calls == 1
    with step("reader") as reader:
        list(stream)
    assert (writer.usage.output_tokens, writer.usage.input_tokens) == (200, 100)
    assert (writer.usage.calls, writer.usage.estimated_calls) == (1, 0)
    assert writer.record().in_flight_calls == reader.usage.calls == 0
    assert unattributed_usage().calls == 0


@pytest.mark.parametrize("name", SYNC_STREAMING)
def test_a_stream_may_be_read_in_another_thread(name: str, provider: Provider) -> None:
    with step("writer") as writer:
        stream = call(name, provider, stream=True)
        run(asyncio.to_thread(list, stream))
        assert writer.usage.output_tokens == 200
        bind(list)(call(name, provider, stream=True))
        assert writer.usage.output_tokens == 400


@pytest.mark.parametrize("name", STREAMING)
def test_the_users_callback_is_told_the_same_usage(name: str, provider: Provider, events: Events) -> None:
    async def main() -> None:
        [chunk async for chunk in await acall(name, provider, stream=True)]
        await events.wait_for_async()

    with step("plan"):
        if name.startswith("a"):
            run(main())
        else:
            read(name, provider)
            wait_until(lambda: bool(events.successes))
    told = events.successes[0]["standard_logging_object"]
    assert (told["prompt_tokens"], told["completion_tokens"]) == (100, 200)


@pytest.mark.parametrize("name", ["completion", "acompletion"])
def test_a_stream_keeps_its_type_and_attributes(name: str, provider: Provider) -> None:
    async def main() -> Any:
        stream = await acall(name, provider, stream=True)
        [chunk async for chunk in stream]
        return stream

    stream = run(main()) if name == "acompletion" else call(name, provider, stream=True)
    list(stream) if name == "completion" else None
    assert isinstance(stream, litellm.CustomStreamWrapper)
    assert type(stream).__name__ == "CustomStreamWrapper"
    assert stream.model == "gpt-4o"
    assert stream.logging_obj is not None


def test_a_stream_that_is_a_mere_generator_is_metered_too() -> None:
    def generate() -> Any:
        for word in words(5):
            yield litellm.ModelResponseStream(choices=[{"index": 0, "delta": {"content": word}}])

    async def generate_async() -> Any:
        for chunk in generate():
            yield chunk

    async def main() -> list[Any]:
        return [
            chunk async for chunk in metered(generate_async(), Meter(open_call(), None), hides_usage=False)
        ]

    for ask in (
        lambda: list(metered(generate(), Meter(open_call(), None), hides_usage=False)),
        lambda: run(main()),
    ):
        with step("plan", max_usd=100) as plan:
            assert text_of(ask()) == "".join(words(5))
            assert (plan.usage.output_tokens, plan.usage.estimated_calls) == (5, 1)
