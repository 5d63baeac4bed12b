"""Methods of a handler that LangChain awaits where it can, and calls where it cannot.

Its async methods await a handler's method if that is a coroutine function, in the caller's own task, and
let through what it raises. Its sync methods want a plain function: from a coroutine they would swallow
every error. Both ask the same handler for the same name, so the one helper of LangChain's that awaits is
told from all others by the frame that asks.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import update_wrapper
from types import CodeType
from typing import Any, TypeVar, cast

from langchain_core.callbacks import manager

from steptrack_callbacks.integrations.seams_langchain import AWAITED

from .frames import code_of

F = TypeVar("F", bound=Callable[..., Any])


_asking: CodeType | None = code_of(AWAITED)
_frame_above = sys._getframe  # noqa: SLF001 - there is nothing else that says who asks


class _Awaited:
    """A method, and the coroutine function that takes its place for whoever awaits it."""

    def __init__(self, plain: Callable[..., Any], awaited: str) -> None:
        self._bound_to, self._awaited = plain.__get__, awaited
        update_wrapper(cast(Any, self), plain)

    def __get__(self, handler: Any, owner: type | None = None) -> Any:
        if _frame_above(1).f_code is _asking:
            return getattr(handler, self._awaited)
        return self._bound_to(handler, owner)


def awaited_as(name: str) -> Callable[[F], F]:
    """Decorate a handler's method that shall be awaited, where LangChain awaits handlers, by another name."""

    def decorate(plain: F) -> F:
        return cast(F, _Awaited(plain, name))

    return decorate


class _Probe:
    run_inline = raise_error = True
    was_awaited = False

    @awaited_as("awaited")
    def on_llm_start(self) -> None:
        """Do nothing: this was a plain call."""

    async def awaited(self) -> None:
        self.was_awaited = True


def can_wait() -> bool:
    """Try whether LangChain awaits what it is to await; if not, handlers are called as plain functions."""
    probe = _Probe()
    try:
        manager._ahandle_event_for_handler(cast(Any, probe), "on_llm_start", None).send(None)  # noqa: SLF001
    except StopIteration:
        return probe.was_awaited
    except Exception:  # noqa: BLE001 - of a LangChain to come, anything
        return False
    return False
