"""From a run that LangChain starts to a call that is admitted."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple
from uuid import UUID

from langchain_core.messages import BaseMessage

from steptrack_callbacks import attachments
from steptrack_callbacks.engine.call import Call
from steptrack_callbacks.steps.attribution import new_call
from steptrack_callbacks.steps.step import Step

from . import run_tree, runs
from .capping import Sending, sending
from .frames import discard_unasked
from .limiter import will_wait
from .refusals import as_langchain_sees, raised_in
from .requests import chat_request, completion_request

_running_loop = asyncio._get_running_loop  # noqa: SLF001 - the public one raises, which is slow


class Start(NamedTuple):
    """What LangChain says of a run that it starts.

    Attributes:
        run_id: The run.
        content: A prompt, or messages.
        metadata: The run's.
        params: The invocation's parameters; all runs of one request have the same object.
        batch_size: How many they are.
        serialized: What LangChain says of the model itself.
    """

    run_id: UUID
    content: str | Sequence[BaseMessage]
    metadata: Mapping[str, Any] | None
    params: Mapping[str, Any] | None
    batch_size: int
    serialized: Mapping[str, Any] | None

    def sending(self, run: runs.Run) -> Sending | None:
        """Find what can be changed of what is sent, if it is one request of a chat model."""
        if run.call is None or self.batch_size != 1 or isinstance(self.content, str):
            return None
        found = sending()
        if found is not None:
            found.describe(run.call, self.params or {})
        return found

    def pin(self, within: Step | None, *, sent: bool = False) -> runs.Run:
        """Pin the run's call to the steps that are active here."""
        _, content, metadata, params, batch_size, serialized = self
        describe: Any = completion_request if isinstance(content, str) else chat_request
        request = describe(serialized, content, metadata or {}, params or {})
        call: Call | None = new_call(request, sent=sent, within=within)
        through_litellm = metadata is not None and metadata.get("ls_provider") == "litellm"
        if call is not None and through_litellm and attachments.is_attached("litellm"):
            # Only LiteLLM knows its Router's own names for models, and can go on with the next of a step's.
            goes_on = within is None and bool(call.accounts.listing)
            call = call if request.is_priced and not goes_on else None
        return runs.Run(call, None if batch_size == 1 else runs.batch_of(params, batch_size), within)

    def given_up(self, error: BaseException, run: runs.Run | None, within: Step | None) -> BaseException:
        """Leave nothing behind of a run that LangChain will report no more of; returns what to raise."""
        batch = runs.batch_of(self.params, self.batch_size)
        if run is not None:
            run.withdraw()
        for other in () if batch is None else runs.begun_with(batch):
            other.withdraw()  # one request for all of them, which is not sent
        run_tree.leave(self.run_id, error)
        discard_unasked()
        return raised_in(within, as_langchain_sees(error))


def is_new(run_id: UUID) -> bool:
    """Tell whether a run was not started before, or was one that is over, under the same id."""
    run = runs.find(run_id.int)
    return run is None or run.call is None


def begin(start: Start, within: Step | None, *, caps: bool = False) -> None:
    """Admit a run's call, waiting only in a thread without an event loop, or leave that to who can wait.

    Args:
        start: The run.
        within: The step that it is in, if that is not the one of the context.
        caps: Whether its request may be given a `max_tokens`.
    """
    __tracebackhide__ = True
    run: runs.Run | None = None
    try:
        run = start.pin(within)
        if run.call is not None and not (_running_loop() and will_wait(run)):
            found = start.sending(run) if caps else None
            run.call.admit()
            if found is not None:
                found.limit(run.call)
            run.begun()
    except BaseException as error:  # noqa: BLE001 - a pause of LangGraph is raised so, too
        raise start.given_up(error, run, within) from None
    runs.add(start.run_id, run)


async def begin_async(
    start: Start, within: Step | None, *, caps: bool = False, is_last: bool = False
) -> None:
    """Admit a run's call, waiting on the event loop; if not `is_last`, leave that to who will do so later."""
    __tracebackhide__ = True
    run: runs.Run | None = None
    try:
        run = start.pin(within)
        if run.call is not None and isinstance(start.content, str):
            run.call.request.together = run.batch  # each prompt begins in a task of its own
        if run.call is not None and (is_last or not will_wait(run)):
            found = start.sending(run) if caps else None
            await run.call.admit_async()
            if found is not None:
                found.limit(run.call)
            run.begun()
            if isinstance(start.content, str):
                runs.offer_apart(run)
    except BaseException as error:  # noqa: BLE001 - a pause of LangGraph is raised so, too
        raise start.given_up(error, run, within) from None
    runs.add(start.run_id, run)
