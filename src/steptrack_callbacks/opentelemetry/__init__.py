"""OpenTelemetry: a span for each step, with what it spent of what it had, and metrics of its calls.

It needs `pip install 'steptrack-callbacks[otel]'`, which is the API alone; where spans and metrics go
to is said to your SDK, as ever.

Example:
    >>> from steptrack_callbacks import opentelemetry, step
    >>> opentelemetry.install()
    >>> with step("plan", max_usd=0.05):
    ...     pass  # spans that are made here are children of the step's
    >>> opentelemetry.uninstall()
"""

try:
    import opentelemetry.trace  # noqa: F401
except ImportError as error:
    raise ImportError(
        "steptrack_callbacks.opentelemetry needs the OpenTelemetry API:"
        " pip install 'steptrack-callbacks[otel]'"
    ) from error

from .attachment import install, uninstall
from .propagation import continued, inject

__all__ = ("continued", "inject", "install", "uninstall")
