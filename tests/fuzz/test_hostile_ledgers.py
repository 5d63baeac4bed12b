"""Whatever a ledger's file, server or address holds: an answer that makes sense, or our own error."""

from __future__ import annotations

import itertools
import json
import socketserver
import sqlite3
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hostile import TEXTS, anything, tried
from hypothesis import assume, example, given
from hypothesis import strategies as st

from spending import spend
from steptrack_callbacks import Budget, LedgerError, step
from steptrack_callbacks.ledgers import current, open_ledger
from steptrack_callbacks.ledgers.protocol import (
    COST,
    AccountRequest,
    Asked,
    Entry,
    ReservationRequest,
    Totals,
)

KEY = "budget::0:team"


def works(store: Any) -> list[Callable[[], Any]]:
    """Everything that is done with a ledger."""
    reservation = ReservationRequest(
        id="call",
        asks=(AccountRequest(key=KEY, max_cost=10**15, held=Asked(5, 5)), AccountRequest(key="new")),
        lease_s=60,
    )
    entry = Entry(id="call", keys=(KEY, "new"), amounts={COST: 5, "calls": 1}, at=1.0)
    return [
        lambda: store.look([KEY, "unknown"]),
        lambda: store.reserve(reservation).totals,
        lambda: store.settle([entry]),
        store.records,
        store.charges,
        store.info,
        store.accounts,
        lambda: store.members("group"),
        lambda: store.close(["new"]),
        lambda: store.put_record({"id": "x", "run_id": "x", "ended_at": 1.0, "revision": 1}),
        lambda: store.prune(2.0),
        lambda: store.look([KEY]),
    ]


def assert_sane_or_refused(store: Any) -> None:
    for work in works(store):
        try:
            found = work()
        except LedgerError:
            continue
        for totals in found if isinstance(found, list | tuple) else ():
            if isinstance(totals, Totals):
                amounts = [
                    *totals.settled.values(),
                    *totals.held,
                    totals.held_calls,
                    totals.seq,
                    totals.lapsed_calls,
                ]
                assert all(type(amount) is int for amount in amounts), totals


# SQLite


