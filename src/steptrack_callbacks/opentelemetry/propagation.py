"""Carrying a trace to another process, such as a proxy, and going on with it there."""

from __future__ import annotations

from collections.abc import Generator, Mapping, MutableMapping
from contextlib import contextmanager

from opentelemetry import propagate
from opentelemetry.context import attach, get_current


def inject(carrier: MutableMapping[str, str] | None = None) -> MutableMapping[str, str]:
    """Write the current trace into headers, as W3C `traceparent` unless the process propagates otherwise.

    Args:
        carrier: Headers to write into; `None` for new ones.

    Returns:
        The headers; nothing is added where no span is current.

    Example:
        >>> inject({"x-steptrack-step": "plan"})
        {'x-steptrack-step': 'plan'}
    """
    carrier = {} if carrier is None else carrier
    propagate.inject(carrier)
    return carrier


@contextmanager
def continued(carrier: Mapping[str, str]) -> Generator[None]:
    """Go on with the trace that headers name: steps that begin inside the block are children of its span.

    Args:
        carrier: Headers, such as those of a request. Their names are looked up in lower case, as
            servers give them. What is missing or malformed there changes nothing.

    Example:
        >>> with continued({"traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"}):
        ...     inject()
        {'traceparent': '00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01'}
    """
    before = get_current()
    inside = propagate.extract(carrier, context=before)
    attach(inside)
    try:
        yield
    finally:
        if get_current() is inside:  # the block may be left in another context
            attach(before)
