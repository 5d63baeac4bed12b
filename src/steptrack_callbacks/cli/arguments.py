"""How arguments are read: each error names the value and the fix."""

from __future__ import annotations

import re
import time
from argparse import ArgumentTypeError
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

from steptrack_callbacks.values.money import MOST_COUNT, count_of, decimal_of

_AGO = re.compile(r"([0-9]{1,6}(?:\.[0-9]{1,3})?)(s|m|h|d|w)")
_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 7 * 86400}


def usd(text: str) -> Decimal:
    """Read an amount of US dollars."""
    try:
        return decimal_of(text.removeprefix("$"), "it")
    except ValueError:
        raise ArgumentTypeError(f"must be a number of US dollars, such as 0.05, not {text!r}") from None


def count(text: str) -> int:
    """Read a whole number."""
    try:
        return count_of(int(text), "it")
    except ValueError:
        most = f" up to {MOST_COUNT}" if text.isdecimal() else ""
        raise ArgumentTypeError(f"must be a whole number{most}, such as 20, not {text!r}") from None


def seconds(text: str) -> float:
    """Read a number of seconds above 0."""
    try:
        number = float(decimal_of(text, "it"))
    except ValueError:
        number = 0.0
    if not number:
        raise ArgumentTypeError(f"must be a number of seconds above 0, such as 60, not {text!r}")
    return number


def moment(text: str) -> float:
    """Read a time, as seconds since the epoch: so long ago, or a date, which is in UTC.

    Example:
        >>> moment("2023-11-14"), moment("2023-11-14T22:13:20Z")
        (1699920000.0, 1700000000.0)
    """
    if ago := _AGO.fullmatch(text):
        return max(0.0, time.time() - float(ago[1]) * _SECONDS[ago[2]])
    try:
        read = datetime.fromisoformat(text)
        return (read if read.tzinfo else read.replace(tzinfo=UTC)).timestamp()
    except (ValueError, OverflowError):
        raise ArgumentTypeError(
            "must be how long ago (30m, 12h, 1d, 2w) or a date in UTC (2026-11-22, 2026-11-22T08:00),"
            f" not {text!r}"
        ) from None


def usage(text: str) -> dict[str, int]:
    """Read counts: `input_tokens=1000,output_tokens=200`."""
    from steptrack_callbacks.values.usage import count_names  # noqa: PLC0415 - one option needs it

    counts: dict[str, int] = {}
    names = [name for name in count_names() if not name.endswith("calls")]
    for part in text.split(","):
        name, sign, number = part.strip().partition("=")
        if name not in names or not sign:
            raise ArgumentTypeError(
                f"must be counts such as input_tokens=1000,output_tokens=200, not {text!r}; known are"
                f" {', '.join(names)}"
            )
        counts[name] = count(number)
    return counts


def name(text: str) -> str:
    """Read the name of a step."""
    from steptrack_callbacks.values.limits import check_name  # noqa: PLC0415

    try:
        check_name(text, "step")
    except ValueError as error:
        raise ArgumentTypeError(str(error)) from None
    return text


def models(prefix: str, **_: Any) -> list[str]:
    """Complete the name of a model, for shells."""
    from steptrack_callbacks.pricing.table import installed  # noqa: PLC0415

    return [model for model in installed().entries if model.startswith(prefix)]
