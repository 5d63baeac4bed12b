"""A Redis ledger in trouble says what it is, and its books are right afterwards."""

import asyncio
import os
import socket
import sys
import threading
import time
from contextlib import contextmanager
from dataclasses import replace

import pytest
from ledger_words import ask, at, calling, charge, release, spend

from redis_servers import free_port
from steptrack_callbacks import LedgerError
from steptrack_callbacks.ledgers import open_ledger, redis_loop, redis_snapshot
from steptrack_callbacks.ledgers.protocol import COST, Asked


@pytest.fixture
def client(redis_server):
    opened = redis_server.client()
    yield opened
    opened.close()


@pytest.fixture
def opened():
    """Open ledgers that are closed with the test."""
    stores = []

    def opening(url):
        stores.append(open_ledger(url))
        return stores[-1]

    yield opening
    for store in stores:
        store.close_connections()


def refused(work, *args):
    with pytest.raises(LedgerError) as caught:
        work(*args)
    return caught.value


class Proxy:
    """A wire to a server, which may be held so that nothing comes back over it."""

    def __init__(self, port):
        self.target = port
        self.open = threading.Event()
        self.open.set()
        self.listening = socket.create_server(("127.0.0.1", 0))
        self.port = self.listening.getsockname()[1]
        self.sockets = []
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self):
        while True:
            try:
                near, _ = self.listening.accept()
            except OSError:
                return
            far = socket.create_connection(("127.0.0.1", self.target))
            self.sockets += [near, far]
            threading.Thread(target=self.carry, args=(near, far, False), daemon=True).start()
            threading.Thread(target=self.carry, args=(far, near, True), daemon=True).start()

    def carry(self, source, target, held):
        try:
            while data := source.recv(65536):
                if held:
                    self.open.wait()
                target.sendall(data)
        except OSError:
            pass

    def close(self):
        self.open.set()
        self.listening.close()
        for each in self.sockets:
            each.close()


@pytest.fixture
def proxy(redis_server):
    wire = Proxy(redis_server.port)
    yield wire
    wire.close()


@contextmanager
def answering(reply):
    """Listen where a Redis should, and answer everything with the same bytes."""
    listening = socket.create_server(("127.0.0.1", 0))

    def serve():
        while True:
            try:
                near, _ = listening.accept()
                with near:
                    while near.recv(65536):
                        near.sendall(reply)
            except OSError:
                return

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    yield listening.getsockname()[1]
    listening.shutdown(socket.SHUT_RDWR)
    listening.close()


def test_a_server_that_is_away_at_the_start_is_named_and_used_once_it_is_there(serving, opened):
    server = serving()
    store = opened(server.url())
    error = refused(spend, store)
    assert error.why.startswith("it cannot be reached")
    assert type(error.__cause__).__module__ == "redis.exceptions"
    assert asyncio.run(caught_async(store)).why.startswith("it cannot be reached")
    server.start()
    assert spend(store, cost=1).settled[COST] == 1


async def caught_async(store):
    with pytest.raises(LedgerError) as caught:
        await store.settle_async([charge(cost=1)])
    return caught.value


def test_a_server_that_goes_away_in_the_middle_and_comes_back_with_its_books(serving, opened):
    server = serving("--appendonly", "yes", "--appendfsync", "always").start()
    store = opened(server.url())
    store.reserve(calling(ask(cost=5), call="one"))
    spend(store, cost=1)
    server.kill()
    entry = charge("one", cost=4)
    assert refused(store.settle, [entry]).why.startswith("it cannot be reached")
    server.start()
    assert store.settle([entry])[0].settled[COST] == 5
    (charged,) = store.settle([entry])
    assert (charged.settled[COST], charged.held_calls) == (5, 0)


def test_a_server_that_restarts_empty_is_told_what_each_process_knows_and_no_more(own_redis, opened):
    first, second, third = (opened(own_redis.url()) for _ in range(3))
    spend(first, cost=60)
    second.look(["team"])  # knows of 60
    spend(third, cost=40)  # knows of 100
    spend(third, "other", cost=9)
    own_redis.restart_empty()
    newcomer = opened(own_redis.url())
    assert spend(newcomer, cost=5).settled[COST] == 5  # knows of nothing
    assert at(second).settled[COST] == 65
    assert at(third).settled[COST] == 105
    assert at(first).settled[COST] == 105
    assert spend(first, cost=1).settled[COST] == 106
    assert at(newcomer, "other").settled[COST] == 9
    assert at(newcomer).settled["calls"] == 4
    assert at(newcomer).seq > 2


