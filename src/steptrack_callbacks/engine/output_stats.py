"""What the answers of each model were like, for reserving room for the next one."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field

REMEMBERED_ANSWERS = 20
START_OUTPUT_TOKENS = 500
"""Output reserved for a model of which nothing is known, where its first call cannot go alone."""


@dataclass(slots=True)
class OutputStats:
    """The last answers of one model.

    Attributes:
        output: The largest of the outputs in tokens; `None` if none was seen.
        surplus: By how many tokens inputs were undercounted at most; `None` if never compared.
    """

    output: int | None = None
    surplus: int | None = None
    _outputs: deque[int] = field(default_factory=lambda: deque(maxlen=REMEMBERED_ANSWERS))
    _surpluses: deque[int] = field(default_factory=lambda: deque(maxlen=REMEMBERED_ANSWERS))

    def add_output(self, tokens: int) -> None:
        """Remember an output."""
        self.output = _largest(self._outputs, tokens, self.output)

    def add_surplus(self, tokens: int) -> None:
        """Remember by how many tokens an input was undercounted."""
        self.surplus = _largest(self._surpluses, tokens, self.surplus)


def _largest(last: deque[int], newest: int, largest: int | None) -> int:
    """Add a number to the last ones, and return the largest of them."""
    last.append(newest)
    return newest if largest is None or newest >= largest else max(last)


_NONE = OutputStats()
_seen: dict[str, OutputStats] = {}


def of(model: str) -> OutputStats:
    """Return what is known of a model's answers."""
    return _seen.get(model, _NONE)


def learn(model: str, *, output_tokens: int | None, counted_input: int | None, input_tokens: int) -> None:
    """Remember an answer that a provider reported.

    Args:
        model: The model's name, as it was asked for.
        output_tokens: What it produced; `None` for an answer cut short by its own `max_tokens`,
            which says nothing about the next one.
        counted_input: Input tokens as counted before sending; `None` if they were not.
        input_tokens: Input tokens as reported.
    """
    answers = _seen.get(model)
    if answers is None:
        answers = _seen[model] = OutputStats()
    if output_tokens is not None:
        answers.add_output(output_tokens)
    if counted_input is not None:
        answers.add_surplus(max(0, input_tokens - counted_input))


def reset() -> None:
    """Forget all answers."""
    _seen.clear()
