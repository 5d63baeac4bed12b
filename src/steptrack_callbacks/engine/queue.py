"""Those who wait for room, in the order in which they came."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable, Sequence
from itertools import takewhile
from typing import TYPE_CHECKING, Protocol

from steptrack_callbacks.concurrency.lock import LOCK
from steptrack_callbacks.concurrency.loop_pool import spare_thread
from steptrack_callbacks.concurrency.tasks import wake

from .account import Account
from .in_flight import InFlight
from .outcomes import Decision, MustWait, Outcome

if TYPE_CHECKING:
    import asyncio

LOOK_EVERY_S = 0.05
"""How long the first in line waits until it looks elsewhere for room."""
LONGEST_PLACE = 10
"""Waiters behind this position look elsewhere as often as the one in this position."""

WAITED_HINT = (
    "the room did not come free in the time that wait_s allows: raise it, make fewer calls at once, or give"
    " them a max_tokens"
)
NO_WAIT_HINT = (
    "a call on a running event loop cannot wait here: use the async function, or call from a thread"
)


class Queued(Protocol):
    """A reservation, as the queue sees it."""

    accounts: Sequence[Account]

    def decide(self, *, behind: bool) -> Decision:
        """Decide now; `behind` says whether others wait for one of its accounts."""

    def give_up(self) -> Outcome:
        """Decide for the last time, after waiting in vain."""

    def release(self) -> None:
        """Give back what is held, if anything is."""

    def waited_s(self) -> float:
        """Return how long it has been asking already, over earlier places in line."""


class Waiter:
    """A place in the queue.

    Attributes:
        reservation: Who waits.
        blocked_on: The accounts without room for it.
        outcome: What came of it, once it is known.
        looks_elsewhere: Whether to look elsewhere for room now and then, and wait on; else room can only
            come free in this process.
    """

    __slots__ = (
        "_future",
        "_gate",
        "_until",
        "blocked_on",
        "looks_elsewhere",
        "outcome",
        "reservation",
    )

    def __init__(self, reservation: Queued, blocked_on: frozenset[Account]) -> None:
        self.reservation = reservation
        self.blocked_on = blocked_on
        self.outcome: Outcome | None = None
        self.looks_elsewhere = False
        self._until: float | None = None
        # A bare lock, because an Event may deadlock with a finaliser that wakes the thread it runs in.
        self._gate = threading.Lock()
        self._gate.acquire()
        self._future: asyncio.Future[None] | None = None

    def block(self) -> Outcome | None:
        """Wait in a plain thread; `None` says to look elsewhere, and wait on."""
        seconds, over = self._next_wait()
        try:
            with spare_thread():
                woken = self._gate.acquire(timeout=min(seconds, threading.TIMEOUT_MAX))
        except BaseException:
            QUEUE.drop(self)
            raise
        return QUEUE.leave(self) if over or woken else None

    async def wait(self) -> Outcome | None:
        """Wait on the event loop; `None` says to look elsewhere, and wait on."""
        import asyncio  # noqa: PLC0415 - whoever runs a coroutine has it

        self._future = asyncio.get_running_loop().create_future()
        seconds, over = self._next_wait()
        try:
            if self.outcome is None:
                await asyncio.wait([self._future], timeout=seconds)
        except BaseException:  # cancelled, or thrown away with its loop
            QUEUE.drop(self)
            raise
        return QUEUE.leave(self) if over or self.outcome is not None else None

    def wake(self) -> None:
        """Tell whoever waits that there is an outcome; done once."""
        self._gate.release()
        if self._future is not None:
            wake(self._future)

    def _next_wait(self) -> tuple[float, bool]:
        """Return how long to wait now, and whether that is the last time."""
        now = time.monotonic()
        if self._until is None:
            self._until = now + self._seconds()
        left = max(0.0, self._until - now)
        if not self.looks_elsewhere:
            return left, True
        longest = LOOK_EVERY_S * QUEUE.place_of(self)
        return min(left, longest), left <= longest

    def _seconds(self) -> float:
        patience = [account.definition.wait_s for account in self.blocked_on]
        waited = self.reservation.waited_s()
        lefts = [
            left for account in self.reservation.accounts if (left := account.seconds_left()) is not None
        ]
        return max(0.0, min([*(most - waited for most in patience), *lefts], default=0.0))


class AdmissionQueue:
    """All who wait, in the order in which they came; and, as a context manager, `making_room`.

    Attributes:
        releases: Counts the reservations that were given back.
        waiters: Those who wait, in the order in which they came.
    """

    def __init__(self) -> None:
        self.releases = 0
        self.waiters: dict[Waiter, None] = {}
        self._moving = False

    def __bool__(self) -> bool:
        return bool(self.waiters)

    def __enter__(self) -> None:
        """Begin what may make room."""

    def __exit__(self, *_: object) -> None:
        if self.waiters:
            self.move_on()

    def move_on(self) -> None:
        """Look at those who wait, and wake who has an outcome."""
        with LOCK:
            woken = self.move()
        for waiter in woken:
            waiter.wake()

    def join(self, reservation: Queued, blocked_on: frozenset[Account]) -> Waiter:
        """Give a reservation its place, which it must leave or be dropped from."""
        waiter = Waiter(reservation, blocked_on)
        self.waiters[waiter] = None
        _count_waiting(blocked_on, 1)
        return waiter

    def leave(self, waiter: Waiter) -> Outcome:
        """Take what came of waiting; for one who leaves with nothing it is decided one last time."""
        with making_room, LOCK:
            if waiter.outcome is None:
                self._remove(waiter)
                waiter.outcome = waiter.reservation.give_up()
            return waiter.outcome

    def drop(self, waiter: Waiter) -> None:
        """Forget one who no longer wants to go, though let through already."""
        with making_room, LOCK:
            if waiter.outcome is None:
                self._remove(waiter)
            waiter.reservation.release()

    def move(self) -> list[Waiter]:
        """Let through those that fit now, refuse those that never will; returns those to wake."""
        if self._moving:  # in a finaliser: whoever moves the line in this thread will look again
            return []
        woken: list[Waiter] = []
        self._moving = True
        try:
            while True:
                before = self.releases
                woken += self._pass()
                if self.releases == before:
                    return woken
        finally:
            self._moving = False

    def _pass(self) -> list[Waiter]:
        woken: list[Waiter] = []
        blocked: set[InFlight] = set()
        for waiter in list(self.waiters):
            reservation = waiter.reservation
            behind = any(account.in_flight in blocked for account in reservation.accounts)
            decision = reservation.decide(behind=behind)
            if waiter not in self.waiters:  # dropped in a finaliser meanwhile
                reservation.release()
            elif isinstance(decision, MustWait):
                self._block(waiter, decision.blocked_on)
                blocked |= {account.in_flight for account in decision.blocked_on}
            else:
                self._remove(waiter)
                waiter.outcome = decision
                woken.append(waiter)
        return woken

    def place_of(self, waiter: Waiter) -> int:
        """Say how many stand in line up to a waiter, of those who look elsewhere as well."""
        ahead = takewhile(lambda other: other is not waiter, list(self.waiters))
        return min(1 + sum(other.looks_elsewhere for other in ahead), LONGEST_PLACE)

    def empty(self) -> None:
        """Forget all who wait."""
        for waiter in list(self.waiters):
            self._remove(waiter)

    def _block(self, waiter: Waiter, accounts: frozenset[Account]) -> None:
        _count_waiting(waiter.blocked_on, -1)
        _count_waiting(accounts, 1)
        waiter.blocked_on = accounts

    def _remove(self, waiter: Waiter) -> None:
        del self.waiters[waiter]
        _count_waiting(waiter.blocked_on, -1)


def _count_waiting(accounts: Iterable[Account], change: int) -> None:
    for account in accounts:
        account.in_flight.waiting += change
        for allowance in account.in_flight.allowances:
            allowance.calls_left = 0  # who comes now stands in line, too


QUEUE = making_room = AdmissionQueue()
"""`with making_room` stands around whatever may do so: what gives room back, closes an account, grants more
or hears of it. At its end those who wait are looked at, whatever was raised, and woken; nothing else wakes
anybody. So nobody waits for room that is there. It does not hold the lock: a ledger may have to be told of
room before others can have it.
"""
