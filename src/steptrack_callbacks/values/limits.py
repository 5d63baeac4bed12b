"""What the declarations of this package have in common: their checks, which name the value and the fix."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import fields
from decimal import Decimal
from functools import wraps
from typing import Any, ClassVar, Literal, Self, TypeVar, get_args

from .arguments import checks_arguments
from .money import count_of, decimal_of
from .synonyms import ours_for

Enforce = Literal["estimate", "strict", "observe"]

T = TypeVar("T")
_NO_HINTS: Mapping[str, str] = {}


def check_name(name: object, kind: str) -> None:
    """Raise `ValueError` unless it is a name that can stand in a path."""
    if not isinstance(name, str) or not name.strip():
        raise ValueError(f"a {kind} needs a name that is a non-empty string, not {name!r}")
    if "/" in name:
        raise ValueError(f"{kind} name {name!r} must not contain '/', which joins names into a path")


def check_kept(name: str, what: str) -> None:
    """Raise `ValueError` unless a name can be kept by a ledger, which keeps text as UTF-8."""
    try:
        name.encode()
    except UnicodeEncodeError:  # raised where the ledger is asked, it would not say whose name it is
        raise ValueError(
            f"{what} {name!r} has a lone surrogate (half of a character), which no ledger keeps: leave it out"
        ) from None


def check_choice(value: object, choices: Any, what: str) -> None:
    """Raise `ValueError` unless a value is one of a `Literal`'s."""
    allowed = get_args(choices)
    if value not in allowed:
        raise ValueError(f"{what} must be one of {', '.join(map(repr, allowed))}, not {value!r}")


def check_mapping(value: object, what: str, example: str) -> None:
    """Raise `ValueError` unless it is a mapping; the message says what one looks like."""
    if not isinstance(value, Mapping):
        raise ValueError(f"{what} must be a mapping, such as {example}, not {value!r}")  # noqa: TRY004


def check_key(name: object, what: str, example: str) -> None:
    """Raise `ValueError` unless a key of a mapping is a name, which a tool or a model can have."""
    if not isinstance(name, str) or not name.strip():
        raise ValueError(f"{what} is named by a non-empty string, such as {example!r}, not {name!r}")


def check_limits(holder: Any, where: str = "") -> None:
    """Check the limits of a frozen value, and store money as the exact `Decimal`."""
    if holder.max_usd is not None:
        object.__setattr__(holder, "max_usd", usd_of(holder.max_usd, f"{where}max_usd"))
    if holder.max_tokens is not None and count_of(holder.max_tokens, f"{where}max_tokens") == 0:
        raise ValueError(
            f"{where}max_tokens must be at least 1, not 0: max_calls=0 forbids all calls, and no max_tokens"
            " sets no limit"
        )
    if holder.max_calls is not None:
        count_of(holder.max_calls, f"{where}max_calls")
    if getattr(holder, "max_seconds", None) is not None:
        if not (seconds := seconds_of(holder.max_seconds, f"{where}max_seconds")):
            raise ValueError(f"{where}max_seconds must be more than 0 seconds, not {holder.max_seconds!r}")
        object.__setattr__(holder, "max_seconds", seconds)


def usd_of(value: object, name: str) -> Decimal:
    """Read a limit in US dollars; raises `ValueError` for one that is negative, not finite or a text."""
    if isinstance(value, str):
        raise ValueError(f"{name} must be a number, such as 0.05, not {value!r}")  # noqa: TRY004
    return decimal_of(value, name)


def seconds_of(value: object, name: str) -> float:
    """Read a number of seconds; raises `ValueError` for one that is negative, not finite or a text."""
    if isinstance(value, str):
        raise ValueError(f"{name} must be a number of seconds, such as 30, not {value!r}")  # noqa: TRY004
    return float(decimal_of(value, name))


class Declared:
    """A declaration whose options others may call otherwise: then the error names ours."""

    __slots__ = ()
    _instead: ClassVar[Mapping[str, str]] = _NO_HINTS

    def __new__(cls, *_said: Any, **options: Any) -> Self:
        """Refuse what it has no field for.

        Raises:
            TypeError: As Python has it, and with the word that is ours.
        """
        __tracebackhide__ = True
        known = [field.name for field in fields(cls)]  # type: ignore[arg-type] # each is a dataclass
        if error := unknown_option(options, known, cls.__name__, cls._instead):
            raise error
        return super().__new__(cls)


def checks_fields(cls: type[T]) -> type[T]:
    """Let a declaration be refused without the frames of its checks, and with its name if it lacks one."""
    make = checks_arguments(cls.__init__)
    needs_name = "name" in [field.name for field in fields(cls)]  # type: ignore[arg-type] # each is a dataclass

    @wraps(make)
    def init(self: Any, *said: Any, **options: Any) -> None:
        __tracebackhide__ = True
        if needs_name and not said and "name" not in options:
            raise TypeError(f"{type(self).__name__}() needs a name, such as 'plan'")
        make(self, *said, **options)

    cls.__init__ = init  # type: ignore[method-assign]
    return cls


def unknown_option(
    options: Iterable[str], known: Iterable[str], what: str, instead: Mapping[str, str] = _NO_HINTS
) -> TypeError | None:
    """Return Python's error for an option that does not exist, which also says what to write.

    Args:
        options: What was given.
        known: What there is.
        what: What was called.
        instead: Hints for some that do not exist; of the others it is asked whether a known one was meant.
    """
    known = list(known)
    for option in options:
        if option not in known:
            hint = instead.get(option) or did_you_mean(option, known)
            return TypeError(f"{what}() got an unexpected keyword argument {option!r}{hint}")
    return None


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """Ask whether a known word was meant, or name ours for it; empty if there is none."""
    known = list(known)
    if ours := ours_for(word, known):
        return f"; here it is {' or '.join(map(repr, ours))}"
    from difflib import get_close_matches  # noqa: PLC0415 - for errors only

    near = get_close_matches(word, known, n=1, cutoff=0.7)
    return f"; did you mean {near[0]!r}?" if near else ""


def from_mapping(cls: type[T], data: Mapping[str, Any], kind: str) -> T:
    """Build a declaration from plain data; raises `ValueError` for what it does not know."""
    if not isinstance(data, Mapping):
        raise ValueError(f"a {kind} must be a table of fields, not {data!r}")  # noqa: TRY004
    known = [field.name for field in fields(cls)]  # type: ignore[arg-type]
    for name in data:
        if name not in known:
            meant = did_you_mean(str(name), known) or f"; use {', '.join(known)}"
            raise ValueError(f"{kind} has no field {name!r}{meant}")
    if "name" not in data:
        raise ValueError(f"a {kind} needs a name: add 'name' to {dict(data)!r}")
    return cls(**data)
