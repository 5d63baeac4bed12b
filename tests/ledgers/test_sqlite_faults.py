"""A SQLite ledger in trouble says what it is, and its books are right afterwards."""

import asyncio
import gc
import os
import shutil
import sqlite3
import threading

import pytest
from ledger_words import ask, at, calling, charge, spend

from steptrack_callbacks import LedgerError
from steptrack_callbacks.ledgers import open_ledger, sqlite_schema
from steptrack_callbacks.ledgers.protocol import COST
from steptrack_callbacks.ledgers.sqlite import SqliteStore


@pytest.fixture
def path(tmp_path):
    return tmp_path / "steps.db"


@pytest.fixture
def store(path):
    opened = SqliteStore(path, timeout_s=0.05)
    yield opened
    opened.close_connections()


def refused(work, *args):
    with pytest.raises(LedgerError) as caught:
        work(*args)
    assert caught.value.__cause__ is not None or "locked" in caught.value.why or "mode=ro" in caught.value.why
    return caught.value


def test_a_full_disk_refuses_and_nothing_is_half_done(store):
    spend(store, cost=1)
    db = store._file._shelf.db
    db.execute(f"PRAGMA max_page_count = {db.execute('PRAGMA page_count').fetchone()[0]}")
    before = store.accounts()
    charged = 0
    with pytest.raises(LedgerError, match="disk is full") as caught:
        while charged < 500:
            store.settle([charge(f"big-{charged}", "team", "other", cost=1, detail={"path": "x" * 2000})])
            charged += 1
    assert isinstance(caught.value.__cause__, sqlite3.OperationalError)
    assert caught.value.ledger == store.url
    assert at(store).settled[COST] == 1 + charged
    assert at(store, "other").settled.get(COST, 0) == charged
    assert len(store.charges()) == 1 + charged
    assert before[0].settled[COST] == 1
    db.execute("PRAGMA max_page_count = 1000000")
    store.settle([charge(f"big-{charged}", "team", "other", cost=1)])
    assert at(store).settled[COST] == 2 + charged


def test_a_locked_file_is_waited_for_and_then_refused(store, path):
    spend(store, cost=1)
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN EXCLUSIVE")
    for work in (lambda: store.reserve(calling(ask())), lambda: spend(store, cost=1)):
        error = refused(work)
        assert error.why.startswith("it was locked by others for 0.05 s; nothing was changed")
    assert at(store).settled[COST] == 1  # readers wait for nobody
    other.execute("ROLLBACK")
    assert spend(store, cost=1).settled[COST] == 2
    other.close()


def test_a_charge_waits_for_another_writer_to_be_done(path):
    store = SqliteStore(path, timeout_s=30)
    spend(store, cost=1)
    other = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    other.execute("BEGIN IMMEDIATE")
    begun = threading.Event()

    def work():
        begun.set()
        spend(store, cost=1)

    thread = threading.Thread(target=work)
    thread.start()
    begun.wait()
    other.execute("COMMIT")
    thread.join()
    assert at(store).settled[COST] == 2
    other.close()
    store.close_connections()


def test_an_event_loop_goes_on_while_a_charge_waits(path):
    store = SqliteStore(path, timeout_s=30)
    spend(store, cost=1)
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")

    async def run():
        task = asyncio.create_task(store.settle_async([charge(cost=1)]))
        reserving = asyncio.create_task(store.reserve_async(calling(ask())))
        for _ in range(10):
            await asyncio.sleep(0)
        assert not task.done()
        other.execute("COMMIT")
        return await task, await reserving

    (charged,), verdict = asyncio.run(run())
    assert (charged.settled[COST], verdict.granted) == (2, True)
    other.close()
    store.close_connections()


def test_a_folder_that_is_not_there_is_named_and_used_once_it_is(tmp_path):
    store = SqliteStore(tmp_path / "no" / "such" / "steps.db")
    error = refused(store.look, ["team"])
    assert "see that its folder exists" in error.why
    assert "no/such/steps.db" in str(error)
    (tmp_path / "no" / "such").mkdir(parents=True)
    assert spend(store, cost=1).settled[COST] == 1
    store.close_connections()


def test_a_file_that_is_taken_away_is_not_begun_anew(store, path, tmp_path):
    spend(store, cost=5)
    store.close_connections()
    spend(store, cost=5)
    shutil.move(path, tmp_path / "aside.db")
    for suffix in ("-wal", "-shm"):
        shutil.move(f"{path}{suffix}", tmp_path / f"aside.db{suffix}")
    error = refused(lambda: spend(store, cost=1))
    assert error.why == "the file was taken away: put it back"
    assert not path.exists()
    for suffix in ("", "-wal", "-shm"):
        shutil.move(tmp_path / f"aside.db{suffix}", f"{path}{suffix}")
    assert spend(store, cost=1).settled[COST] == 11


