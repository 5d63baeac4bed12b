"""Our errors as LiteLLM leaves them alone: neither retried, nor cooled down, nor fallen back on."""

from __future__ import annotations

import logging
from functools import cache
from typing import Any

from litellm.exceptions import GuardrailRaisedException

from steptrack_callbacks.errors import StepTrackError


def host_error(error: StepTrackError) -> StepTrackError:
    """Return the same error, as a guardrail's refusal too, which LiteLLM passes through untouched."""
    if isinstance(error, GuardrailRaisedException):
        return error
    twin = _host_class(type(error))(**error.fields())  # type: ignore[arg-type] # classes are hashable
    twin.__dict__.update(vars(error))
    return twin


@cache
def _host_class(kind: type[StepTrackError]) -> type[StepTrackError]:
    """Derive from one of our errors and from LiteLLM's guardrail error.

    The status is 400, since the Router would cool a deployment down for a 402.
    """
    members: dict[str, Any] = {
        "__doc__": kind.__doc__,
        "__module__": kind.__module__,
        "__qualname__": kind.__qualname__,
        "__reduce__": _as_plain_error,
        "status_code": 400,
        "guardrail_name": "steptrack",
        "blocked_content": False,
        "message": property(str),
    }
    return type(kind.__name__, (kind, GuardrailRaisedException), members)


def _as_plain_error(error: Any) -> Any:
    """Pickle as the class that is importable everywhere; it becomes a host's error again where needed."""
    kind = next(base for base in type(error).__mro__[1:] if issubclass(base, StepTrackError))
    plain = kind(**error.fields())
    plain.__dict__.update(vars(error))
    return plain.__reduce__()


class QuietRefusals(logging.Filter):
    """Keeps LiteLLM from printing tracebacks about our refusals, which reach the caller anyway."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Drop records about our errors."""
        raised = record.exc_info[1] if isinstance(record.exc_info, tuple) else None
        arguments = record.args if isinstance(record.args, tuple) else ()
        return not any(isinstance(value, StepTrackError) for value in (raised, *arguments))


LOGGERS = ("LiteLLM", "LiteLLM Router", "LiteLLM Proxy")
_quiet = QuietRefusals()


def hush() -> None:
    """Put the filter on LiteLLM's loggers."""
    for name in LOGGERS:
        logging.getLogger(name).addFilter(_quiet)


def unhush() -> None:
    """Take it off again."""
    for name in LOGGERS:
        logging.getLogger(name).removeFilter(_quiet)
