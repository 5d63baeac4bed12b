"""What every ledger promises, tried on all three."""

import asyncio
import random
import threading
import time
from dataclasses import replace

import pytest
from ledger_words import ask, at, calling, charge, release, spend

from steptrack_callbacks import LedgerError
from steptrack_callbacks.ledgers.protocol import COST, AccountRequest, Asked, Entry, ReservationRequest


def reason(store, *asks, **how):
    return store.reserve(calling(*asks, **how)).reason


def test_an_account_that_nobody_has_touched_is_all_zeros(store):
    unknown = at(store)
    assert (unknown.key, unknown.seq, dict(unknown.settled), unknown.held_calls) == ("team", 0, {}, 0)
    assert store.look([]) == ()


def test_accounts_are_shown_in_the_order_in_which_they_are_asked_for(store):
    spend(store, "a", cost=1)
    spend(store, "b", cost=2)
    assert [shown.settled.get(COST, 0) for shown in store.look(["b", "nobody", "a", "b"])] == [2, 0, 1, 2]


def test_a_reservation_holds_room_until_its_charge_takes_its_place(store):
    verdict = store.reserve(calling(ask(cost=5, tokens=7, max_cost=10), call="one"))
    assert verdict.granted
    assert (verdict.totals[0].held, verdict.totals[0].held_calls) == (Asked(5, 7), 1)
    (charged,) = store.settle([charge("one", cost=3, tokens=4)])
    assert (charged.held, charged.held_calls, charged.settled[COST]) == (Asked(0, 0), 0, 3)
    assert at(store) == charged
    assert charged.seq > verdict.totals[0].seq


def test_room_is_reserved_on_all_accounts_or_on_none(store):
    spend(store, "full", cost=10)
    verdict = store.reserve(calling(ask("free", cost=1, max_cost=10), ask("full", cost=1, max_cost=10)))
    assert verdict.reason == "full"
    assert [shown.key for shown in verdict.totals] == ["free", "full"]
    assert at(store, "free").seq == 0


def test_a_refused_reservation_leaves_nothing(store):
    spend(store, cost=9)
    before = at(store)
    assert reason(store, ask(cost=2, max_cost=10)) == "full"
    assert at(store) == before


@pytest.mark.parametrize(("limits", "spent"), [
    ({"max_cost": 10}, {"cost": 10}),
    ({"max_tokens": 10}, {"tokens": 10}),
    ({"max_calls": 1}, {"calls": 1}),
])  # fmt: skip
def test_a_limit_that_is_exactly_reached_admits_no_further_call(store, limits, spent):
    spend(store, **spent)
    assert reason(store, ask(**limits)) == "full"


@pytest.mark.parametrize(("limits", "asked"), [({"max_cost": 10}, "cost"), ({"max_tokens": 10}, "tokens")])
def test_what_fits_exactly_is_admitted_and_one_more_is_not(store, limits, asked):
    spend(store, **{asked: 4}, calls=0)
    assert reason(store, ask(**{asked: 7}, **limits)) == "full"
    assert reason(store, ask(**{asked: 6}, **limits)) == "room"
    assert reason(store, ask(**{asked: 1}, **limits)) == "busy"


def test_input_and_output_tokens_count_together(store):
    store.settle([Entry(id="one", keys=("team",), amounts={"input_tokens": 6, "output_tokens": 4})])
    assert reason(store, ask(max_tokens=10)) == "full"


def test_calls_in_flight_count_as_calls(store):
    spend(store)
    assert reason(store, ask(max_calls=3)) == "room"
    assert reason(store, ask(max_calls=3)) == "room"
    assert reason(store, ask(max_calls=3)) == "busy"
    assert at(store).held_calls == 2


@pytest.mark.parametrize("limits", [{"max_cost": 0}, {"max_calls": 0}, {"max_tokens": 0}])
def test_a_limit_of_nothing_admits_nothing(store, limits):
    assert reason(store, ask(**limits)) == "full"


def test_no_limit_refuses_nothing_but_counts(store):
    spend(store, cost=10**15)
    assert reason(store, ask(cost=10**15)) == "room"


