"""What a process knows of a ledger's accounts, and what answers by it while the ledger is away."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Sequence
from dataclasses import replace

from .memory import MemoryStore
from .protocol import Entry, ReservationRequest, Totals, Verdict

MOST_ACCOUNTS = 2_000
"""Of how many accounts it is known what the ledger last said; those longest not heard of are let go."""


class Snapshot:
    """What a ledger has told this process: accounts as they were, and its own calls in flight.

    Whoever changes or reads it holds the lock of the accounts.

    Attributes:
        lent_here: Those of the calls that the snapshot has let go, and the ledger does not know.
    """

    def __init__(self) -> None:
        self._accounts: OrderedDict[str, Totals] = OrderedDict()
        self._lent: dict[str, ReservationRequest] = {}
        self.lent_here: dict[str, ReservationRequest] = {}

    def note(
        self, found: Iterable[Totals], lent: ReservationRequest | None = None, *, settled: Sequence[str] = ()
    ) -> None:
        """Remember accounts as the ledger has just shown them, what it has lent, and what was settled."""
        for totals in found:
            earlier = self._accounts.pop(totals.key, totals)
            newer = (totals.opened_at, totals.seq) >= (earlier.opened_at, earlier.seq)
            self._accounts[totals.key] = totals if newer else earlier
        while len(self._accounts) > MOST_ACCOUNTS:
            self._accounts.popitem(last=False)
        if lent is not None:
            self._lent[lent.id] = lent
        for call in settled:
            self._lent.pop(call, None)
            self.lent_here.pop(call, None)

    def note_lent(self, reservation: ReservationRequest, *, here: bool = False) -> None:
        """Remember a call in flight; `here` says that the snapshot has granted it, unknown to the ledger."""
        self._lent[reservation.id] = reservation
        if here:
            self.lent_here[reservation.id] = reservation

    def is_in_flight(self, call: str) -> bool:
        """Tell whether a call was lent room, and the ledger has not been told of its charge."""
        return call in self._lent

    def take_lent_here(self) -> ReservationRequest | None:
        """Return a call that the ledger is to be told of, and take it for told."""
        return self.lent_here.popitem()[1] if self.lent_here else None

    def accounts(self) -> list[Totals]:
        """Return the newest that was heard of each account."""
        return list(self._accounts.values())

    def lent(self) -> list[ReservationRequest]:
        """Return what the ledger has lent to calls in flight."""
        return list(self._lent.values())


class SnapshotStore:
    """A ledger in memory that begins with the accounts as the real one was last heard to have them.

    All steps of the process ask the same one, so what one of them spends meanwhile is spent for all. What
    other processes hold and spend it cannot know. Its answers are of no newer state than the last that
    was heard, so that those of the real ledger count as soon as it is back.

    Args:
        heard: What the ledger has told.
        owed: Charges that it has not been told.
    """

    def __init__(self, snapshot: Snapshot, owed: Sequence[Entry]) -> None:
        self._snapshot = {totals.key: totals for totals in snapshot.accounts()}
        self._store = MemoryStore()
        known = self._snapshot.values()
        self._store.settle(
            [Entry(id=f"heard {each.key}", keys=(each.key,), amounts=each.settled) for each in known]
        )
        self._store.close([each.key for each in known if each.closed])
        for reservation in snapshot.lent():
            self._store.reserve(without_limits(reservation))
        self._store.settle(owed)

    def reserve(self, reservation: ReservationRequest) -> Verdict:
        """Reserve room on all accounts or on none, by what is known here."""
        verdict = self._store.reserve(reservation)
        return replace(verdict, totals=self._told(verdict.totals))

    def settle(self, entries: Sequence[Entry]) -> tuple[Totals, ...]:
        """Charge what the ledger is owed."""
        return self._told(self._store.settle(entries))

    def look(self, keys: Sequence[str]) -> tuple[Totals, ...]:
        """Return accounts as they are known here."""
        return self._told(self._store.look(keys))

    def _told(self, found: Iterable[Totals]) -> tuple[Totals, ...]:
        return tuple(self._as_in_snapshot(totals) for totals in found)

    def _as_in_snapshot(self, totals: Totals) -> Totals:
        snapshot = self._snapshot.get(totals.key) or Totals(key=totals.key)
        return replace(totals, seq=snapshot.seq, opened_at=snapshot.opened_at)


def without_limits(reservation: ReservationRequest) -> ReservationRequest:
    """Return the reservation of a call that was sent, for which there is no asking any more."""
    asks = (
        replace(ask, max_cost=None, max_tokens=None, max_calls=None, most_open=None)
        for ask in reservation.asks
    )
    return replace(reservation, asks=tuple(asks))
