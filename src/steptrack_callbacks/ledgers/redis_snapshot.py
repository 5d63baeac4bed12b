"""What a process knows of the accounts of a server that may forget them."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import NamedTuple

from steptrack_callbacks.concurrency.guard import Guard

from .protocol import AccountRequest, ReservationRequest, Totals

MOST_KNOWN = 10_000


class Seen(NamedTuple):
    """The newest state of an account that was seen, and in which epoch of the server."""

    epoch: str
    totals: Totals
    expires_at: float | None


class RedisSnapshot:
    """The newest accounts that a process has seen, and its own calls in flight.

    Attributes:
        epoch: Which life of the server they are of; `None` before the first answer.
    """

    def __init__(self) -> None:
        self.epoch: str | None = None
        self._seen: OrderedDict[str, Seen] = OrderedDict()
        self._ages: dict[str, int] = {}
        self._calls: OrderedDict[str, tuple[str, ReservationRequest]] = OrderedDict()
        self._lock = Guard()  # re-entrant: a garbage collection may charge while its thread is in here

    def __len__(self) -> int:
        return len(self._seen)

    def note(self, epoch: str, found: Iterable[tuple[Totals, float | None]]) -> None:
        """Remember accounts as the server has just shown them."""
        with self._lock:
            self.epoch = self.epoch or epoch
            age = self._ages.setdefault(epoch, len(self._ages))
            for totals, expires_at in found:
                earlier = self._seen.pop(totals.key, None)
                seen = Seen(epoch, totals, expires_at)
                if earlier is not None:
                    was = self._ages[earlier.epoch], earlier.totals.seq
                    seen = earlier if was > (age, totals.seq) else seen
                if seen.totals.seq:
                    self._seen[totals.key] = seen  # the newest last
            while len(self._seen) > MOST_KNOWN:
                self._seen.popitem(last=False)

    def note_granted(self, epoch: str, reservation: ReservationRequest) -> None:
        """Remember a call in flight."""
        with self._lock:
            earlier = self._calls.get(reservation.id)
            if earlier is not None:  # what it holds on other accounts, it still holds
                asks = {ask.key: ask for ask in (*earlier[1].asks, *reservation.asks)}
                reservation = replace(reservation, asks=tuple(asks.values()))
            self._calls[reservation.id] = epoch, reservation
            while len(self._calls) > MOST_KNOWN:
                self._calls.popitem(last=False)

    def note_settled(self, calls: Iterable[str]) -> None:
        """Forget calls that are in flight no more."""
        with self._lock:
            for call in calls:
                self._calls.pop(call, None)

    def keys_of(self, call: str) -> tuple[str, ...]:
        """Return the accounts on which this process has reserved room for a call."""
        with self._lock:
            found = self._calls.get(call)
        return tuple([ask.key for ask in found[1].asks]) if found else ()

    def seqs(self, keys: Sequence[str], now: float) -> list[int]:
        """Return how many changes of each account were seen; 0 for one that may have been forgotten."""
        with self._lock:
            return [self._seq(key, now) for key in keys]

    def older_than(self, epoch: str, now: float) -> list[Seen]:
        """Return what was seen in earlier epochs and has not expired."""
        with self._lock:
            for key in [key for key, seen in self._seen.items() if _expired(seen, now)]:
                del self._seen[key]
            return [seen for seen in self._seen.values() if seen.epoch != epoch]

    def seen(self, keys: Iterable[str]) -> list[Seen]:
        """Return what was seen of some accounts."""
        with self._lock:
            return [self._seen[key] for key in keys if key in self._seen]

    def holds_on(
        self, keys: Iterable[str], *, epoch: str, lost: bool
    ) -> dict[str, list[tuple[str, AccountRequest, float]]]:
        """Return what this process has reserved on accounts and the server may have lost, with the leases."""
        found: dict[str, list[tuple[str, AccountRequest, float]]] = {key: [] for key in keys}
        with self._lock:
            calls = list(self._calls.values())
        for granted_in, reservation in calls:
            for ask in reservation.asks:
                if ask.key in found and (lost or granted_in != epoch):
                    found[ask.key].append((reservation.id, ask, reservation.lease_s))
        return found

    def enter(self, epoch: str) -> None:
        """Go on in another epoch, once all that was known is back."""
        with self._lock:
            self.epoch = epoch
            self._calls.update({call: (epoch, each) for call, (_, each) in self._calls.items()})

    def _seq(self, key: str, now: float) -> int:
        seen = self._seen.get(key)
        return 0 if seen is None or seen.epoch != self.epoch or _expired(seen, now) else seen.totals.seq


def _expired(seen: Seen, now: float) -> bool:
    return seen.expires_at is not None and seen.expires_at <= now + 1  # clocks differ by a little
