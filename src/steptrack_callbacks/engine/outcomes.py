"""What can be decided about a call that asks for room; `reservation` decides it."""

from __future__ import annotations

from dataclasses import dataclass

from steptrack_callbacks.values.errors import Breach, BudgetExhausted, Phase

from .account import Account


@dataclass(frozen=True, slots=True)
class Admitted:
    """There is room for the call on every account around it, and it is held."""


@dataclass(frozen=True, slots=True)
class MustWait:
    """There is no room yet, but there may be once calls in flight have ended.

    Attributes:
        blocked_on: The accounts without room.
    """

    blocked_on: frozenset[Account]


@dataclass(frozen=True, slots=True)
class Refused:
    """The call may not be sent.

    Attributes:
        account: The account that owns the exhaustion.
        phase: When in the life of a call that was.
        breaches: Every limit without room, of all accounts around.
        hint: What could be done about it.
    """

    account: Account
    phase: Phase
    breaches: tuple[Breach, ...]
    hint: str = ""

    def error(self) -> BudgetExhausted:
        """Build the exception."""
        return self.account.exhaustion(self.phase, self.breaches, hint=self.hint)


ADMITTED = Admitted()
Outcome = Admitted | Refused
Decision = Outcome | MustWait
