"""Packages that watch one framework only."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from io import StringIO
from typing import Any

from .contestant import Calling, Cannot, Config, Contestant, Limit, Opening
from .frameworks import litellm_callbacks

MANY = 10**9
"""More calls than a benchmark makes, for those that take a fast loop of calls for a runaway one."""


class AgentBudget(Contestant):
    """A LangChain handler that counts, and raises once the budget is spent."""

    label = "agentbudget"
    package = "agentbudget"
    module = "agentbudget"
    first_use = "from agentbudget import AgentBudget\nwith AgentBudget(max_spend=1).session(): pass"
    does = "refuses after"

    @contextmanager
    def langchain(self, limit: Limit) -> Iterator[Config]:
        from agentbudget import AgentBudget as Budget
        from agentbudget.integrations.langchain import LangChainBudgetCallback

        if limit.is_shared:
            raise Cannot("one process only")
        session = Budget(max_spend=limit.usd, max_repeated_calls=MANY).session()
        self.callback = LangChainBudgetCallback(budget=limit.usd, session=session)
        self.callback.raise_error = True  # LangChain would swallow its refusals otherwise
        yield {"callbacks": [self.callback]}

    @contextmanager
    def scope(self) -> Iterator[Opening]:
        from agentbudget import AgentBudget as Budget

        budget = Budget(max_spend=1)
        yield budget.session

    def seen(self) -> float:
        return self.callback.session.spent


class CostTracker(Contestant):
    """A LiteLLM logger that sums up costs."""

    label = "litellm-cost-tracker"
    package = "litellm-cost-tracker"
    module = "llm_cost"
    does = "refuses after"

    @contextmanager
    def litellm(self, limit: Limit) -> Iterator[Calling]:
        import litellm
        from llm_cost import CostTracker as Tracker

        if limit.is_shared:
            raise Cannot("one process only")
        self.tracker = Tracker(budget=limit.usd, raise_on_budget=True)
        with litellm_callbacks(self.tracker):
            yield Calling(litellm.completion, litellm.acompletion)

    def seen(self) -> float:
        return self.tracker.total_cost


class AgentBudgetGuard(Contestant):
    """A wrapped OpenAI client; there is no async one."""

    label = "agent-budget-guard"
    package = "agent-budget-guard"
    module = "agent_budget_guard"
    does = "refuses before"

    @contextmanager
    def openai(self, limit: Limit, client: Any, async_client: Any) -> Iterator[Calling]:
        from agent_budget_guard import BudgetedSession

        if limit.is_shared:
            raise Cannot("one process only")
        self.session = BudgetedSession(budget_usd=limit.usd)
        wrapped = self.session.wrap_openai(client)

        async def missing(**_: Any) -> None:
            raise Cannot("sync only")

        yield Calling(wrapped.chat.completions.create, missing)

    def seen(self) -> float:
        return self.session.get_total_spent()


class TokenCap(Contestant):
    """A wrapped OpenAI client with a budget of tokens, kept in SQLite."""

    label = "tokencap"
    package = "tokencap"
    module = "tokencap"
    does = "refuses before"

    @contextmanager
    def openai(self, limit: Limit, client: Any, async_client: Any) -> Iterator[Calling]:
        import tempfile

        import tokencap
        from tokencap.backends.sqlite import SQLiteBackend

        if limit.redis_url is not None:
            raise Cannot("measured with SQLite")
        with tempfile.TemporaryDirectory() as own, redirect_stdout(StringIO()):
            backend = SQLiteBackend(path=f"{limit.folder or own}/tokencap.db")
            policy = {
                "session": tokencap.DimensionPolicy(limit=limit.tokens, thresholds=[_at_limit(tokencap)])
            }
            guard = tokencap.Guard(
                policy=tokencap.Policy(dimensions=policy), identifiers={"session": "bench"}, backend=backend
            )
            sync, asynchronous = guard.wrap_openai(client), guard.wrap_openai(async_client)
            yield Calling(sync.chat.completions.create, asynchronous.chat.completions.create)
            self.used = guard.get_status().dimensions["session"].used
            guard.teardown()

    def seen(self) -> float:
        return self.used


def _at_limit(tokencap: Any) -> Any:
    block = tokencap.Action(kind=tokencap.ActionKind.BLOCK)
    return tokencap.Threshold(at_pct=1.0, actions=[block])


class Burnmap(Contestant):
    """A patch of the OpenAI client while a run is open."""

    label = "burnmap"
    package = "burnmap"
    module = "burnmap"
    first_use = "import burnmap\nwith burnmap.run('a', budget=1): pass"
    does = "refuses after"

    @contextmanager
    def openai(self, limit: Limit, client: Any, async_client: Any) -> Iterator[Calling]:
        import burnmap

        if limit.is_shared:
            raise Cannot("one process only")
        with burnmap.run("bench", budget=limit.usd, call_rate_limit=MANY) as self.run:
            yield Calling(client.chat.completions.create, async_client.chat.completions.create)

    @contextmanager
    def scope(self) -> Iterator[Opening]:
        import burnmap

        yield lambda: burnmap.run("bench", budget=1)

    def seen(self) -> float:
        return self.run.spent
