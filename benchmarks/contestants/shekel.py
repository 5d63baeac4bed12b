"""shekel: patches the clients of every SDK that is installed while a budget is open."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any

from .contestant import Calling, Cannot, Config, Contestant, Limit, Opening


class Shekel(Contestant):
    """`with budget(max_usd=...)`; with Redis where processes share it."""

    label = "shekel"
    package = "shekel"
    module = "shekel"
    first_use = "from shekel import budget\nwith budget(max_usd=1): pass"
    does = "refuses after"

    def _budget(self, limit: Limit) -> AbstractContextManager[Any]:
        from shekel import budget

        if limit.folder is not None:
            raise Cannot("no files; Redis only")
        if limit.redis_url is None:
            return budget(max_usd=limit.usd, name="bench")
        from shekel.backends.redis import RedisBackend

        backend = RedisBackend(url=limit.redis_url)
        return budget(f"${limit.usd}/hr", name="bench", backend=backend)

    @contextmanager
    def langchain(self, limit: Limit) -> Iterator[Config]:
        with self._budget(limit) as self.budget:
            yield {}

    @contextmanager
    def litellm(self, limit: Limit) -> Iterator[Calling]:
        import litellm

        with self._budget(limit) as self.budget:
            yield Calling(litellm.completion, litellm.acompletion)

    @contextmanager
    def openai(self, limit: Limit, client: Any, async_client: Any) -> Iterator[Calling]:
        with self._budget(limit) as self.budget:
            yield Calling(client.chat.completions.create, async_client.chat.completions.create)

    @contextmanager
    def scope(self) -> Iterator[Opening]:
        from itertools import count

        from shekel import budget

        numbers = count()
        yield lambda: budget(max_usd=1, name=f"bench{next(numbers)}")

    def seen(self) -> float:
        return self.budget.spent