def test_a_file_that_is_put_in_its_place_is_used(store, path, tmp_path):
    spend(store, cost=5)
    with_more = SqliteStore(tmp_path / "other.db")
    spend(with_more, cost=70)
    with_more.close_connections()
    (tmp_path / "other.db").replace(path)
    for suffix in ("-wal", "-shm"):
        path.with_name(path.name + suffix).unlink(missing_ok=True)
    assert spend(store, cost=1).settled[COST] == 71


def test_a_file_that_may_only_be_read_refuses_to_be_written(store, path):
    spend(store, cost=1)
    if os.geteuid() == 0:  # nothing is forbidden to root by the mode of a file
        store._file._shelf.db.execute("PRAGMA query_only = 1")
    else:
        store.close_connections()
        path.chmod(0o444)
        path.parent.chmod(0o555)
    error = refused(lambda: spend(store, cost=1))
    assert "may not be written to" in error.why
    path.parent.chmod(0o755)
    path.chmod(0o644)
    assert spend(store, cost=1).settled[COST] == 2


def test_a_ledger_that_is_opened_to_be_read_shows_everything_and_changes_nothing(store, path, clock):
    store.reserve(calling(ask(cost=3), lease_s=60))
    spend(store, cost=1)
    store.put_record({"id": "a", "run_id": "r", "ended_at": 1.0, "revision": 0})
    reading = open_ledger(f"sqlite:///{path}?mode=ro")
    assert reading.accounts() == store.accounts()
    assert reading.look(["team"]) == store.look(["team"])
    assert (len(reading.records()), len(reading.charges()), reading.info()["accounts"]) == (1, 1, 1)
    error = refused(lambda: spend(reading, cost=1))
    assert "mode=ro" in error.why
    reading.close_connections()
    store.close_connections()
    assert reading.look(["team"])[0].settled[COST] == 1  # nobody else has it open
    reading.close_connections()


def test_a_ledger_that_is_opened_to_be_read_is_never_made(tmp_path):
    reading = open_ledger(f"sqlite:///{tmp_path}/none.db?mode=ro")
    assert "cannot be opened" in refused(reading.accounts).why
    assert list(tmp_path.iterdir()) == []


def test_a_file_of_another_program_is_refused_and_left_as_it_is(store, path):
    other = sqlite3.connect(path)
    other.execute("CREATE TABLE guests (name TEXT)")
    other.close()
    before = path.read_bytes()
    assert refused(store.look, ["team"]).why == "it is not a steptrack ledger; name another file"
    assert path.read_bytes() == before
    assert sorted(each.name for each in path.parent.iterdir()) == [path.name]


def test_a_file_that_is_no_database_is_refused_and_left_as_it_is(store, path):
    path.write_text("name,price\n" * 100)
    error = refused(lambda: spend(store, cost=1))
    assert error.why == "it is not a steptrack ledger; name another file"
    assert isinstance(error.__cause__, sqlite3.DatabaseError)
    assert path.read_text() == "name,price\n" * 100


def test_a_folder_is_no_ledger(tmp_path):
    assert "cannot be opened" in refused(SqliteStore(tmp_path).look, ["team"]).why


def test_a_file_whose_tables_are_declared_in_what_is_no_text_is_damaged(store, path):
    spend(store, cost=1)
    store.close_connections()
    content = path.read_bytes()
    assert b"CREATE TABLE accounts" in content
    path.write_bytes(content.replace(b"CREATE TABLE accounts", b"CREATE TABL\xc5 accounts"))
    error = refused(store.look, ["team"])
    assert error.why == "the file is damaged: put a copy of it back, or name another file"
    assert isinstance(error.__cause__, UnicodeDecodeError)


def test_a_damaged_file_says_so(store, path):
    for number in range(200):
        spend(store, f"account-{number}", cost=1)
    store.close_connections()
    with path.open("r+b") as file:
        file.seek(4096)
        file.write(b"\xff" * (path.stat().st_size - 4096))
    assert "damaged" in refused(store.accounts).why


def test_a_file_of_a_newer_version_is_refused(store, path):
    spend(store, cost=1)
    store.close_connections()
    other = sqlite3.connect(path)
    other.execute("PRAGMA user_version = 99")
    other.close()
    why = refused(store.look, ["team"]).why
    assert why.startswith("it has schema version 99, made by a newer steptrack-callbacks")


