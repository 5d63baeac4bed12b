"""Ways to ask a LangChain model, all against the provider on loopback or a fake."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from decimal import Decimal
from typing import Any

from langchain_core.callbacks import BaseCallbackHandler
from langchain_core.language_models import BaseChatModel
from langchain_core.language_models.llms import LLM
from langchain_core.messages import AIMessage, AIMessageChunk, BaseMessage
from langchain_core.output_parsers import StrOutputParser
from langchain_core.outputs import ChatGeneration, ChatGenerationChunk, ChatResult, GenerationChunk
from langchain_core.prompts import ChatPromptTemplate
from langchain_core.runnables import RunnableGenerator, RunnableLambda, RunnableParallel
from langchain_openai import ChatOpenAI

from provider import Provider

MODEL = "gpt-4o"
INPUT_USD, OUTPUT_USD = Decimal("2.5e-6"), Decimal("1e-5")  # a token of gpt-4o
CALL_TOKENS = 300
CALL_USD = 100 * INPUT_USD + 200 * OUTPUT_USD
"""What a call costs: 100 tokens in and 200 out, unless the provider was told otherwise."""


def chat(provider: Provider, **options: Any) -> ChatOpenAI:
    """Make a chat model whose requests the provider gets; its streams report usage unless told otherwise."""
    given = {
        "model": MODEL,
        "base_url": provider.url,
        "api_key": "none",
        "max_retries": 0,
        "stream_usage": True,
    }
    return ChatOpenAI(**given | options)


class FakeChat(BaseChatModel):
    """A chat model with native sync, async and streaming paths: 10 tokens in, 4 out; counts its requests."""

    model: str = MODEL
    reports: bool = True
    sent: int = 0
    words: int = 4

    @property
    def _llm_type(self) -> str:
        return "fake"

    def _answer(self) -> AIMessage:
        self.sent += 1
        usage = {"input_tokens": 10, "output_tokens": self.words, "total_tokens": 10 + self.words}
        return AIMessage(
            "word " * self.words,
            usage_metadata=usage if self.reports else None,
            response_metadata={"model_name": self.model},
        )

    def _generate(
        self, messages: Any, stop: Any = None, run_manager: Any = None, **kwargs: Any
    ) -> ChatResult:
        return ChatResult(generations=[ChatGeneration(message=self._answer())])

    async def _agenerate(
        self, messages: Any, stop: Any = None, run_manager: Any = None, **kwargs: Any
    ) -> ChatResult:
        return self._generate(messages)

    def _stream(
        self, messages: list[BaseMessage], stop: Any = None, run_manager: Any = None, **kwargs: Any
    ) -> Iterator[ChatGenerationChunk]:
        answer = self._answer()
        for _ in range(self.words):
            yield ChatGenerationChunk(message=AIMessageChunk("word "))
        yield ChatGenerationChunk(
            message=AIMessageChunk(
                "", usage_metadata=answer.usage_metadata, response_metadata=answer.response_metadata
            )
        )

    async def _astream(
        self, messages: list[BaseMessage], stop: Any = None, run_manager: Any = None, **kwargs: Any
    ) -> AsyncIterator[ChatGenerationChunk]:
        for chunk in self._stream(messages):
            yield chunk


class FakeCompletion(LLM):
    """A completion model; it reports no usage. 50 tokens out."""

    model: str = "gpt-3.5-turbo-instruct"

    @property
    def _llm_type(self) -> str:
        return "fake"

    def _call(self, prompt: str, stop: Any = None, run_manager: Any = None, **kwargs: Any) -> str:
        return " word" * 50

    def _stream(
        self, prompt: str, stop: Any = None, run_manager: Any = None, **kwargs: Any
    ) -> Iterator[GenerationChunk]:
        for _ in range(50):
            chunk = GenerationChunk(text=" word")
            if run_manager:
                run_manager.on_llm_new_token(chunk.text, chunk=chunk)
            yield chunk


class Recorder(BaseCallbackHandler):
    """A handler beside ours, as users have them: neither inline nor raising."""

    def __init__(self) -> None:
        self.events: list[str] = []

    def on_chat_model_start(self, *args: Any, **kwargs: Any) -> None:
        self.events.append("chat start")

    def on_llm_start(self, *args: Any, **kwargs: Any) -> None:
        self.events.append("llm start")

    def on_llm_end(self, *args: Any, **kwargs: Any) -> None:
        self.events.append("end")

    def on_llm_error(self, *args: Any, **kwargs: Any) -> None:
        self.events.append("error")


def prompted(model: Any) -> Any:
    """Put a model in the middle of a sequence."""
    return ChatPromptTemplate.from_template("{question}") | model | StrOutputParser()


def in_lambda(model: Any) -> RunnableLambda:
    """Call a model in functions, sync and async."""

    async def ask(question: str) -> Any:
        return await model.ainvoke(question)

    return RunnableLambda(model.invoke, afunc=ask)


def in_generator(model: Any) -> RunnableGenerator:
    """Stream a model in generators, sync and async."""

    def ask(questions: Iterator[str]) -> Iterator[Any]:
        for question in questions:
            yield from model.stream(question)

    async def ask_async(questions: AsyncIterator[str]) -> AsyncIterator[Any]:
        async for question in questions:
            async for chunk in model.astream(question):
                yield chunk

    return RunnableGenerator(ask, ask_async)


async def _read(stream: Any) -> list[Any]:
    return [chunk async for chunk in stream]


async def _events_v3(runnable: Any, question: Any) -> Any:
    return await _read(await runnable.astream_events(question, version="v3"))


Q = {"question": "hello"}
AT_ONCE: dict[str, Any] = {"stop_after_attempt": 3, "wait_exponential_jitter": False}

MODES: dict[str, Callable[[Any], Any]] = {
    "invoke": lambda m: m.invoke("hello"),
    "ainvoke": lambda m: asyncio.run(m.ainvoke("hello")),
    "batch": lambda m: m.batch(["hello"]),
    "abatch": lambda m: asyncio.run(m.abatch(["hello"])),
    "stream": lambda m: list(m.stream("hello")),
    "astream": lambda m: asyncio.run(_read(m.astream("hello"))),
    "astream_events v1": lambda m: asyncio.run(_read(m.astream_events("hello", version="v1"))),
    "astream_events v2": lambda m: asyncio.run(_read(m.astream_events("hello", version="v2"))),
    "astream_events v3": lambda m: asyncio.run(_events_v3(m, "hello")),
    "stream_events v3": lambda m: list(m.stream_events("hello", version="v3")),
    "sequence invoke": lambda m: prompted(m).invoke(Q),
    "sequence ainvoke": lambda m: asyncio.run(prompted(m).ainvoke(Q)),
    "sequence stream": lambda m: list(prompted(m).stream(Q)),
    "sequence astream": lambda m: asyncio.run(_read(prompted(m).astream(Q))),
    "sequence astream_events v2": lambda m: asyncio.run(_read(prompted(m).astream_events(Q, version="v2"))),
    "parallel invoke": lambda m: RunnableParallel(a=m).invoke("hello"),
    "parallel ainvoke": lambda m: asyncio.run(RunnableParallel(a=m).ainvoke("hello")),
    "lambda invoke": lambda m: in_lambda(m).invoke("hello"),
    "lambda ainvoke": lambda m: asyncio.run(in_lambda(m).ainvoke("hello")),
    "generator invoke": lambda m: in_generator(m).invoke("hello"),
    "generator stream": lambda m: list(in_generator(m).stream("hello")),
    "generator astream": lambda m: asyncio.run(_read(in_generator(m).astream("hello"))),
    "with_retry invoke": lambda m: m.with_retry(**AT_ONCE).invoke("hello"),
    "with_retry ainvoke": lambda m: asyncio.run(m.with_retry(**AT_ONCE).ainvoke("hello")),
    "with_fallbacks invoke": lambda m: m.with_fallbacks([m]).invoke("hello"),
    "with_fallbacks ainvoke": lambda m: asyncio.run(m.with_fallbacks([m]).ainvoke("hello")),
    "structured output": lambda m: m.with_structured_output(
        {"title": "A", "description": "a", "type": "object", "properties": {}},
        method="function_calling",
        include_raw=True,
    ).invoke("hello"),
    "with tools": lambda m: m.bind_tools(
        [{"type": "function", "function": {"name": "look", "parameters": {}}}]
    ).invoke("hello"),
}
STREAMS = [name for name in MODES if "stream" in name]
