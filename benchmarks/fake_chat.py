"""A LangChain chat model without a network, which reports in every place where a handler may look."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from typing import Any

from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, AIMessageChunk
from langchain_core.outputs import ChatGeneration, ChatGenerationChunk, ChatResult

CHUNKS = 200
MODEL = "gpt-4o"
USAGE = {"input_tokens": 100, "output_tokens": CHUNKS, "total_tokens": 100 + CHUNKS}
LLM_OUTPUT = {
    "token_usage": {"prompt_tokens": 100, "completion_tokens": CHUNKS, "total_tokens": 100 + CHUNKS},
    "model_name": MODEL,
}


class FakeChat(BaseChatModel):
    """Answers at once: 100 tokens in, 200 out, a chunk each."""

    model_name: str = MODEL

    @property
    def _llm_type(self) -> str:
        return "fake"

    def _generate(
        self, messages: Any, stop: Any = None, run_manager: Any = None, **kwargs: Any
    ) -> ChatResult:
        answer = AIMessage(
            "Rayleigh scattering.", usage_metadata=USAGE, response_metadata={"model_name": MODEL}
        )
        return ChatResult(generations=[ChatGeneration(message=answer)], llm_output=LLM_OUTPUT)

    async def _agenerate(
        self, messages: Any, stop: Any = None, run_manager: Any = None, **kwargs: Any
    ) -> ChatResult:
        return self._generate(messages)

    def _stream(
        self, messages: Any, stop: Any = None, run_manager: Any = None, **kwargs: Any
    ) -> Iterator[ChatGenerationChunk]:
        for _ in range(CHUNKS):
            yield ChatGenerationChunk(message=AIMessageChunk(" word"))
        end = AIMessageChunk("", usage_metadata=USAGE, response_metadata={"model_name": MODEL})
        yield ChatGenerationChunk(message=end)

    async def _astream(
        self, messages: Any, stop: Any = None, run_manager: Any = None, **kwargs: Any
    ) -> AsyncIterator[ChatGenerationChunk]:
        for chunk in self._stream(messages):
            yield chunk