def test_an_older_file_is_brought_up_to_date_and_keeps_what_it_has(store, path, monkeypatch):
    spend(store, cost=4)
    store.close_connections()
    newer = [*sqlite_schema.UPGRADES, ("ALTER TABLE accounts ADD COLUMN note TEXT", "CREATE TABLE notes (n)")]
    monkeypatch.setattr(sqlite_schema, "UPGRADES", newer)
    assert at(store).settled[COST] == 4
    db = sqlite3.connect(path)
    assert db.execute("PRAGMA user_version").fetchone() == (2,)
    assert db.execute("SELECT count(*) FROM notes").fetchone() == (0,)
    db.close()


def test_an_upgrade_that_fails_leaves_the_older_file(store, path, monkeypatch):
    spend(store, cost=4)
    store.close_connections()
    with monkeypatch.context() as patched:
        broken = [*sqlite_schema.UPGRADES, ("CREATE TABLE notes (n)", "CREATE TABLE notes (n)")]
        patched.setattr(sqlite_schema, "UPGRADES", broken)
        assert "SQLite says: table notes already exists" in refused(store.look, ["team"]).why
    assert at(store).settled[COST] == 4
    assert store.info()["schema_version"] == 1


def test_an_empty_file_of_ours_is_version_nothing_and_becomes_a_ledger(store, path):
    db = sqlite3.connect(path)
    db.execute(f"PRAGMA application_id = {sqlite_schema.APPLICATION_ID}")
    db.close()
    assert spend(store, cost=1).settled[COST] == 1


def test_many_who_make_the_file_at_once_make_it_once(path):
    stores = [SqliteStore(path, timeout_s=30) for _ in range(6)]
    barrier, errors = threading.Barrier(6), []

    def work(store):
        barrier.wait()
        try:
            spend(store, cost=1)
        except Exception as error:
            errors.append(error)

    threads = [threading.Thread(target=work, args=(each,)) for each in stores]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    assert at(stores[0]).settled[COST] == 6
    for each in stores:
        each.close_connections()


def test_details_that_are_no_json_are_the_callers_error_and_charge_nothing(store):
    with pytest.raises(TypeError, match="not JSON serializable"):
        store.settle([charge("one", cost=1, detail={"path": object()})])
    assert at(store).seq == 0
    assert store.settle([charge("one", cost=1)])[0].settled[COST] == 1


def test_a_forked_child_and_its_parent_both_charge(store):
    """The connection is closed before a fork: SQLite's locks would not survive it."""
    spend(store, cost=1)
    working, stop = threading.Event(), threading.Event()

    def keep_charging():
        while not stop.is_set():
            spend(store, "busy", cost=1)
            working.set()

    thread = threading.Thread(target=keep_charging)
    thread.start()
    working.wait()
    store._file._timeout_s = store.timeout_s = 30
    for number in range(5):
        child = os.fork()
        if not child:
            code = 1
            try:
                store.settle([charge(f"child-{number}", cost=1)])
                code = 0
            finally:
                os._exit(code)
        assert os.waitpid(child, 0)[1] == 0
    stop.set()
    thread.join()
    assert spend(store, cost=1).settled[COST] == 7
    assert at(store, "busy").settled["calls"] == len([c for c in store.charges() if c["keys"] == ["busy"]])


def test_no_connection_is_open_while_a_process_forks(store):
    spend(store, cost=1)
    child = os.fork()
    if not child:
        os._exit(0 if store._file._shelf is None else 1)
    assert store._file._shelf is None
    assert os.waitpid(child, 0)[1] == 0
    assert at(store).settled[COST] == 1


@pytest.mark.parametrize("kind", ["memory:", "sqlite"])
def test_a_charge_from_a_garbage_collection_inside_the_ledger_is_not_lost(kind, path, monkeypatch):
    from steptrack_callbacks.ledgers import rules

    store = open_ledger("memory:" if kind == "memory:" else f"sqlite:///{path}")

    class Stream:
        def __del__(self):
            store.settle([charge("of-the-stream", cost=5)])

    def with_collection(*args, **how):
        patched.undo()
        cycle = Stream()
        cycle.itself = cycle
        del cycle
        gc.collect()
        return settle(*args, **how)

    settle = rules.settle
    with monkeypatch.context() as patched:
        patched.setattr(rules, "settle", with_collection)
        store.settle([charge("one", cost=1)])
    assert at(store).settled == {COST: 6, "calls": 2, "input_tokens": 0, "output_tokens": 0}
    store.close_connections()


def test_a_ledger_that_nobody_has_any_more_closes_its_file(tmp_path):
    ledger = open_ledger(f"sqlite:///{tmp_path}/books.db")
    ledger.accounts()
    connection = ledger._file._shelf.db
    del ledger
    gc.collect()
    with pytest.raises(sqlite3.ProgrammingError, match="closed"):
        connection.execute("SELECT 1")
