"""This package, attached by `install()`, with one step or three around each call."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from typing import Any, ClassVar

from .contestant import Calling, Config, Contestant, Limit, Opening


class Ours(Contestant):
    """One step with a dollar limit."""

    label = "steptrack, one step"
    module = "steptrack_callbacks"
    first_use = "from steptrack_callbacks import step\nwith step('a', max_usd=1): pass"
    does = "refuses before"
    depth: ClassVar[int] = 1
    enforce: ClassVar[Any] = "estimate"

    @contextmanager
    def attached(self, limit: Limit) -> Iterator[None]:
        import steptrack_callbacks as steptrack

        steptrack.install(threads=True, ledger=_ledger(limit))
        try:
            with ExitStack() as steps:
                for _ in range(self.depth):
                    self.step = steps.enter_context(self._limited(limit))
                yield
        finally:
            steptrack.uninstall()

    def _limited(self, limit: Limit) -> AbstractContextManager[Any]:
        from steptrack_callbacks import Budget, step

        if limit.is_shared:
            shared = Budget("all", max_usd=limit.usd, enforce=self.enforce)
            return step("bench", budgets=[shared], error_boundary="continue")
        return step("bench", max_usd=limit.usd, enforce=self.enforce, error_boundary="continue")

    @contextmanager
    def langchain(self, limit: Limit) -> Iterator[Config]:
        with self.attached(limit):
            yield {}

    @contextmanager
    def litellm(self, limit: Limit) -> Iterator[Calling]:
        import litellm

        with self.attached(limit):
            yield Calling(litellm.completion, litellm.acompletion)

    @contextmanager
    def scope(self) -> Iterator[Opening]:
        import steptrack_callbacks as steptrack

        steptrack.install()
        try:
            yield lambda: steptrack.step("bench", max_usd=1)
        finally:
            steptrack.uninstall()

    def seen(self) -> float:
        return float(self.step.cost_usd)


class OursDeep(Ours):
    """Three steps inside each other, each with a dollar limit."""

    label = "steptrack, three steps deep"
    depth = 3


class OursWaiting(Ours):
    """One step, and a model that may wait on an event loop, as the refusal of one that may not says."""

    label = "steptrack, `rate_limiter=admission`"

    def chat_options(self) -> dict[str, Any]:
        from steptrack_callbacks.langchain import admission

        return {"rate_limiter": admission}


class OursStrict(Ours):
    """One step that may never be passed."""

    label = 'steptrack, `enforce="strict"`'
    enforce = "strict"


def _ledger(limit: Limit) -> str | None:
    if limit.redis_url is not None:
        return limit.redis_url
    return f"sqlite:///{limit.folder}/steps.db" if limit.folder else None
