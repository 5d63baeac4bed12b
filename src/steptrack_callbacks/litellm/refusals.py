"""Our errors as LiteLLM leaves them alone: neither retried, nor cooled down, nor fallen back on."""

from __future__ import annotations

import logging
from collections.abc import Generator
from contextlib import contextmanager
from contextvars import ContextVar
from types import TracebackType
from typing import Any

import litellm

from steptrack_callbacks.concurrency.guard import Guard
from steptrack_callbacks.integrations.errors import Members, as_framework_error
from steptrack_callbacks.integrations.seams import GoneError
from steptrack_callbacks.integrations.seams_litellm import GUARDRAIL
from steptrack_callbacks.values.errors import StepTrackError

GuardrailRaisedException: type[Exception] = GUARDRAIL.get() or GoneError
_MEMBERS: Members = (
    ("status_code", 400),  # the Router would cool a deployment down for a 402
    ("guardrail_name", "steptrack"),
    ("blocked_content", False),
    ("message", property(str)),
)
if GuardrailRaisedException is GoneError:
    _MEMBERS = ()  # LiteLLM then treats it as any error, and writes a message to it


def litellm_error(error: StepTrackError) -> StepTrackError:
    """Return the same error, as a guardrail's refusal too, which LiteLLM passes through untouched."""
    if isinstance(error, GuardrailRaisedException):
        return error
    twin: StepTrackError = as_framework_error(error, GuardrailRaisedException, _MEMBERS)
    return twin


_refused: ContextVar[list[StepTrackError] | None] = ContextVar("steptrack_litellm_refused", default=None)


class RefusalsAsLiteLLMErrors:
    """A block that raises our errors as LiteLLM leaves them alone.

    A class, since the frames of a generator and of `contextlib` would stand in the traceback.
    """

    def __enter__(self) -> None:
        """Begin the block."""

    def __exit__(
        self, _type: type[BaseException] | None, error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        __tracebackhide__ = True
        if isinstance(error, StepTrackError):
            refusal, refused = litellm_error(error), _refused.get()
            if refused is not None:
                refused.append(refusal)
            raise refusal from None


class AttemptsByThemselves:
    """A block whose attempts count one by one.

    LiteLLM hides their errors, so a refusal is raised again at the end.
    """

    def __enter__(self) -> None:
        self._before, self._within = _refused.get(), list[StepTrackError]()
        _refused.set(self._within)

    def __exit__(
        self, _type: type[BaseException] | None, error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        __tracebackhide__ = True
        _refused.set(self._before)
        if isinstance(error, Exception) and not isinstance(error, StepTrackError) and self._within:
            raise self._within[-1] from error


class QuietRefusals(logging.Filter):
    """Keeps LiteLLM from printing tracebacks about our refusals, which reach the caller anyway."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Drop records about our errors."""
        raised = record.exc_info[1] if isinstance(record.exc_info, tuple) else None
        arguments = record.args if isinstance(record.args, tuple) else ()
        return not any(isinstance(value, StepTrackError) for value in (raised, *arguments))


LOGGERS = ("LiteLLM", "LiteLLM Router", "LiteLLM Proxy")
_quiet = QuietRefusals()


class _Advice:
    """How many blocks keep LiteLLM from printing advice, and what its switch said before."""

    blocks = 0
    before: Any = False
    ours: Any = object()  # not False, and told from what somebody else sets meanwhile, as a Router does


_advice = _Advice()
_lock = Guard()


def suppress_advice() -> None:
    """Keep LiteLLM from printing advice ("Give Feedback / Get Help") until `allow_advice()`.

    It is a setting of the process, which calls in other threads may have changed as well.
    """
    with _lock:
        if not _advice.blocks:
            _advice.before, litellm.suppress_debug_info = litellm.suppress_debug_info, _advice.ours
        _advice.blocks += 1


def allow_advice() -> None:
    """End one `suppress_advice()`."""
    with _lock:
        _advice.blocks -= 1
        if not _advice.blocks and litellm.suppress_debug_info is _advice.ours:
            litellm.suppress_debug_info = _advice.before


@contextmanager
def no_advice() -> Generator[None]:
    """Keep LiteLLM from printing advice about what we ask it on our own account."""
    suppress_advice()
    try:
        yield
    finally:
        allow_advice()


def silence_refusal_logs() -> None:
    """Put the filter on LiteLLM's loggers, before LiteLLM's own, which makes text of what is logged."""
    for name in LOGGERS:
        filters = logging.getLogger(name).filters
        if _quiet not in filters:
            filters.insert(0, _quiet)


def restore_refusal_logs() -> None:
    """Take it off again."""
    for name in LOGGERS:
        logging.getLogger(name).removeFilter(_quiet)
