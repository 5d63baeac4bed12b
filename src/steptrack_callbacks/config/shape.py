"""The shape of the file: which keys there are, and which values each may have.

The shape is the JSON schema that the package ships, so that editors and this module say the same. What
is understood here is the part of JSON Schema that it uses.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator, Mapping
from functools import cache
from importlib.resources import files
from typing import Any

from steptrack_callbacks.pricing import user

from .problems import Path, Problem, dotted, meant, quoted, shown

Schema = Mapping[str, Any]

_TYPES: dict[str, type | tuple[type, ...]] = {
    "array": list,
    "boolean": bool,
    "integer": int,
    "number": (int, float),
    "object": dict,
    "string": str,
}
_MOST_TO_TELL = 10_000_000
_ONLY_IN_CODE = {
    "escalation": "is a function, which only code can give: step(escalation=...) or install(escalation=...)",
    "parent": "is a running step, which only code can give: step(parent=...)",
    "run_id": "names one run, and this file is for all: step(run_id=...) or steptrack run --run-id",
    "function": "is set where a function is decorated; leave it out",
    "name": "is the table's own name; leave it out",
    "budget": "is not used here: write limits beside it, and name shared budgets as budgets = [...]",
}


@cache
def schema() -> dict[str, Any]:
    """Return the JSON schema of `steptrack.toml` (draft 2020-12).

    Example:
        >>> sorted(schema()["properties"])
        ['budgets', 'ledger', 'personas', 'prices', 'proxy', 'steps', 'tools']
    """
    text = files("steptrack_callbacks").joinpath("steptrack.schema.json").read_text(encoding="utf-8")
    return json.loads(text)  # type: ignore[no-any-return]


def misshapen(tables: Mapping[str, Any]) -> Iterator[Problem]:
    """Yield what in a file is not of its shape."""
    yield from _check(tables, schema(), ())


def _check(value: Any, part: Schema, path: Path) -> Iterator[Problem]:
    part = _part_for(value, part)
    if not _fits(value, part):
        hint = meant(value, part.get("enum", ()))
        yield Problem(path=path, why=f"must be {_expected(part, value)}, not {shown(value)}{hint}")
    elif isinstance(value, dict):
        for key, inside in value.items():
            yield from _check_key(key, inside, part, path)
    elif isinstance(value, list) and "items" in part:
        for item in value:
            yield from _check(item, part["items"], path)


def _part_for(value: Any, part: Schema) -> Schema:
    """Follow references, and choose between a plain value and a table where a key takes either."""
    while "$ref" in part or _takes_either(part):
        if _takes_either(part):
            part = part["anyOf"][isinstance(value, dict)]
        else:
            part = schema()["$defs"][part["$ref"].rpartition("/")[2]]
    return part


def _takes_either(part: Schema) -> bool:
    return "anyOf" in part and "type" not in part


def _check_key(key: str, value: Any, part: Schema, path: Path) -> Iterator[Problem]:
    if "propertyNames" in part and any(_check(key, part["propertyNames"], path)):
        without = ", nor contain '/'" if "$ref" in part["propertyNames"] else ""
        yield Problem(path=(*path, key), why=f"a name must not be empty{without}")
    known = part.get("properties", {})
    by_pattern = (
        found for pattern, found in part.get("patternProperties", {}).items() if re.search(pattern, key)
    )
    expected = known.get(key) or next(by_pattern, part.get("additionalProperties", True))
    if expected is False:
        yield Problem(path=(*path, key), why=_unknown(key, value, part, path))
    elif expected is not True:
        yield from _check(value, expected, (*path, key))


def _unknown(key: str, value: Any, part: Schema, path: Path) -> str:
    known = part.get("properties", {})
    if key in _ONLY_IN_CODE and "max_seconds" in known:
        return _ONLY_IN_CODE[key]
    if key == "stages":
        return "only a persona has stages: [personas.NAME.stages.STEP]"
    if isinstance(value, dict) and len(path) > 1:
        whole = quoted(f"{path[-1]}.{key}")
        fix = f"a name with a dot is quoted: [{dotted(path[:-1])}.{whole}]"
        return f"is a table where a value is expected; {fix}"
    if path[:1] == ("prices",):
        return f"is unknown{user.meant(key)}"
    return f"is unknown{meant(key, known) or '; known are ' + ', '.join(known)}"


def _fits(value: Any, part: Schema) -> bool:
    kind = part.get("type")
    if kind and (not isinstance(value, _TYPES[kind]) or (isinstance(value, bool) and kind != "boolean")):
        return False
    if "enum" in part and not (isinstance(value, str) and value in part["enum"]):
        return False
    if isinstance(value, int | float):
        return _fits_between(value, part)
    if isinstance(value, str):
        return (
            len(value) >= part.get("minLength", 0) and re.search(part.get("pattern", ""), value) is not None
        )
    if isinstance(value, list):
        words = [item for item in value if isinstance(item, str)]
        return not part.get("uniqueItems") or len(set(words)) == len(words)
    return not isinstance(value, dict) or len(value) >= int(part.get("minProperties", 0))


def _fits_between(value: float, part: Schema) -> bool:
    if not part.get("type"):
        return True
    above = part.get("exclusiveMinimum")
    within = part.get("minimum", -math.inf) <= value <= part.get("maximum", math.inf)
    return within and (above is None or value > above)


def _expected(part: Schema, value: Any) -> str:
    if "enum" in part:
        return "one of " + ", ".join(f'"{choice}"' for choice in part["enum"])
    word = (
        part.get("title")
        or {
            "array": "a list without repetitions" if part.get("uniqueItems") else "a list",
            "boolean": "true or false",
            "integer": "a whole number",
            "number": "a number",
            "object": "a table" + (" with something in it" if part.get("minProperties") else ""),
            "string": "a non-empty string" if "minLength" in part else "a string",
        }[part["type"]]
    )
    return (
        word
        + _between(part, value)
        + (f", such as {json.dumps(part['examples'][0])}" if "examples" in part else "")
    )


def _between(part: Schema, value: Any) -> str:
    most = part.get("maximum", math.inf)
    too_much = isinstance(value, int | float) and value > most
    to = f"to {most:,.0f}" if too_much or most <= _MOST_TO_TELL else ""
    if "exclusiveMinimum" in part:
        return f" above {part['exclusiveMinimum']}" + (f" and up {to}" if to else "")
    if "minimum" in part:
        return f" from {part['minimum']} {to}".rstrip()
    return ""
