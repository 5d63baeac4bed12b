"""Wrong arguments: the traceback ends at the line that gave them, not in the checks behind it."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from functools import wraps
from opcode import opmap
from typing import Any, TypeVar, cast

F = TypeVar("F", bound=Callable[..., Any])

_PACKAGE = __name__.partition(".")[0]
_RAISE = opmap["RAISE_VARARGS"]


def checks_arguments(function: F) -> F:
    """Leave the frames of the checks out of what they raise; those of any other error are kept."""

    @wraps(function)
    def checked(*args: Any, **options: Any) -> Any:
        __tracebackhide__ = True
        try:
            return function(*args, **options)
        except (TypeError, ValueError) as error:
            if not _was_raised_by_us(error):  # it may be a bug, and has to be found
                raise
            raise error.with_traceback(None) from error.__cause__

    return cast(F, checked)


def _was_raised_by_us(error: BaseException) -> bool:
    """Tell whether a `raise` of this package has raised it, rather than an operation that failed."""
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    if trace is None:
        return False
    frame = trace.tb_frame
    is_ours = frame.f_globals.get("__name__", "").partition(".")[0] == _PACKAGE
    return is_ours and frame.f_code.co_code[trace.tb_lasti] == _RAISE


def check_escalation(ask: object, where: str = "") -> None:
    """Raise `ValueError` unless it takes an exception; what shows no signature is let through."""
    if not callable(ask):
        raise ValueError(f"{where}escalation must be a function of the exception, not {ask!r}")  # noqa: TRY004
    try:
        signature = inspect.signature(ask)
    except (TypeError, ValueError):
        return
    try:
        signature.bind(None)
    except TypeError:
        name = getattr(ask, "__name__", repr(ask))
        raise ValueError(
            f"{where}escalation is called with one argument, the BudgetExhausted, and {name}{signature} does"
            " not take that: write def ask(error): ..."
        ) from None
