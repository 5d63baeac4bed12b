"""What a call asks of an account, and what it holds there."""

from __future__ import annotations

from collections.abc import Hashable
from typing import NamedTuple, Protocol

from .in_flight import MONEY, TOKENS, HeldCall, Outlook


class Estimate(NamedTuple):
    """What a call asks of an account, as (money units, tokens).

    Attributes:
        certain: What is charged whatever happens: the input.
        alone: What must fit where nothing else is in flight: the input, and a part of the usual answer.
        expected: The input with the output that is likely.
        worst: The most that it can become.
        least: The least that this can be lowered to, where the request may be changed.
        model: The model's name.
        outlook: What it will come to, with its spread.
        unseen: No answer of this model has been seen in this process.
        unbounded: It is unseen, and the request says nothing about its output either.
        counts: It counts as one of `max_calls`.
    """

    certain: tuple[int, int]
    alone: tuple[int, int]
    expected: tuple[int, int]
    worst: tuple[int, int]
    least: tuple[int, int]
    model: str
    outlook: Outlook
    unseen: bool = False
    unbounded: bool = False
    counts: bool = True


class Hold(NamedTuple):
    """What one call, or all calls of one caller, have reserved on an account.

    Attributes:
        cost, tokens: Amounts.
        calls: How many calls that is.
        cold: For how many of them there was nothing to go by.
    """

    cost: int = 0
    tokens: int = 0
    calls: int = 0
    cold: int = 0


class Holding:
    """What one call has reserved on an account: a fixed amount, or one that changes with what is known.

    Attributes:
        fixed: The amount if it is fixed.
        expected: What is expected of it otherwise.
        cold: Whether there was nothing to go by.
        counts: Whether it counts as one of `max_calls`.
    """

    __slots__ = ("cold", "counts", "expected", "fixed")

    def __init__(
        self, fixed: tuple[int, int], expected: HeldCall | None, *, cold: bool, counts: bool
    ) -> None:
        self.counts = counts
        self.fixed = fixed
        self.expected = expected
        self.cold = cold

    def held(self) -> Hold:
        """Return how much that is now."""
        if self.expected is None:
            return Hold(*self.fixed, 1, int(self.cold))
        return Hold(self.expected.mean(MONEY), self.expected.mean(TOKENS), 1, int(self.cold))


class Bound(NamedTuple):
    """The most that a call can come to.

    Attributes:
        cost: Money units; 0 if nobody asks for money.
        tokens: Tokens.
        sent: Those of them that are sent.
    """

    cost: int
    tokens: int
    sent: int


class FarHold(NamedTuple):
    """What an uncounted call holds.

    Attributes:
        bound: How much, on each limited account around it.
        owner: The task or thread that holds it.
    """

    bound: Bound
    owner: Hashable


class Uncounted(Protocol):
    """A call that holds room at a bound of what it can come to."""

    def count(self) -> None:
        """Hold what is expected of it instead, if it is still in flight."""
