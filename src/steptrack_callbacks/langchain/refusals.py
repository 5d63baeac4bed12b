"""Our errors as LangChain leaves them alone, and no warning for each of them."""

from __future__ import annotations

import logging

from langchain_core.exceptions import ModelError

from steptrack_callbacks.admission import NO_WAIT_HINT
from steptrack_callbacks.errors import BudgetExhausted, StepTrackError
from steptrack_callbacks.twins import twin_of

BUSY_HINT = (
    "a LangChain callback cannot wait on an event loop: give the model"
    " rate_limiter=steptrack_callbacks.langchain.admission, put budgeted(...) around it, or"
    " StepBudgetMiddleware in its agent"
)


def host_error(error: StepTrackError) -> StepTrackError:
    """Return the same error, as a model error that must not be retried too."""
    if isinstance(error, ModelError):
        return error
    cannot_wait = isinstance(error, BudgetExhausted) and error.hint == NO_WAIT_HINT
    changes = {"hint": BUSY_HINT} if cannot_wait else {}
    twin: StepTrackError = twin_of(error, ModelError, (("is_retryable", False),), **changes)
    return twin


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
