"""Reading what somebody else's objects hold: whatever they are, something comes back, nothing is raised."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import lru_cache
from itertools import islice
from typing import Any

MOST_ITEMS = 100_000
"""Of one list; also what ends one that is endless."""

CHANGED = (ImportError, AttributeError, TypeError)
"""What a package raises that has no longer what it had; `install()` has said so, where there is a seam."""

_LONGEST_CHAIN = 20
_MOST_DIGITS = 18


def reader(item: object) -> Callable[[str], Any]:
    """Return what reads a field as `field` does, and fast where it is a dict's or an object's own."""
    if type(item) is dict:
        return item.get
    own: Any = getattr(item, "__dict__", None) or {}
    return lambda key: own[key] if key in own else field(item, key)


def field(item: Any, key: str) -> Any:
    """Return what a mapping has under a key, or an object as an attribute; `None` if it has none."""
    if type(item) is dict:
        return item.get(key)
    try:
        return item.get(key) if _is_mapping(type(item)) else getattr(item, key, None)  # type: ignore[arg-type]
    except Exception:  # noqa: BLE001  # a property of somebody else's object
        return None


def fields_of(value: Any) -> Mapping[Any, Any]:
    """Return what a mapping has, or an object of its own; of anything else nothing."""
    if type(value) is dict:
        return value
    try:
        if _is_mapping(type(value)):  # type: ignore[arg-type]
            return dict(value)
        own = None if isinstance(value, type) else getattr(value, "__dict__", None)
        more = None if own is None else getattr(value, "__pydantic_extra__", None)
    except Exception:  # noqa: BLE001  # as above
        return {}
    if not isinstance(own, dict):
        return {}
    return {**own, **more} if isinstance(more, dict) and more else own


@lru_cache(maxsize=1024)
def _is_mapping(kind: type) -> bool:
    """Tell whether objects of a type are mappings: to ask each of them again takes longer than to read it."""
    return issubclass(kind, Mapping)


def opened(value: Any) -> Any:
    """Open an object of pydantic, which would else pass for a list of pairs."""
    dump = None if isinstance(value, type) else field(value, "model_dump")
    try:
        return dump() if callable(dump) else value
    except Exception:  # noqa: BLE001  # as above
        return None


def items(value: object) -> Iterable[Any]:
    """Return what a list has, and anything else as the only one; of `None` nothing."""
    if value is None:
        return ()
    return islice(value, MOST_ITEMS) if type(value) is list else _yielded(value)


def _yielded(value: object) -> Iterator[Any]:
    if (
        not isinstance(value, Iterable)
        or isinstance(value, str | bytes | Mapping)
        or field(value, "model_dump")
    ):
        yield value
        return
    try:
        yield from islice(value, MOST_ITEMS)
    except Exception:  # noqa: BLE001  # as above
        return


def whole_number(value: object) -> int | None:
    """Read a whole number, which JSON may write with a fraction of zero, or as text."""
    if type(value) is int:
        return value
    if isinstance(value, str):
        return int(value) if len(value) <= _MOST_DIGITS and value.isascii() and value.isdecimal() else None
    if isinstance(value, float):
        return int(value) if value.is_integer() else None
    return int(value) if isinstance(value, int) and not isinstance(value, bool) else None


def to_json(value: object) -> str:
    """Write a value as JSON; one that cannot be written is an empty text."""
    try:
        return json.dumps(value, default=_plain, ensure_ascii=False, separators=(",", ":"))
    except Exception:  # noqa: BLE001  # endless, too deep, or it cannot be printed
        return ""


def _plain(value: Any) -> Any:
    schema = field(value, "model_json_schema") if isinstance(value, type) else None
    plain = schema() if callable(schema) else opened(value)
    return str(value) if plain is value else plain


def causes(error: BaseException) -> Iterator[BaseException]:
    """Yield an error and what it was made of, the nearest first."""
    pending: list[Any] = [error]
    seen = set[int]()
    while pending and len(seen) < _LONGEST_CHAIN:
        link: Any = pending.pop(0)
        if not isinstance(link, BaseException) or id(link) in seen:
            continue
        seen.add(id(link))
        yield link
        pending += [link.__cause__, link.__context__, getattr(link, "original_exception", None)]


def is_late_answer(error: BaseException) -> bool:
    """Tell whether a request was sent and its answer did not come in time: it may have been paid for.

    Every client has a class of its own for it, and they have but their names in common.
    """
    names = [type(link).__name__ for link in causes(error)]
    is_unsent = any("Timeout" in name and ("Connect" in name or "Pool" in name) for name in names)
    return any("Timeout" in name for name in names) and not is_unsent