def test_what_a_process_learns_while_it_puts_back_it_puts_back_the_next_time(own_redis, opened):
    first, second = opened(own_redis.url()), opened(own_redis.url())
    spend(first, "a", cost=60)
    spend(first, "b", cost=60)
    spend(second, "b", cost=40)
    own_redis.restart_empty()
    assert at(second, "b").settled[COST] == 100
    assert at(first, "a").settled[COST] == 60  # and learns of b
    second.close_connections()
    own_redis.restart_empty()
    assert at(first, "a").settled[COST] == 60
    assert at(opened(own_redis.url()), "b").settled[COST] == 100


def test_a_budget_is_not_granted_twice_by_a_server_that_restarts_empty(own_redis, opened):
    store = opened(own_redis.url())
    spend(store, cost=10)
    own_redis.restart_empty()
    assert store.reserve(calling(ask(max_cost=10))).reason == "full"
    own_redis.restart_empty()
    assert store.reserve(calling(ask(max_cost=10))).reason == "full"
    assert store.settle([charge(cost=1)])[0].settled[COST] == 11


def test_calls_in_flight_hold_their_room_again_after_an_empty_restart(own_redis, opened):
    store = opened(own_redis.url())
    store.reserve(calling(ask(cost=6, max_cost=10), call="one"))
    store.reserve(calling(ask(cost=1, max_cost=10), call="done"))
    store.settle([charge("done", cost=1)])
    own_redis.restart_empty()
    assert store.reserve(calling(ask(cost=4, max_cost=10))).reason == "busy"
    assert at(store).held == Asked(6, 0)
    own_redis.restart_empty()
    (charged,) = store.settle([charge("one", cost=2)])
    assert (charged.held_calls, charged.settled[COST]) == (0, 3)
    assert store.reserve(calling(ask(cost=7, max_cost=10))).reason == "room"


def test_calls_that_have_grown_hold_all_of_it_again_after_an_empty_restart(own_redis, opened):
    store = opened(own_redis.url())
    store.reserve(calling(ask(cost=1, max_cost=10), call="one"))
    store.reserve(replace(calling(ask(cost=9, max_cost=10), call="one"), grows=True))
    own_redis.restart_empty()
    assert at(store).held == Asked(9, 0)
    store.settle([charge("one", cost=2)])
    store.reserve(replace(calling(ask(cost=9, max_cost=10), call="one"), grows=True))
    own_redis.restart_empty()
    assert (at(store).held, at(store).settled[COST]) == (Asked(0, 0), 2)


def test_what_was_closed_grouped_and_lasting_is_so_again_after_an_empty_restart(own_redis, opened, clock):
    store = opened(own_redis.url())
    store.reserve(calling(ask("a", group="run", expires_at=clock() + 60), ask("b", group="run")))
    store.close(["a"])
    own_redis.restart_empty()
    assert store.reserve(calling(ask("a"))).reason == "closed"
    assert store.look(["b"])[0].group == "run"
    assert {shown.key for shown in store.members("run")} == {"a", "b"}
    client = own_redis.client()
    assert 0 < client.pttl("{steptrack}:account:a") <= 60_000
    assert client.pttl("{steptrack}:account:b") == -1
    client.close()


def test_a_server_that_restarts_with_an_older_copy_is_told_the_difference(serving, opened):
    server = serving().start()
    store, other = opened(server.url()), opened(server.url())
    spend(store, cost=10)
    other.look(["team"])
    client = server.client()
    client.save()
    spend(store, cost=7)
    server.restart_empty()  # which loads the copy that was saved
    assert client.dbsize() > 0
    assert spend(other, cost=1).settled[COST] == 11
    assert at(store).settled[COST] == 18
    assert at(other).settled[COST] == 18
    client.close()


def test_threads_that_find_the_server_empty_at_once_put_everything_back_once(own_redis, opened):
    store = opened(own_redis.url())
    for number in range(30):
        spend(store, f"account-{number}", cost=10)
    own_redis.restart_empty()
    barrier = threading.Barrier(8)

    def work(number):
        barrier.wait()
        for each in range(30):
            store.settle([charge(f"{number}-{each}", f"account-{each}", cost=1)])

    threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [shown.settled[COST] for shown in store.accounts()] == [18] * 30


