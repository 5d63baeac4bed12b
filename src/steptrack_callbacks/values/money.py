"""Money as exact integers, `Decimal` only at the door.

Inside, an amount is a whole number of units of 1e-24 US dollars. That is finer than any price
per token that exists, holds the shortest decimal form of a provider's float to the last digit
for every sum above $0.0000001, and adds without rounding whatever decimal context is active.
"""

from __future__ import annotations

import reprlib
from decimal import ROUND_HALF_EVEN, Context, Decimal, InvalidOperation
from typing import Any

USD_PLACES = 24
"""Decimal places of one unit: 1 unit is 1e-24 US dollars."""

NO_USD = Decimal(0)
"""No money; steps and calls without any all have this very object, which needs no checking."""

MOST_COUNT = 2**63 - 1
"""The largest count that a file may name and a ledger can keep."""

_MAX_USD = Decimal(10) ** 15
_ONE = Decimal(1)
_TEN_USD = 10 ** (USD_PLACES + 1)
_EXACT = Context(prec=100, rounding=ROUND_HALF_EVEN)


def decimal_of(value: object, name: str) -> Decimal:
    """Read a number of dollars, or of anything else that may have a fraction.

    Args:
        value: An `int`, a `float` (read by its shortest decimal form, so `0.1` is a tenth),
            a `Decimal`, or a string of digits.
        name: What the value is called, for the message.

    Returns:
        The finite, non-negative amount.

    Raises:
        ValueError: The value is negative, NaN, infinite, above 1e15, a `bool` or no number at all.
    """
    if isinstance(value, bool) or not isinstance(value, int | float | Decimal | str):
        raise ValueError(f"{name} must be a number, such as 0.05, not {value!r}")  # noqa: TRY004
    try:
        number = Decimal(str(value) if isinstance(value, float) else value)
    except InvalidOperation:
        raise ValueError(f"{name} must be a number, such as 0.05, not {value!r}") from None
    if not number.is_finite() or number < 0 or number > _MAX_USD:
        raise ValueError(f"{name} must be a finite number from 0 to 1e15, not {_shown(value)}")
    return number


def to_units(value: object, name: str) -> int:
    """Turn US dollars into whole units, rounding half to even below 1e-24.

    Raises:
        ValueError: See `decimal_of`.
    """
    return int(decimal_of(value, name).scaleb(USD_PLACES, _EXACT).to_integral_value(ROUND_HALF_EVEN, _EXACT))


def to_usd(units: int) -> Decimal:
    """Turn units back into US dollars, exactly and without trailing zeros.

    Example:
        >>> to_usd(to_units("0.0500", "max_usd"))
        Decimal('0.05')
    """
    if not units:
        return NO_USD
    number = _EXACT.normalize(Decimal(units).scaleb(-USD_PLACES, _EXACT))
    return number if units % _TEN_USD else number.quantize(_ONE, context=_EXACT)  # or it would be 1E+1


def plain(value: Any) -> Any:
    """Return a `Decimal` as the float that JSON has for it, and anything else as it is."""
    return float(value) if isinstance(value, Decimal) else value


def format_usd(units: int) -> str:
    """Write an amount as people read it: four decimals, or three significant digits below a cent.

    Example:
        >>> format_usd(to_units("0.0000123456", "x")), format_usd(to_units("1234.5", "x"))
        ('$0.0000123', '$1,234.5000')
    """
    number = to_usd(units)
    places = max(4, 2 - number.adjusted()) if number else 4
    digits = f"{number:,.{places}f}"
    whole, _, decimals = digits.partition(".")
    return f"${whole}.{decimals.rstrip('0').ljust(4, '0')}"


def count_of(value: object, name: str) -> int:
    """Read a whole, non-negative number, such as a token count.

    Raises:
        ValueError: The number is negative, above 2^63 - 1, has a fraction, or is a `bool` or no number at
            all.
    """
    if isinstance(value, bool) or not isinstance(value, int):
        raise ValueError(f"{name} must be a whole number, not {value!r}")  # noqa: TRY004
    if not 0 <= value <= MOST_COUNT:
        wanted = "not be negative" if value < 0 else f"be at most {MOST_COUNT}, the most that is kept"
        raise ValueError(f"{name} must {wanted}, not {_shown(value)}")
    return value


def _shown(number: object) -> str:
    try:
        return reprlib.repr(number)
    except ValueError:  # an integer of too many digits to be written
        return "a number of thousands of digits"
