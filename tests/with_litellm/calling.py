"""Calls of LiteLLM's entry points, all against the provider on loopback."""

from __future__ import annotations

import asyncio
import datetime as dt
import time
import uuid
from collections.abc import Callable, Coroutine
from decimal import Decimal
from typing import Any

import litellm
from litellm.integrations.custom_logger import CustomLogger

from provider import Provider

MODEL = "openai/gpt-4o"
ASK: list[dict[str, str]] = [{"role": "user", "content": "hello"}]

HUNDRED_TOKENS: list[dict[str, str]] = [{"role": "user", "content": " word" * 93}]

INPUT_USD, OUTPUT_USD = Decimal("2.5e-6"), Decimal("1e-5")  # a token of gpt-4o
CALL_USD = 100 * INPUT_USD + 200 * OUTPUT_USD
"""What a call costs: 100 tokens in and 200 out, unless the provider was told otherwise."""

CONTENT: dict[str, dict[str, Any]] = {
    "completion": {"messages": ASK},
    "text_completion": {"prompt": "hello"},
    "embedding": {"input": "hello", "model": "openai/text-embedding-3-small"},
    "responses": {"input": "hello"},
}
NAMES = [prefix + name for name in CONTENT for prefix in ("", "a")]
STREAMING = [name for name in NAMES if "embedding" not in name]
SYNC_STREAMING = [name for name in STREAMING if not name.startswith("a")]
ASYNC_STREAMING = [name for name in STREAMING if name.startswith("a")]


def arguments(name: str, provider: Provider, **options: Any) -> dict[str, Any]:
    """Build the keyword arguments of an entry point."""
    where = {"model": MODEL, "api_base": provider.url, "api_key": "none", "max_retries": 0}
    return where | CONTENT[name.removeprefix("a")] | options


def call(name: str, provider: Provider, **options: Any) -> Any:
    """Call an entry point; an async one on a loop of its own."""
    if name.startswith("a"):
        return run(acall(name, provider, **options))
    return getattr(litellm, name)(**arguments(name, provider, **options))


async def acall(name: str, provider: Provider, **options: Any) -> Any:
    """Call an async entry point."""
    return await getattr(litellm, name)(**arguments(name, provider, **options))


def read(name: str, provider: Provider, **options: Any) -> list[Any]:
    """Read a stream to its end."""

    async def read_async() -> list[Any]:
        return [chunk async for chunk in await acall(name, provider, stream=True, **options)]

    return run(read_async()) if name.startswith("a") else list(call(name, provider, stream=True, **options))


def ask(name: str, provider: Provider, *, stream: bool = False, **options: Any) -> Any:
    """Make a call and read its answer to the end."""
    return (read if stream else call)(name, provider, **options)


def run(coroutine: Coroutine[Any, Any, Any]) -> Any:
    """Run a coroutine on a loop of its own, and close LiteLLM's clients with it."""

    async def inside() -> Any:
        try:
            return await coroutine
        finally:
            await litellm.close_litellm_async_clients()
            litellm.in_memory_llm_clients_cache.flush_cache()

    return asyncio.run(inside())


def text_of(chunks: list[Any]) -> str:
    """Join what the chunks of a stream say."""
    said = []
    for chunk in chunks:
        for choice in getattr(chunk, "choices", None) or ():
            said.append(getattr(choice, "text", None) or getattr(choice, "delta", {}).get("content"))
        said.append(getattr(chunk, "delta", None))
    return "".join(text for text in said if isinstance(text, str))


class Events(CustomLogger):
    """A callback of the user's own that keeps what LiteLLM reports of calls made since.

    LiteLLM's worker takes what it has not told yet from one event loop to the next, and so from one test to the next.
    """

    def __init__(self) -> None:
        super().__init__()
        self.instance_id = uuid.uuid4().hex
        self.since = dt.datetime.now()
        self.successes: list[Any] = []
        self.failures: list[Any] = []

    def log_success_event(self, kwargs: Any, response_obj: Any, start_time: Any, end_time: Any) -> None:
        if start_time >= self.since:
            self.successes.append(kwargs)

    async def async_log_success_event(
        self, kwargs: Any, response_obj: Any, start_time: Any, end_time: Any
    ) -> None:
        if start_time >= self.since:
            self.successes.append(kwargs)

    def log_failure_event(self, kwargs: Any, response_obj: Any, start_time: Any, end_time: Any) -> None:
        if start_time >= self.since:
            self.failures.append(kwargs)

    async def async_log_failure_event(
        self, kwargs: Any, response_obj: Any, start_time: Any, end_time: Any
    ) -> None:
        if start_time >= self.since:
            self.failures.append(kwargs)

    def leave(self) -> None:
        for lists in ("callbacks", "input_callback", "success_callback", "failure_callback"):
            for kind in (lists, f"_async_{lists}"):
                held = getattr(litellm, kind, [])
                held[:] = [callback for callback in held if callback is not self]

    def wait_for(self, n: int = 1) -> None:
        """Wait until n calls were reported."""
        wait_until(lambda: len(self.successes) >= n)

    async def wait_for_async(self, n: int = 1) -> None:
        """Wait on the loop, where LiteLLM reports async calls."""
        await wait_until_async(lambda: len(self.successes) >= n)


def wait_until(condition: Callable[[], bool], timeout: float = 10) -> None:
    """Wait for what nothing announces, or raise TimeoutError."""
    end = time.monotonic() + timeout
    while not condition():
        if time.monotonic() > end:
            raise TimeoutError
        time.sleep(0.002)


async def wait_until_async(condition: Callable[[], bool], timeout: float = 10) -> None:
    """Do as `wait_until`, on the loop."""
    end = time.monotonic() + timeout
    while not condition():
        if time.monotonic() > end:
            raise TimeoutError
        await asyncio.sleep(0.002)
