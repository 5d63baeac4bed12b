"""Our errors as errors of another package too, so that it leaves them alone; made on first use."""

from __future__ import annotations

from functools import cache
from typing import Any

from steptrack_callbacks.values.errors import StepTrackError

Members = tuple[tuple[str, Any], ...]


def as_framework_error(error: StepTrackError, framework: Any, members: Members, **changes: Any) -> Any:
    """Return the same error, derived from another package's class as well.

    Args:
        error: One of ours.
        framework: The package's class, which its retries and handlers look at.
        members: What that class must say of the error, by name.
        **changes: Fields of the error that are to be said otherwise.
    """
    fields = error.fields() | changes
    kind: Any = type(error)
    twin = framework_error_class(kind, framework, members)(**fields)
    twin.__dict__.update({name: value for name, value in vars(error).items() if name not in fields})
    return twin


@cache
def framework_error_class(kind: Any, framework: Any, members: Members) -> Any:
    """Derive from one of our classes and from another package's, under our own name."""
    described = {
        "__doc__": kind.__doc__,
        "__module__": kind.__module__,
        "__qualname__": kind.__qualname__,
        "__reduce__": _as_plain_error,
    }
    return type(kind.__name__, (kind, framework), described | dict(members))


def _as_plain_error(error: Any) -> Any:
    """Pickle as the class that is importable everywhere; it becomes a package's error again where needed."""
    kind = next(base for base in type(error).__mro__[1:] if issubclass(base, StepTrackError))
    plain = kind(**error.fields())
    plain.__dict__.update(vars(error))
    return plain.__reduce__()
