"""A ledger in Redis, for all processes of all machines."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from steptrack_callbacks.values.errors import LedgerError

from .protocol import TIMEOUT_S, Entry, ReservationRequest, Totals, Verdict
from .redis_forms import (
    Names,
    RoundTrip,
    Writing,
    close_trip,
    look_trip,
    read_accounts,
    record_trip,
    reserve_trip,
    restore_trip,
    scan_trip,
    settle_trip,
)
from .redis_link import RedisLink, RoundTrips
from .redis_snapshot import RedisSnapshot
from .urls import redacted
from .validation import Damaged, check_entries, check_reservation, overflow, read_table

SCHEMA = 1
RESTORED_AT_ONCE = 200
_PREFIX = re.compile(r"[A-Za-z0-9_.:-]{1,64}")


class RedisStore:
    """Shared accounts and records in a Redis server or cluster.

    A call is reserved in one round trip and charged in one, each a script that Redis runs alone. All
    keys carry one hash tag, so on a cluster all are on one node. The time of leases is the server's. If the
    server loses what it had, each process tells it what it has seen, and no budget is granted twice. Every
    method raises `LedgerError` if the server does not answer in time, or not as it should.

    Args:
        url: Where the server is: `redis://[user:password@]host:6379/0`, or `rediss://` with TLS.
        timeout_s: Most seconds that a trip may take.
        prefix: Keeps deployments on one server apart.
        cluster: Whether it is a Redis Cluster.

    Attributes:
        url: Where it is, without a password.
        timeout_s: As given.

    Raises:
        ValueError: The prefix has other characters than letters, digits and `_.:-`.
        LedgerError: redis-py is not installed.
    """

    def __init__(
        self, url: str, *, timeout_s: float = TIMEOUT_S, prefix: str = "steptrack", cluster: bool = False
    ) -> None:
        if not _PREFIX.fullmatch(prefix):
            raise ValueError(f"prefix must be 1 to 64 letters, digits or _.:- and not {prefix!r}")
        self.url = redacted(url)
        self.timeout_s = timeout_s
        self._names = Names(prefix)
        self._known = RedisSnapshot()
        self._link = RedisLink(url, url=self.url, timeout_s=timeout_s, cluster=cluster)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.url!r})"

    def connect(self) -> None:
        """Begin to connect in the background, for threads and for an event loop that runs here."""
        self._link.connect()

    def reserve(self, reservation: ReservationRequest) -> Verdict:
        """Reserve room on all accounts or on none. Sent again while it holds room, its lease starts again.

        Raises:
            ValueError: The reservation is malformed; the message names what and the fix.
            LedgerError: The server did not answer in time, or not as it should. Whether it has reserved the
                room is then unknown: settle without amounts, or let the lease end.
        """
        check_reservation(reservation)
        return self._link.drive(self._reserve(reservation))

    def settle(self, entries: Sequence[Entry]) -> tuple[Totals, ...]:
        """Charge; returns the accounts that were touched, each once.

        Raises:
            ValueError: An amount or a revision is not a whole number, or too large to be kept.
            LedgerError: The server did not answer in time, or not as it should. Whether it has charged is
                then unknown: send the same entries again, they are charged once.
        """
        check_entries(entries)
        return self._link.drive(self._settle(entries))

    def look(self, keys: Sequence[str]) -> tuple[Totals, ...]:
        """Return accounts as they are now, in the order of the keys; an unknown one is all zeros.

        Raises:
            LedgerError: The server did not answer in time, or not as it should.
        """
        return self._link.drive(self._look(tuple(keys)))

    async def reserve_async(self, reservation: ReservationRequest) -> Verdict:
        """Do as `reserve`, on an event loop."""
        check_reservation(reservation)
        return await self._link.drive_async(self._reserve(reservation))

    async def settle_async(self, entries: Sequence[Entry]) -> tuple[Totals, ...]:
        """Do as `settle`, on an event loop."""
        check_entries(entries)
        return await self._link.drive_async(self._settle(entries))

    async def look_async(self, keys: Sequence[str]) -> tuple[Totals, ...]:
        """Do as `look`, on an event loop."""
        return await self._link.drive_async(self._look(tuple(keys)))

    def members(self, group: str) -> tuple[Totals, ...]:
        """Return the accounts of a group, the oldest first."""
        with self._reading():
            keys = self._command("ZRANGE", self._names.group(group)[0], 0, -1)
            found = [totals for totals in self._look_at(keys) if group and totals.group == group]
            return tuple(sorted(found, key=lambda totals: (totals.opened_at, totals.key)))

    def close(self, keys: Sequence[str]) -> None:
        """Let accounts admit no more calls, for good; unknown ones are remembered for 30 days."""
        asked = tuple(dict.fromkeys(keys))
        self._link.drive(
            self._on_accounts(asked, lambda writing, seqs: close_trip(writing, self._names, asked, seqs))
        )

    def put_record(self, record: Mapping[str, Any]) -> None:
        """Keep a record for 30 days, in place of an earlier revision of the same step."""
        self._link.drive(self._ask(lambda writing: record_trip(writing, self._names, record)))

    async def put_record_async(self, record: Mapping[str, Any]) -> None:
        """Do as `put_record`, on an event loop."""
        await self._link.drive_async(self._ask(lambda writing: record_trip(writing, self._names, record)))

    def records(self, *, run_id: str | None = None, since: float | None = None) -> list[dict[str, Any]]:
        """Return records in the order of ending; `since` is in seconds since the epoch."""
        with self._reading():
            first = "-inf" if since is None else repr(float(since))
            steps = self._command("ZRANGEBYSCORE", self._names.run(run_id), first, "+inf")
            return [read_table(text) for text in self._texts([self._names.record(step) for step in steps])]

    def charges(self, *, since: float | None = None) -> list[dict[str, Any]]:
        """Return the charges of the last two days, in the order of `at`, which `since` is compared to."""
        with self._reading():
            found = [read_table(text) for text in self._texts(sorted(set(self._keys("charge:"))))]
            found = [charge for charge in found if since is None or charge["at"] >= since]
            return sorted(found, key=lambda charge: (charge["at"], charge["id"], charge["revision"]))

    def info(self) -> dict[str, Any]:
        """Return kind, place, schema version, size, and how much of each thing is kept."""
        with self._reading():
            accounts = self.accounts()
            found = list(self._scan("", measured=True))
            kept = {key for keys, _ in found for key in keys}
            return {
                "kind": "redis",
                "url": self.url,
                "schema_version": SCHEMA,
                "size_bytes": sum(size for _, size in found),
                "accounts": len(accounts),
                "closed_accounts": sum(account.closed for account in accounts),
                "reservations": sum(account.held_calls for account in accounts),
                "charges": sum(key.startswith(self._names.tag + "charge:") for key in kept),
                "records": sum(key.startswith(self._names.tag + "record:") for key in kept),
            }

    def accounts(self) -> list[Totals]:
        """Return all accounts, by name."""
        with self._reading():
            start = len(self._names.tag + "account:")
            found = self._look_at(sorted({key[start:] for key in self._keys("account:")}))
            return [totals for totals in found if totals.seq]

    def prune(self, before: float) -> int:
        """Forget records of steps that ended before a time; returns how many. The rest goes by itself."""
        with self._reading():
            ended = self._command("ZRANGEBYSCORE", self._names.records, "-inf", f"({float(before)!r}")
            for some in _parts(ended):
                for text in self._texts([self._names.record(step) for step in some]):
                    record = read_table(text)
                    self._command("ZREM", self._names.run(str(record["run_id"])), record["id"])
                self._command("DEL", *(self._names.record(step) for step in some))
                self._command("ZREM", self._names.records, *some)
            return len(ended)

    def close_connections(self) -> None:
        """Let go of sockets; the next use opens them again. Those of an event loop are closed with it."""
        self._link.close()

    def _reserve(self, reservation: ReservationRequest) -> RoundTrips[Verdict]:
        keys = tuple([ask.key for ask in reservation.asks])
        (reason, epoch), totals = yield from self._on_accounts(
            keys, lambda writing, seqs: reserve_trip(writing, reservation, seqs)
        )
        if reason == "room" and (not reservation.grows or self._known.keys_of(reservation.id)):
            self._known.note_granted(epoch, reservation)
        return Verdict(reason=reason, totals=totals)

    def _settle(self, entries: Sequence[Entry]) -> RoundTrips[tuple[Totals, ...]]:
        named = [key for entry in entries for key in entry.keys]
        also_held = [key for entry in entries for key in self._known.keys_of(entry.id)]
        keys = tuple(dict.fromkeys(named + also_held))
        _, totals = yield from self._on_accounts(
            keys, lambda writing, seqs: settle_trip(writing, entries, keys, seqs)
        )
        self._known.note_settled(entry.id for entry in entries)
        return totals

    def _look(self, keys: tuple[str, ...]) -> RoundTrips[tuple[Totals, ...]]:
        asked = tuple(dict.fromkeys(keys))
        _, totals = yield from self._on_accounts(asked, lambda writing, seqs: look_trip(writing, asked, seqs))
        found = dict(zip(asked, totals, strict=True))
        return tuple(found[key] for key in keys)

    def _on_accounts(
        self, keys: tuple[str, ...], write: Callable[[Writing, list[int]], RoundTrip]
    ) -> RoundTrips[tuple[Any, tuple[Totals, ...]]]:
        answer = yield from self._ask(
            lambda writing: write(writing, self._known.seqs(keys, time.time())), keys
        )
        return answer[:2], self._read(keys, answer)

    def _ask(self, write: Callable[[Writing], RoundTrip], keys: tuple[str, ...] = ()) -> RoundTrips[Any]:
        """Ask until the server knows what this process knows; it forgets once, or it is of no use."""
        for _ in range(3):
            answer = _parsed((yield write(Writing(self._names, epoch=self._known.epoch))))
            if answer[0] == "epoch":
                yield from self._restore(answer[1])
            elif answer[0] == "lost":
                yield from self._restore_evicted(keys)
            else:
                return self._checked(answer)
        raise LedgerError(
            ledger=self.url, why="it loses what it is told: see to its memory, and maxmemory-policy"
        )

    def _restore(self, epoch: str) -> RoundTrips[None]:
        lost = self._known.older_than(epoch, time.time())
        for some in _parts(lost):
            keys = tuple(seen.totals.key for seen in some)
            holds = self._known.holds_on(keys, epoch=epoch, lost=False)
            writing = Writing(self._names, epoch=epoch)
            answer = _parsed((yield restore_trip(writing, self._names, some, holds, evicted=False)))
            if answer[0] == "epoch":
                return  # it has forgotten again; the next round begins with that
            self._read(keys, self._checked(answer))
        self._known.enter(epoch)

    def _restore_evicted(self, keys: tuple[str, ...]) -> RoundTrips[None]:
        epoch = self._known.epoch or ""
        seen = self._known.seen(keys)
        keys = tuple(each.totals.key for each in seen)
        holds = self._known.holds_on(keys, epoch=epoch, lost=True)
        writing = Writing(self._names, epoch=epoch)
        answer = _parsed((yield restore_trip(writing, self._names, seen, holds, evicted=True)))
        if answer[0] != "epoch":
            self._read(keys, self._checked(answer))

    def _read(self, keys: tuple[str, ...], answer: Any) -> tuple[Totals, ...]:
        _, epoch, shown = answer
        found = read_accounts(keys, shown)
        self._known.note(epoch, found)
        return tuple([totals for totals, _ in found])

    def _checked(self, answer: Any) -> Any:
        if answer[0] == "schema":
            raise LedgerError(
                ledger=self.url,
                why=f"it has schema version {answer[1]}, made by a newer steptrack-callbacks; this one"
                f" knows up to {SCHEMA}: upgrade the package, or name another prefix",
            )
        if answer[0] == "overflow":
            raise LedgerError(ledger=self.url, why=overflow(answer[2], answer[3]))
        return answer

    def _look_at(self, keys: Sequence[str]) -> list[Totals]:
        return [totals for some in _parts(keys) for totals in self.look(some)]

    def _keys(self, kind: str) -> list[str]:
        return [key for keys, _ in self._scan(kind, measured=False) for key in keys]

    def _scan(self, kind: str, *, measured: bool) -> Iterator[tuple[list[str], int]]:
        """List keys, some of them twice, with the bytes that they take."""
        cursor = "0"
        pattern = re.sub(r"([*?\[\]\\])", r"\\\1", self._names.tag + kind) + "*"
        while True:
            trip = scan_trip(self._names, cursor, pattern, measured=measured)
            cursor, size, keys = self._link.drive(_once(trip))
            yield keys, size
            if cursor == "0":
                return

    def _texts(self, keys: Sequence[str]) -> list[str]:
        found = [text for some in _parts(keys) for text in self._command("MGET", *some)]
        return [text for text in found if text is not None]

    @contextmanager
    def _reading(self) -> Generator[None]:
        """Tell what was not kept by a ledger from an error of the caller's."""
        try:
            yield
        except (Damaged, TypeError, ValueError, KeyError, AttributeError) as error:
            why = f"it keeps what no ledger keeps ({error!r:.200}): see what else writes there"
            raise LedgerError(ledger=self.url, why=why) from error

    def _command(self, *args: Any) -> Any:
        return self._link.drive(_once(RoundTrip(None, (), args)))


def _once(trip: RoundTrip) -> RoundTrips[Any]:
    return (yield trip)


def _parsed(answer: Any) -> list[Any]:
    if isinstance(answer, list) and len(answer) > 1 and isinstance(answer[0], str):
        return answer
    raise ValueError(repr(answer)[:80])


def _parts(things: Sequence[Any]) -> list[Any]:
    return [things[start : start + RESTORED_AT_ONCE] for start in range(0, len(things), RESTORED_AT_ONCE)]
