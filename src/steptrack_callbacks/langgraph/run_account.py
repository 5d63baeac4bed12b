"""The account of one run of an agent, beside the one of its thread: it starts over with each turn."""

from __future__ import annotations

from steptrack_callbacks.engine.account import Account
from steptrack_callbacks.values.definitions import StepDefinition
from steptrack_callbacks.values.errors import Breach, BudgetExhausted, Phase

HINT = "that is the limit of one run: the next one starts over"


class RunAccount(Account):
    """What one run of an agent may spend, be the thread's limit what it may.

    Attributes:
        step_account: The agent's own account, whose step owns what is exhausted here.
        budget: `None`: it is not a budget that others share.
        charged_here: Whether calls were charged to it from here: all of them.
    """

    __slots__ = ("step_account",)
    budget = None
    charged_here = True

    def __init__(self, step_account: Account, definition: StepDefinition) -> None:
        super().__init__(step_account.ref, definition)
        self.step_account = step_account

    def blame(self, error: BudgetExhausted) -> None:
        """Note that an exhaustion was raised to a caller: the agent's step has been told."""
        super().blame(error)
        self.step_account.blame(error)

    def exhaustion(self, phase: Phase, breaches: tuple[Breach, ...], *, hint: str = "") -> BudgetExhausted:
        """Build the error that the agent's step owns, and say whose limit it was."""
        error = super().exhaustion(phase, breaches, hint="; ".join(filter(None, (hint, HINT))))
        error.is_of_run = True
        return error
