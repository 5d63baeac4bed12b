"""The one handler: it translates what LangChain reports of a model into a call."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Self
from uuid import UUID

from langchain_core.callbacks import BaseCallbackHandler
from langchain_core.messages import BaseMessage
from langchain_core.outputs import LLMResult

from steptrack_callbacks import settings
from steptrack_callbacks.integrations import proxy_client
from steptrack_callbacks.steps.active import note_failure
from steptrack_callbacks.values.copying import CopiedAsItself
from steptrack_callbacks.values.errors import StepTrackError

from . import charging, run_tree, runs, usage
from .awaited import awaited_as
from .enclosing import EnclosingRuns
from .frames import discard_unasked, is_inline
from .refusals import langchain_error, mark_not_retryable, silence_refusal_logs
from .run_tree import NOWHERE, STEP_KEY, watches
from .runs import find as find_run
from .starting import Start, begin, begin_async

Params = Mapping[str, Any] | None


class StepTrackHandler(CopiedAsItself, EnclosingRuns, BaseCallbackHandler):
    """Charges every model call that LangChain reports, and refuses it before it is sent if need be.

    `install()` attaches one to everything. It works explicitly, too, as in
    `config={"callbacks": [StepTrackHandler()]}`; both together, or it twice, still charge once.

    A call that would fit once others settle waits in the handler: in a plain thread by blocking it, on an
    event loop by being awaited. A sync call on an event loop cannot wait, and is refused.
    """

    raise_error = True
    ignore_llm = False  # LangChain asks for each chunk; its own answer is a property, which takes longer
    ignore_chat_model = False
    ignore_chain = False
    ignore_retriever = False
    ignore_retry = True
    ignore_custom_event = True
    is_off = False
    follows_agents = False
    caps = False

    def __init__(self) -> None:
        silence_refusal_logs()

    @property
    def run_inline(self) -> bool:  # type: ignore[override]
        """Whether to be called in the caller's own task and context."""
        return is_inline()

    def __reduce__(self) -> tuple[type[Self], tuple[()]]:
        return type(self), ()  # it keeps nothing, and is pickled with models and chains

    # Before a model is called

    @awaited_as("await_chat_model_start")
    def on_chat_model_start(
        self,
        serialized: dict[str, Any] | None,
        messages: list[list[BaseMessage]],
        *,
        run_id: UUID,
        parent_run_id: UUID | None = None,
        tags: list[str] | None = None,
        metadata: dict[str, Any] | None = None,
        invocation_params: Params = None,
        name: str | None = None,
        batch_size: int = 1,
        **kwargs: Any,
    ) -> None:
        """Admit a call of a chat model.

        Raises:
            BudgetExhausted: A step has no room for it.
            UnpricedModel: A dollar limit is in force and the model's price is unknown.
        """
        __tracebackhide__ = True
        place = self._place(run_id, parent_run_id, name, tags, metadata)
        if place is not None:
            start = Start(run_id, messages[0], metadata, invocation_params, batch_size, serialized)
            begin(start, place.step, caps=self.caps)

    async def await_chat_model_start(
        self,
        serialized: dict[str, Any] | None,
        messages: list[list[BaseMessage]],
        *,
        run_id: UUID,
        **kwargs: Any,
    ) -> None:
        """Admit a call of a chat model, waiting on the event loop if need be.

        Raises:
            BudgetExhausted: A step has no room for it, or it did not come free in time.
            UnpricedModel: A dollar limit is in force and the model's price is unknown.
        """
        __tracebackhide__ = True
        await self._begin(serialized, messages[0], run_id, **kwargs)

    @awaited_as("await_llm_start")
    def on_llm_start(
        self,
        serialized: dict[str, Any] | None,
        prompts: list[str],
        *,
        run_id: UUID,
        parent_run_id: UUID | None = None,
        tags: list[str] | None = None,
        metadata: dict[str, Any] | None = None,
        invocation_params: Params = None,
        name: str | None = None,
        batch_size: int = 1,
        **kwargs: Any,
    ) -> None:
        """Admit a call of a completion model.

        Raises:
            BudgetExhausted: A step has no room for it.
            UnpricedModel: A dollar limit is in force and the model's price is unknown.
        """
        __tracebackhide__ = True
        place = self._place(run_id, parent_run_id, name, tags, metadata)
        if place is not None:
            start = Start(run_id, prompts[0], metadata, invocation_params, batch_size, serialized)
            begin(start, place.step, caps=self.caps)

    async def await_llm_start(
        self, serialized: dict[str, Any] | None, prompts: list[str], *, run_id: UUID, **kwargs: Any
    ) -> None:
        """Admit a call of a completion model, waiting on the event loop if need be.

        Raises:
            BudgetExhausted: A step has no room for it, or it did not come free in time.
            UnpricedModel: A dollar limit is in force and the model's price is unknown.
        """
        __tracebackhide__ = True
        await self._begin(serialized, prompts[0], run_id, **kwargs)

    async def _begin(
        self,
        serialized: dict[str, Any] | None,
        content: str | list[BaseMessage],
        run_id: UUID,
        *,
        parent_run_id: UUID | None = None,
        tags: list[str] | None = None,
        metadata: dict[str, Any] | None = None,
        invocation_params: Params = None,
        name: str | None = None,
        batch_size: int = 1,
        **_: Any,
    ) -> None:
        __tracebackhide__ = True
        place = self._place(run_id, parent_run_id, name, tags, metadata)
        if place is not None:
            start = Start(run_id, content, metadata, invocation_params, batch_size, serialized)
            await begin_async(start, place.step, caps=self.caps)

    def _place(
        self,
        run_id: UUID,
        parent_run_id: UUID | None,
        name: str | None,
        tags: list[str] | None,
        metadata: dict[str, Any] | None,
    ) -> run_tree.Place | None:
        """Return where a new run of a model is, or `None` if it is none of this handler's business."""
        __tracebackhide__ = True
        run = find_run(run_id.int)
        if run is not None and run.call is not None:
            return None  # another handler was told of it
        if not self.is_off:
            if not (watches or settings.now.names_runs or (metadata and STEP_KEY in metadata)):
                return NOWHERE
            try:
                return run_tree.enter_model(run_id, parent_run_id, name, tags, metadata)
            except BaseException:  # a step that its name or metadata opens was refused
                discard_unasked()
                raise
        place = self._enter(run_id, parent_run_id, name, tags, metadata)
        return None if place is None or place.step is None else place

    # While it answers

    def on_llm_new_token(
        self,
        token: str | list[str | dict[str, Any]],
        *,
        chunk: Any = None,
        run_id: UUID,
        parent_run_id: UUID | None = None,
        tags: list[str] | None = None,
        **kwargs: Any,
    ) -> None:
        """Look at a chunk of a stream.

        Raises:
            BudgetExhausted: The stream has passed a limit; it is charged what it has produced.
        """
        __tracebackhide__ = True
        run = find_run(run_id.int)
        if run is not None and run.call is not None:
            run.see(token if token and isinstance(token, str) else usage.text_of_chunk(chunk))

    def on_stream_event(self, event: Any, *, run_id: UUID, **kwargs: Any) -> None:
        """Look at an event of a `v3` stream, which has no chunks.

        Raises:
            BudgetExhausted: The stream has passed a limit; it is charged what it has produced.
        """
        run = find_run(run_id.int)
        if run is not None and run.call is not None:
            run.see_event(usage.text_of_event(event))

    # When it has answered

    @awaited_as("await_llm_end")
    def on_llm_end(
        self, response: LLMResult, *, run_id: UUID, parent_run_id: UUID | None = None, **kwargs: Any
    ) -> None:
        """Charge an answer; one of a run that began unseen is charged to the step that is active here.

        Raises:
            BudgetExhausted: A step that was named by metadata ends with this run, over its limit.
        """
        run = find_run(run_id.int) or (None if self.is_off else _begun_unseen(run_id))
        try:
            if run is not None:
                call = run.end()
                if call is not None:
                    charging.settle(run, call, response, run_id)
                if run.within is not None:
                    run.tell_step()
        except BaseException as refused:  # by a hook; or it was interrupted
            run_tree.leave(run_id, refused)
            raise
        if watches:
            run_tree.leave(run_id)

    async def await_llm_end(self, response: LLMResult, *, run_id: UUID, **_: Any) -> None:
        """Do as `on_llm_end`, and await what a ledger is told of it.

        Raises:
            BudgetExhausted: As there.
        """
        async with runs.telling_ledger(run_id.int):
            self.on_llm_end(response, run_id=run_id)

    @awaited_as("await_llm_error")
    def on_llm_error(
        self,
        error: BaseException,
        *,
        run_id: UUID,
        parent_run_id: UUID | None = None,
        response: LLMResult | None = None,
        **kwargs: Any,
    ) -> None:
        """Charge what was seen of an answer that has failed or was broken off, or could not be used.

        Raises:
            BudgetExhausted: It was a proxy that has refused the call, or cut the stream.
        """
        mark_not_retryable(error)
        run = find_run(run_id.int)
        refused = proxy_client.refusal_in(error)
        try:
            if run is not None and run.call is not None:
                charging.fail(run, refused or error, response)
                run.tell_step()
                if not isinstance(error, StepTrackError):
                    note_failure(error)
        finally:  # though a hook has refused the charge
            run_tree.leave(run_id, refused or error)
        if refused is not None:
            raise langchain_error(refused) from error

    async def await_llm_error(
        self, error: BaseException, *, run_id: UUID, response: LLMResult | None = None, **_: Any
    ) -> None:
        """Do as `on_llm_error`, and await what a ledger is told of it.

        Raises:
            BudgetExhausted: As there.
        """
        async with runs.telling_ledger(run_id.int):
            self.on_llm_error(error, run_id=run_id, response=response)


def _begun_unseen(run_id: UUID) -> runs.Run:
    run = Start(run_id, "", None, None, 1, None).pin(None, sent=True)
    if run.call is not None:
        run.call.begin()
    runs.add(run_id, run)
    return run
