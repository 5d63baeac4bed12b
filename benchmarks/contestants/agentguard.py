"""agentguard47: traces and guards, on LangChain by a handler and on OpenAI by a patch."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from .contestant import Calling, Cannot, Config, Contestant, Limit


class AgentGuard(Contestant):
    """A `BudgetGuard` with a tracer that writes to nowhere."""

    label = "agentguard47"
    package = "agentguard47"
    module = "agentguard"
    does = "refuses after"

    def _guard(self, limit: Limit) -> Any:
        from agentguard import BudgetGuard, JsonFileStateStore

        if limit.redis_url is not None:
            raise Cannot("no Redis; a file only")
        shared: dict[str, Any] = {}
        if limit.folder is not None:
            shared = {"store": JsonFileStateStore(f"{limit.folder}/agentguard.json"), "key": "bench"}
        self.guard = BudgetGuard(max_cost_usd=limit.usd, **shared)
        return self.guard

    def _tracer(self) -> Any:
        from agentguard import Tracer
        from agentguard.tracing import TraceSink

        class Nowhere(TraceSink):
            def emit(self, event: Any) -> None:
                """Write nothing."""

        return Tracer(service="bench", sink=Nowhere())

    @contextmanager
    def langchain(self, limit: Limit) -> Iterator[Config]:
        from agentguard.integrations.langchain import AgentGuardCallbackHandler

        guard = self._guard(limit)
        yield {"callbacks": [AgentGuardCallbackHandler(tracer=self._tracer(), budget_guard=guard)]}

    @contextmanager
    def openai(self, limit: Limit, client: Any, async_client: Any) -> Iterator[Calling]:
        import agentguard

        guard, tracer = self._guard(limit), self._tracer()
        agentguard.patch_openai(tracer, budget_guard=guard)
        agentguard.patch_openai_async(tracer, budget_guard=guard)
        try:
            yield Calling(client.chat.completions.create, async_client.chat.completions.create)
        finally:
            agentguard.unpatch_openai()
            agentguard.unpatch_openai_async()

    def seen(self) -> float:
        return self.guard.state.cost_used
