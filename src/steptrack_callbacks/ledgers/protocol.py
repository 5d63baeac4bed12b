"""What a ledger keeps and promises: accounts that outlive a process, and records of steps.

A ledger is the arbiter of shared accounts. A call reserves room on all of them together or on none,
and its charge replaces the reservation, once, however often it is sent. Money is a whole number of
pico-dollars (1e-12 US dollars) here.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any, Literal, NamedTuple, Protocol

from steptrack_callbacks.values.money import USD_PLACES, to_usd

PICO_PLACES = 12
UNITS_PER_PICO: int = 10 ** (USD_PLACES - PICO_PLACES)

TIMEOUT_S = 2.0
"""How long a trip to a ledger may take, if nothing else is said."""

COST = "cost_pico_usd"
"""The name under which amounts carry money; all other names are counts of `Usage`."""

Amounts = Mapping[str, int]
"""What is charged: money under `COST`, and counts under the names that `Usage` has for them."""

Reason = Literal["room", "full", "busy", "closed", "crowded"]


def to_pico(units: int, *, up: bool = False) -> int:
    """Turn money units into pico-dollars: to the nearest, half to even, or up.

    Example:
        >>> from steptrack_callbacks.values.money import to_units
        >>> to_pico(to_units("0.0000000000015", "x")), to_pico(to_units("0.0000000000011", "x"), up=True)
        (2, 2)
    """
    whole, rest = divmod(units, UNITS_PER_PICO)
    if up:
        return whole + bool(rest)
    return whole + (2 * rest > UNITS_PER_PICO or (2 * rest == UNITS_PER_PICO and whole % 2 == 1))


def from_pico(pico: int) -> int:
    """Turn pico-dollars into money units, exactly."""
    return pico * UNITS_PER_PICO


def pico_to_usd(pico: int) -> Decimal:
    """Turn pico-dollars into US dollars, exactly."""
    return to_usd(from_pico(pico))


class Asked(NamedTuple):
    """An amount of room: money in pico-dollars, and tokens; a call is always one call."""

    cost: int = 0
    tokens: int = 0


NO_ROOM = Asked()


@dataclass(frozen=True, slots=True, kw_only=True)
class AccountRequest:
    """What one call asks of one account.

    Attributes:
        key: The account's name in the ledger; with a window, its start is part of it.
        max_cost: The limit in pico-dollars; `None` for none.
        max_tokens: The limit in tokens; `None` for none.
        max_calls: The limit in calls; `None` for none.
        alone: What must fit if nobody else holds room on the account.
        beside: What must fit beside what others hold.
        held: What is then reserved.
        expires_at: When the account may be forgotten, in seconds since the epoch; `None` keeps it.
        group: Accounts that are listed, counted and closed together; empty for none.
        most_open: How many accounts of the group may be open at once; `None` for any number.
    """

    key: str
    max_cost: int | None = None
    max_tokens: int | None = None
    max_calls: int | None = None
    alone: Asked = NO_ROOM
    beside: Asked = NO_ROOM
    held: Asked = NO_ROOM
    expires_at: float | None = None
    group: str = ""
    most_open: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ReservationRequest:
    """A call that asks to be sent.

    Attributes:
        id: Unique to the call; its charge comes under the same.
        asks: What it asks of each account; all are granted or none.
        lease_s: Seconds after which the room comes back by itself, if the process has died.
        grows: Whether the call is in flight, and holds as much as is asked from here on, if that is more
            than it did: it is not judged, and gets nothing where it holds nothing any more.
    """

    id: str
    asks: tuple[AccountRequest, ...]
    lease_s: float
    grows: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """A charge: it takes the place of the reservation with its id.

    Attributes:
        id: The call's.
        revision: 0 for the first charge; a later report of the same call counts up, and its amounts
            are then the difference. A revision is charged once, however often it is sent.
        keys: The accounts that are charged, with or without a reservation.
        amounts: What is added; nothing at all gives the reservation back.
        expires_at: As in `AccountRequest`, by key, for accounts that the charge is the first to touch.
        detail: What else to keep of it, as plain JSON values: model, path, run; never any text of a call.
        at: When, in seconds since the epoch.
    """

    id: str
    keys: tuple[str, ...]
    amounts: Amounts = field(default_factory=dict)
    revision: int = 0
    expires_at: Mapping[str, float] = field(default_factory=dict)
    detail: Mapping[str, Any] = field(default_factory=dict)
    at: float = 0.0

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON values: what a ledger keeps of a charge."""
        return {
            "id": self.id,
            "revision": self.revision,
            "at": self.at,
            "keys": list(self.keys),
            "amounts": dict(self.amounts),
            "detail": dict(self.detail),
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Totals:
    """What a ledger knows of an account.

    Attributes:
        key: Its name.
        seq: Counts its changes, so that of two answers the newer one is known.
        settled: What was charged, by name; names without amounts may be missing.
        held: Room that calls in flight have reserved, of all processes.
        held_calls: How many calls that is.
        lapsed_calls: Reservations whose process never charged or released them.
        closed: Whether it admits no more calls.
        group: The group that it belongs to.
        opened_at: When it was first touched, in seconds since the epoch.
    """

    key: str
    seq: int = 0
    settled: Amounts = field(default_factory=dict)
    held: Asked = NO_ROOM
    held_calls: int = 0
    lapsed_calls: int = 0
    closed: bool = False
    group: str = ""
    opened_at: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What a ledger says to a reservation.

    Attributes:
        reason: `room` if it was granted; `full` if an account has no room whatever becomes of the calls
            in flight; `busy` if they could make room; `closed`; `crowded` if a group has too many open.
        totals: The accounts that were asked, as they are now, in the order of the asks.
    """

    reason: Reason
    totals: tuple[Totals, ...]

    @property
    def granted(self) -> bool:
        """Whether the call may be sent."""
        return self.reason == "room"


class Ledger(Protocol):
    """Shared accounts. Every method takes at most `timeout_s`, then raises `LedgerError`."""

    url: str
    """What it was opened with, without a password."""

    def reserve(self, reservation: ReservationRequest) -> Verdict:
        """Reserve room on all accounts or on none.

        Sent again while it holds room, it is granted as it was, or as what it has grown to, and its lease
        starts again. Of several accounts without room the gravest reason is given: `closed`, `crowded`,
        `full`, `busy`.
        """

    def settle(self, entries: Sequence[Entry]) -> tuple[Totals, ...]:
        """Charge, durably; returns the accounts that were touched, each once, those first that are named.

        All entries are charged or none. An entry without amounts only gives its reservation back, and
        leaves no trace: the call may ask again.
        """

    def look(self, keys: Sequence[str]) -> tuple[Totals, ...]:
        """Return accounts as they are now, in the order of the keys; an unknown one is all zeros."""


class AsyncLedger(Protocol):
    """The same for event loops, by ledgers that have something to wait for."""

    async def reserve_async(self, reservation: ReservationRequest) -> Verdict:
        """Do as `Ledger.reserve`."""

    async def settle_async(self, entries: Sequence[Entry]) -> tuple[Totals, ...]:
        """Do as `Ledger.settle`."""

    async def look_async(self, keys: Sequence[str]) -> tuple[Totals, ...]:
        """Do as `Ledger.look`."""

    async def put_record_async(self, record: Mapping[str, Any]) -> None:
        """Do as `Archive.put_record`."""


class PromptLedger(Protocol):
    """The same for those who would rather do something else than wait, by ledgers that can tell."""

    def try_reserve(self, reservation: ReservationRequest) -> Verdict | None:
        """Do as `Ledger.reserve`, but wait for nobody: `None` if others are in the way."""

    def try_settle(self, entries: Sequence[Entry]) -> tuple[Totals, ...] | None:
        """Do as `Ledger.settle`, likewise."""


class RemoteLedger(Protocol):
    """The same for those who will ask it soon, by ledgers that have to connect first."""

    def connect(self) -> None:
        """Begin to connect in the background, and return at once.

        It is asked for often, and in vain raises nothing: the first question will.
        """


class Groups(Protocol):
    """Accounts that belong together: the steps of a run, the runs of a key."""

    def members(self, group: str) -> tuple[Totals, ...]:
        """Return the accounts of a group, the oldest first."""

    def close(self, keys: Sequence[str]) -> None:
        """Let accounts admit no more calls, for good; unknown ones are remembered for 30 days."""


class Archive(Protocol):
    """Records of completed steps, as `CompletedStep.to_dict` gives them."""

    def put_record(self, record: Mapping[str, Any]) -> None:
        """Keep a record, in place of an earlier revision of the same step."""

    def records(self, *, run_id: str | None = None, since: float | None = None) -> list[dict[str, Any]]:
        """Return records in the order of ending; `since` is in seconds since the epoch."""

    def charges(self, *, since: float | None = None) -> list[dict[str, Any]]:
        """Return the charges that are still kept, as `Entry.to_dict` gives them, in the order of `at`."""


class Upkeep(Protocol):
    """What `steptrack ledger` does."""

    def info(self) -> dict[str, Any]:
        """Return kind, place, schema version, size, and how much of each thing is kept."""

    def accounts(self) -> list[Totals]:
        """Return all accounts, by name."""

    def prune(self, before: float) -> int:
        """Forget what has ended or expired before a time; returns how many rows that was."""


class Store(Ledger, Groups, Archive, Upkeep, Protocol):
    """Everything that a ledger of this package is."""

    def close_connections(self) -> None:
        """Let go of files and sockets; the next use opens them again."""
