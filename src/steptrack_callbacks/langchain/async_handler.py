"""A handler that waits on the event loop, for those who know that LangChain will await it.

LangChain awaits async handlers in its async methods only; in sync ones it runs them on a loop of
their own and swallows what they raise. So this one answers on the very loop that it was made for.
"""

from __future__ import annotations

import asyncio
from typing import Any, cast
from uuid import UUID

from langchain_core.callbacks import BaseCallbackHandler
from langchain_core.messages import BaseMessage
from langchain_core.runnables import RunnableConfig
from langchain_core.runnables.config import ensure_config

from steptrack_callbacks.concurrency.tasks import running_loop

from . import run_tree
from .frames import is_inline
from .handler import StepTrackHandler
from .starting import Start, begin_async, is_new


class WaitingHandler(BaseCallbackHandler):
    """Admits the calls of async runs before any other handler sees them, and waits if need be."""

    raise_error = True
    ignore_agent = True
    ignore_chain = True
    ignore_retriever = True
    ignore_retry = True
    ignore_custom_event = True

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()

    @property
    def run_inline(self) -> bool:  # type: ignore[override]
        """Whether to be awaited in the caller's own task and context."""
        return is_inline()

    @property
    def ignore_llm(self) -> bool:
        """Whether this is another thread, where LangChain would not await it."""
        return running_loop() is not self._loop

    @property
    def ignore_chat_model(self) -> bool:
        """Whether this is another thread, where LangChain would not await it."""
        return self.ignore_llm

    async def on_chat_model_start(
        self,
        serialized: dict[str, Any] | None,
        messages: list[list[BaseMessage]],
        *,
        run_id: UUID,
        **kwargs: Any,
    ) -> None:
        """Admit a call of a chat model, once there is room.

        Raises:
            BudgetExhausted: There is no room, or it did not come free in time.
        """
        __tracebackhide__ = True
        await self._begin(serialized, messages[0], run_id, **kwargs)

    async def on_llm_start(
        self, serialized: dict[str, Any] | None, prompts: list[str], *, run_id: UUID, **kwargs: Any
    ) -> None:
        """Admit a call of a completion model, once there is room.

        Raises:
            BudgetExhausted: There is no room, or it did not come free in time.
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
        invocation_params: dict[str, Any] | None = None,
        name: str | None = None,
        batch_size: int = 1,
        **_: Any,
    ) -> None:
        __tracebackhide__ = True
        # On any other loop the answer would come too late, and a refusal would reach nobody.
        if asyncio.get_running_loop() is self._loop and is_new(run_id):
            within = run_tree.enter(run_id, parent_run_id, name, tags, metadata).step
            start = Start(run_id, content, metadata, invocation_params, batch_size, serialized)
            await begin_async(start, within, caps=True, is_last=True)


_capping = StepTrackHandler()
_capping.caps = True


def watched(config: RunnableConfig | None, *, waiting: bool = False) -> RunnableConfig:
    """Return a configuration whose runs are seen, installed or not, and may be given a `max_tokens`.

    Args:
        config: The caller's.
        waiting: Whether async runs shall wait for room; only where an event loop is running.
    """
    config = ensure_config(config)
    callbacks: Any = config.get("callbacks")
    manager = None if callbacks is None or isinstance(callbacks, list) else callbacks
    present: list[BaseCallbackHandler] = (callbacks or []) if manager is None else manager.handlers
    ours: list[BaseCallbackHandler] = [_capping]
    if waiting:
        ours.insert(0, WaitingHandler())
    active = {type(other) for other in present if not getattr(other, "is_off", False)}
    missing = [handler for handler in ours if type(handler) not in active]
    if manager is None:
        return cast(RunnableConfig, {**config, "callbacks": [*missing, *_with_caps(present)]})
    manager = manager.copy()
    manager.handlers = [*missing, *_with_caps(manager.handlers)]
    manager.inheritable_handlers = [*missing, *_with_caps(manager.inheritable_handlers)]
    return cast(RunnableConfig, {**config, "callbacks": manager})


def _with_caps(present: list[BaseCallbackHandler]) -> list[BaseCallbackHandler]:
    """Put the handler that may set a cap in place of one that is there already, and keeps nothing."""
    return [_capping if type(other) is StepTrackHandler and not other.is_off else other for other in present]
