"""Our errors as LiteLLM leaves them alone: neither retried, nor cooled down, nor fallen back on."""

from __future__ import annotations

import logging
from collections.abc import Generator
from contextlib import contextmanager
from threading import Lock

import litellm

from steptrack_callbacks.integrations.errors import Members, as_host_error
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


def host_error(error: StepTrackError) -> StepTrackError:
    """Return the same error, as a guardrail's refusal too, which LiteLLM passes through untouched."""
    if isinstance(error, GuardrailRaisedException):
        return error
    twin: StepTrackError = as_host_error(error, GuardrailRaisedException, _MEMBERS)
    return twin


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
    """How many blocks keep LiteLLM from printing advice, and whether it was to print some before."""

    blocks = 0
    was_suppressed = False


_advice = _Advice()
_lock = Lock()


@contextmanager
def no_advice() -> Generator[None]:
    """Keep LiteLLM from printing advice about what we ask it on our own account.

    It is a setting of the process, which blocks in other threads may have changed as well.
    """
    with _lock:
        if not _advice.blocks:
            _advice.was_suppressed = litellm.suppress_debug_info
        _advice.blocks += 1
        litellm.suppress_debug_info = True
    try:
        yield
    finally:
        with _lock:
            _advice.blocks -= 1
            if not _advice.blocks:
                litellm.suppress_debug_info = _advice.was_suppressed


def silence_refusal_logs() -> None:
    """Put the filter on LiteLLM's loggers."""
    for name in LOGGERS:
        logging.getLogger(name).addFilter(_quiet)


def restore_refusal_logs() -> None:
    """Take it off again."""
    for name in LOGGERS:
        logging.getLogger(name).removeFilter(_quiet)