def test_less_must_fit_if_nobody_else_holds_room(store):
    asked = ask(cost=20, alone=(5, 0), max_cost=10)
    assert reason(store, asked, call="one") == "room"
    assert at(store).held == Asked(20, 0)
    assert reason(store, asked) == "busy"
    store.settle([charge("one", cost=6)])
    assert reason(store, asked) == "full"


def test_busy_is_what_would_fit_with_nothing_in_flight_and_full_what_would_not(store):
    assert reason(store, ask(cost=6, max_cost=10), call="one") == "room"
    assert reason(store, ask(cost=5, max_cost=10)) == "busy"
    assert reason(store, ask(cost=11, max_cost=10)) == "full"
    store.settle([release("one")])
    assert reason(store, ask(cost=5, max_cost=10)) == "room"


def test_of_several_accounts_the_gravest_reason_is_given(store):
    store.reserve(calling(ask("busy", max_calls=1)))
    spend(store, "full")
    store.close(["closed"])
    busy, full, closed = (ask(key, max_calls=1) for key in ("busy", "full", "closed"))
    store.reserve(calling(ask("first", group="g")))
    crowded = ask("second", group="g", most_open=1)
    assert reason(store, busy) == "busy"
    assert reason(store, busy, full) == "full"
    assert reason(store, full, busy) == "full"
    assert reason(store, crowded, full) == "crowded"
    assert reason(store, crowded, closed, full) == "closed"


def test_a_reservation_that_is_sent_twice_is_granted_once(store):
    asked = calling(ask(cost=6, max_cost=10), ask("other", max_calls=1))
    assert store.reserve(asked).granted
    again = store.reserve(asked)
    assert again.granted
    assert [(shown.held.cost, shown.held_calls) for shown in again.totals] == [(6, 1), (0, 1)]


def test_a_reservation_that_is_sent_again_for_more_accounts_counts_once_on_each(store):
    assert reason(store, ask(cost=6, max_cost=10), call="one") == "room"
    assert reason(store, ask(cost=8, max_cost=10), ask("other"), call="one") == "room"
    assert (at(store).held, at(store).held_calls, at(store, "other").held_calls) == (Asked(8, 0), 1, 1)
    store.settle([charge("one", "team", "other", cost=1)])
    assert (at(store).held_calls, at(store, "other").held_calls) == (0, 0)


def growing(*asks, call="one"):
    return replace(calling(*asks, call=call), grows=True)


def test_a_call_in_flight_holds_more_without_being_judged_and_never_less(store):
    store.reserve(calling(ask("a", cost=5, tokens=5, max_cost=10), ask("b", cost=1), call="one"))
    grown = store.reserve(growing(ask("a", cost=50, tokens=3, max_cost=10), ask("b", cost=2)))
    assert grown.reason == "room"
    assert [(shown.held, shown.held_calls) for shown in grown.totals] == [(Asked(50, 5), 1), (Asked(2, 0), 1)]
    assert grown.totals == store.look(["a", "b"])
    assert reason(store, ask("a", cost=1, max_cost=50)) == "busy"
    shown = store.settle([charge("one", "a", "b", cost=3)])
    assert [(each.held, each.held_calls, each.settled[COST]) for each in shown] == [(Asked(0, 0), 0, 3)] * 2


def test_a_call_grows_only_where_it_holds_anything(store):
    store.reserve(calling(ask("a", cost=5), call="one"))
    grown = store.reserve(growing(ask("a", cost=6), ask("b", cost=6)))
    assert [shown.held for shown in grown.totals] == [Asked(6, 0), Asked(0, 0)]
    assert at(store, "b").seq == 0
    store.settle([charge("one", "a", cost=3)])
    before = at(store, "a")
    assert store.reserve(growing(ask("a", cost=7))).granted  # this came too late
    assert at(store, "a") == before


def test_a_lease_begins_anew_when_its_call_grows(store, clock):
    store.reserve(calling(ask(cost=5), call="one", lease_s=0.5))
    store.reserve(growing(ask(cost=6)))
    later(store, clock, 0.6)
    assert (at(store).held, at(store).lapsed_calls) == (Asked(6, 0), 0)


def test_a_call_that_reserves_one_account_after_another_gives_all_back(store):
    for asked in (ask("a", cost=1), ask("b", cost=2), ask("a", cost=1)):
        assert reason(store, asked, call="one") == "room"
    assert [shown.held_calls for shown in store.look(["a", "b"])] == [1, 1]
    store.settle([release("one", "a")])
    assert [shown.held for shown in store.look(["a", "b"])] == [Asked(0, 0), Asked(0, 0)]