def test_an_account_that_redis_has_evicted_is_put_back(redis_server, prefix, opened, client):
    store = opened(redis_server.url(prefix=prefix))
    store.reserve(calling(ask(cost=3, max_cost=20), call="one"))
    spend(store, cost=10)
    client.delete(f"{{{prefix}}}:account:team")
    assert spend(opened(redis_server.url(prefix=prefix)), cost=2).settled[COST] == 2
    assert store.reserve(calling(ask(cost=6, max_cost=20))).reason == "busy"
    shown = at(store)
    assert (shown.settled[COST], shown.held) == (12, Asked(3, 0))
    assert store.settle([charge("one", cost=1)])[0].held_calls == 0
    client.delete(f"{{{prefix}}}:account:team")
    assert spend(store, cost=1).settled[COST] == 14


def test_what_a_process_knows_is_bounded(redis_server, prefix, opened, monkeypatch):
    monkeypatch.setattr(redis_snapshot, "MOST_KNOWN", 5)
    store = opened(redis_server.url(prefix=prefix))
    for number in range(20):
        spend(store, f"account-{number}")
        store.reserve(calling(ask("team")))
    assert len(store._known) == 5
    assert len(store._known._calls) == 5


def test_a_slow_server_is_waited_for_no_longer_than_it_may_take(proxy, prefix, opened):
    url = f"redis://127.0.0.1:{proxy.port}/0?prefix={prefix}&timeout_s=0.1"
    store = opened(url)
    spend(store, cost=1)
    proxy.open.clear()  # and is opened by nobody until the errors are here
    entry = charge("one", cost=2)
    assert refused(store.settle, [entry]).why.startswith("it did not answer within 0.1 s")
    assert "did not answer within" in refused(store.reserve, calling(ask())).why
    assert "did not answer within" in asyncio.run(caught_async(store)).why
    proxy.open.set()
    patient = opened(url.replace("timeout_s=0.1", "timeout_s=10"))
    assert patient.settle([entry])[0].settled[COST] == 3 + (at(patient).settled["calls"] - 2) * 1
    assert at(patient).settled["calls"] in (2, 3)  # whether the abandoned charge of the loop came through


def test_an_event_loop_that_is_held_up_is_no_slow_server(redis_server, prefix, opened):
    store = opened(f"{redis_server.url(prefix=prefix)}&timeout_s=0.05")

    async def many():
        loop = asyncio.get_running_loop()

        def hold_up():  # each turn of the loop takes longer than an answer
            time.sleep(0.02)
            if len(asyncio.all_tasks()) > 1:
                loop.call_soon(hold_up)

        trips = [asyncio.create_task(store.settle_async([charge(cost=1)])) for _ in range(20)]
        loop.call_soon(hold_up)
        await asyncio.gather(*trips)

    asyncio.run(many())
    assert at(store).settled[COST] == 20


def test_an_answer_that_was_lost_is_asked_for_again_and_charged_once(proxy, prefix, opened):
    url = f"redis://127.0.0.1:{proxy.port}/0?prefix={prefix}&timeout_s=0.1"
    store = opened(url)
    spend(store, cost=1)
    proxy.open.clear()
    reservation, entry = calling(ask(cost=4), call="one"), charge("two", cost=2)
    refused(store.reserve, reservation)
    refused(store.settle, [entry])
    proxy.open.set()
    store = opened(url.replace("timeout_s=0.1", "timeout_s=10"))
    assert store.reserve(reservation).totals[0].held == Asked(4, 0)
    shown = store.settle([entry, release("one")])[0]
    assert (shown.settled[COST], shown.held_calls) == (3, 0)


@pytest.mark.parametrize("reply", [
    b"+OK\r\n", b":7\r\n", b"*1\r\n+OK\r\n", b"*3\r\n+room\r\n+epoch\r\n*1\r\n*1\r\n+odd\r\n",
    b"HTTP/1.1 400 Bad Request\r\n\r\n", b"$5\r\n\xff\xfe\xfd\xfc\xfb\r\n", b"*-1\r\n", b"$-1\r\n",
    b"*3\r\n+room\r\n+epoch\r\n:1\r\n",
])  # fmt: skip
def test_an_answer_that_no_redis_gives_is_an_error(reply, opened):
    with answering(reply) as port:
        store = opened(f"redis://127.0.0.1:{port}/0?timeout_s=0.2")
        for work in (lambda: store.look(["team"]), lambda: store.reserve(calling(ask()))):
            error = refused(work)
            assert error.__cause__ is not None
            assert str(port) in error.ledger
        assert asyncio.run(caught_async(store)).__cause__ is not None
        store.close_connections()


