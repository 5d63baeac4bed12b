"""What a handler is told of runs that other runs are inside of: chains, tools and retrievers."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from . import paid_tools, run_tree
from .awaited import awaited_as
from .refusals import mark_not_retryable


class EnclosingRuns:
    """Mixed into a handler: notes which runs are inside which, and counts and charges tools.

    Attributes:
        is_off: See the handler.
        follows_agents: See the handler.
    """

    is_off: bool
    follows_agents: bool

    def on_chain_start(
        self,
        serialized: Any,
        inputs: Any,
        *,
        run_id: UUID,
        parent_run_id: UUID | None = None,
        tags: list[str] | None = None,
        metadata: dict[str, Any] | None = None,
        name: str | None = None,
        **kwargs: Any,
    ) -> None:
        """Note what a chain is called: steps can be named by it."""
        if self._enter(run_id, parent_run_id, name, tags, metadata) is not None:
            run_tree.carry(run_id, inputs, metadata)

    def on_chain_end(self, outputs: Any, *, run_id: UUID, **kwargs: Any) -> None:
        """End the steps that were opened for an outermost chain.

        Raises:
            BudgetExhausted: One of them is over its limit.
        """
        run_tree.leave(run_id)

    def on_chain_error(self, error: BaseException, *, run_id: UUID, **kwargs: Any) -> None:
        """End the steps that were opened for an outermost chain."""
        run_tree.leave(run_id, error)

    def on_retriever_start(
        self,
        serialized: Any,
        query: str,
        *,
        run_id: UUID,
        parent_run_id: UUID | None = None,
        tags: list[str] | None = None,
        metadata: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        """Note a retriever, which may ask a model."""
        self._enter(run_id, parent_run_id, None, tags, metadata)

    def on_retriever_end(self, documents: Any, *, run_id: UUID, **kwargs: Any) -> None:
        """Do as `on_chain_end`.

        Raises:
            BudgetExhausted: As there.
        """
        run_tree.leave(run_id)

    def on_retriever_error(self, error: BaseException, *, run_id: UUID, **kwargs: Any) -> None:
        """Do as `on_chain_error`."""
        run_tree.leave(run_id, error)

    @awaited_as("await_tool_start")
    def on_tool_start(
        self, serialized: dict[str, Any] | None, input_str: str, *, run_id: UUID, **kwargs: Any
    ) -> None:
        """Count a tool, refuse it if the stage in force does not allow it, and reserve what its use costs.

        Raises:
            ToolDenied: It does not, or a `max_tool_calls` is reached.
            BudgetExhausted: There is no room for what it costs.
        """
        __tracebackhide__ = True
        place = self._enter_tool(run_id, **kwargs)
        if place is None:
            return
        try:
            paid_tools.begin(run_id, serialized, input_str, place, **kwargs)
        except BaseException as error:  # nobody is told of its end
            run_tree.leave(run_id, error)
            raise

    async def await_tool_start(
        self, serialized: dict[str, Any] | None, input_str: str, *, run_id: UUID, **kwargs: Any
    ) -> None:
        """Do as `on_tool_start`, waiting on the event loop if need be.

        Raises:
            ToolDenied: As there.
            BudgetExhausted: There is no room for what it costs, or it did not come free in time.
        """
        __tracebackhide__ = True
        place = self._enter_tool(run_id, **kwargs)
        if place is None:
            return
        try:
            await paid_tools.begin_async(run_id, serialized, input_str, place, **kwargs)
        except BaseException as error:
            run_tree.leave(run_id, error)
            raise

    @awaited_as("await_tool_end")
    def on_tool_end(self, output: Any, *, run_id: UUID, **kwargs: Any) -> None:
        """Charge the use of a tool that costs money.

        Raises:
            BudgetExhausted: It was an outermost run, and a step that was opened in it is over its limit.
        """
        paid_tools.end(run_id, output)
        run_tree.leave(run_id)

    async def await_tool_end(self, output: Any, *, run_id: UUID, **_: Any) -> None:
        """Do as `on_tool_end`, and await what a ledger is told of it."""
        async with paid_tools.telling_ledger(run_id):
            self.on_tool_end(output, run_id=run_id)

    @awaited_as("await_tool_error")
    def on_tool_error(self, error: BaseException, *, run_id: UUID, **kwargs: Any) -> None:
        """Keep what a step in the tool has raised from being retried, and so paid for again."""
        mark_not_retryable(error)
        paid_tools.fail(run_id, error)
        run_tree.leave(run_id, error)

    async def await_tool_error(self, error: BaseException, *, run_id: UUID, **_: Any) -> None:
        """Do as `on_tool_error`, and await what a ledger is told of it."""
        async with paid_tools.telling_ledger(run_id):
            self.on_tool_error(error, run_id=run_id)

    def _enter(
        self,
        run_id: UUID,
        parent_run_id: UUID | None,
        name: str | None,
        tags: list[str] | None,
        metadata: dict[str, Any] | None,
        *,
        is_tool: bool = False,
    ) -> run_tree.Place | None:
        """Note a run, with what may open a step if this handler is attached; `None` if it sees nothing."""
        if not self.is_off:
            return run_tree.enter(run_id, parent_run_id, name, tags, metadata, is_tool=is_tool)
        if not self.follows_agents:
            return None
        return run_tree.enter(run_id, parent_run_id, None, None, None, is_tool=is_tool)

    def _enter_tool(
        self,
        run_id: UUID,
        *,
        parent_run_id: UUID | None = None,
        tags: list[str] | None = None,
        metadata: dict[str, Any] | None = None,
        **_: Any,
    ) -> run_tree.Place | None:
        """Note a tool's run; `None` if its use is not to be counted, or was by another handler."""
        place = self._enter(run_id, parent_run_id, None, tags, metadata, is_tool=True)
        return None if self.is_off or not run_tree.is_first_report(run_id) else place
