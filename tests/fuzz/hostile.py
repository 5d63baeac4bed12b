"""Values that nobody should send, and some of which somebody does.

A run tries the same ones each time; `STEPTRACK_FUZZ=20` tries twenty times as many, other ones each time.
"""

from __future__ import annotations

import os
from types import SimpleNamespace
from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

TIMES = int(os.environ.get("STEPTRACK_FUZZ", "0"))


def tried(times: int = 100) -> settings:
    """Say how many values a test tries."""
    return settings(
        deadline=None,
        derandomize=not TIMES,
        max_examples=times * max(1, TIMES),
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
    )


HUGE = [2**31, 2**53 + 1, 2**63 - 1, 2**63, 10**30, 10**400]
NUMBERS = [0, 1, -1, 7, 0.0, -0.0, 0.5, -2.5, 100.0, 1e300, float("inf"), float("-inf"), float("nan"), *HUGE]
TEXTS = [
    "", " ", "7", "-1", "NaN", "null", "\0", "\x1b[2J", "a\nb", "<script>alert(1)</script>", "'; DROP TABLE x; --",
    "\ud800", "\u202egnp", "💸", "%s%n{0}", "../../etc/passwd", "x" * 300,
]  # fmt: skip

numbers = st.sampled_from(NUMBERS) | st.integers() | st.floats()
texts = st.sampled_from(TEXTS) | st.text(max_size=20)
atoms = st.none() | st.booleans() | numbers | texts


class Unreadable:
    """An object whose every attribute fails."""

    def __getattr__(self, name: str) -> Any:
        raise AttributeError(name)


def nested(names: st.SearchStrategy[str] = texts) -> st.SearchStrategy[Any]:
    """Anything that JSON can hold, and some more."""
    return st.recursive(
        atoms | st.builds(Unreadable),
        lambda inner: (
            st.lists(inner, max_size=4)
            | st.dictionaries(names, inner, max_size=5)
            | st.dictionaries(names | st.integers(), inner, max_size=3)
        ),
        max_leaves=8,
    )


anything = nested()


def table_of(*names: str, values: st.SearchStrategy[Any] | None = None) -> st.SearchStrategy[dict[str, Any]]:
    """A table with some of these names, and now and then another."""
    value = sometimes_sane | anything if values is None else values
    return st.dictionaries(st.sampled_from(names) | texts, value, max_size=len(names))


def as_object(table: st.SearchStrategy[dict[str, Any]]) -> st.SearchStrategy[Any]:
    """The same as a table, or as an object with attributes."""
    return table | table.map(lambda given: SimpleNamespace(**{str(k): v for k, v in given.items()}))


sometimes_sane = st.integers(min_value=0, max_value=5000)