def test_a_socket_that_is_closed_without_an_answer_is_an_error(opened):
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port = listening.getsockname()[1]

        def hang_up():
            for _ in range(2):
                listening.accept()[0].close()

        thread = threading.Thread(target=hang_up)
        thread.start()
        assert (
            "cannot be reached" in refused(opened(f"redis://127.0.0.1:{port}/0?timeout_s=5").look, ["a"]).why
        )
        thread.join()


@pytest.mark.parametrize(
    "key", ["ledger", "account:team", "holds:team", "charge:0:one", "members:g", "open:g"]
)
def test_a_key_of_another_program_is_named_and_nothing_is_half_done(
    key, redis_server, prefix, opened, client
):
    store = opened(redis_server.url(prefix=prefix))
    spend(store, "fine", cost=1)
    spend(store, "team", cost=1)
    name = f"{{{prefix}}}:{key}"
    client.delete(name)
    client.rpush(name, "a list")
    asked = calling(ask("fine", cost=1, max_cost=9), ask("team", cost=1, max_cost=9, group="g"), call="one")
    entries = [charge("two", "fine", cost=1), charge("one", "fine", "team", cost=1)]
    refusals = 0
    for work in (lambda: store.reserve(asked), lambda: store.settle(entries)):
        before = {each: client.dump(each) for each in client.keys(f"{{{prefix}}}:*")}
        try:
            work()
        except LedgerError as error:
            refusals += 1
            assert "WRONGTYPE" in error.why
            assert "prefix" in error.why
            assert {each: client.dump(each) for each in client.keys(f"{{{prefix}}}:*")} == before
    assert refusals >= 1
    if key != "ledger":
        client.delete(name)
        assert store.settle([charge("three", "fine", cost=1)])[0].settled[COST] in (2, 4)


def test_a_full_server_refuses_and_nothing_is_half_done(own_redis, opened):
    store = opened(own_redis.url())
    spend(store, "a", cost=1)
    client = own_redis.client()
    client.config_set("maxmemory-policy", "noeviction")
    client.config_set("maxmemory", 1)
    error = refused(lambda: store.settle([charge(None, "a", "b", cost=1)]))
    assert "memory is full" in error.why
    client.config_set("maxmemory", 0)
    assert [shown.settled.get(COST, 0) for shown in store.look(["a", "b"])] == [1, 0]
    client.close()


def test_a_replica_refuses_to_be_written(own_redis, opened):
    client = own_redis.client()
    client.replicaof("127.0.0.1", free_port())
    assert "may only be read: name the primary" in refused(spend, opened(own_redis.url())).why
    client.close()


def test_a_password_is_needed_and_never_told(serving, opened):
    server = serving("--requirepass", "s3cret").start()
    url = f"redis://:s3cret@127.0.0.1:{server.port}/0?timeout_s=5"
    store = opened(url)
    assert spend(store, cost=1).settled[COST] == 1
    assert "s3cret" not in repr(store) + store.url + repr(vars(store))
    for wrong in (url.replace("s3cret", "wr0ng"), server.url()):
        error = refused(spend, opened(wrong))
        assert "lets nobody in" in error.why
        assert "wr0ng" not in str(error) + repr(error) + repr(error.__cause__)


def test_a_store_of_a_newer_version_is_refused(redis_server, prefix, opened, client):
    store = opened(redis_server.url(prefix=prefix))
    spend(store)
    client.hset(f"{{{prefix}}}:ledger", "schema", "99")
    for work in (lambda: spend(store), lambda: store.reserve(calling(ask())), lambda: store.look(["team"])):
        assert refused(work).why.startswith("it has schema version 99, made by a newer steptrack-callbacks")


def test_scripts_that_the_server_has_forgotten_are_sent_again(redis_server, prefix, opened, client):
    store = opened(redis_server.url(prefix=prefix))
    spend(store, cost=1)
    client.script_flush()
    assert spend(store, cost=1).settled[COST] == 2
    client.script_flush()
    assert asyncio.run(store.look_async(["team"]))[0].settled[COST] == 2


def test_admitting_and_charging_is_one_trip_each(redis_server, prefix, opened, client):
    store = opened(redis_server.url(prefix=prefix))
    store.reserve(calling(ask(), call="first"))
    store.settle([charge("first")])
    store.look(["team"])

    def trips():
        return client.info("commandstats").get("cmdstat_evalsha", {"calls": 0})["calls"]

    before = trips()
    store.reserve(calling(ask(group="g", max_cost=9), ask("other"), call="one"))
    assert trips() == before + 1
    store.settle([charge("one", "team", "other", cost=1)])
    assert trips() == before + 2


