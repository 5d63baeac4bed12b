"""The provider behaves as its clients expect, since every other test trusts it."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import httpx
import openai
import pytest

from provider import Provider, words

if TYPE_CHECKING:
    from collections.abc import Iterator

MESSAGES: Any = [{"role": "user", "content": "hello"}]


@pytest.fixture
def provider() -> Iterator[Provider]:
    with Provider(output_tokens=5) as provider:
        yield provider


@pytest.fixture
def client(provider: Provider) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=provider.url, api_key="none", max_retries=0) as client:
        yield client


def chat(client: openai.OpenAI, **options: Any) -> Any:
    return client.chat.completions.create(model="m", messages=MESSAGES, **options)


def test_chat_tells_text_and_usage(provider: Provider, client: openai.OpenAI) -> None:
    provider.behave(cached_tokens=30, reasoning_tokens=2)
    answer = chat(client, n=2)
    assert [choice.message.content for choice in answer.choices] == ["".join(words(3))] * 2
    assert (answer.usage.prompt_tokens, answer.usage.completion_tokens) == (100, 10)
    assert answer.usage.prompt_tokens_details.cached_tokens == 30
    assert answer.usage.completion_tokens_details.reasoning_tokens == 4
    assert provider.requests[0].body["n"] == 2


@pytest.mark.parametrize("cap", ["max_tokens", "max_completion_tokens"])
def test_a_cap_cuts_the_answer(client: openai.OpenAI, cap: str) -> None:
    answer = chat(client, **{cap: 3})
    assert answer.usage.completion_tokens == 3
    assert answer.choices[0].finish_reason == "length"


def test_a_tool_is_called(provider: Provider, client: openai.OpenAI) -> None:
    provider.behave(tool="search")
    assert chat(client).choices[0].message.tool_calls[0].function.name == "search"
    chunks = list(chat(client, stream=True))
    assert chunks[0].choices[0].delta.tool_calls[0].function.name == "search"
    assert chunks[-1].choices[0].finish_reason == "tool_calls"


@pytest.mark.parametrize(
    ("when", "asked", "told"),
    [("asked", True, True), ("asked", False, False), ("always", False, True), ("never", True, False)],
)
def test_a_stream_is_a_word_a_chunk(
    provider: Provider, client: openai.OpenAI, when: str, asked: bool, told: bool
) -> None:
    provider.behave(usage_in_stream=when)
    chunks = list(chat(client, stream=True, **({"stream_options": {"include_usage": True}} if asked else {})))
    texts = [choice.delta.content for chunk in chunks for choice in chunk.choices if choice.delta.content]
    assert texts == words(5)
    assert [chunk.usage.completion_tokens for chunk in chunks if chunk.usage] == [5] * told
    provider.wait_until(lambda: provider.requests[0].end == "answered")
    assert provider.requests[0].tokens_sent == 5


def test_text_completion(client: openai.OpenAI) -> None:
    answer = client.completions.create(model="m", prompt="hello", max_tokens=2)
    assert (answer.choices[0].text, answer.choices[0].finish_reason) == ("".join(words(2)), "length")
    chunks = client.completions.create(model="m", prompt="hello", stream=True)
    assert "".join(chunk.choices[0].text for chunk in chunks) == "".join(words(5))


def test_embeddings(client: openai.OpenAI) -> None:
    answer = client.embeddings.create(model="m", input=["a", "b"])
    assert (len(answer.data), answer.usage.prompt_tokens) == (2, 100)


def test_responses(client: openai.OpenAI) -> None:
    answer = client.responses.create(model="m", input="hello", max_output_tokens=4)
    assert (answer.output_text, answer.status) == ("".join(words(4)), "incomplete")
    assert answer.usage
    assert (answer.usage.input_tokens, answer.usage.output_tokens) == (100, 4)
    events = list(client.responses.create(model="m", input="hello", stream=True))
    assert [event.type for event in events] == [
        "response.created",
        *["response.output_text.delta"] * 5,
        "response.completed",
    ]


def test_failures_are_counted_too(provider: Provider, client: openai.OpenAI) -> None:
    provider.fail_next(1, status=503)
    with pytest.raises(openai.InternalServerError):
        chat(client)
    assert chat(client).choices
    assert provider.count("/chat/completions") == provider.count() == 2
    assert provider.count("/embeddings") == 0


def test_stream_options_can_be_rejected(provider: Provider, client: openai.OpenAI) -> None:
    provider.behave(reject_stream_options=True)
    with pytest.raises(openai.BadRequestError):
        chat(client, stream=True, stream_options={"include_usage": True})


def test_a_stream_can_break_off(provider: Provider, client: openai.OpenAI) -> None:
    provider.behave(drop_after_chunks=2)
    received = []
    with pytest.raises((httpx.RemoteProtocolError, openai.APIConnectionError)):  # since openai 3, its own
        received.extend(chunk.choices[0].delta.content for chunk in chat(client, stream=True))
    provider.wait_until(lambda: provider.requests[0].end == "dropped")
    assert provider.requests[0].tokens_sent == 2


def test_answers_can_be_held(provider: Provider, client: openai.OpenAI) -> None:
    provider.hold()
    with ThreadPoolExecutor(3) as pool:
        answers = [pool.submit(chat, client) for _ in range(3)]
        provider.wait_for(3)
        assert not any(answer.done() for answer in answers)
        provider.release(1)
        provider.wait_until(lambda: provider.held == 2)
        provider.release()
        assert all(answer.result(10).choices for answer in answers)
    assert chat(client).choices


def test_a_client_that_closes_is_seen(provider: Provider, client: openai.OpenAI) -> None:
    provider.hold(after_chunks=3)
    stream = chat(client, stream=True)
    provider.wait_for(1)
    stream.close()
    provider.wait_until(lambda: provider.requests[0].end == "client closed")
    assert provider.requests[0].tokens_sent == 3


def test_waiting_ends() -> None:
    with Provider() as provider, pytest.raises(TimeoutError, match="0 held"):
        provider.wait_for(1, timeout=0.01)
