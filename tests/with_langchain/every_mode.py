"""Every way to ask a model, for each kind of model: the rows of the matrix."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any, NamedTuple

import httpx
import openai
from asking import AT_ONCE, MODEL, MODES, Q, _read, chat, in_generator, prompted
from langchain_core.language_models.llms import LLM
from langchain_core.messages import HumanMessage
from langchain_core.outputs import GenerationChunk
from langchain_core.runnables import RunnableLambda, RunnableParallel

from provider import Provider

ASKED = [[HumanMessage("hello")]]
SCHEMA = {"title": "A", "description": "a", "type": "object", "properties": {}}


async def _given(question: Any) -> AsyncIterator[Any]:
    yield question


def structured(model: Any, method: str) -> Any:
    """Ask for a form; what does not fit it comes back beside the error."""
    return model.with_structured_output(SCHEMA, method=method, include_raw=True)


MORE_MODES: dict[str, Callable[[Any], Any]] = {
    "batch_as_completed": lambda m: list(m.batch_as_completed(["hello"])),
    "abatch_as_completed": lambda m: asyncio.run(_read(m.abatch_as_completed(["hello"]))),
    "transform": lambda m: list(m.transform(iter(["hello"]))),
    "atransform": lambda m: asyncio.run(_read(m.atransform(_given("hello")))),
    "generate": lambda m: m.generate(ASKED),
    "agenerate": lambda m: asyncio.run(m.agenerate(ASKED)),
    "astream_log": lambda m: asyncio.run(_read(m.astream_log("hello"))),
    "sequence batch": lambda m: prompted(m).batch([Q]),
    "sequence abatch": lambda m: asyncio.run(prompted(m).abatch([Q])),
    "sequence astream_events v1": lambda m: asyncio.run(_read(prompted(m).astream_events(Q, version="v1"))),
    "sequence astream_log": lambda m: asyncio.run(_read(prompted(m).astream_log(Q))),
    "parallel batch": lambda m: RunnableParallel(a=m).batch(["hello"]),
    "parallel stream": lambda m: list(RunnableParallel(a=m).stream("hello")),
    "parallel astream": lambda m: asyncio.run(_read(RunnableParallel(a=m).astream("hello"))),
    "lambda stream": lambda m: list(RunnableLambda(m.stream).stream("hello")),
    "lambda astream": lambda m: asyncio.run(_read(RunnableLambda(m.astream).astream("hello"))),
    "map": lambda m: m.map().invoke(["hello"]),
    "generator ainvoke": lambda m: asyncio.run(in_generator(m).ainvoke("hello")),
    "with_retry stream": lambda m: list(m.with_retry(**AT_ONCE).stream("hello")),
    "with_retry astream": lambda m: asyncio.run(_read(m.with_retry(**AT_ONCE).astream("hello"))),
    "with_fallbacks stream": lambda m: list(m.with_fallbacks([m]).stream("hello")),
    "with_fallbacks astream": lambda m: asyncio.run(_read(m.with_fallbacks([m]).astream("hello"))),
    "structured output, JSON schema": lambda m: structured(m, "json_schema").invoke("hello"),
    "structured output, JSON mode": lambda m: asyncio.run(structured(m, "json_mode").ainvoke("hello")),
    "structured output stream": lambda m: list(structured(m, "function_calling").stream("hello")),
    "with tools astream": lambda m: asyncio.run(
        _read(m.bind_tools([{"type": "function", "function": {"name": "look"}}]).astream("hello"))
    ),
}
EVERY_MODE = MODES | MORE_MODES

A_FEW = ("invoke", "ainvoke", "batch", "abatch", "stream", "astream", "astream_events v2")

TRIES = {
    "with_retry invoke": 3,
    "with_retry ainvoke": 3,
    "with_fallbacks invoke": 2,
    "with_fallbacks ainvoke": 2,
    "with_fallbacks stream": 2,
    "with_fallbacks astream": 2,
}
"""How often LangChain tries what is refused, where it is more than once."""


class Completion(LLM):
    """A completion model of one's own that tells LangChain nothing of usage."""

    url: str
    model: str = MODEL

    @property
    def _llm_type(self) -> str:
        return "own"

    @property
    def _client(self) -> openai.OpenAI:
        http = httpx.Client(verify=False)
        return openai.OpenAI(base_url=self.url, api_key="none", max_retries=0, http_client=http)

    def _call(self, prompt: str, stop: Any = None, run_manager: Any = None, **kwargs: Any) -> str:
        with self._client as client:
            return client.completions.create(model=self.model, prompt=prompt).choices[0].text

    def _stream(
        self, prompt: str, stop: Any = None, run_manager: Any = None, **kwargs: Any
    ) -> Iterator[GenerationChunk]:
        with self._client as client:
            for event in client.completions.create(model=self.model, prompt=prompt, stream=True):
                chunk = GenerationChunk(text=event.choices[0].text)
                if run_manager:
                    run_manager.on_llm_new_token(chunk.text, chunk=chunk)
                yield chunk


def quick(provider: Provider, **options: Any) -> Any:
    """Make a chat model without reading the certificates of the world, which is what takes long in it."""
    clients = {
        "http_client": httpx.Client(verify=False),
        "http_async_client": httpx.AsyncClient(verify=False),
    }
    return chat(provider, **clients, **options)


class Row(NamedTuple):
    """A kind of model that is asked in one way.

    Attributes:
        kind: What kind, in words.
        mode: The way.
        make: Makes the model, whose requests the provider gets.
        streams: Whether the provider is asked for a stream.
        used: Input and output tokens of a call, and whether we have to count them.
    """

    kind: str
    mode: str
    make: Callable[[Provider], Any]
    streams: bool
    used: tuple[int, int, bool]

    def __str__(self) -> str:
        return f"{self.kind}: {self.mode}"

    @property
    def tries(self) -> int:
        """How often LangChain tries what is refused."""
        return TRIES.get(self.mode, 1)

    def ask(self, provider: Provider) -> Any:
        """Ask a new model of the kind."""
        return EVERY_MODE[self.mode](self.make(provider))


def _streams(mode: str) -> bool:
    return any(word in mode for word in ("stream", "transform", "generator"))


OUTPUT_TOKENS = 60
TOLD, COUNTED = (100, OUTPUT_TOKENS, False), (8, OUTPUT_TOKENS, True)
TWO_TOLD = (100, 2 * OUTPUT_TOKENS, False)
ROWS = (
    *(Row("chat", mode, quick, _streams(mode), TOLD) for mode in EVERY_MODE),
    *(Row("two answers", mode, lambda p: quick(p, n=2), _streams(mode), TWO_TOLD) for mode in A_FEW),
    *(
        Row("silent streams", mode, lambda p: quick(p, stream_usage=None), True, COUNTED)
        for mode in A_FEW
        if _streams(mode)
    ),
    *(Row("streams unasked", mode, lambda p: quick(p, streaming=True), True, TOLD) for mode in A_FEW),
    *(
        Row("completion", mode, lambda p: Completion(url=p.url), _streams(mode), (1, OUTPUT_TOKENS, True))
        for mode in A_FEW
    ),
)