def test_everything_but_budgets_in_force_is_forgotten_in_time(redis_server, prefix, opened, client, clock):
    store = opened(redis_server.url(prefix=prefix))
    store.reserve(calling(ask("run-1", group="runs", expires_at=clock() + 90)))
    spend(store, "run-1")
    store.put_record({"id": "a", "run_id": "r", "ended_at": clock(), "revision": 0})
    store.close(["never seen"])
    lasting = {key for key in client.keys(f"{{{prefix}}}:*") if client.ttl(key) == -1}
    assert lasting == {f"{{{prefix}}}:ledger"}
    spend(store, "budget")
    lasting = {key for key in client.keys(f"{{{prefix}}}:*") if client.ttl(key) == -1}
    assert lasting == {f"{{{prefix}}}:ledger", f"{{{prefix}}}:account:budget"}
    for expires_at in (clock() + 90, None, clock() + 90):
        store.reserve(calling(ask("kept after all", expires_at=expires_at)))
    assert client.ttl(f"{{{prefix}}}:account:kept after all") == -1
    assert client.ttl(f"{{{prefix}}}:holds:kept after all") == -1


def test_all_keys_of_a_deployment_are_in_one_slot(redis_server, prefix, opened, client):
    store = opened(redis_server.url(prefix=prefix))
    store.reserve(calling(ask("{a}", group="{b}"), ask("}{", group="c"), call="{d}"))
    store.settle([charge("{d}", "{a}", "}{")])
    store.put_record({"id": "{e}", "run_id": "{f}", "ended_at": clock_now(), "revision": 0})
    from redis.crc import key_slot

    slots = {key_slot(key.encode()) for key in client.keys("*") if key.startswith(f"{{{prefix}}}")}
    assert len(slots) == 1


def clock_now():
    import time

    return time.time()


def test_deployments_with_other_prefixes_know_nothing_of_each_other(redis_server, prefix, opened):
    one, other = (opened(redis_server.url(prefix=f"{prefix}-{name}")) for name in "ab")
    spend(one, cost=5)
    assert at(other).seq == 0
    assert other.accounts() == []


def test_a_cluster_is_a_ledger_whatever_node_is_named(serving, opened):
    """Two nodes, each with half of the slots: one of them has all that is ours."""
    options = ("--cluster-enabled", "yes", "--cluster-node-timeout", "60000")
    servers = [serving(*options).start() for _ in range(2)]
    clients = [server.client() for server in servers]
    try:
        clients[0].execute_command("CLUSTER", "ADDSLOTS", *range(8192))
        clients[1].execute_command("CLUSTER", "ADDSLOTS", *range(8192, 16384))
        clients[0].execute_command("CLUSTER", "MEET", "127.0.0.1", servers[1].port)
        while not all(knows_all_slots(each) for each in clients):
            pass  # each look is a trip, and gives them time
        stores = [opened(server.url(cluster="true")) for server in servers]
        stores[0].reserve(calling(ask(cost=1, group="g", max_cost=9), call="one"))
        assert stores[1].settle([charge("one", cost=2)])[0].settled[COST] == 2
        assert [shown.key for shown in stores[1].accounts()] == ["team"]
        stores[0].put_record({"id": "a", "run_id": "r", "ended_at": clock_now(), "revision": 0})
        assert len(stores[1].records(run_id="r")) == 1
        assert stores[0].info()["accounts"] == 1

        async def looking():
            (shown,) = await stores[0].look_async(["team"])
            return shown.settled[COST]

        assert asyncio.run(looking()) == 2
        whys = []
        for server in servers:
            try:
                spend(opened(server.url()))
            except LedgerError as error:
                whys.append(error.why)
        assert whys == ["it is one node of a Redis Cluster: add ?cluster=true"]
    finally:
        for each in clients:
            each.close()


def knows_all_slots(client):
    info = client.execute_command("CLUSTER INFO")
    return info["cluster_state"] == "ok" and info["cluster_slots_assigned"] == "16384"


