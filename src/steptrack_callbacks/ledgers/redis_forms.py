"""What goes to the scripts of a Redis ledger, and how their answers are read."""

from __future__ import annotations

import hashlib
import itertools
import json
import secrets
from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from importlib import resources
from typing import Any, NamedTuple

from .protocol import NO_ROOM, AccountRequest, Asked, Entry, ReservationRequest, Totals
from .redis_snapshot import Seen
from .rules import REMEMBERED_CLOSED_S

CHARGES_KEPT_S = 2 * 86_400
"""How long Redis remembers a charge, so that it counts once if it is sent again."""

RECORDS_KEPT_S = 30 * 86_400
"""How long Redis keeps the record of a step."""

_dump = json.JSONEncoder(separators=(",", ":")).encode


class RoundTrip(NamedTuple):
    """One round trip: a script by its name with keys and arguments, or a plain command."""

    script: str | None
    keys: tuple[str, ...]
    args: tuple[Any, ...]


def command(trip: RoundTrip, *, whole: bool = False) -> tuple[Any, ...]:
    """Return what is sent for a trip: a script by its digest, or whole to a server that does not know it."""
    if trip.script is None:
        return trip.args
    text, digest = _script(trip.script)
    named = ("EVAL", text) if whole else ("EVALSHA", digest)
    return (*named, len(trip.keys), *trip.keys, *trip.args)


@cache
def _script(name: str) -> tuple[str, str]:
    folder = resources.files(__package__) / "lua"
    text = "\n".join((folder / f"{part}.lua").read_text(encoding="utf-8") for part in ("common", name))
    return text, hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest()


class Names:
    """The keys of a deployment: all in one hash tag, so that they are on one node of a cluster."""

    def __init__(self, prefix: str) -> None:
        self.tag = f"{{{prefix}}}:"
        self.meta = self.tag + "ledger"
        self.records = self.tag + "records"
        self.members = self.tag + "members:"
        self.open = self.tag + "open:"
        self._fresh = secrets.token_hex(8)
        self._epochs = itertools.count()

    def account(self, key: str) -> tuple[str, str]:
        """Return where an account is kept, and the reservations on it."""
        return f"{self.tag}account:{key}", f"{self.tag}holds:{key}"

    def group(self, group: str) -> tuple[str, str]:
        """Return where the members of a group are listed, and those of them that are open."""
        return self.members + group, self.open + group

    def charge(self, entry: Entry) -> str:
        """Return where a charge is remembered."""
        return f"{self.tag}charge:{entry.revision}:{entry.id}"

    def record(self, step: str) -> str:
        """Return where the record of a step is kept."""
        return f"{self.tag}record:{step}"

    def run(self, run_id: str | None) -> str:
        """Return where the records of a run are listed."""
        return self.records if run_id is None else f"{self.tag}run:{run_id}"

    def fresh_epoch(self) -> str:
        """Return what the server's epoch is called, should a new one begin."""
        return f"{self._fresh}-{next(self._epochs)}"


class Writing:
    """Collects the keys of a trip, and says at which place each is."""

    def __init__(self, names: Names, *, epoch: str | None) -> None:
        self._names = names
        self.keys = [names.meta]
        self._of = [""]
        self._slots: dict[str, int] = {}
        self.asked: dict[str, Any] = {"fresh": names.fresh_epoch()}
        if epoch is not None:
            self.asked["epoch"] = epoch

    def account(self, key: str) -> int:
        """Return the place of an account."""
        place = self._slots.get(key)
        if place is None:
            place = self._slots[key] = len(self.keys) + 1
            self.keys += self._names.account(key)
            self._of += (key, key)
        return place

    def group(self, group: str) -> int:
        """Return the place of a group."""
        place = "\0" + group
        if place not in self._slots:
            self._slots[place] = self._add(*self._names.group(group))
        return self._slots[place]

    def charge(self, entry: Entry) -> int:
        """Return the place of a charge."""
        place = f"\0{entry.revision}\0{entry.id}"
        if place not in self._slots:
            self._slots[place] = self._add(self._names.charge(entry))
        return self._slots[place]

    def trip(self, script: str, *args: Any) -> RoundTrip:
        """Return the trip, once all is collected."""
        self.asked["keys"] = self._of
        return RoundTrip(script, tuple(self.keys), (_dump(self.asked), *args))

    def _add(self, *keys: str) -> int:
        self.keys += keys
        self._of += [""] * len(keys)
        return len(self.keys) - len(keys) + 1


def reserve_trip(writing: Writing, reservation: ReservationRequest, seqs: list[int]) -> RoundTrip:
    """Ask for room on all accounts."""
    asks = [_ask(writing, ask) for ask in reservation.asks]
    writing.asked |= {"id": reservation.id, "lease_s": reservation.lease_s, "asks": asks, "seen": seqs}
    writing.asked["grows"] = reservation.grows
    return writing.trip("reserve")


def settle_trip(
    writing: Writing, entries: Sequence[Entry], keys: Iterable[str], seqs: list[int]
) -> RoundTrip:
    """Charge, and give back what the calls had reserved on some more accounts."""
    slots = [writing.account(key) for key in keys]
    sent = [_entry(writing, entry) for entry in entries]
    writing.asked |= {"slots": slots, "entries": sent, "seen": seqs, "kept_s": CHARGES_KEPT_S}
    return writing.trip("settle")