def test_a_charge_that_is_sent_twice_is_charged_once(store):
    entry = charge("one", cost=3)
    assert store.settle([entry, entry])[0].settled[COST] == 3
    assert store.settle([entry])[0].settled[COST] == 3


def test_a_later_revision_is_a_difference_and_may_be_negative(store):
    store.settle([charge("one", cost=10)])
    store.settle([Entry(id="one", revision=1, keys=("team",), amounts={COST: -4, "calls": 0})])
    (charged,) = store.settle([Entry(id="one", revision=1, keys=("team",), amounts={COST: -4})])
    assert (charged.settled[COST], charged.settled["calls"]) == (6, 1)


def test_a_charge_needs_no_reservation_and_a_closed_account_is_charged_too(store):
    store.close(["team"])
    assert spend(store, cost=2).settled[COST] == 2
    assert at(store).closed


def test_an_entry_without_amounts_gives_room_back_and_leaves_no_trace(store):
    assert reason(store, ask(max_calls=1), call="one") == "room"
    (freed,) = store.settle([release("one")])
    assert (freed.held_calls, dict(freed.settled)) == (0, {})
    assert reason(store, ask(max_calls=1), call="one") == "room"
    assert store.settle([charge("one", cost=1)])[0].settled["calls"] == 1


def test_a_release_of_what_nobody_holds_makes_no_account(store):
    assert store.settle([release("nobody")])[0].seq == 0
    assert store.accounts() == []


def test_a_charge_gives_back_what_its_call_holds_on_accounts_that_it_does_not_name(store):
    store.reserve(calling(ask("a", cost=1), ask("b", cost=1), call="one"))
    shown = store.settle([charge("one", "a", cost=1)])
    assert {totals.key: totals.held_calls for totals in shown} == {"a": 0, "b": 0}
    assert dict(at(store, "b").settled) == {}


def test_many_entries_are_charged_together_and_each_account_is_shown_once(store):
    shown = store.settle([charge(None, "a", "b", cost=1), charge(None, "b", "a", "a", cost=2)])
    assert [(totals.key, totals.settled[COST], totals.settled["calls"]) for totals in shown] == [
        ("a", 3, 2),
        ("b", 3, 2),
    ]
    assert store.settle([]) == ()


def test_an_account_is_forgotten_when_it_expires(store, clock):
    for key in ("asked", "charged"):
        if key == "asked":
            store.reserve(calling(ask(key, expires_at=clock() + 0.5)))
        else:
            store.settle([charge(None, key, cost=1, expires_at={key: clock() + 0.5})])
        assert at(store, key).seq == 1
    later(store, clock, 0.6)
    assert [shown.seq for shown in store.look(["asked", "charged"])] == [0, 0]
    assert store.accounts() == []
    assert spend(store, "charged", cost=1).settled[COST] == 1


def test_an_account_lasts_as_long_as_the_last_one_to_ask_wants_it_to(store, clock):
    store.reserve(calling(ask("longer", expires_at=clock() + 0.5), ask("forever", expires_at=clock() + 0.5)))
    store.reserve(calling(ask("longer", expires_at=clock() + 60), ask("forever")))
    store.reserve(calling(ask("longer", expires_at=clock() + 0.5), ask("forever", expires_at=clock() + 0.5)))
    later(store, clock, 0.6)
    assert [shown.held_calls for shown in store.look(["longer", "forever"])] == [3, 3]


def test_room_comes_back_when_a_lease_ends_and_is_counted(store, clock):
    assert reason(store, ask(cost=5, max_cost=10, max_calls=2), lease_s=0.5) == "room"
    assert reason(store, ask(cost=5, max_cost=10, max_calls=2), call="alive") == "room"
    assert reason(store, ask(cost=5, max_cost=10)) == "busy"
    later(store, clock, 0.6)
    shown = at(store)
    assert (shown.held, shown.held_calls, shown.lapsed_calls) == (Asked(5, 0), 1, 1)
    assert reason(store, ask(cost=5, max_cost=10)) == "room"
    assert store.settle([charge("alive")])[0].held_calls == 1


