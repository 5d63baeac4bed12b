"""Our errors as LangChain leaves them alone, and no warning for each of them."""

from __future__ import annotations

import logging
from functools import cache
from typing import Any

from langchain_core.exceptions import ModelError

from steptrack_callbacks.admission import NO_WAIT_HINT
from steptrack_callbacks.errors import BudgetExhausted, StepTrackError

BUSY_HINT = (
    "a LangChain callback cannot wait on an event loop: give the model"
    " rate_limiter=steptrack_callbacks.langchain.admission, or put budgeted(...) around it"
)


def host_error(error: StepTrackError) -> StepTrackError:
    """Return the same error, as a model error that must not be retried too."""
    if isinstance(error, ModelError):
        return error
    fields = error.fields()
    if isinstance(error, BudgetExhausted) and error.hint == NO_WAIT_HINT:
        fields["hint"] = BUSY_HINT
    kind: Any = type(error)
    twin: StepTrackError = _host_class(kind)(**fields)
    twin.__dict__.update({name: value for name, value in vars(error).items() if name not in fields})
    return twin


@cache
def _host_class(kind: Any) -> Any:
    """Derive from one of our errors and from LangChain's, whose `is_retryable` its retries look at."""
    members: dict[str, Any] = {
        "__doc__": kind.__doc__,
        "__module__": kind.__module__,
        "__qualname__": kind.__qualname__,
        "__reduce__": _as_plain_error,
        "is_retryable": False,
    }
    return type(kind.__name__, (kind, ModelError), members)


def _as_plain_error(error: Any) -> Any:
    """Pickle as the class that is importable everywhere."""
    kind = next(base for base in type(error).__mro__[1:] if issubclass(base, StepTrackError))
    plain = kind(**error.fields())
    plain.__dict__.update(vars(error))
    return plain.__reduce__()


class QuietRefusals(logging.Filter):
    """Drops LangChain's warnings that a handler of ours has raised: what it raises reaches the caller."""

    def __init__(self, *handlers: str) -> None:
        super().__init__()
        self._handlers = handlers

    def filter(self, record: logging.LogRecord) -> bool:
        """Drop records about our handlers; LangChain names the handler first."""
        about = record.args[0] if isinstance(record.args, tuple) and record.args else None
        return about not in self._handlers


_logger = logging.getLogger("langchain_core.callbacks.manager")
_quiet = QuietRefusals("StepTrackHandler", "WaitingHandler")


def hush() -> None:
    """Put the filter on LangChain's logger."""
    _logger.addFilter(_quiet)


def unhush() -> None:
    """Take it off again."""
    _logger.removeFilter(_quiet)
