"""What this process knows of an account in a ledger: one for all steps that the account is around."""

from __future__ import annotations

import math
import time

from steptrack_callbacks.concurrency import forks
from steptrack_callbacks.concurrency.lock import LOCK
from steptrack_callbacks.ledgers.client import LedgerClient
from steptrack_callbacks.ledgers.protocol import NO_ROOM, UNITS_PER_PICO, Asked, Totals

from .amounts import Sums, Tally
from .holds import MONEY, TOKENS, Reserved
from .in_flight import InFlight
from .ledger_amounts import to_sums


class Replica:
    """An account in a ledger, as this process knows it: by this its calls are judged here.

    What the ledger last said, with what it has not been told yet, is what is settled here; what it said is
    reserved, without what was reserved from here, is held elsewhere.

    Attributes:
        key: Its name in the ledger.
        ledger: The ledger, as this process uses it.
        settled: What calls have been charged.
        in_flight: What calls in flight hold, those elsewhere among them.
        elsewhere: What the latter hold, by what the ledger said.
        heard_at: When the ledger last said something of it, by the monotonic clock.
        look_at: From when on somebody who waits may ask the ledger for news of it.
    """

    __slots__ = (
        "__weakref__",
        "_lent",
        "_said",
        "_said_settled",
        "elsewhere",
        "heard_at",
        "in_flight",
        "key",
        "ledger",
        "look_at",
        "settled",
    )

    def __init__(self, key: str, ledger: LedgerClient) -> None:
        self.key = key
        self.ledger = ledger
        self.settled = Tally()
        self.in_flight = InFlight()
        self.elsewhere = Reserved()
        self.heard_at = self.look_at = -math.inf
        self._lent = Reserved()
        self._said = Totals(key=key, seq=-1)
        self._said_settled: Sums = ()

    def learn(self, totals: Totals | None, lent: Asked = NO_ROOM, calls: int = 0) -> None:
        """Take over what the ledger says, unless something newer is known already.

        Args:
            totals: That; `None` if it says nothing of this account.
            lent: What it lends to calls of this process from here on, beside what it did; it counts that in
                what it says next. Less than 0 of those that have given it back.
            calls: To how many more.
        """
        with LOCK:
            if calls or lent is not NO_ROOM:
                mine = self._lent
                cost = mine.cost + lent.cost * UNITS_PER_PICO
                self._lent = Reserved(cost, mine.tokens + lent.tokens, mine.calls + calls)
            if totals is None:
                return
            self.heard_at = time.monotonic()
            is_new = totals.opened_at > self._said.opened_at  # it was forgotten, and begun again
            if totals.seq >= self._said.seq or is_new:
                before, self._said = self._said, totals
                if totals.settled != before.settled:
                    known, self._said_settled = self._said_settled, to_sums(totals.settled)
                    self.settled.add(self._said_settled, known)
            said, here = self._said, self._lent
            cost = max(0, said.held.cost * UNITS_PER_PICO - here.cost)
            now = Reserved(cost, max(0, said.held.tokens - here.tokens), max(0, said.held_calls - here.calls))
            if now != self.elsewhere:
                self._hold_elsewhere(now)

    def counted_there(self) -> Reserved:
        """Return what the ledger counts as reserved, from here and elsewhere."""
        return Reserved(*map(sum, zip(self._lent, self.elsewhere, strict=True)))

    def _hold_elsewhere(self, now: Reserved) -> None:
        before, self.elsewhere = self.elsewhere, now
        self.in_flight.fixed[MONEY] += now.cost - before.cost
        self.in_flight.fixed[TOKENS] += now.tokens - before.tokens
        self.in_flight.counted += now.calls - before.calls


def replica_of(key: str, ledger: LedgerClient) -> Replica:
    """Return the one of this process, which goes with the last account that uses it.

    A forked process begins with none: what its parent holds is held elsewhere.
    """
    name = forks.process_name, key
    with LOCK:
        found: Replica | None = ledger.replicas.get(name)
        if found is None:
            found = ledger.replicas[name] = Replica(key, ledger)
        return found
