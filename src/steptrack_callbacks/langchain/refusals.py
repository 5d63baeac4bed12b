"""Our errors as LangChain leaves them alone, and no warning for each of them."""

from __future__ import annotations

import logging
from typing import Any

from steptrack_callbacks.concurrency.flow import Flow
from steptrack_callbacks.concurrency.tasks import running_loop
from steptrack_callbacks.engine.escalation import ASYNC_ONLY
from steptrack_callbacks.engine.queue import NO_WAIT_HINT
from steptrack_callbacks.integrations.errors import as_framework_error, framework_error_class
from steptrack_callbacks.integrations.seams import GoneError
from steptrack_callbacks.integrations.seams_langchain import NO_RETRY
from steptrack_callbacks.steps.step import Step
from steptrack_callbacks.values.errors import BudgetExhausted, StepTrackError

from .awaited import can_wait

BUSY_HINT = (
    "a callback of this version of LangChain cannot wait on an event loop: give the model"
    " rate_limiter=steptrack_callbacks.langchain.admission, put budgeted(...) around it, or"
    " StepBudgetMiddleware in its agent"
)
ModelError: type[Exception] = NO_RETRY.get() or GoneError
_MEMBERS = (("is_retryable", False),)


def langchain_error(error: StepTrackError) -> StepTrackError:
    """Return the same error, as a model error that must not be retried too."""
    if isinstance(error, ModelError):
        return error
    changes = {}
    if isinstance(error, BudgetExhausted) and NO_WAIT_HINT in error.hint and not can_wait():
        changes = {"hint": error.hint.replace(NO_WAIT_HINT, BUSY_HINT)}
    twin: StepTrackError = as_framework_error(error, ModelError, _MEMBERS, **changes)
    return twin


def as_langchain_sees(error: BaseException) -> BaseException:
    """Return what has kept a call from being admitted as whoever made it should see it."""
    if isinstance(error, StepTrackError):
        return langchain_error(error)
    is_of_escalation = isinstance(error, TypeError) and str(error) == ASYNC_ONLY
    if is_of_escalation and running_loop() is not None and not can_wait():
        return TypeError(f"{ASYNC_ONLY}, or let somebody await it: {BUSY_HINT}")
    return error


def mark_not_retryable(error: BaseException | None) -> None:
    """Make an error of ours that is on its way already one that must not be retried.

    It stays the same object: replaced, it would lose its traceback, and other handlers its report.
    """
    if isinstance(error, StepTrackError) and not isinstance(error, ModelError):
        kind: Any = type(error)
        framework: Any = ModelError
        error.__class__ = framework_error_class(kind, framework, _MEMBERS)


class LangChainStep(Step):
    """A step whose errors LangChain leaves alone."""

    def begin(self) -> None:
        """Begin it as any step."""
        try:
            super().begin()
        except StepTrackError as error:
            mark_not_retryable(error)
            raise

    def end(self, error: BaseException | None) -> Flow[BaseException | None]:
        """End it as any step."""
        leaving = yield from super().end(error)
        mark_not_retryable(leaving)
        return leaving

    def raised_as(self, error: BaseException) -> BaseException:
        """Return what a refusal of a call in it is to be raised as."""
        return error

    def charged(self) -> None:
        """Note that a call was charged to it which it is around by the runs that LangChain reports."""


def raised_in(step: Step | None, error: BaseException) -> BaseException:
    """Return what a refusal is to be raised as in the step that a run is in."""
    return step.raised_as(error) if isinstance(step, LangChainStep) else error


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


def silence_refusal_logs() -> None:
    """Put the filter on LangChain's logger."""
    _logger.addFilter(_quiet)


def restore_refusal_logs() -> None:
    """Take it off again."""
    _logger.removeFilter(_quiet)
