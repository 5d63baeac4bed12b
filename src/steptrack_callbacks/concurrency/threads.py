"""Threads and thread pools: their work belongs to the steps of whoever starts or submits it.

Python begins threads with an empty context. Here they begin with our own variables, and with nobody
else's: a job runs in its worker's own context, where ours are put in for as long as it runs.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import wraps
from typing import Any, ParamSpec, TypeVar

from .contexts import Carried, carried

P = ParamSpec("P")
R = TypeVar("R")

_thread_start: Any = threading.Thread.start
_executor_submit: Any = ThreadPoolExecutor.submit
_submitting = threading.local()
_INHERITS = bool(getattr(sys.flags, "thread_inherit_context", 0))  # from Python 3.14 on
_POOL_METHODS = ("apply_async", "map", "starmap", "map_async", "starmap_async", "imap", "imap_unordered")


def carry_into_threads() -> None:
    """Let every new thread, and every job of a thread pool, begin with its starter's steps."""
    global _thread_start, _executor_submit
    if threading.Thread.start is not _start:
        _thread_start = threading.Thread.start
        threading.Thread.start = _start  # type: ignore[method-assign,assignment]
    if ThreadPoolExecutor.submit is not _submit:
        _executor_submit = ThreadPoolExecutor.submit
        ThreadPoolExecutor.submit = _submit  # type: ignore[method-assign,assignment]


def carry_into_pools() -> bool:
    """Do so for the pools of `multiprocessing.pool.ThreadPool`, which was imported; says that it is done."""
    if threading.Thread.start is not _start:
        return True  # nobody wants it any more
    pool = sys.modules["multiprocessing.pool"].ThreadPool
    for name in _POOL_METHODS:
        if name not in vars(pool):
            setattr(pool, name, _submitted_by(getattr(pool, name)))
    return True


def leave_threads_alone() -> None:
    """Undo both; jobs that were submitted meanwhile keep their steps."""
    if threading.Thread.start is _start:
        threading.Thread.start = _thread_start  # type: ignore[method-assign]
    if ThreadPoolExecutor.submit is _submit:
        ThreadPoolExecutor.submit = _executor_submit  # type: ignore[method-assign]
    module = sys.modules.get("multiprocessing.pool")
    for name in _POOL_METHODS if module is not None else ():
        if hasattr(vars(module.ThreadPool).get(name), "steptrack_carries"):  # type: ignore[union-attr]
            delattr(module.ThreadPool, name)  # type: ignore[union-attr]


Taken = list[tuple[Carried, Any]]


def _taken() -> Taken:
    return [(variable, variable.taken()) for variable in carried]


def _is_nothing(taken: Taken) -> bool:
    return all(value is None for _, value in taken)


def _start(thread: threading.Thread) -> None:
    # A pool's worker is a thread as well, started by whichever job came first: it belongs to nobody.
    taken = [] if getattr(_submitting, "is_on", False) else _taken()
    if _is_nothing(taken) or getattr(thread, "_context", None) is not None:  # from 3.14 on: a context given
        _thread_start(thread)
        return
    run = thread.run

    def run_with_steps() -> None:
        thread.run = run  # type: ignore[method-assign] # so that nothing of ours is kept
        while taken:
            variable, value = taken.pop()
            variable.put(value, for_good=True)
        run()

    thread.run = run_with_steps  # type: ignore[method-assign]
    try:
        _thread_start(thread)
    except BaseException:  # it was started before, or there are too many
        thread.run = run  # type: ignore[method-assign]
        raise


def _submit(executor: ThreadPoolExecutor, function: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any:
    taken = _taken()
    job = function if _is_nothing(taken) and not _INHERITS else _job(function, taken)
    before, _submitting.is_on = getattr(_submitting, "is_on", False), True
    try:
        return _executor_submit(executor, job, *args, **kwargs)
    finally:
        _submitting.is_on = before


def _submitted_by(method: Callable[..., Any]) -> Any:
    @wraps(method)
    def submit(pool: Any, func: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        # Even with nothing to take along: the pool's workers may have been started in a step.
        return method(pool, _job(func, _taken()), *args, **kwargs)

    vars(submit)["steptrack_carries"] = True
    return submit


def _job(function: Callable[P, R], taken: Taken) -> Callable[P, R]:
    def job(*args: P.args, **kwargs: P.kwargs) -> R:
        __tracebackhide__ = True
        undo = [variable.put(value, for_good=False) for variable, value in taken]
        try:
            return function(*args, **kwargs)
        finally:
            for put_back in reversed(undo):
                put_back()

    return job
