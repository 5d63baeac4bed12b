"""The one documented seam of a chat model that can wait on an event loop: its rate limiter."""

from __future__ import annotations

import sys
from contextvars import ContextVar
from types import FrameType
from typing import TYPE_CHECKING, Any
from uuid import UUID

from steptrack_callbacks.concurrency.tasks import running_loop
from steptrack_callbacks.integrations.seams_langchain import LIMITED_MODEL, LIMITER

from . import run_tree, runs
from .refusals import as_langchain_sees
from .runs import Run

if TYPE_CHECKING:
    from langchain_core.rate_limiters import BaseRateLimiter
else:
    BaseRateLimiter = LIMITER.get() or object

_model_class: Any = LIMITED_MODEL.get()
_waiting: ContextVar[tuple[Run, ...]] = ContextVar("steptrack_waiting_runs", default=())
_FRAMES = 12
"""How far above a handler the model stands, at most."""


class Admission(BaseRateLimiter):
    """Waits for room in the steps around a call; for `ChatOpenAI(..., rate_limiter=admission)`.

    LangChain asks it right before a request is sent. With it, concurrent calls on an event loop wait
    for each other, as those in threads do without it. It limits no rate.
    """

    def acquire(self, *, blocking: bool = True) -> bool:
        """Admit the call that was begun here; a thread that runs an event loop is not blocked.

        Raises:
            BudgetExhausted: There is no room, or it did not come free in time.
        """
        __tracebackhide__ = True
        run = _next_waiting()
        if run is not None and run.call is not None:
            try:
                run.call.admit(patient=blocking)
            except BaseException as error:  # noqa: BLE001 - a pause of LangGraph is raised so, too
                raise _given_up(run, error) from None
            run.begun()
        return True

    async def aacquire(self, *, blocking: bool = True) -> bool:
        """Admit the call that was begun here, waiting on the event loop.

        Raises:
            BudgetExhausted: There is no room, or it did not come free in time.
        """
        __tracebackhide__ = True
        run = _next_waiting()
        if run is not None and run.call is not None:
            try:
                await run.call.admit_async()
            except BaseException as error:  # noqa: BLE001 - a pause of LangGraph is raised so, too
                raise _given_up(run, error) from None
            run.begun()
        return True


admission = Admission()


def will_wait(run: Run) -> bool:
    """Leave a run to its model's limiter, if it has ours and this is where nothing else can wait."""
    if running_loop() is None or run.call is None or not _has_our_limiter():
        return False
    run.is_waiting = True
    _waiting.set((*_still_waiting(), run))
    return True


def _given_up(run: Run, error: BaseException) -> BaseException:
    """Leave nothing behind of a run: in streams LangChain reports no error of a limiter's."""
    run.end()
    run_id = run.watch() if run.watch is not None else None
    if run_id is not None:
        run_tree.leave(run_id, error)
    return as_langchain_sees(error)


def _still_waiting() -> list[Run]:
    return [run for run in _waiting.get() if run.is_waiting and run.call is not None]


def _next_waiting() -> Run | None:
    """Take the run that is about to be sent, else the first of this context that waits.

    LangChain starts and sends in one order, but leaves out those whose answer a cache has.
    """
    waiting = _still_waiting()
    manager = sys._getframe(2).f_locals.get("run_manager")  # noqa: SLF001 - a limiter is told nothing
    sent = runs.find(run_id.int) if isinstance(run_id := getattr(manager, "run_id", None), UUID) else None
    run = sent if sent in waiting else next(iter(waiting), None)
    if run is not None:
        run.is_waiting = False
    return run


def _has_our_limiter() -> bool:
    """Look at the model that is being started; LangChain tells handlers nothing of its limiter."""
    frame: FrameType | None = None if _model_class is None else sys._getframe(2)  # noqa: SLF001
    for _ in range(_FRAMES):
        if frame is None:
            return False
        model = frame.f_locals.get("self")
        if isinstance(model, _model_class):
            return isinstance(model.rate_limiter, Admission)
        frame = frame.f_back
    return False
