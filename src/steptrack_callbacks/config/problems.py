"""What is wrong with a file: where, what, and how to put it right."""

from __future__ import annotations

import re
import reprlib
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any

from steptrack_callbacks.values.synonyms import ours_for

Path = tuple[str, ...]
"""The keys that lead to a value, outermost first."""

MOST_PROBLEMS = 50
"""So many are told at once; more help nobody."""

_BARE = re.compile(r"[A-Za-z0-9_-]{1,80}")
_PASSWORD = re.compile(r"(//)[^/\s]*@")
_LONGEST_WORD = 80

_short = reprlib.Repr()
_short.maxlist = _short.maxdict = 3
_short.maxstring = _short.maxother = _LONGEST_WORD


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """One thing that is wrong.

    Attributes:
        path: The keys that lead there, outermost first; none for the file as a whole.
        why: What is wrong there, and the fix.
        line: The line on which the key stands, from 1; `None` if that is not known.
    """

    path: Path = ()
    why: str
    line: int | None = None

    @property
    def key(self) -> str:
        """The path as one would write it: `steps.plan.max_usd`."""
        return dotted(self.path)

    def __str__(self) -> str:
        head = f"line {self.line}: " if self.line else ""
        return f"{head}{self.key}: {self.why}" if self.path else f"{head}{self.why}"

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON values."""
        return {"key": self.key, "why": self.why, "line": self.line}


class ConfigError(ValueError):
    """A file that cannot be used; nothing of it was.

    Attributes:
        source: The file, as it was named.
        problems: All that is wrong with it.
    """

    def __init__(self, source: str, problems: tuple[Problem, ...]) -> None:
        super().__init__(source, problems)
        self.source = source
        self.problems = problems

    def __str__(self) -> str:
        if len(self.problems) == 1:
            return f"{self.source}: {self.problems[0]}"
        count = f"{len(self.problems)}{' or more' if len(self.problems) == MOST_PROBLEMS else ''} problems"
        return "\n  ".join([f"{self.source}: {count}", *map(str, self.problems)])


def dotted(path: Path) -> str:
    """Write a key as TOML does.

    Example:
        >>> dotted(("prices", "gpt-4.1", "source"))
        'prices."gpt-4.1".source'
    """
    return ".".join(part if _BARE.fullmatch(part) else quoted(part) for part in path)


def quoted(word: str) -> str:
    """Write a string in double quotes, shortened, and with nothing that a terminal would act on."""
    return '"' + shown(word)[1:-1].replace('"', '\\"') + '"'


def shown(value: Any) -> str:
    """Write any value for a message: short, without passwords."""
    try:
        text = _short.repr(value)
    except ValueError:  # an integer of too many digits to be written
        return "a number of thousands of digits"
    return _PASSWORD.sub(r"\1***@", text)


def meant(word: object, known: Any) -> str:
    """Ask whether one of the known words was meant, or name ours for it; empty if there is none."""
    if not isinstance(word, str) or len(word) > _LONGEST_WORD:
        return ""
    if ours := ours_for(word, known):
        return f"; here it is {' or '.join(map(quoted, ours))}"
    near = get_close_matches(word, list(known), n=1, cutoff=0.7)
    return f"; did you mean {quoted(near[0])}?" if near else ""
