"""Whatever is asked in whatever order, all three ledgers do as a few lines over a dictionary do."""

import itertools
import tempfile
import time
from dataclasses import replace

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test
from ledger_words import ask, calling

from steptrack_callbacks.ledgers import open_ledger
from steptrack_callbacks.ledgers.memory import MemoryStore
from steptrack_callbacks.ledgers.protocol import COST, Asked, Entry
from steptrack_callbacks.ledgers.sqlite import SqliteStore

KEYS = ["a", "b", "c"]
CALLS = [f"call-{number}" for number in range(6)]
_numbers = itertools.count()
keys = st.sampled_from(KEYS)
calls = st.sampled_from(CALLS)
amounts = st.integers(0, 12) | st.sampled_from([2**53 - 1, 2**53, 2**53 + 1, 10**18])
limits = st.none() | st.integers(0, 20) | st.sampled_from([2**53, 2**53 + 1, 3 * 10**18])
asks = st.builds(
    lambda key, cost, tokens, alone, max_cost, max_tokens, max_calls, grouped, most: ask(
        key,
        cost=cost,
        tokens=tokens,
        alone=(min(alone, cost), min(alone, tokens)),
        max_cost=max_cost,
        max_tokens=max_tokens,
        max_calls=max_calls,
        group="group" if grouped else "",
        most_open=most if grouped else None,
    ),
    key=keys,
    cost=amounts,
    tokens=st.integers(0, 9),
    alone=st.integers(0, 9),
    max_cost=limits,
    max_tokens=st.none() | st.integers(0, 30),
    max_calls=st.none() | st.integers(0, 4),
    grouped=st.booleans(),
    most=st.none() | st.integers(1, 2),
)


class Model:
    """An account is a dictionary of sums, and a dictionary of what each call holds."""

    def __init__(self):
        self.settled, self.held, self.group = {}, {}, {}
        self.closed, self.charged = set(), set()

    def known(self, key):
        return key in self.settled

    def open(self, key):
        if not self.known(key):
            self.settled[key], self.held[key] = {}, {}

    def reserve(self, call, asked):
        if asked and all(call in self.held.get(each.key, {}) for each in asked):
            return "room"
        reasons, opening = set(), 0
        for each in asked:
            reasons.add(self.judge(call, each))
            joins = not self.group.get(each.key) and each.key not in self.closed
            if each.group and each.most_open is not None and joins:
                opening += 1
                count = sum(key not in self.closed for key in self.group)
                if count + opening > each.most_open:
                    reasons.add("crowded")
        for reason in ("closed", "crowded", "full", "busy"):
            if reason in reasons:
                return reason
        for each in asked:
            self.open(each.key)
            self.held[each.key][call] = each.held
            if each.group:
                self.group.setdefault(each.key, each.group)
        return "room"

    def grow(self, call, asked):
        for each in asked:
            held = self.held.get(each.key, {})
            if call in held:
                held[call] = Asked(*map(max, held[call], each.held))

    def judge(self, call, each):
        if each.key in self.closed:
            return "closed"
        others = [held for other, held in self.held.get(each.key, {}).items() if other != call]
        if self.fits(each, each.beside if others else each.alone, others):
            return "room"
        return "busy" if others and self.fits(each, each.alone, []) else "full"

    def fits(self, each, want, others):
        settled = self.settled.get(each.key, {})
        tokens = settled.get("input_tokens", 0) + settled.get("output_tokens", 0)
        cost = settled.get(COST, 0)
        enough = each.max_calls is None or settled.get("calls", 0) + len(others) < each.max_calls
        for limit, spent, more in (
            (each.max_cost, cost, sum(held.cost for held in others) + want.cost),
            (each.max_tokens, tokens, sum(held.tokens for held in others) + want.tokens),
        ):
            enough = enough and (limit is None or (spent < limit and spent + more <= limit))
        return enough

    def settle(self, entry):
        for held in self.held.values():
            held.pop(entry.id, None)
        if entry.amounts and (entry.id, entry.revision) not in self.charged:
            self.charged.add((entry.id, entry.revision))
            for key in set(entry.keys):
                self.open(key)
                for name, amount in entry.amounts.items():
                    self.settled[key][name] = self.settled[key].get(name, 0) + amount

    def close(self, key):
        self.open(key)
        self.closed.add(key)

    def shown(self, key):
        held = self.held.get(key, {}).values()
        room = Asked(sum(each.cost for each in held), sum(each.tokens for each in held))
        return self.settled.get(key, {}), room, len(held), key in self.closed, self.group.get(key, "")


def shown(totals):
    return dict(totals.settled), totals.held, totals.held_calls, totals.closed, totals.group


class Ledgers(RuleBasedStateMachine):
    redis_url = ""

    @initialize()
    def open(self):
        self.folder = tempfile.TemporaryDirectory()
        self.model = Model()
        redis = open_ledger(f"{self.redis_url}&prefix=model-{time.time_ns()}-{next(_numbers)}")
        self.stores = [MemoryStore(), SqliteStore(self.folder.name + "/steps.db", timeout_s=5), redis]

    def teardown(self):
        for store in self.stores:
            store.close_connections()
        self.folder.cleanup()

    @rule(call=calls, asked=st.lists(asks, min_size=1, max_size=3, unique_by=lambda each: each.key))
    def reserve(self, call, asked):
        expected = self.model.reserve(call, asked)
        for store in self.stores:
            verdict = store.reserve(calling(*asked, call=call))
            assert verdict.reason == expected, store.url
            assert [each.key for each in verdict.totals] == [each.key for each in asked]
            self.agree(verdict.totals, store)

    @rule(call=calls, asked=st.lists(asks, min_size=1, max_size=3, unique_by=lambda each: each.key))
    def grow(self, call, asked):
        self.model.grow(call, asked)
        for store in self.stores:
            verdict = store.reserve(replace(calling(*asked, call=call), grows=True))
            assert verdict.reason == "room", store.url
            self.agree(verdict.totals, store)

    @rule(
        call=calls,
        revision=st.integers(0, 2),
        charged=st.lists(keys, min_size=1, max_size=3),
        sums=st.dictionaries(
            st.sampled_from([COST, "calls", "input_tokens", "output_tokens"]),
            st.integers(-3, 6) | st.sampled_from([2**53 + 1, -(2**53)]),
        ),
    )
    def settle(self, call, revision, charged, sums):
        entry = Entry(id=call, revision=revision, keys=tuple(charged), amounts=sums)
        self.model.settle(entry)
        for store in self.stores:
            self.agree(store.settle([entry]), store)

    @rule(key=keys)
    def close(self, key):
        self.model.close(key)
        for store in self.stores:
            store.close([key])

    @rule()
    def open_anew(self):
        self.stores[1].close_connections()
        self.stores[2].close_connections()

    @invariant()
    def all_agree(self):
        for store in self.stores:
            found = store.look(KEYS)
            self.agree(found, store)
            assert [each.seq > 0 for each in found] == [self.model.known(key) for key in KEYS], store.url
            members = {each.key for each in store.members("group")}
            assert members == set(self.model.group), store.url

    def agree(self, found, store):
        assert [shown(each) for each in found] == [self.model.shown(each.key) for each in found], store.url


@pytest.mark.usefixtures("redis_server")
def test_all_ledgers_do_as_a_plain_model_does(redis_server):
    Ledgers.redis_url = redis_server.url()
    run_state_machine_as_test(
        Ledgers,
        settings=settings(
            max_examples=25, stateful_step_count=25, deadline=None, suppress_health_check=list(HealthCheck)
        ),
    )
