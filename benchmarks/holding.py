"""Fifty calls at once on a budget of ten: what of it reaches the provider? Runs in a worker.

Each trial is made in processes forked for it, so that nobody knows anything of a model beforehand
unless the trial is *warm*: then each process has made one call, on a budget that is larger by it.
"""

from __future__ import annotations

import asyncio
import importlib
import multiprocessing
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from contextvars import copy_context
from functools import partial
from typing import Any, NamedTuple

from contestants.contestant import Calling, Cannot, Contestant, Limit

FRAMEWORKS = {
    "langchain": ("langchain_openai", "openai"),
    "litellm": ("litellm", "openai"),
    "openai": ("openai",),
}
MESSAGES = [{"role": "user", "content": "why is the sky blue? " * 20}]
PATIENCE_S = 60


class Start(NamedTuple):
    """Whether a call is made first, and how to wait for the other processes."""

    warm: bool
    wait: Callable[[], Any]


fork = multiprocessing.get_context("fork")


def hold(
    who: Contestant,
    url: str,
    *,
    door: str,
    mode: str,
    calls: int,
    worth: int,
    warm: bool,
    max_tokens: int | None,
    processes: int = 1,
    **shared: str,
) -> dict[str, Any]:
    """Make calls through a door, and tell how many were answered and what the others got.

    Args:
        who: Who keeps the budget.
        url: The provider.
        door: `langchain`, `litellm` or `openai`.
        mode: `tasks`, `threads` or `one by one`: then with `except Exception` around each, and on.
        calls: How many to make, in all processes.
        worth: How many calls the budget is worth.
        warm: Whether each process has made a call before.
        max_tokens: What requests are capped at.
        processes: How many share the work, and the budget.
        **shared: Where they can share it: `folder` or `redis_url`.
    """
    limit = Limit(calls=worth + warm * processes, **shared)
    start = fork.Barrier(processes)
    ways = [fork.Pipe(duplex=False) for _ in range(processes)]
    shares = [calls // processes + (number < calls % processes) for number in range(processes)]
    children = [
        fork.Process(
            target=_child, args=(who, url, door, mode, share, warm, max_tokens, limit, start, way[1])
        )
        for share, way in zip(shares, ways, strict=True)
    ]
    for child in children:
        child.start()
    told = [way[0].recv() if way[0].poll(PATIENCE_S) else {"hangs": 1} for way in ways]
    for child in children:
        child.kill()
        child.join()
    ends = sum((Counter(each) for each in told), Counter())
    if reasons := [end for end in ends if end.startswith("cannot: ")]:
        raise Cannot(reasons[0].removeprefix("cannot: "))
    return {"answered": ends.pop("answered", 0), "warmed": ends.pop("warmed", 0), "ends": dict(ends)}


def prepare(who: Contestant, url: str, *, door: str) -> dict[str, Any]:
    """Import here, once, what a call will need: a scout makes one and tells."""
    for module in FRAMEWORKS[door]:
        importlib.import_module(module)
    here, there = fork.Pipe(duplex=False)
    scout = fork.Process(target=_scout, args=(who, url, door, there))
    scout.start()
    for module in here.recv() if here.poll(PATIENCE_S) else ():
        with suppress(ImportError):
            importlib.import_module(module)
    scout.kill()
    scout.join()
    return {}


def _scout(who: Contestant, url: str, door: str, way: Any) -> None:
    with suppress(Exception), DOORS[door](who, url, Limit(calls=10), None) as calling:
        _try(calling.sync)
    way.send([name for name in sys.modules if not name.startswith("__")])


def _child(who: Contestant, url: str, door: str, mode: str, *given: Any) -> None:
    share, warm, max_tokens, limit, start, way = given
    ends: list[str] = []
    try:
        with DOORS[door](who, url, limit, max_tokens) as calling:
            MODES[mode](calling, share, Start(warm, partial(start.wait, PATIENCE_S)), ends)
    except Cannot as why:
        ends.append(f"cannot: {why}")
        start.abort()
    except Exception as error:  # at the end of the block: some raise there
        ends.append(f"at the end: {type(error).__name__}")
    way.send(dict(Counter(ends)))


# Doors


@contextmanager
def _langchain(who: Contestant, url: str, limit: Limit, max_tokens: int | None) -> Iterator[Calling]:
    from langchain_openai import ChatOpenAI

    with who.langchain(limit) as config:
        options = {
            "model": "gpt-4o",
            "base_url": url,
            "api_key": "none",
            "max_retries": 0,
            "max_tokens": max_tokens,
        }
        model = ChatOpenAI(**options, **who.chat_options())
        question = MESSAGES[0]["content"]
        yield Calling(lambda: model.invoke(question, config), lambda: model.ainvoke(question, config))


@contextmanager
def _litellm(who: Contestant, url: str, limit: Limit, max_tokens: int | None) -> Iterator[Calling]:
    given: dict[str, Any] = {
        "model": "openai/gpt-4o",
        "api_base": url,
        "api_key": "none",
        "messages": MESSAGES,
    }
    given |= {"max_tokens": max_tokens} if max_tokens else {}
    with who.litellm(limit) as calling:
        yield Calling(lambda: calling.sync(**given), lambda: calling.asynchronous(**given))


@contextmanager
def _openai(who: Contestant, url: str, limit: Limit, max_tokens: int | None) -> Iterator[Calling]:
    import openai

    client = openai.OpenAI(base_url=url, api_key="none", max_retries=0)
    async_client = openai.AsyncOpenAI(base_url=url, api_key="none", max_retries=0)
    given: dict[str, Any] = {"model": "gpt-4o", "messages": MESSAGES}
    given |= {"max_tokens": max_tokens} if max_tokens else {}
    with who.openai(limit, client, async_client) as calling:
        yield Calling(lambda: calling.sync(**given), lambda: calling.asynchronous(**given))


DOORS: dict[str, Callable[..., Any]] = {"langchain": _langchain, "litellm": _litellm, "openai": _openai}


# Modes: each notes how each call ended


def _tasks(calling: Calling, share: int, start: Start, ends: list[str]) -> None:
    async def all_of_them() -> None:
        if start.warm:
            await calling.asynchronous()
            ends.append("warmed")
        start.wait()
        calls = (calling.asynchronous() for _ in range(share))
        ends.extend(map(_end, await asyncio.gather(*calls, return_exceptions=True)))

    asyncio.run(all_of_them())


def _threads(calling: Calling, share: int, start: Start, ends: list[str]) -> None:
    if start.warm:
        calling.sync()
        ends.append("warmed")
    start.wait()
    with ThreadPoolExecutor(share) as pool:
        jobs = [pool.submit(copy_context().run, _try, calling.sync) for _ in range(share)]
        ends.extend(_end(job.result()) for job in jobs)


def _one_by_one(calling: Calling, share: int, start: Start, ends: list[str]) -> None:
    start.wait()
    ends.extend(_end(_try(calling.sync)) for _ in range(share))


def _try(call: Callable[[], Any]) -> Any:
    try:
        return call()
    except Exception as error:
        return error


def _end(result: Any) -> str:
    if isinstance(result, Cannot):
        raise result
    if isinstance(result, BaseException):
        print(f"{type(result).__name__}: {result}"[:300], file=sys.stderr)
        return type(result).__name__
    return "answered"


MODES: dict[str, Callable[[Calling, int, Start, list[str]], None]] = {
    "tasks": _tasks,
    "threads": _threads,
    "one by one": _one_by_one,
}
