"""Places where LiteLLM runs a call in a thread of its own and leaves the caller's steps behind.

Each looks its helper up in its own module, where one that carries the context takes its place.
"""

from __future__ import annotations

import asyncio
import importlib
import sys
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextvars import copy_context
from functools import partial
from typing import Any


class CarryingThreadPool(ThreadPoolExecutor):
    """A thread pool whose jobs begin with the context in which they were submitted."""

    def submit(self, function: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        """Submit a job."""
        return super().submit(copy_context().run, function, *args, **kwargs)


def carry() -> Callable[[], None]:
    """Put the carrying helpers in place, and return what takes them out again."""
    replaced = [
        replace_everywhere("litellm.litellm_core_utils.asyncify", "run_async_function", _carrying_runner),
        replace("litellm.batch_completion.main", "ThreadPoolExecutor", lambda _pool: CarryingThreadPool),
    ]

    def undo() -> None:
        for put_back in replaced:
            put_back()

    return undo


def replace(module_name: str, name: str, make: Callable[[Any], Any]) -> Callable[[], None]:
    """Put what is made of a module's function in its place, and return what undoes it."""
    module = importlib.import_module(module_name)
    original = getattr(module, name)
    setattr(module, name, make(original))
    return partial(setattr, module, name, original)


def replace_everywhere(module_name: str, name: str, make: Callable[[Any], Any]) -> Callable[[], None]:
    """Do as `replace`, in all modules of the same package that have imported the function by its name.

    Which ones do differs from version to version. Those that come to be imported later find what is
    in the function's own module.
    """
    original = getattr(importlib.import_module(module_name), name)
    made = make(original)
    package = module_name.partition(".")[0]
    _exchange(package, name, original, made)
    return partial(_exchange, package, name, made, original)


def _exchange(package: str, name: str, old: Any, new: Any) -> None:
    for module_name, module in list(sys.modules.items()):
        if module_name.partition(".")[0] == package and getattr(module, "__dict__", {}).get(name) is old:
            setattr(module, name, new)


def _carrying_runner(run_async_function: Callable[..., Any]) -> Callable[..., Any]:
    def run(async_function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        context = copy_context()
        raised: list[RuntimeError] = []

        async def inside() -> Any:
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
