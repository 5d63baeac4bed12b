"""Tracebacks of refusals in a notebook: they end at the user's own line."""

from __future__ import annotations

from collections.abc import Callable
from types import TracebackType
from typing import Any

from steptrack_callbacks.values.errors import StepTrackError

_OURS = (StepTrackError,)


def end_at_own_lines(shell: Any) -> Callable[[], None]:
    """Show our errors without our frames; returns what undoes it.

    IPython leaves out frames with `__tracebackhide__`, but never the last one, which is where we raise. It
    has room for one handler, so one of the user's own stays.
    """
    if shell.custom_exceptions:
        return _nothing
    shell.set_custom_exc(_OURS, _show)
    return lambda: shell.set_custom_exc((), None) if shell.custom_exceptions == _OURS else None


def _nothing() -> None:
    """Undo nothing."""


def _show(
    shell: Any,
    kind: type[BaseException],
    error: BaseException,
    trace: TracebackType | None,
    tb_offset: int | None = None,
) -> None:
    _cut(trace)
    shell.showtraceback((kind, error, trace), tb_offset=tb_offset)


def _cut(trace: TracebackType | None) -> None:
    """Let a traceback end with the last frame that is not hidden."""
    last, link = None, trace
    while link is not None:
        if not link.tb_frame.f_locals.get("__tracebackhide__"):
            last = link
        link = link.tb_next
    if last is not None:
        last.tb_next = None