@pytest.fixture(scope="module")
def good_file(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """A ledger with a bit of everything in it, all of it in the file itself."""
    path = tmp_path_factory.mktemp("good") / "steps.db"
    current.use(f"sqlite:///{path}")
    for number in range(20):
        with step("plan", budgets=[Budget("team", max_usd=10**6)], run_id=f"run-{number % 3}"):
            spend(100, 50, cost_usd=0.125)
    current.ledger().store.reserve(
        ReservationRequest(id="open", asks=(AccountRequest(key=KEY, held=Asked(7, 7)),), lease_s=900)
    )
    current.reset()
    database = sqlite3.connect(path)
    database.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    database.close()
    return Bytes(path.read_bytes())


class Bytes(bytes):
    """So many that nobody wants to read them."""

    def __repr__(self) -> str:
        return f"<{len(self)} bytes>"


_names = (f"{number}.db" for number in itertools.count())


def assert_file_is_handled(content: bytes, folder: Path) -> None:
    path = folder / next(_names)
    path.write_bytes(content)
    store = open_ledger(f"sqlite:///{path}?timeout_s=0.02")
    try:
        assert_sane_or_refused(store)
    finally:
        store.close_connections()
        for left in folder.glob(f"{path.name}*"):
            left.unlink()


PLACES_IN_FILE = st.integers(0, 10**6)


@given(place=PLACES_IN_FILE)
@tried(25)
def test_a_file_that_was_cut_off_is_refused_or_read(place: int, good_file: bytes, tmp_path: Path) -> None:
    assert_file_is_handled(good_file[: place % len(good_file)], tmp_path)


@given(flips=st.lists(st.tuples(PLACES_IN_FILE, st.integers(0, 7)), min_size=1, max_size=40))
@tried()
def test_a_file_with_flipped_bits_is_refused_or_read(
    flips: list[tuple[int, int]], good_file: bytes, tmp_path: Path
) -> None:
    content = bytearray(good_file)
    for place, bit in flips:
        content[place % len(content)] ^= 1 << bit
    assert_file_is_handled(bytes(content), tmp_path)


COLUMNS = [
    (table, column)
    for table, columns in {
        "accounts": "seq settled held_cost held_tokens held_calls lapsed_calls lapse_at closed opened_at expires_at",
        "holds": "cost tokens until",
        "charges": "revision at keys amounts detail",
        "records": "revision ended_at record",
    }.items()
    for column in columns.split()
]  # fmt: skip
CELLS = st.sampled_from(
    [None, -1, 2**63 - 1, -(2**63), 1.5, float("inf"), float("nan"), "", "x", "{}", "[]", '{"calls": "x"}', b"\xff", "1",
     '{"cost_pico_usd": 1e400}', '{"cost_pico_usd": null}', '{"calls": 1.5}', "[" * 5000, '{"calls": true}', "5e3"]
)  # fmt: skip


@given(place=st.sampled_from(COLUMNS), cell=CELLS)
@example(place=("accounts", "settled"), cell="[" * 5000)
@tried(120)
def test_a_cell_that_another_program_wrote_is_refused_or_read(
    place: tuple[str, str], cell: Any, good_file: bytes, tmp_path: Path
) -> None:
    table, column = place
    path = tmp_path / next(_names)
    path.write_bytes(good_file)
    database = sqlite3.connect(path)
    try:
        with database:
            database.execute(f"UPDATE {table} SET {column} = ?", (cell,))
    except sqlite3.Error:
        return  # its schema does not take it
    finally:
        database.close()
    assert_file_is_handled(path.read_bytes(), tmp_path)


@given(content=st.binary(max_size=3000))
@tried(25)
def test_a_file_that_was_never_ours_is_refused_and_left_alone(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / next(_names)
    path.write_bytes(content)
    store = open_ledger(f"sqlite:///{path}")
    if len(content) > 1:  # SQLite takes a file of one byte for an empty one
        for work in works(store):
            with pytest.raises(LedgerError):
                work()
        assert path.read_bytes() == content
    store.close_connections()


# Redis


class Parrot(socketserver.ThreadingTCPServer):
    """A server that answers every command with the same bytes."""

    daemon_threads = True
    allow_reuse_address = True
    reply = b""


class _Session(socketserver.BaseRequestHandler):
    server: Parrot

    def handle(self) -> None:
        with_reset = ConnectionError
        try:
            while self.request.recv(65536):
                self.request.sendall(self.server.reply)
                if not self.server.reply:
                    return
        except with_reset:
            return


@pytest.fixture(scope="module")
def parrot() -> Iterator[Parrot]:
    with Parrot(("127.0.0.1", 0), _Session) as server:
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        yield server
        server.shutdown()


def resp(value: Any) -> bytes:
    """Put a value on the wire as Redis would."""
    if value is None:
        return b"$-1\r\n"
    if isinstance(value, list):
        return b"*%d\r\n" % len(value) + b"".join(map(resp, value))
    if isinstance(value, int):
        return b":%d\r\n" % value
    text = str(value).encode("utf-8", "replace")
    return b"$%d\r\n%s\r\n" % (len(text), text)


WORDS = st.sampled_from(
    ["room", "full", "busy", "epoch", "lost", "overflow", "schema", "abc", "seq", "calls", "cost", "tokens", "lapsed",
     "s:calls", "s:cost_pico_usd", "1", "-5", "1e400", "nan", "0", "{}", "null", "9" * 400]
)  # fmt: skip
REPLIES = st.recursive(
    WORDS | st.none() | st.integers(-5, 2**62) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=7),
    max_leaves=20,
)
LIKELY = st.tuples(WORDS, WORDS | st.integers(0, 3), st.lists(st.lists(WORDS, max_size=12), max_size=2)).map(
    list
)


@given(reply=REPLIES.map(resp) | LIKELY.map(resp) | st.binary(max_size=40).map(lambda raw: raw + b"\r\n"))
@example(reply=b"-ERR no\r\n")
@example(reply=b"*-1\r\n")
@example(reply=b"$9999999999\r\nx\r\n")
@tried(60)
def test_a_server_that_answers_anything_is_refused_or_read(reply: bytes, parrot: Parrot) -> None:
    parrot.reply = reply
    store = open_ledger(f"redis://127.0.0.1:{parrot.server_address[1]}/0?timeout_s=0.05")
    try:
        for work in works(store)[:4]:
            with pytest.raises(LedgerError) as refused:
                found = work()
                assert_are_totals(found)
                raise LedgerError(ledger="", why="it was read")
            assert refused.value.why
    finally:
        store.close_connections()


def assert_are_totals(found: Any) -> None:
    for totals in found:
        if isinstance(totals, Totals):
            assert all(type(amount) is int for amount in totals.settled.values())


# Addresses

SECRET = "hunter2hunter2"  # noqa: S105 - it must be nowhere
PLACES = st.sampled_from(["", "localhost", "localhost:6379", "[::1]", "h:99999", "h/0", "h/x", "\0", "//"])
SCHEMES = st.sampled_from(
    [
        "redis://",
        "rediss://",
        "redis:",
        "mysql://",
        "mysql:",
        "sqlite://",
        "sqlite:///",
        "http://",
        "memory:",
        "",
    ]
)
USERS = st.sampled_from(
    [f":{SECRET}@", f"me:{SECRET}@", f"me:a@{SECRET}@", f"me:{SECRET}#@", f"me:{SECRET}/@", f"me:?{SECRET}@"]
)
QUERIES = st.sampled_from(
    [
        "",
        f"?password={SECRET}",
        f"?ssl_password={SECRET}",
        f"?timeout_s=0&token={SECRET}",
        f"?api_key={SECRET}",
    ]
)


@given(scheme=SCHEMES, user=USERS | st.just(""), place=PLACES, query=QUERIES)
@tried(200)
def test_a_password_in_an_address_is_never_told(scheme: str, user: str, place: str, query: str) -> None:
    assume(not (scheme == "sqlite:///" and user))  # that is the name of a file
    url = f"{scheme}{user}{place}{query}"
    try:
        store = open_ledger(url)
    except (ValueError, LedgerError) as error:
        said = f"{error} {error!r} {error.__cause__} {error.__context__ if not error.__suppress_context__ else ''}"
    else:
        said = f"{store.url} {store!r}"
        store.close_connections()
    assert SECRET not in said, url


@given(
    url=st.text(max_size=40)
    | st.sampled_from([f"{kind}{text}" for kind in ("sqlite:///", "redis://", "memory:") for text in TEXTS])
    | anything
)
@tried()
def test_any_address_is_opened_or_refused(url: Any) -> None:
    try:
        store = open_ledger(url)
    except (ValueError, LedgerError):
        return
    assert json.dumps(store.url)
    store.close_connections()


def test_a_name_that_no_ledger_can_hold_stops_nobody_else(tmp_path: Path) -> None:
    """Half a surrogate pair has no place in UTF-8."""
    current.use(f"sqlite:///{tmp_path}/steps.db")
    team = Budget("team", max_usd=1000)
    with step("plan\ud800", budgets=[team]):
        spend(1, 1, cost_usd=1)
    with step("plan", budgets=[team]):
        spend(1, 1, cost_usd=1)
    current.ledger().flush()
    (totals,) = current.ledger().store.look([KEY])
    assert (totals.settled["calls"], current.ledger().owed) == (2, 0)


def test_a_charge_larger_than_any_ledger_can_store_stops_nobody_else_and_is_not_forgotten(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    current.use(f"sqlite:///{tmp_path}/steps.db")
    lied_to, team = Budget("lied-to", max_usd=9 * 10**6, enforce="observe"), Budget("team", max_usd=1000)
    with step("plan", budgets=[lied_to]) as plan:
        for _ in range(12):
            spend(1, 1, cost_usd=10**6)
        assert plan.budgets[0].settled.calls == 12
        assert plan.cost_usd == 12 * 10**6
    with step("plan", budgets=[team]):
        spend(1, 1, cost_usd=1)
    (totals, other) = current.ledger().store.look([KEY, "budget::0:lied-to"])
    assert (totals.settled["calls"], other.settled["calls"]) == (1, 9)
    assert (current.ledger().owed, current.ledger().unkept) == (0, 3)
    assert caplog.text.count("counts in this process only") == 3
