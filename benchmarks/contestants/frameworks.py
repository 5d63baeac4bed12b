"""What the frameworks themselves offer, and nothing at all."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from .contestant import Calling, Cannot, Config, Contestant, Limit, Opening


class Nothing(Contestant):
    """No one watches: what all others are compared with."""

    label = "nothing attached"

    @contextmanager
    def langchain(self, limit: Limit) -> Iterator[Config]:
        yield {}

    @contextmanager
    def litellm(self, limit: Limit) -> Iterator[Calling]:
        import litellm

        yield Calling(litellm.completion, litellm.acompletion)

    @contextmanager
    def openai(self, limit: Limit, client: Any, async_client: Any) -> Iterator[Calling]:
        yield Calling(client.chat.completions.create, async_client.chat.completions.create)


class DoesNothing(Contestant):
    """A handler and a logger that hear everything and do nothing: what it costs to be heard at all."""

    label = "a callback that does nothing"

    @contextmanager
    def langchain(self, limit: Limit) -> Iterator[Config]:
        from langchain_core.callbacks import BaseCallbackHandler

        class Deaf(BaseCallbackHandler):
            def on_chat_model_start(self, *args: Any, **kwargs: Any) -> None:
                """Hear nothing."""

            def on_llm_new_token(self, *args: Any, **kwargs: Any) -> None:
                """Hear nothing."""

            def on_llm_end(self, *args: Any, **kwargs: Any) -> None:
                """Hear nothing."""

        yield {"callbacks": [Deaf()]}

    @contextmanager
    def litellm(self, limit: Limit) -> Iterator[Calling]:
        import litellm
        from litellm.integrations.custom_logger import CustomLogger

        with litellm_callbacks(CustomLogger()):
            yield Calling(litellm.completion, litellm.acompletion)


class UsageHandler(Contestant):
    """LangChain's `get_usage_metadata_callback`."""

    label = "LangChain `UsageMetadataCallbackHandler`"
    first_use = (
        "from langchain_core.callbacks import get_usage_metadata_callback as scope\nwith scope(): pass"
    )
    does = "counts"

    @contextmanager
    def langchain(self, limit: Limit) -> Iterator[Config]:
        from langchain_core.callbacks import UsageMetadataCallbackHandler

        if limit.is_shared:
            raise Cannot("one process only")
        self.handler = UsageMetadataCallbackHandler()
        yield {"callbacks": [self.handler]}

    @contextmanager
    def scope(self) -> Iterator[Opening]:
        from langchain_core.callbacks import get_usage_metadata_callback

        yield get_usage_metadata_callback

    def seen(self) -> float:
        return sum(usage["total_tokens"] for usage in self.handler.usage_metadata.values())


class OpenAICallback(Contestant):
    """`get_openai_callback` of langchain-community."""

    label = "`get_openai_callback`"
    package = "langchain-community"
    module = "langchain_community.callbacks"
    first_use = "from langchain_community.callbacks import get_openai_callback as scope\nwith scope(): pass"
    does = "counts"

    @contextmanager
    def langchain(self, limit: Limit) -> Iterator[Config]:
        from langchain_community.callbacks import get_openai_callback

        if limit.is_shared:
            raise Cannot("one process only")
        with get_openai_callback() as self.handler:
            yield {}

    @contextmanager
    def scope(self) -> Iterator[Opening]:
        from langchain_community.callbacks import get_openai_callback

        yield get_openai_callback

    def seen(self) -> float:
        return self.handler.total_cost


class MaxBudget(Contestant):
    """`litellm.max_budget`."""

    label = "LiteLLM `max_budget`"
    does = "refuses after"

    @contextmanager
    def litellm(self, limit: Limit) -> Iterator[Calling]:
        import litellm

        if limit.is_shared:
            raise Cannot("one process only")
        litellm.max_budget, litellm._current_cost = limit.usd, 0
        try:
            yield Calling(litellm.completion, litellm.acompletion)
        finally:
            litellm.max_budget = 0.0


@contextmanager
def litellm_callbacks(logger: Any) -> Iterator[None]:
    """Let LiteLLM call a logger, and forget it again in all the lists that it copies it to."""
    import litellm

    litellm.callbacks = [logger]
    try:
        yield
    finally:
        litellm.logging_callback_manager._reset_all_callbacks()
