"""Refusals that a fallback hides: it raises the failure of the first call, though the next one was refused.

Whoever tries one model after another mostly raises the first error in the end. If a call of the step was
refused after that failure, the refusal has kept the step from its answer, and its boundary acts on it.
"""

from __future__ import annotations

from collections import deque

from steptrack_callbacks.values.errors import BudgetExhausted

_MOST_REMEMBERED = 16


class Failures:
    """What calls of one step have failed with, and what had been refused by then."""

    __slots__ = ("_seen",)

    def __init__(self) -> None:
        self._seen: deque[tuple[BaseException, BudgetExhausted | None]] = deque(maxlen=_MOST_REMEMBERED)

    def note(self, error: BaseException, refused: BudgetExhausted | None) -> None:
        """Note a failed call.

        Args:
            error: What it has failed with.
            refused: The last refusal before it.
        """
        self._seen.append((error, refused))

    def hidden(self, error: BaseException | None, refused: BudgetExhausted | None) -> BudgetExhausted | None:
        """Return the refusal that an error hides which is leaving the step, or `None`.

        Args:
            error: What is leaving.
            refused: The last refusal.
        """
        for failure, before in self._seen:
            if failure is error:
                return None if refused is before else refused
        return None

    def forget(self) -> None:
        """Let go of the errors: they hold the frames that they have passed."""
        self._seen.clear()
