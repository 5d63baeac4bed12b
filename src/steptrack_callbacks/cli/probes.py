"""The calls that `steptrack doctor` tries, and what became of them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Probe:
    """One call through one entry point, in one mode.

    Attributes:
        package: Whose entry point it is.
        entry: Its name.
        mode: How it is called.
        call: Makes the call, and reads the answer to its end; a coroutine function if it is awaited.
        in_words: Whether its answer says how many tokens it used.
    """

    package: str
    entry: str
    mode: str
    call: Callable[[], Any]
    in_words: bool = True


@dataclass(frozen=True, slots=True)
class Result:
    """What became of a probe.

    Attributes:
        package: Whose entry point it is.
        entry: Its name.
        mode: How it was called.
        wrong: What is wrong; empty if nothing is.
        untried: Why it was not called; empty if it was.
    """

    package: str
    entry: str
    mode: str
    wrong: str = ""
    untried: str = ""

    @property
    def ok(self) -> bool | None:
        """Whether it is as it should be; `None` if it was not called."""
        if self.wrong:
            return False
        return None if self.untried else True


async def read(answer: Any) -> None:
    """Read a stream to its end."""
    if hasattr(answer, "__aiter__"):  # some mocks answer as a whole where a stream was asked for
        async for _chunk in answer:
            pass
