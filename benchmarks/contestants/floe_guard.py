"""floe-guard: a guard and, for each framework, an adapter; its LiteLLM has two."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

from .contestant import Calling, Cannot, Config, Contestant, Limit, Opening
from .frameworks import litellm_callbacks


class FloeGuard(Contestant):
    """The wrapper functions, where there are some: its documentation calls them the guaranteed path."""

    label = "floe-guard"
    package = "floe-guard"
    module = "floe_guard"
    first_use = "from floe_guard import BudgetGuard\nwith BudgetGuard(limit_usd=1).step(max_usd=1): pass"
    does = "refuses before"
    guard: Any = None

    def _guard(self, limit: Limit) -> Any:
        from floe_guard import BudgetGuard, SqliteStore

        shared: dict[str, Any] = {}
        if limit.redis_url is not None:
            raise Cannot("no Redis; SQLite only")
        if limit.folder is not None:
            shared = {"window": "utc-day", "store": SqliteStore(f"{limit.folder}/floe.db")}
        self.guard = BudgetGuard(limit_usd=limit.usd, on_block=lambda *_: None, **shared)
        return self.guard

    @contextmanager
    def langchain(self, limit: Limit) -> Iterator[Config]:
        from floe_guard.integrations.langchain import budget_guard_callback_handler

        yield {"callbacks": [budget_guard_callback_handler(self._guard(limit))]}

    @contextmanager
    def litellm(self, limit: Limit) -> Iterator[Calling]:
        from floe_guard.integrations.litellm import guarded_acompletion, guarded_completion

        guard = self._guard(limit)
        yield Calling(partial(guarded_completion, guard), partial(guarded_acompletion, guard))

    @contextmanager
    def openai(self, limit: Limit, client: Any, async_client: Any) -> Iterator[Calling]:
        from floe_guard.integrations.openai import guarded_acompletion, guarded_completion

        guard = self._guard(limit)
        yield Calling(
            partial(guarded_completion, guard, client), partial(guarded_acompletion, guard, async_client)
        )

    @contextmanager
    def scope(self) -> Iterator[Opening]:
        guard = self.guard or self._guard(Limit(calls=1e9))
        yield lambda: guard.step(max_usd=1)

    def seen(self) -> float:
        return self.guard.advisory().spent_usd


class FloeGuardCallback(FloeGuard):
    """The callback, for programs that do not make the call themselves."""

    label = "floe-guard, callback"

    @contextmanager
    def langchain(self, limit: Limit) -> Iterator[Config]:
        raise Cannot("see floe-guard")
        yield {}

    @contextmanager
    def litellm(self, limit: Limit) -> Iterator[Calling]:
        import litellm
        from floe_guard.integrations.litellm import budget_guard_callback

        with litellm_callbacks(budget_guard_callback(self._guard(limit))):
            yield Calling(litellm.completion, litellm.acompletion)

    @contextmanager
    def openai(self, limit: Limit, client: Any, async_client: Any) -> Iterator[Calling]:
        raise Cannot("see floe-guard")
        yield Calling(client, async_client)

    @contextmanager
    def scope(self) -> Iterator[Opening]:
        raise Cannot("see floe-guard")
        yield self
