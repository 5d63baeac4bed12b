"""Which versions of other packages this one was tested with, and which are installed."""

from __future__ import annotations

from functools import cache
from importlib.metadata import PackageNotFoundError, version
from typing import NamedTuple


class Tested(NamedTuple):
    """The range that the tests have passed with.

    Attributes:
        oldest: The oldest version.
        newest: The newest version.
    """

    oldest: str
    newest: str

    def __str__(self) -> str:
        return f"{self.oldest} to {self.newest}"


TESTED: dict[str, Tested] = {
    "langchain": Tested("1.3.0", "1.5.2"),
    "langchain-core": Tested("1.6.0", "1.8.3"),
    "langchain-openai": Tested("1.2.0", "1.7.4"),
    "langgraph": Tested("1.2.0", "1.2.24"),
    "litellm": Tested("1.105.0", "1.110.2"),
    "openai": Tested("2.54.0", "3.57.0"),
    "redis": Tested("5", "8.1.0"),
}
"""By distribution: README's table, which the tests compare with this one."""

_DISTRIBUTIONS = {"opentelemetry": "opentelemetry-api", "IPython": "ipython"}


def distribution_of(package: str) -> str:
    """Name the distribution of a top-level module."""
    return _DISTRIBUTIONS.get(package, package.replace("_", "-"))


@cache
def version_of(package: str) -> str | None:
    """Return the installed version of a top-level module's distribution; `None` if it is not installed."""
    try:
        return version(distribution_of(package))
    except PackageNotFoundError:
        return None


def tested(package: str) -> str:
    """Say which versions were tested: a range, or the newest of the day."""
    known = TESTED.get(distribution_of(package))
    return "the newest of its day" if known is None else str(known)