def test_a_charge_whose_lease_has_ended_is_charged_all_the_same(store, clock):
    store.reserve(calling(ask(cost=5), ask("other", cost=5), call="late", lease_s=0.5))
    store.reserve(calling(ask("other", cost=2)))
    later(store, clock, 0.6)
    charged, other = store.settle([charge("late", "team", "other", cost=4)])
    assert (other.settled[COST], other.held, other.held_calls, other.lapsed_calls) == (4, Asked(2, 0), 1, 1)
    assert (charged.settled[COST], charged.held, charged.held_calls, charged.lapsed_calls) == (
        4,
        Asked(0, 0),
        0,
        1,
    )


def test_a_lease_begins_anew_when_its_reservation_is_sent_again(store, clock):
    first = calling(ask(max_calls=1), call="one", lease_s=0.5)
    assert store.reserve(first).granted
    assert store.reserve(ReservationRequest(id="one", asks=first.asks, lease_s=60)).granted
    later(store, clock, 0.6)
    assert (at(store).held_calls, at(store).lapsed_calls) == (1, 0)
    assert reason(store, ask(max_calls=1)) == "busy"


def test_a_closed_account_admits_nothing_for_good(store):
    spend(store, "used", cost=1)
    store.close(["used", "unknown", "used"])
    assert [reason(store, ask(key)) for key in ("used", "unknown")] == ["closed", "closed"]
    assert [shown.closed for shown in store.look(["used", "unknown"])] == [True, True]
    seq = at(store, "used").seq
    store.close(["used"])
    assert at(store, "used").seq == seq


def test_a_group_lists_its_accounts_the_oldest_first(store):
    for key in ("b", "a", "c"):
        store.reserve(calling(ask(key, group="run")))
    store.reserve(calling(ask("other", group="another"), ask("none")))
    assert [shown.key for shown in store.members("run")] == ["b", "a", "c"]
    assert {shown.group for shown in store.members("run")} == {"run"}
    assert (store.members("nobody"), store.members("")) == ((), ())


def test_a_group_opens_no_more_accounts_than_it_may(store, clock):
    def opening(key, **how):
        return ask(key, group="key-1", most_open=2, **how)

    assert reason(store, opening("a"), opening("b"), opening("c")) == "crowded"
    assert reason(store, opening("a"), opening("b", expires_at=clock() + 0.7)) == "room"
    assert reason(store, opening("a")) == "room"
    assert reason(store, opening("c")) == "crowded"
    store.close(["a"])
    assert reason(store, opening("c")) == "room"
    assert reason(store, opening("d")) == "crowded"
    later(store, clock, 1.0)
    assert reason(store, opening("d")) == "room"
    assert [shown.key for shown in store.members("key-1")] == ["a", "c", "d"]


def test_an_account_that_was_charged_before_it_was_asked_joins_its_group(store):
    spend(store, "a")
    assert reason(store, ask("a", group="run", most_open=1)) == "room"
    assert [shown.key for shown in store.members("run")] == ["a"]
    assert reason(store, ask("b", group="run", most_open=1)) == "crowded"


@pytest.mark.parametrize("amount", [2**53 + 1, 10**18 + 7, 2**63 - 1])
def test_sums_are_exact_far_beyond_what_a_float_holds(store, amount):
    spend(store, cost=amount - 3)
    assert spend(store, cost=3).settled[COST] == amount
    assert reason(store, ask(max_cost=amount)) == "full"
    if amount < 2**63 - 1:
        assert reason(store, ask(max_cost=amount + 1, cost=2)) == "full"
        assert reason(store, ask(max_cost=amount + 1, cost=1)) == "room"


def test_a_sum_larger_than_any_ledger_can_store_is_an_error_and_changes_nothing(store):
    spend(store, "team", cost=2**63 - 1)
    before = store.look(["team", "fine"])
    with pytest.raises(LedgerError, match="cost_pico_usd of account 'team' would pass"):
        store.settle([charge("x", "fine", cost=1), charge("y", "fine", "team", cost=1)])
    assert store.look(["team", "fine"]) == before
    assert store.settle([charge("x", "fine", cost=1)])[0].settled[COST] == 1
    store.reserve(calling(ask("held", cost=2**63 - 1)))
    with pytest.raises(LedgerError, match="reserved cost of account 'held' would pass"):
        store.reserve(calling(ask("fine", cost=1), ask("held", cost=1)))
    assert at(store, "fine").held_calls == 0
    spend(store, "debt", cost=-(2**63) + 1)
    with pytest.raises(LedgerError, match="'debt'"):
        spend(store, "debt", cost=-1)
    assert spend(store, "debt", cost=2**63 - 1).settled[COST] == 0


