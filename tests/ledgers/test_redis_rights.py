"""A Redis user with the rights that the documentation names can do everything, and one with fewer breaks no books."""

import re
from pathlib import Path

import pytest
from ledger_words import ask, at, calling, charge, spend

from steptrack_callbacks import LedgerError
from steptrack_callbacks.ledgers import open_ledger
from steptrack_callbacks.ledgers.protocol import COST

DOCS = Path(__file__).parents[2] / "docs" / "ledgers.md"
[DOCUMENTED] = re.findall(r"^ACL SETUSER .*$", DOCS.read_text(encoding="utf-8"), re.MULTILINE)
RIGHTS = re.findall(r"\+\S+", DOCUMENTED)
SOON = 4_000_000_000.0


@pytest.fixture
def admin(own_redis):
    client = own_redis.client()
    client.execute_command(*DOCUMENTED.split())
    yield client
    client.close()


@pytest.fixture
def open_as_user(own_redis, admin):
    """Open the ledger as the documented user; the books are empty then."""
    stores = []

    def opening():
        admin.flushall()
        url = own_redis.url().replace("127.0.0.1", "steptrack:PASSWORD@127.0.0.1")
        stores.append(open_ledger(url))
        return stores[-1]

    yield opening
    for store in stores:
        store.close_connections()


def kept(admin):
    """Return all that is kept but what says which store this is."""
    return {key: admin.dump(key) for key in admin.scan_iter() if not key.endswith("}:ledger")}


def reserve(store):
    """Reserve on an account that lasts, and on one of a group that expires."""
    lasting, passing = ask("team", cost=5), ask("run", cost=5, expires_at=SOON, group="runs", most_open=9)
    assert store.reserve(calling(lasting, passing, call="one")).granted


def settle(store):
    store.settle([charge("one", "team", "run", cost=3, expires_at={"run": SOON})])


def a_call(store):
    reserve(store)
    settle(store)


def test_the_documented_user_can_do_all_that_a_ledger_does(open_as_user, admin):
    store = open_as_user()
    a_call(store)
    store.put_record({"id": "step", "run_id": "run", "ended_at": 1.0})
    assert [record["id"] for record in store.records(run_id="run")] == ["step"]
    assert [charged["id"] for charged in store.charges()] == ["one"]
    assert [totals.key for totals in store.members("runs")] == ["run"]
    assert [totals.key for totals in store.accounts()] == ["run", "team"]
    assert store.info()["charges"] == 1
    assert store.prune(2.0) == 1
    store.close(["run"])
    admin.flushall()
    assert (at(store).settled[COST], at(store).settled["calls"]) == (3, 1)  # given back by who knows it


def test_what_may_be_forgotten_has_an_end_under_the_documented_user(open_as_user, admin):
    a_call(open_as_user())
    ends = {key.split("}:")[1] for key in admin.scan_iter() if admin.ttl(key) > 0}
    assert ends == {"account:run", "members:runs", "open:runs", "charge:0:one"}


@pytest.mark.parametrize("right", RIGHTS)
def test_a_right_that_is_missing_is_refused_and_changes_nothing(open_as_user, admin, right):
    store = open_as_user()
    spend(store, cost=1)
    admin.execute_command("ACL", "SETUSER", "steptrack", right.replace("+", "-").partition("|")[0])
    for work in (reserve, settle):
        before = kept(admin)
        try:
            work(store)
        except LedgerError as error:
            assert "its user may not do all that a ledger needs" in error.why
            assert kept(admin) == before
            admin.execute_command("ACL", "SETUSER", "steptrack", right)
            work(store)
    shown = at(store)
    assert (shown.settled[COST], shown.settled["calls"], shown.held_calls) == (4, 2, 0)
