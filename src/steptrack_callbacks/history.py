"""What the answers of each model were like, for reserving room for the next one."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field

REMEMBERED_ANSWERS = 20
START_OUTPUT_TOKENS = 500
"""Output reserved for a model of which nothing is known, where its first call cannot go alone."""


@dataclass(slots=True)
class _Answers:
    outputs: deque[int] = field(default_factory=lambda: deque(maxlen=REMEMBERED_ANSWERS))
    surpluses: deque[int] = field(default_factory=lambda: deque(maxlen=REMEMBERED_ANSWERS))
    largest_output: int = 0
    largest_surplus: int = 0


_seen: dict[str, _Answers] = {}


def learn(model: str, *, output_tokens: int | None, counted_input: int | None, input_tokens: int) -> None:
    """Remember an answer that a provider reported.

    Args:
        model: The model's name, as it was asked for.
        output_tokens: What it produced; `None` for an answer cut short by its own `max_tokens`,
            which says nothing about the next one.
        counted_input: Input tokens as counted before sending; `None` if they were not.
        input_tokens: Input tokens as reported.
    """
    answers = _seen.setdefault(model, _Answers())
    if output_tokens is not None:
        answers.outputs.append(output_tokens)
        answers.largest_output = max(answers.outputs)
    if counted_input is not None:
        answers.surpluses.append(max(0, input_tokens - counted_input))
        answers.largest_surplus = max(answers.surpluses)


def largest_output(model: str) -> int | None:
    """Return the largest of the model's last outputs in tokens, or `None` if none was seen."""
    answers = _seen.get(model)
    return answers.largest_output if answers and answers.outputs else None


def input_surplus(model: str) -> int | None:
    """Return by how many tokens inputs were undercounted at most, or `None` if never compared."""
    answers = _seen.get(model)
    return answers.largest_surplus if answers and answers.surpluses else None


def reset() -> None:
    """Forget all answers."""
    _seen.clear()