@pytest.mark.parametrize(("entry", "message"), [
    (Entry(id="x", keys=("team",), amounts={COST: 1.5}), "cost_pico_usd of 'x' must be a whole number"),
    (Entry(id="x", keys=("team",), amounts={COST: float("nan")}), "not nan"),
    (Entry(id="x", keys=("team",), amounts={"calls": True}), "calls of 'x' .* not True"),
    (Entry(id="x", keys=("team",), amounts={COST: 2**63}), "at most 9223372036854775807"),
    (Entry(id="x", keys=("team",), amounts={COST: 1}, revision=-1), "revision of 'x' must be 0 or more, not -1"),
])  # fmt: skip
def test_a_charge_that_is_no_whole_number_is_refused(store, entry, message):
    with pytest.raises(ValueError, match=message):
        store.settle([entry])
    assert store.accounts() == []


@pytest.mark.parametrize(("reservation", "message"), [
    (calling(ask("a"), ask("a"), call="x"), "'x' asks an account twice"),
    (calling(ask("a", cost=-1), call="x"), "whole numbers from 0 .* not -1"),
    (calling(ask("a", cost=0.5), call="x"), "not 0.5"),
    (calling(ask("a"), lease_s=0), "lease_s must be a positive number of seconds, not 0"),
    (calling(ask("a"), lease_s=float("nan")), "lease_s"),
])  # fmt: skip
def test_a_reservation_that_makes_no_sense_is_refused(store, reservation, message):
    with pytest.raises(ValueError, match=message):
        store.reserve(reservation)
    assert store.accounts() == []


@pytest.mark.parametrize(
    "key", ["budget:team/a@2026-11-22", "{x}*?[a]", "a b\n'\"\\", "ключ 🔑", "x" * 500, ""]
)
def test_any_text_is_a_key(store, key):
    store.reserve(calling(ask(key, group=key + "g", cost=3, max_cost=4), call=key + "1"))
    assert store.settle([charge(key + "1", key, cost=2)])[0].settled[COST] == 2
    assert [shown.key for shown in store.members(key + "g")] == [key]
    assert [shown.key for shown in store.accounts()] == [key]


def test_a_charge_keeps_its_detail(store):
    at_ = time.time()
    entry = charge("one", cost=3, at=at_, detail={"model": "gpt-4o-mini", "path": "answer/write"})
    store.settle([entry])
    store.settle([charge("two", cost=1, at=at_ + 5)])
    assert store.charges()[0] == entry.to_dict()
    assert [kept["id"] for kept in store.charges()] == ["one", "two"]
    assert [kept["id"] for kept in store.charges(since=at_ + 1)] == ["two"]


def record(step="a", *, run_id="run-1", ended_at=100.0, revision=0, **more):
    return {"id": step, "run_id": run_id, "ended_at": ended_at, "revision": revision, **more}


def test_records_come_back_in_the_order_of_ending(store):
    now = time.time()
    kept = [
        record("b", ended_at=now + 2, models={"gpt-4o": {"cost_usd": 0.1}}),
        record("a", ended_at=now + 1),
        record("c", ended_at=now + 3, run_id="run-2"),
    ]
    for each in kept:
        store.put_record(each)
    assert [each["id"] for each in store.records()] == ["a", "b", "c"]
    assert store.records(since=now + 2) == [kept[0], kept[2]]
    assert [each["id"] for each in store.records(run_id="run-1")] == ["a", "b"]
    assert store.records(run_id="run-1", since=now + 2) == [kept[0]]
    assert store.records(run_id="nobody") == []


def test_a_later_revision_of_a_record_takes_the_place_of_an_earlier_one(store):
    now = time.time()
    store.put_record(record(revision=0, ended_at=now))
    store.put_record(record(revision=2, ended_at=now, cost_usd=1.5))
    store.put_record(record(revision=1, ended_at=now))
    assert store.records() == [record(revision=2, ended_at=now, cost_usd=1.5)]


