"""A person in the loop: the graph pauses, and a person answers with more budget or a no."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from typing import Any

from steptrack_callbacks.engine.escalation import no_in
from steptrack_callbacks.integrations.seams_langchain import INTERRUPT
from steptrack_callbacks.values.definitions import Grant
from steptrack_callbacks.values.errors import BudgetExhausted

_NO = (None, False, "no")
HOW = (
    "answer with Command(resume=...): a number to add to the limit that broke, a mapping such as"
    ' {"max_usd": 0.10, "by": "ops"}, a Grant, or False for no; of several interrupts at once, with'
    " Command(resume={interrupt.id: ...})"
)
NOBODY = "nobody could be asked: a graph can pause for a person only if it has a checkpointer="


def ask(error: BudgetExhausted) -> Grant | None:
    """Pause the graph until a person has answered; an answer that makes no sense is asked for again.

    Returns:
        What was granted; `None` for a no.
    """
    question = {**error.to_dict(), "answer": HOW}
    while True:
        answer = pause(question)
        try:
            return grant_of(answer, error)
        except ValueError as problem:
            question = {**question, "problem": str(problem)}


def pause(question: Mapping[str, Any]) -> Any:
    """Pause the graph, and return what a person has answered; only where `nodes.can_pause()`."""
    return INTERRUPT.get()(question)


def grant_of(answer: Any, error: BudgetExhausted) -> Grant | None:
    """Read a person's answer.

    Raises:
        ValueError: It grants nothing that makes sense; the message says how to answer.
    """
    if any(answer is no or (isinstance(no, str) and answer == no) for no in _NO):
        return None
    grant = _read(answer, error)
    if problem := no_in(grant, error):
        raise ValueError(f"{problem}: {answer!r}; {HOW}")
    return grant


def _read(answer: Any, error: BudgetExhausted) -> Grant:
    if isinstance(answer, Grant):
        return answer
    try:
        if isinstance(answer, Mapping):
            return Grant(**answer)
        if isinstance(answer, int | float | Decimal) and not isinstance(answer, bool):
            amount: dict[str, Any] = {error.limit: answer}
            return Grant(**amount)
    except (TypeError, ValueError) as problem:
        raise ValueError(f"{answer!r} is not a grant: {problem}; {HOW}") from None
    raise ValueError(f"{answer!r} is not a grant; {HOW}")
