"""What every contestant can be asked, and what a limit is worth."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

CALL_USD = 0.00225  # of 100 tokens in and 200 out on gpt-4o
CALL_TOKENS = 300

Config = dict[str, Any]
"""What is passed as `config` to a LangChain model."""


Opening = Callable[[], AbstractContextManager[Any]]
"""What makes a scope."""


class Calling(NamedTuple):
    """How a call is made through a door: sync and async."""

    sync: Callable[..., Any]
    asynchronous: Callable[..., Any]


class Cannot(Exception):
    """This contestant offers no such entry point; the message says why, in a few words."""


@dataclass(frozen=True, kw_only=True)
class Limit:
    """A budget, in calls of `CALL_USD` each.

    Attributes:
        calls: What it is worth.
        folder: Where processes that share it may keep files; `None` if one process has it for itself.
        redis_url: A Redis server that they may use instead.
    """

    calls: float
    folder: str | None = None
    redis_url: str | None = None

    @property
    def usd(self) -> float:
        return self.calls * CALL_USD

    @property
    def tokens(self) -> int:
        return int(self.calls * CALL_TOKENS)

    @property
    def is_shared(self) -> bool:
        return self.folder is not None or self.redis_url is not None


class Contestant:
    """Something that watches calls. A door that it lacks raises `Cannot`.

    Each door is a context manager: what happens before and after its block is not timed.
    """

    label: ClassVar[str]
    package: ClassVar[str | None] = None  # on PyPI, if it is not installed beside the frameworks anyway
    module: ClassVar[str | None] = None  # what a program imports of it
    first_use: ClassVar[str | None] = None  # a program that opens its first scope
    does: ClassVar[str] = "nothing"  # counts | refuses after | refuses before

    def chat_options(self) -> dict[str, Any]:
        """What a LangChain chat model is made with, besides its name."""
        return {}

    def langchain(self, limit: Limit) -> AbstractContextManager[Config]:
        """Watch LangChain models that are made in the block."""
        raise Cannot("no door to LangChain")

    def litellm(self, limit: Limit) -> AbstractContextManager[Calling]:
        """Watch LiteLLM; gives the functions to call in place of `completion` and `acompletion`."""
        raise Cannot("no door to LiteLLM")

    def openai(self, limit: Limit, client: Any, async_client: Any) -> AbstractContextManager[Calling]:
        """Watch OpenAI clients; gives the functions to call in place of `chat.completions.create`."""
        raise Cannot("no door to the OpenAI client")

    def scope(self) -> AbstractContextManager[Opening]:
        """Give what opens a stretch of work with a limit, to be opened again and again, also nested."""
        raise Cannot("has no such scope")

    def seen(self) -> float | None:
        """How much was noticed since the last door was opened, in any unit; `None` if it counts nothing."""
        return None