def look_trip(writing: Writing, keys: Iterable[str], seqs: list[int]) -> RoundTrip:
    """Ask how accounts stand."""
    writing.asked |= {"slots": [writing.account(key) for key in keys], "seen": seqs}
    return writing.trip("look")


def close_trip(writing: Writing, names: Names, keys: Iterable[str], seqs: list[int]) -> RoundTrip:
    """Close accounts."""
    writing.asked |= {
        "slots": [writing.account(key) for key in keys],
        "seen": seqs,
        "open": names.open,
        "remembered_s": REMEMBERED_CLOSED_S,
    }
    return writing.trip("close")


def restore_trip(
    writing: Writing,
    names: Names,
    seen: Iterable[Seen],
    holds: Mapping[str, Iterable[tuple[str, AccountRequest, float]]],
    *,
    evicted: bool,
) -> RoundTrip:
    """Tell the server what it has lost."""
    writing.asked |= {
        "known": [_known(writing, each, holds.get(each.totals.key, ())) for each in seen],
        "evicted": evicted,
        "members": names.members,
        "open": names.open,
    }
    return writing.trip("restore")


def record_trip(writing: Writing, names: Names, record: Mapping[str, Any]) -> RoundTrip:
    """Keep a record."""
    step = str(record["id"])
    writing.keys += [names.record(step), names.records, names.run(str(record["run_id"]))]
    writing.asked |= {
        "id": step,
        "revision": record.get("revision", 0),
        "ended_at": record["ended_at"],
        "kept_s": RECORDS_KEPT_S,
    }
    return writing.trip("record", _dump(dict(record)))


def scan_trip(names: Names, cursor: str, pattern: str, *, measured: bool) -> RoundTrip:
    """List some keys."""
    asked = {"cursor": cursor, "pattern": pattern, "measured": measured}
    return RoundTrip("scan", (names.meta,), (_dump(asked),))


def read_accounts(keys: Sequence[str], shown: str) -> list[tuple[Totals, float | None]]:
    """Read accounts as a script shows them, with when the server forgets each.

    Raises:
        ValueError: They are none.
    """
    try:
        return [_account(key, of) for key, of in zip(keys, json.loads(shown), strict=True)]
    except (TypeError, KeyError, AttributeError) as error:
        raise ValueError(f"accounts {keys!r}: {error!r}") from error


def _account(key: str, of: Mapping[str, str]) -> tuple[Totals, float | None]:
    held_calls = int(of["calls"])
    totals = Totals(
        key=key,
        seq=int(of["seq"]),
        settled={name[2:]: int(value) for name, value in of.items() if name.startswith("s:")},
        held=Asked(int(of["cost"]), int(of["tokens"])) if held_calls else NO_ROOM,
        held_calls=held_calls,
        lapsed_calls=int(of["lapsed"]),
        closed="closed" in of,
        group=of.get("group", ""),
        opened_at=float(of.get("opened", 0)),
    )
    return totals, float(of["expires"]) if "expires" in of else None


def _ask(writing: Writing, ask: AccountRequest) -> dict[str, Any]:
    sent: dict[str, Any] = {"slot": writing.account(ask.key), "alone": _asked(ask.alone)}
    if ask.beside != ask.alone:
        sent["beside"] = _asked(ask.beside)
    if ask.held != ask.alone:
        sent["held"] = _asked(ask.held)
    if ask.max_cost is not None:
        sent["max_cost"] = str(ask.max_cost)
    if ask.max_tokens is not None:
        sent["max_tokens"] = str(ask.max_tokens)
    if ask.max_calls is not None:
        sent["max_calls"] = str(ask.max_calls)
    if ask.expires_at is not None:
        sent["expires"] = _time(ask.expires_at)
    if ask.group:
        sent |= {"group": ask.group, "group_slot": writing.group(ask.group)}
        if ask.most_open is not None:
            sent["most_open"] = ask.most_open
    return sent


def _entry(writing: Writing, entry: Entry) -> dict[str, Any]:
    keys = []
    for key in dict.fromkeys(entry.keys):
        charged: dict[str, Any] = {"slot": writing.account(key)}
        if (expires_at := entry.expires_at.get(key)) is not None:
            charged["expires"] = _time(expires_at)
        keys.append(charged)
    sent: dict[str, Any] = {"id": entry.id, "keys": keys}
    if entry.amounts:
        amounts = {name: str(amount) for name, amount in entry.amounts.items()}
        sent |= {"mark": writing.charge(entry), "amounts": amounts, "kept": _dump(entry.to_dict())}
    return sent


def _known(
    writing: Writing, seen: Seen, holds: Iterable[tuple[str, AccountRequest, float]]
) -> dict[str, Any]:
    totals = seen.totals
    known: dict[str, Any] = {
        "slot": writing.account(totals.key),
        "seq": totals.seq,
        "settled": {name: str(amount) for name, amount in totals.settled.items()},
        "lapsed": totals.lapsed_calls,
        "opened": _time(totals.opened_at),
        "holds": [{"id": call, "lease_s": lease_s} | _asked(ask.held) for call, ask, lease_s in holds],
    }
    if totals.closed:
        known["closed"] = True
    if totals.group:
        known["group"] = totals.group
    if seen.expires_at is not None:
        known["expires"] = _time(seen.expires_at)
    return known


def _asked(asked: Asked) -> dict[str, str]:
    return {"cost": str(asked.cost), "tokens": str(asked.tokens)}


def _time(seconds: float) -> str:
    return f"{seconds:.6f}"
