"""Places where LiteLLM runs a call in a thread of its own and leaves the caller's steps behind.

Each looks its helper up in its own module, where one that carries the context takes its place.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextvars import copy_context
from functools import partial
from typing import Any

from steptrack_callbacks.integrations import seams_litellm as seams
from steptrack_callbacks.integrations.seams import Seam


class CarryingThreadPool(ThreadPoolExecutor):
    """A thread pool whose jobs begin with the context in which they were submitted."""

    def submit(self, function: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        """Submit a job."""
        return super().submit(copy_context().run, function, *args, **kwargs)


def carry() -> Callable[[], None]:
    """Put the carrying helpers in place, and return what takes them out again."""
    replaced = [
        replace_everywhere(seams.RUNS_COROUTINES, _carrying_runner),
        replace(seams.RUNS_BATCHES, lambda _pool: CarryingThreadPool),
    ]

    def undo() -> None:
        for put_back in replaced:
            put_back()

    return undo


def replace(seam: Seam, make: Callable[[Any], Any]) -> Callable[[], None]:
    """Put what is made of a function in its place, if that is as known, and return what undoes it."""
    original = seam.get()
    if original is None:
        return _nothing
    module_name, _, path = seam.place.partition(":")
    holder, made = sys.modules[module_name], make(original)
    *classes, name = path.split(".")
    for each in classes:
        holder = getattr(holder, each)
    setattr(holder, name, made)
    return partial(_put_back, holder, name, made, original)


def replace_everywhere(seam: Seam, make: Callable[[Any], Any]) -> Callable[[], None]:
    """Do as `replace`, in all modules of the same package that have imported the function by its name.

    Which ones do differs from version to version. Those that come to be imported later find what is
    in the function's own module.
    """
    original = seam.get()
    if original is None:
        return _nothing
    name, made = seam.place.rpartition(":")[2], make(original)
    _exchange(seam.package, name, original, made)
    return partial(_exchange, seam.package, name, made, original)


def _nothing() -> None:
    """Undo nothing."""


def _put_back(module: Any, name: str, ours: Any, original: Any) -> None:
    if getattr(module, name, None) is ours:  # somebody may have replaced it once more
        setattr(module, name, original)


def _exchange(package: str, name: str, old: Any, new: Any) -> None:
    for module_name, module in sys.modules.copy().items():  # other threads import meanwhile
        if module_name.partition(".")[0] == package and getattr(module, "__dict__", {}).get(name) is old:
            setattr(module, name, new)


def _carrying_runner(run_async_function: Callable[..., Any]) -> Callable[..., Any]:
    def run(async_function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        __tracebackhide__ = True
        context = copy_context()
        raised: list[RuntimeError] = []

        async def inside() -> Any:
            __tracebackhide__ = True
            coroutine = async_function(*args, **kwargs)
            try:
                return await asyncio.get_running_loop().create_task(coroutine, context=context)
            except RuntimeError as error:  # as our refusals are; LiteLLM would take it for "no running loop"
                raised.append(error)

        result = run_async_function(inside)
        if raised:
            raise raised[0]
        return result

    return run
