"""What people say that a call of another client has used, checked before any call is opened for it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from steptrack_callbacks.values.usage import DETAIL_NAMES, Usage, count_names

_OF_WHOLE_CALLS = count_names()[count_names().index("calls") :]


def check_said(*, model: object, provider: object, service_tier: object, estimated: object) -> None:
    """Raise `ValueError` unless names are names, and `estimated` is yes or no."""
    if not isinstance(model, str):
        raise ValueError(f"record_usage() needs the model's name, not {model!r}")  # noqa: TRY004
    for name, value in (("provider", provider), ("service_tier", service_tier)):
        if not isinstance(value, str | None):
            raise ValueError(f"{name} must be a string or None, not {value!r}")  # noqa: TRY004
    if not isinstance(estimated, bool):
        raise ValueError(f"estimated must be True or False, not {estimated!r}")  # noqa: TRY004


def one_calls_usage(input_tokens: int, output_tokens: int, details: Mapping[str, Any]) -> Usage:
    """Return the usage of one call.

    Raises:
        ValueError: A count is malformed or unknown, or is of whole calls, which are counted here.
    """
    for name in details:
        if name == "estimated_calls":
            raise ValueError("record_usage() takes no estimated_calls: say estimated=True")
        if name in _OF_WHOLE_CALLS:
            raise ValueError(
                f"record_usage() takes no {name}: it is one call each time, so use it once for each"
            )
    if unknown := [name for name in details if name not in DETAIL_NAMES]:
        raise ValueError(f"Usage has no counts {', '.join(unknown)}; see its fields")
    return Usage(input_tokens=input_tokens, output_tokens=output_tokens, **details)
