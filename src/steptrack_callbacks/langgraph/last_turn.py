"""The one turn that an agent may get when its ordinary room is gone, and what it is paid from."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import ExitStack, contextmanager

from steptrack_callbacks.steps.step import Step
from steptrack_callbacks.values.errors import BudgetExhausted


class LastTurn:
    """The closing turn of one run of an agent.

    It is paid from what the agent keeps back, and, if it is a step around that is exhausted, such as the one
    of `budgeted`, from what that one keeps back.

    Attributes:
        is_left: Whether the agent may still have it.
        has_answered: Whether it has answered in it, or ended with its last word instead.
    """

    __slots__ = ("_around", "_step", "has_answered", "is_left")

    def __init__(self, step: Step, *, is_wanted: bool) -> None:
        self.is_left = is_wanted
        self.has_answered = False
        self._step = step
        self._around: Step | None = None

    def follows(self, error: BudgetExhausted) -> bool:
        """Tell whether it is what an exhaustion leads to."""
        if not self.is_left or error.escalated or error.phase == "closed" or error.budget is not None:
            return False
        if error.step_id == self._step.id:
            return True
        self._around = self._keeping_back(error.step_id)
        return self._around is not None

    def _keeping_back(self, step_id: str | None) -> Step | None:
        step = self._step.parent
        while step is not None and step.id != step_id:
            step = step.parent
        keeps = step is not None and (step.definition.wrap_up_usd or step.definition.wrap_up_calls)
        return step if keeps else None

    @contextmanager
    def paid(self) -> Generator[None]:
        """Let calls inside this block spend what is kept back for it; there is no other."""
        self.is_left = False
        with ExitStack() as paying:
            for step in (self._step, self._around):
                if step is not None:
                    paying.enter_context(step.wrap_up())
            yield