def test_an_event_loop_puts_a_record_as_anybody_does(store):
    if not hasattr(store, "put_record_async"):
        pytest.skip("nobody has to wait for it")
    now = time.time()
    asyncio.run(store.put_record_async(record(revision=1, ended_at=now)))
    asyncio.run(store.put_record_async(record(revision=0, ended_at=now)))
    assert store.records() == [record(revision=1, ended_at=now)]


def test_what_has_ended_is_pruned_and_what_is_in_force_is_kept(store, clock):
    now = clock()
    store.put_record(record("old", ended_at=now - 100))
    store.put_record(record("new", ended_at=now))
    spend(store, "kept", cost=1, at=now)
    store.settle([charge("old", "kept", cost=1, at=now - 5)])
    assert store.prune(now - 50) == 1
    assert [each["id"] for each in store.records()] == ["new"]
    assert [each["id"] for each in store.records(run_id="run-1")] == ["new"]
    store.prune(now + 10**6)
    assert at(store, "kept").settled[COST] == 2
    assert store.settle([charge("old", "kept", cost=1)])[0].settled[COST] == 2


def test_a_ledger_says_what_it_keeps(store):
    store.reserve(calling(ask("a"), ask("b")))
    spend(store, "a")
    store.close(["b"])
    store.put_record(record(ended_at=time.time()))
    info = store.info()
    names = ("accounts", "closed_accounts", "reservations", "charges", "records")
    assert [info[name] for name in names] == [2, 1, 2, 1, 1]
    assert info["kind"] in store.url
    assert info["url"] == store.url
    assert [shown.key for shown in store.accounts()] == ["a", "b"]


def test_a_ledger_is_opened_again_when_it_is_used_after_its_connections_were_closed(store):
    spend(store, cost=1)
    store.close_connections()
    store.close_connections()
    assert at(store).settled[COST] == 1


def test_threads_neither_lose_nor_pass_anything(store):
    granted, barrier = [], threading.Barrier(8)

    def work(number):
        barrier.wait()
        for turn in range(20):
            call = f"{number}-{turn}"
            if store.reserve(calling(ask(cost=1, max_cost=100, max_calls=90), call=call)).granted:
                granted.append(call)
                store.settle([charge(call, cost=1)])

    threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    shown = at(store)
    assert len(granted) == shown.settled["calls"] == shown.settled[COST] == 90
    assert shown.held_calls == 0


def test_event_loops_do_as_threads_do(waiting_store):
    store = waiting_store

    async def one(number):
        asked = calling(ask(max_calls=7), call=f"async-{number}")
        verdict = await store.reserve_async(asked)
        if verdict.granted:
            await store.settle_async([charge(asked.id, cost=2)])
        return verdict.granted

    async def many():
        granted = await asyncio.gather(*(one(number) for number in range(20)))
        (shown,) = await store.look_async(["team"])
        return sum(granted), shown

    granted, shown = asyncio.run(many())
    assert granted <= 7
    assert (shown.settled[COST], shown.held_calls) == (2 * granted, 0)
    assert asyncio.run(many())[1].settled["calls"] == 7


def test_nobody_is_shown_sums_that_change_under_his_hands(store):
    first = spend(store, cost=1)
    kept = dict(first.settled)
    spend(store, cost=5)
    assert dict(first.settled) == kept


def test_totals_of_random_charges_are_those_of_python(store):
    rng = random.Random(7)
    total = 0
    for _ in range(60):
        amount = rng.choice([1, -1]) * rng.randrange(10 ** rng.randrange(1, 19))
        if abs(total + amount) < 2**63:
            total += amount
            assert spend(store, cost=amount).settled[COST] == total


def later(store, clock, seconds):
    """Let time pass: on a clock of ours at once, on a server's own really."""
    if "redis" in store.url:
        until = time.monotonic() + seconds
        threading.Event().wait(seconds)
        assert time.monotonic() >= until - 0.01
    clock.ahead_s += seconds


def test_asks_may_be_of_no_account_at_all(store):
    assert store.reserve(calling()).granted
    assert isinstance(ask(), AccountRequest)