def test_sockets_of_an_event_loop_are_closed_with_it(redis_server, prefix, opened, client):
    store = opened(redis_server.url(prefix=prefix))

    async def many():
        await asyncio.gather(*(store.settle_async([charge(cost=1)]) for _ in range(100)))

    before = client.info("clients")["connected_clients"]
    for _ in range(3):
        asyncio.run(many())
    for _ in range(1000):  # the server may be a moment behind
        if client.info("clients")["connected_clients"] <= before:
            break
    else:
        pytest.fail("sockets were left open")
    assert at(store).settled[COST] == 300


def test_connections_of_an_event_loop_serve_its_next_trips(redis_server, prefix, opened, client):
    store = opened(redis_server.url(prefix=prefix))

    async def many():
        await asyncio.gather(*(store.settle_async([charge(cost=1)]) for _ in range(100)))

    async def twice():
        await many()
        connected = client.info("stats")["total_connections_received"]
        await many()
        return client.info("stats")["total_connections_received"] - connected

    assert asyncio.run(twice()) == 0
    assert at(store).settled[COST] == 200


def test_trips_of_many_tasks_at_once_share_a_connection_or_two(redis_server, prefix, opened, client):
    store = opened(redis_server.url(prefix=prefix))

    async def many():
        await asyncio.gather(*(store.settle_async([charge(cost=1)]) for _ in range(100)))

    before = client.info("stats")["total_connections_received"]
    asyncio.run(many())
    assert client.info("stats")["total_connections_received"] - before <= 2
    assert at(store).settled[COST] == 100


def test_who_asks_again_in_the_moment_of_an_answer_is_answered(redis_server, prefix, opened, monkeypatch):
    monkeypatch.setattr(redis_loop, "AT_ONCE", 1)
    store = opened(redis_server.url(prefix=prefix))

    async def again_and_again():
        for _ in range(3):
            await store.settle_async([charge(cost=1)])

    asyncio.run(asyncio.wait_for(again_and_again(), 20))
    assert at(store).settled[COST] == 3


def test_what_cannot_be_sent_spoils_no_trip_beside_it(redis_server, prefix, opened):
    store = opened(redis_server.url(prefix=prefix))

    async def many():
        keys = ["team", "\ud800", "team"]
        return await asyncio.gather(*(store.look_async([key]) for key in keys), return_exceptions=True)

    spend(store, cost=1)
    before, unsent, after = asyncio.run(many())
    assert before[0].settled[COST] == after[0].settled[COST] == 1
    assert isinstance(unsent, UnicodeEncodeError)


def test_a_loop_whose_every_task_was_cancelled_goes_on_asking(redis_server, prefix, opened):
    store = opened(redis_server.url(prefix=prefix))

    async def cancel_all():
        tasks = [asyncio.create_task(store.settle_async([charge(cost=1)])) for _ in range(5)]
        await asyncio.sleep(0)  # the trips are asked for, and nobody has begun to make them
        for task in asyncio.all_tasks() - {asyncio.current_task()}:
            task.cancel()
        ends = await asyncio.gather(*tasks, return_exceptions=True)
        await store.settle_async([charge(cost=1)])
        return ends

    ends = asyncio.run(cancel_all())
    assert all(isinstance(end, asyncio.CancelledError) for end in ends)
    assert at(store).settled[COST] == 1


def test_a_task_that_is_cancelled_on_its_way_leaves_a_store_that_works(redis_server, prefix, opened):
    store = opened(redis_server.url(prefix=prefix))

    async def cancel_some():
        tasks = [asyncio.create_task(store.settle_async([charge(f"c{n}", cost=1)])) for n in range(40)]
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        for task in tasks[::2]:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await store.settle_async([charge(f"c{n}", cost=1) for n in range(40)])

    asyncio.run(cancel_some())
    assert at(store).settled[COST] == 40


def test_a_forked_child_and_its_parent_both_charge(redis_server, prefix, opened):
    store = opened(redis_server.url(prefix=prefix))
    spend(store, cost=1)
    child = os.fork()
    if not child:
        code = 1
        try:
            store.settle([charge("child", cost=1)])
            code = 0
        finally:
            os._exit(code)
    spend(store, cost=1)
    assert os.waitpid(child, 0)[1] == 0
    assert at(store).settled[COST] == 3


def test_without_redis_py_the_error_names_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "redis", None)
    with pytest.raises(LedgerError, match=r"pip install 'steptrack-callbacks\[redis\]'") as caught:
        open_ledger("redis://me:secret@127.0.0.1/0")
    assert isinstance(caught.value.__cause__, ImportError)
    assert "secret" not in str(caught.value)
