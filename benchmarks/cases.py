"""What is timed. A case is a context manager that gives a function: do this work so many times.

Whatever a contestant does when it is attached or detached stays outside the timing. No question is asked
twice, since some remember what they have counted.
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager
from contextvars import copy_context
from dataclasses import dataclass
from functools import partial
from typing import Any

from contestants.contestant import Contestant, Limit

ENDLESS = Limit(calls=1e9)
THREADS = 8
TURNS = 10
CHUNKS = 200

Work = Callable[[int], object]
Shape = Callable[[Callable[[], Any]], AbstractContextManager[Work]]
Opened = Callable[[Contestant, str], AbstractContextManager[Work]]


@dataclass(frozen=True, kw_only=True)
class Case:
    """One column of a table.

    Attributes:
        title: Its head.
        opened: Attaches a contestant and gives the work.
        times: How often it is done in a sample.
        parts: Into how many parts the time of one is divided: the chunks of a stream.
        bare: Whether it can be done with nothing attached; else all of the time is the contestant's.
    """

    title: str
    opened: Opened
    times: int
    parts: int = 1
    bare: bool = True


loop = asyncio.new_event_loop()
numbers = itertools.count(1)


def question() -> str:
    return f"why is the sky blue on day {next(numbers)}? " + "Take your time. " * 20


def messages() -> list[dict[str, str]]:
    return [{"role": "user", "content": question()}]


def chat() -> list[Any]:
    """Make a chat of 22 messages, of which all but the last were sent before."""
    from langchain_core.messages import AIMessage, HumanMessage, SystemMessage

    turns = [(f"What of this, in case {turn}? " * 5, f"Well, of case {turn}. " * 40) for turn in range(TURNS)]
    said = itertools.chain.from_iterable((HumanMessage(asked), AIMessage(told)) for asked, told in turns)
    return [SystemMessage("You are a patient assistant. " * 40), *said, HumanMessage(question())]


# How work is repeated


@contextmanager
def in_line(once: Callable[[], Any]) -> Iterator[Work]:
    yield lambda times: [once() for _ in range(times)]


@contextmanager
def on_loop(once: Callable[[], Any]) -> Iterator[Work]:
    async def all_of(times: int) -> None:
        for _ in range(times):
            await once()

    yield lambda times: loop.run_until_complete(all_of(times))


@contextmanager
def in_threads(once: Callable[[], Any]) -> Iterator[Work]:
    """Share the work among threads that begin with the context in which this is entered."""
    contexts = [copy_context() for _ in range(THREADS)]

    def part(times: int) -> None:
        for _ in range(times // THREADS):
            once()

    with ThreadPoolExecutor(THREADS) as pool:
        yield lambda times: [
            job.result() for job in [pool.submit(context.run, part, times) for context in contexts]
        ]


# What the work is


def of_langchain(shape: Shape, ask: Callable[[Any, Any], Any], *, real: bool = False) -> Opened:
    @contextmanager
    def opened(who: Contestant, url: str) -> Iterator[Work]:
        with who.langchain(ENDLESS) as config:
            model = (_chat_openai if real else _fake_chat)(url, who.chat_options())
            with shape(partial(ask, model, config)) as work:
                yield work

    return opened


def _fake_chat(url: str, options: dict[str, Any]) -> Any:
    from fake_chat import FakeChat

    return FakeChat(**options)


def _chat_openai(url: str, options: dict[str, Any]) -> Any:
    from langchain_openai import ChatOpenAI

    return ChatOpenAI(
        model="gpt-4o", base_url=url, api_key="none", max_retries=0, max_tokens=CHUNKS, **options
    )


def of_litellm(shape: Shape, ask: Callable[[Any], Any]) -> Opened:
    @contextmanager
    def opened(who: Contestant, url: str) -> Iterator[Work]:
        with who.litellm(ENDLESS) as calling, shape(partial(ask, calling)) as work:
            yield work

    return opened


MOCKED = {"model": "gpt-4o", "mock_response": "Rayleigh scattering.", "max_tokens": CHUNKS}
MOCKED_STREAM = {"model": "gpt-4o", "mock_response": " word" * 60, "stream": True}
MOCKED_CHUNKS = 101  # LiteLLM makes a chunk of every three characters, and one that ends the stream


async def read(stream: AsyncIterator[Any]) -> int:
    return len([chunk async for chunk in stream])


async def read_litellm(calling: Any) -> int:
    return await read(await calling.asynchronous(messages=messages(), **MOCKED_STREAM))


@contextmanager
def openai_create(who: Contestant, url: str) -> Iterator[Work]:
    import openai

    client = openai.OpenAI(base_url=url, api_key="none", max_retries=0)
    other = openai.AsyncOpenAI(base_url=url, api_key="none")
    with (
        who.openai(ENDLESS, client, other) as calling,
        in_line(lambda: calling.sync(model="gpt-4o", messages=messages(), max_tokens=CHUNKS)) as work,
    ):
        yield work
    client.close()


@contextmanager
def scope(who: Contestant, url: str) -> Iterator[Work]:
    with who.scope() as make:
        yield lambda times: _open(make, times)


@contextmanager
def scope_in_three(who: Contestant, url: str) -> Iterator[Work]:
    with who.scope() as make, make(), make(), make():
        yield lambda times: _open(make, times)


def _open(make: Callable[[], AbstractContextManager[Any]], times: int) -> None:
    for _ in range(times):
        with make():
            pass


CASES: dict[str, Case] = {
    "langchain_invoke": Case(
        title="`invoke`", opened=of_langchain(in_line, lambda m, c: m.invoke(question(), c)), times=80
    ),
    "langchain_chat": Case(
        title="`invoke`, 22 messages",
        opened=of_langchain(in_line, lambda m, c: m.invoke(chat(), c)),
        times=40,
    ),
    "langchain_ainvoke": Case(
        title="`ainvoke`", opened=of_langchain(on_loop, lambda m, c: m.ainvoke(question(), c)), times=80
    ),
    "langchain_threads": Case(
        title="8 threads", opened=of_langchain(in_threads, lambda m, c: m.invoke(question(), c)), times=80
    ),
    "langchain_stream": Case(
        title="`stream`, a chunk",
        opened=of_langchain(in_line, lambda m, c: sum(1 for _ in m.stream(question(), c))),
        times=4,
        parts=CHUNKS,
    ),
    "langchain_astream": Case(
        title="`astream`, a chunk",
        opened=of_langchain(on_loop, lambda m, c: read(m.astream(question(), c))),
        times=3,
        parts=CHUNKS,
    ),
    "langchain_real": Case(
        title="`ChatOpenAI.invoke` over loopback",
        opened=of_langchain(in_line, lambda m, c: m.invoke(question(), c), real=True),
        times=20,
    ),
    "litellm_completion": Case(
        title="`completion`",
        opened=of_litellm(in_line, lambda calling: calling.sync(messages=messages(), **MOCKED)),
        times=40,
    ),
    "litellm_acompletion": Case(
        title="`acompletion`",
        opened=of_litellm(on_loop, lambda calling: calling.asynchronous(messages=messages(), **MOCKED)),
        times=40,
    ),
    "litellm_threads": Case(
        title="8 threads",
        opened=of_litellm(in_threads, lambda calling: calling.sync(messages=messages(), **MOCKED)),
        times=40,
    ),
    "litellm_stream": Case(
        title="stream, a chunk",
        opened=of_litellm(
            in_line, lambda calling: sum(1 for _ in calling.sync(messages=messages(), **MOCKED_STREAM))
        ),
        times=2,
        parts=MOCKED_CHUNKS,
    ),
    "litellm_astream": Case(
        title="async stream, a chunk", opened=of_litellm(on_loop, read_litellm), times=2, parts=MOCKED_CHUNKS
    ),
    "openai_create": Case(title="`chat.completions.create` over loopback", opened=openai_create, times=20),
    "scope": Case(title="one", opened=scope, times=500, bare=False),
    "scope_in_three": Case(title="inside three others", opened=scope_in_three, times=500, bare=False),
}
