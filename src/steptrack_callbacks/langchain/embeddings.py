"""Embeddings inside a step: LangChain reports nothing of them, so their calls are made here."""

from __future__ import annotations

from types import TracebackType

from langchain_core.embeddings import Embeddings

from steptrack_callbacks.engine.call import Call
from steptrack_callbacks.engine.request import UNKNOWN_MODEL, Request
from steptrack_callbacks.integrations import handoff, proxy_client
from steptrack_callbacks.steps.attribution import new_call
from steptrack_callbacks.steps.decorators import around
from steptrack_callbacks.steps.step import Step
from steptrack_callbacks.tokens import count_prompt
from steptrack_callbacks.values.definitions import StepDefinition
from steptrack_callbacks.values.errors import StepTrackError

from .failures import is_refusal
from .refusals import LangChainStep, langchain_error


class BudgetedEmbeddings(Embeddings):
    """Embeddings each of whose calls runs in a step; `budgeted` makes them.

    Their tokens are counted, since embeddings report none, unless LiteLLM sends the request: its
    integration then charges what it was told.

    Attributes:
        bound: The embeddings inside.
        definition: What was declared about the step.
    """

    def __init__(self, bound: Embeddings, definition: StepDefinition) -> None:
        self.bound = bound
        self.definition = definition

    def embed_documents(self, texts: list[str]) -> list[list[float]]:
        """Embed documents in a fresh step."""
        __tracebackhide__ = True

        def body() -> list[list[float]]:
            __tracebackhide__ = True
            with _Sent(call := self._call(texts)):
                call.admit()
                return self.bound.embed_documents(texts)

        return around(body, self._step)()  # type: ignore[no-any-return]

    def embed_query(self, text: str) -> list[float]:
        """Embed a query in a fresh step."""
        __tracebackhide__ = True

        def body() -> list[float]:
            __tracebackhide__ = True
            with _Sent(call := self._call([text])):
                call.admit()
                return self.bound.embed_query(text)

        return around(body, self._step)()  # type: ignore[no-any-return]

    async def aembed_documents(self, texts: list[str]) -> list[list[float]]:
        """Do as `embed_documents`, on the event loop."""
        __tracebackhide__ = True

        async def body() -> list[list[float]]:
            __tracebackhide__ = True
            with _Sent(call := self._call(texts)):
                await call.admit_async()
                return await self.bound.aembed_documents(texts)

        return await around(body, self._step)()  # type: ignore[no-any-return]

    async def aembed_query(self, text: str) -> list[float]:
        """Do as `embed_query`, on the event loop."""
        __tracebackhide__ = True

        async def body() -> list[float]:
            __tracebackhide__ = True
            with _Sent(call := self._call([text])):
                await call.admit_async()
                return await self.bound.aembed_query(text)

        return await around(body, self._step)()  # type: ignore[no-any-return]

    def _step(self) -> Step:
        return LangChainStep(self.definition)

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
            raise langchain_error(error) from None


class _Sent:
    """A block that charges a call by how sending it ends; it is admitted inside."""

    def __init__(self, call: Call) -> None:
        self._call = call

    def __enter__(self) -> None:
        self._offered = handoff.offer(self._call)

    def __exit__(
        self, _type: type[BaseException] | None, error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        __tracebackhide__ = True
        if error is not None:
            self._failed(error)
        elif self._offered.taken:
            self._call.abandon(0)  # unless it was charged by whom it was taken
        else:
            self._call.settle(self._call.request.estimated_usage(0), estimated=True)

    def _failed(self, error: BaseException) -> None:
        __tracebackhide__ = True
        if isinstance(error, StepTrackError):
            self._call.withdraw()
            raise langchain_error(error) from None
        if not isinstance(error, Exception):
            self._call.abandon(0)
        elif (refused := proxy_client.refusal_in(error)) is not None:
            self._call.withdraw()  # a proxy did not send it
            raise langchain_error(refused) from error
        elif is_refusal(error):
            self._call.fail()
        else:
            self._call.abandon(0)
