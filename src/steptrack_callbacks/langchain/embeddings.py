"""Embeddings inside a step: LangChain reports nothing of them, so their calls are made here."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager

from langchain_core.embeddings import Embeddings

from steptrack_callbacks.engine.call import Call
from steptrack_callbacks.engine.request import Request
from steptrack_callbacks.integrations import handoff, proxy_client
from steptrack_callbacks.steps.attribution import new_call
from steptrack_callbacks.steps.decorators import around
from steptrack_callbacks.steps.step import Step
from steptrack_callbacks.tokens import count_prompt
from steptrack_callbacks.values.definitions import StepDefinition
from steptrack_callbacks.values.errors import StepTrackError

from .failures import is_refusal
from .refusals import HostStep, host_error
from .requests import UNKNOWN_MODEL


class BudgetedEmbeddings(Embeddings):
    """Embeddings each of whose calls runs in a step; `budgeted` makes them.

    Their tokens are counted, since embeddings report none, unless LiteLLM sends the request: its
    edge then charges what it was told.

    Attributes:
        bound: The embeddings inside.
        definition: What was declared about the step.
    """

    def __init__(self, bound: Embeddings, definition: StepDefinition) -> None:
        self.bound = bound
        self.definition = definition

    def embed_documents(self, texts: list[str]) -> list[list[float]]:
        """Embed documents in a fresh step."""

        def body() -> list[list[float]]:
            with _sent(call := self._call(texts)):
                call.admit()
                return self.bound.embed_documents(texts)

        return around(body, self._step)()  # type: ignore[no-any-return]

    def embed_query(self, text: str) -> list[float]:
        """Embed a query in a fresh step."""

        def body() -> list[float]:
            with _sent(call := self._call([text])):
                call.admit()
                return self.bound.embed_query(text)

        return around(body, self._step)()  # type: ignore[no-any-return]

    async def aembed_documents(self, texts: list[str]) -> list[list[float]]:
        """Do as `embed_documents`, on the event loop."""

        async def body() -> list[list[float]]:
            with _sent(call := self._call(texts)):
                await call.admit_async()
                return await self.bound.aembed_documents(texts)

        return await around(body, self._step)()  # type: ignore[no-any-return]

    async def aembed_query(self, text: str) -> list[float]:
        """Do as `embed_query`, on the event loop."""

        async def body() -> list[float]:
            with _sent(call := self._call([text])):
                await call.admit_async()
                return await self.bound.aembed_query(text)

        return await around(body, self._step)()  # type: ignore[no-any-return]

    def _step(self) -> Step:
        return HostStep(self.definition)

    def _call(self, texts: list[str]) -> Call:
        named = (getattr(self.bound, name, None) for name in ("model", "model_name", "model_id"))
        model = next((name for name in named if isinstance(name, str) and name), UNKNOWN_MODEL)
        request = Request(
            model=model,
            operation="embeddings",
            count_input=lambda: count_prompt(texts, model),
            max_output_tokens=0,
        )
        try:
            return new_call(request)
        except StepTrackError as error:
            raise host_error(error) from None


@contextmanager
def _sent(call: Call) -> Generator[None]:
    """Charge a call by how sending it ends; it is admitted inside."""
    offered = handoff.offer(call)
    try:
        yield
    except StepTrackError as error:
        call.withdraw()
        raise host_error(error) from None
    except Exception as error:
        refused = proxy_client.refusal_in(error)  # a proxy did not send it
        if refused is not None:
            call.withdraw()
            raise host_error(refused) from error
        call.fail() if is_refusal(error) else call.abandon(0)
        raise
    except BaseException:
        call.abandon(0)
        raise
    if not offered.taken:
        call.settle(call.request.estimated_usage(0), estimated=True)
    else:
        call.abandon(0)  # unless it was charged by whom it was taken
