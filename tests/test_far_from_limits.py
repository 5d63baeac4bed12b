"""Calls that are admitted by a bound, beside the same calls admitted by counting: nothing may differ."""

import asyncio
import gc
import itertools
import logging
import os
import threading
from collections import OrderedDict
from contextlib import ExitStack
from dataclasses import dataclass, field
from decimal import Decimal
from types import SimpleNamespace
from typing import Any
from unittest.mock import patch

import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from fake_framework import until
from forking import needs_fork
from internals import assert_nothing_left
from looking import in_thread
from steptrack_callbacks import (
    Budget,
    BudgetExhausted,
    Grant,
    LedgerError,
    Step,
    StepDefinition,
    Usage,
    bind,
    record_usage,
    step,
)
from steptrack_callbacks.concurrency.flow import run_sync
from steptrack_callbacks.engine import (
    account,
    allowance,
    call,
    fast_path,
    open_call,
    output_stats,
    queue,
    reservation,
    room,
)
from steptrack_callbacks.engine.call import Call
from steptrack_callbacks.engine.output_stats import learn
from steptrack_callbacks.engine.queue import QUEUE, making_room
from steptrack_callbacks.engine.request import Request
from steptrack_callbacks.engine.room import remaining
from steptrack_callbacks.integrations.bounds import bound_messages, is_all_sent
from steptrack_callbacks.ledgers import current
from steptrack_callbacks.ledgers.memory import MemoryStore
from steptrack_callbacks.ledgers.protocol import COST, Entry, Totals, from_pico, to_pico
from steptrack_callbacks.ledgers.store_calls import StoreCall
from steptrack_callbacks.pricing import set_prices
from steptrack_callbacks.testing import recorder, reset
from steptrack_callbacks.tokens import InputCount, count_messages
from steptrack_callbacks.values.money import to_units, to_usd
from steptrack_callbacks.values.usage import text_usage

MODELS = ("small", "large")
PRICES = {
    "small": {"input_usd_per_mtok": 1, "output_usd_per_mtok": 3},
    "large": {"input_usd_per_mtok": 20, "output_usd_per_mtok": 70, "cache_write_usd_per_mtok": 25},
}
EXAMPLES = int(os.environ.get("STEPTRACK_EXAMPLES", "60"))


@dataclass(eq=False)
class Asked:
    """A call in one of the worlds."""

    call: Call
    sent: int
    admission: Any = None
    waiter: Any = None


@dataclass
class World:
    """Three steps inside each other, perhaps with a shared budget, and calls, admitted by a bound or not."""

    name: str
    is_fast: bool
    steps: list[Step] = field(default_factory=list)
    calls: dict[int, Asked] = field(default_factory=dict)
    waiters: dict[Any, None] = field(default_factory=dict)
    fast = 0

    def begin(self, declared: list[dict[str, Any]]) -> None:
        for options in declared:
            budget = options["budget"] and Budget(f"{self.name}-{options['budget']}", max_usd=Decimal("0.4"))
            own = {name: value for name, value in options.items() if name not in ("budget", "models")}
            definition = StepDefinition(
                name="step",
                error_boundary="continue",
                models=tuple(f"{self.name}-{model}" for model in options["models"]),
                budgets=(budget,) if budget else (),
                **own,
            )
            self.steps.append(Step(definition, parent=self.steps[-1] if self.steps else None))
            self.steps[-1].begin()

    def ask(self, number: int, depth: int, asked: dict[str, Any], *, patient: bool) -> object:
        request = self.request(f"{self.name}-{asked['model']}", asked)
        made = self.calls[number] = Asked(Call(self.steps[depth].accounts, request), asked["sent"])
        with patch.object(fast_path, "enabled", self.is_fast):
            if made.call.lease is None and fast_path.let_through(made.call):
                outcome: object = "admitted"
            else:  # a ledger may let it through at its bound
                made.admission = made.call._admission(patient=patient)
                outcome = self.resume(number, None)
        self.fast += made.call.bound is not None
        return outcome

    def request(self, model: str, asked: dict[str, Any]) -> Request:
        sent = asked["sent"]
        request = Request(
            model=model,
            count_input=lambda: InputCount(tokens=sent, upper_bound=sent + asked["slack"]),
            bound_input=lambda: 3 * sent + asked["slack"] + 20,
            max_output_tokens=asked["most"],
            can_clamp=asked["can_clamp"],
            streams=asked["streams"],
        )
        request.with_model = lambda name: self.request(name, asked)
        return request

    def resume(self, number: int, outcome: object) -> object:
        asked = self.calls[number]
        try:
            asked.waiter = asked.admission.send(outcome)
            while isinstance(asked.waiter, StoreCall):
                asked.waiter = asked.admission.send(asked.waiter.block())
        except StopIteration:
            asked.waiter = None
            swap = asked.call.swap and [word.removeprefix(f"{self.name}-") for word in asked.call.swap]
            return "admitted", asked.call.max_output_tokens, swap
        except BudgetExhausted as refusal:
            del self.calls[number]
            return "refused", refusal.phase, str(refusal).replace(f"{self.name}-", "")
        return "waits", sorted(account.ref.path for account in asked.waiter.blocked_on)

    def wake(self) -> object:
        """Let those go on who were let through or refused."""
        woken = [number for number, asked in self.calls.items() if asked.waiter and asked.waiter.outcome]
        return [(number, self.resume(number, self.calls[number].waiter.outcome)) for number in woken]

    def grant(self, depth: int, grant: Grant) -> None:
        with making_room:
            self.steps[depth].account.grant(grant)

    def drop_those_who_wait(self) -> None:
        for number in [number for number, asked in self.calls.items() if asked.waiter]:
            QUEUE.drop(self.calls.pop(number).waiter)

    def books(self) -> object:
        return [
            (each.status, each.usage, each.own_usage, each.account.held_calls, each.account.open_calls)
            for each in self.steps
        ]

    def holds(self, now: float) -> object:
        """What is held, and left, by what is known now."""
        found = []
        for running in self.steps:
            account = running.account
            account.in_flight.count_all()
            account.in_flight._stale = True
            account.in_flight.refresh(now)
            limits = ("max_usd", "max_tokens", "max_calls")
            left = [remaining(account, limit, wrapping=False) for limit in limits]
            found.append((account.held_cost, account.held_tokens, account.in_flight.cold, left))
        return [(cost, tokens, sorted(cold.values()), left) for cost, tokens, cold, left in found]


near_or_far = st.sampled_from([None, None, 5, 20, 60, 500, 700, 1000, 3000, 10**7, 10**7])
options = st.builds(
    lambda enforce, cents, tokens, calls, seconds, clamp, cut, budget, models: {
        "enforce": enforce,
        "max_usd": None if cents is None else Decimal(cents) / 1000,
        "max_tokens": None if tokens is None else tokens * 100,
        "max_calls": calls,
        "max_seconds": seconds,
        "clamp": clamp,
        "cut_streams": cut,
        "wait_s": 30.0,
        "budget": budget,
        "models": models,
    },
    st.sampled_from(["estimate", "estimate", "strict", "observe"]),
    near_or_far,
    near_or_far,
    st.sampled_from([None, None, None, 3, 12]),
    st.none() | st.just(500),
    st.booleans(),
    st.booleans(),
    st.sampled_from([None, None, None, "team"]),
    st.sampled_from([(), (), ("large", "small")]),
)
requests = st.fixed_dictionaries(
    {
        "model": st.sampled_from(MODELS),
        "sent": st.integers(1, 400),
        "slack": st.integers(0, 50),
        "most": st.none() | st.integers(1, 800),
        "can_clamp": st.booleans(),
        "streams": st.booleans(),
    }
)


class SideBySide(RuleBasedStateMachine):
    """Two worlds that are told the same, and must come to the same."""

    total_fast = 0

    def __init__(self) -> None:
        super().__init__()
        reset()
        open_call.open_calls.clear()  # an example that failed leaves them
        reservation._reservations.clear()
        QUEUE.empty()
        logging.disable(logging.WARNING)
        self.now, self.owner = 1000.0, 0
        self.numbers = itertools.count()
        self.worlds = (World("fast", is_fast=True), World("slow", is_fast=False))
        set_prices({f"{world.name}-{name}": PRICES[name] for world in self.worlds for name in MODELS})
        clock = SimpleNamespace(monotonic=lambda: self.now, time=lambda: self.now)
        self.patches = ExitStack()
        for module in (account, call, queue, reservation, room):
            self.patches.enter_context(patch.object(module, "time", clock))
        for module in (fast_path, reservation):
            self.patches.enter_context(patch.object(module, "current_owner", lambda: self.owner))

    def both(self, do) -> Any:
        first, second = (self.alone(world, do) for world in self.worlds)
        assert first == second
        return first

    def alone(self, world, do) -> Any:
        """Let only those of this world be looked at who wait: in the other it has not happened yet."""
        QUEUE.waiters = world.waiters
        return do(world)

    @initialize(declared=st.lists(options, min_size=3, max_size=3), lengths=st.lists(st.integers(1, 600)))
    def begin(self, declared, lengths):
        self.both(lambda world: world.begin(declared))
        for world, model, length in itertools.product(self.worlds, MODELS, lengths):
            learn(f"{world.name}-{model}", output_tokens=length, counted_input=9, input_tokens=9, took_s=2)

    @rule(
        depth=st.integers(0, 2),
        asked=requests,
        patient=st.booleans(),
        owner=st.sampled_from([None, None, "first", "second"]),
    )
    def ask(self, depth, asked, patient, owner):
        if self.worlds[0].steps[depth].account.closed:
            return  # no call finds a step that has ended
        number = next(self.numbers)
        self.owner = owner or number
        self.now += 0.01  # no two are sent at once
        self.both(lambda world: _plain(world.ask(number, depth, asked, patient=patient)))
        self.wake()

    def open_calls(self) -> list[int]:
        return [number for number, asked in self.worlds[0].calls.items() if asked.call.is_open]

    @precondition(lambda self: self.open_calls())
    @rule(
        data=st.data(),
        how=st.sampled_from(
            ["settle", "settle text", "settle text", "cut", "fail", "abandon", "withdraw", "free"]
        ),
        made=st.integers(0, 900),
    )
    def report(self, data, how, made):
        number = data.draw(st.sampled_from(self.open_calls()))
        self.both(lambda world: _report(world.calls[number], how, made))
        self.wake()

    @precondition(lambda self: self.open_calls())
    @rule(data=st.data(), made=st.integers(1, 900))
    def progress(self, data, made):
        number = data.draw(st.sampled_from(self.open_calls()))
        self.both(lambda world: _progress(world.calls[number].call, made))
        self.wake()

    @rule(depth=st.integers(0, 2), usd=st.integers(1, 50), tokens=st.integers(1, 5000))
    def grant(self, depth, usd, tokens):
        grant = Grant(max_usd=Decimal(usd) / 1000, max_tokens=tokens, max_calls=1)
        self.both(lambda world: world.grant(depth, grant))
        self.wake()

    @rule(seconds=st.integers(1, 120))
    def pass_time(self, seconds):
        self.now += seconds

    @precondition(lambda self: any(asked.waiter for asked in self.worlds[0].calls.values()))
    @rule(data=st.data())
    def cancel(self, data):
        waiting = [number for number, asked in self.worlds[0].calls.items() if asked.waiter]
        number = data.draw(st.sampled_from(waiting))
        self.both(lambda world: QUEUE.drop(world.calls.pop(number).waiter))
        self.wake()

    @precondition(lambda self: any(each.status == "open" for each in self.worlds[0].steps))
    @rule(really=st.integers(0, 5))
    def end_sometimes(self, really):
        if not really:
            self.end_innermost()

    def end_innermost(self):
        depth = max(depth for depth, each in enumerate(self.worlds[0].steps) if each.status == "open")
        self.both(lambda world: str(run_sync(world.steps[depth].end(None))))
        self.wake()

    @rule()
    def look_at_what_is_held(self):
        self.both(lambda world: world.holds(self.now))

    def wake(self) -> None:
        while self.both(lambda world: world.wake()):
            pass

    @invariant()
    def books_are_the_same(self):
        self.both(lambda world: world.books())

    def teardown(self):
        self.both(lambda world: world.drop_those_who_wait())
        while any(each.status == "open" for each in self.worlds[0].steps):
            self.end_innermost()
        self.both(lambda world: [each.record().status for each in world.steps])
        self.both(lambda world: assert_nothing_left(*world.steps))
        type(self).total_fast += self.worlds[0].fast
        assert self.worlds[1].fast == 0
        self.patches.close()
        logging.disable(logging.NOTSET)
        reset()


def _plain(outcome: object) -> object:
    return outcome[0] if outcome == ("admitted", None, None) else outcome


def _report(asked: Asked, how: str, made: int) -> None:
    made_call, most = asked.call, asked.call.request.max_output_tokens
    used = Usage(input_tokens=asked.sent, output_tokens=made if most is None else min(made, most))
    match how:
        case "settle":
            made_call.settle(used)
        case "settle text":
            made_call.settle(text_usage(used.input_tokens, used.output_tokens))
        case "cut":
            made_call.settle(used, truncated=True)
        case "fail":
            made_call.fail()
        case "abandon":
            made_call.abandon(used.output_tokens)
        case "withdraw":
            made_call.withdraw()
        case "free":
            made_call.settle_free()
    made_call.settle(Usage(input_tokens=10**6))  # a second report changes nothing


def _progress(made_call: Call, made: int) -> object:
    most = made_call.request.max_output_tokens
    try:
        made_call.progress(made if most is None else min(made, most))
    except BudgetExhausted as error:
        made_call.abandon(made)
        return str(error)
    return None


TestSideBySide = SideBySide.TestCase
TestSideBySide.settings = settings(
    max_examples=EXAMPLES, stateful_step_count=40, deadline=None, phases=[Phase.generate]
)


def far_request(model: str = "gpt-4o", **details: Any) -> Request:
    counted = InputCount(tokens=10, upper_bound=12)
    options = {"max_output_tokens": 20, "bound_input": lambda: 60, **details}
    return Request(model=model, count_input=lambda: counted, **options)


def far_call(running: Step, **details: Any) -> Call:
    made = Call(running.accounts, far_request(**details))
    made.admit()
    return made


@pytest.fixture
def seen():
    """A model whose first answer has come."""
    learn("gpt-4o", output_tokens=20, counted_input=10, input_tokens=10)


def test_what_is_left_is_told_as_if_every_call_had_been_counted(monkeypatch):
    left = []
    for is_fast in (True, False):
        output_stats.reset()
        learn("gpt-4o", output_tokens=20, counted_input=10, input_tokens=10)
        monkeypatch.setattr(fast_path, "enabled", is_fast)
        with step("plan", max_usd=100, max_tokens=10**6) as plan:
            calls = [far_call(plan) for _ in range(3)]
            assert [made.bound is not None for made in calls] == [is_fast] * 3
            left.append((plan.remaining(), plan.account.held_calls))
            for made in calls:
                made.settle(Usage(input_tokens=10, output_tokens=5))
        assert_nothing_left(plan)
    assert left[0] == left[1]


@pytest.mark.parametrize(("limit_usd", "counts"), [(10**6, False), (0.01, True)])
def test_what_is_left_is_known_to_a_hundredth_and_nobody_is_counted_for_less(limit_usd, counts, seen):
    with step("plan", max_usd=limit_usd, max_tokens=10**9, max_calls=9) as plan:
        calls = [far_call(plan) for _ in range(2)]
        about = room.about_left(plan.account)
        assert (not plan.account.in_flight.uncounted) is counts
        exact = {name: remaining(plan.account, name, wrapping=False) for name in about}
        assert set(exact) == {"max_usd", "max_tokens", "max_calls"}
        assert all(exact[name] * Decimal("0.99") <= about[name] <= exact[name] for name in exact)
        for each in calls:
            each.withdraw()


def test_what_counted_calls_hold_is_not_left(seen):
    with step("plan", max_usd=1, max_tokens=10**6, max_calls=1) as plan:
        made = far_call(plan)
        made.count()
        exact = {
            name: remaining(plan.account, name, wrapping=False) for name in plan.account.limits.as_dict()
        }
        assert room.about_left(plan.account) == exact
        assert (exact["max_usd"] < 1, exact["max_calls"]) == (True, 0)
        made.withdraw()


def test_a_far_call_does_not_see_what_is_kept_back(seen):
    with step("plan", max_usd=10, wrap_up_usd=5, error_boundary="continue") as plan:
        record_usage("gpt-4o", input_tokens=1, output_tokens=1, cost_usd=6)
        with pytest.raises(BudgetExhausted):
            far_call(plan)
    assert plan.usage.calls == 1


def test_a_far_call_is_charged_what_its_answer_says_that_it_cost(seen):
    with step("plan", max_usd=100) as plan:
        made = far_call(plan)
        assert made.bound is not None
        made.settle(Usage(input_tokens=10, output_tokens=5), cost_usd=Decimal("0.25"))
        assert plan.remaining("max_usd") == Decimal("99.75")
    assert_nothing_left(plan)


def test_no_more_than_so_many_calls_stay_uncounted(seen):
    with step("plan", max_tokens=10**9) as plan:
        calls = [far_call(plan) for _ in range(allowance.MOST_UNCOUNTED + 1)]
        assert plan.account.held_calls == len(calls)
        assert not plan.account.in_flight.uncounted  # the last one was counted, and so all others
        for made in calls:
            made.withdraw()


def in_task(function):
    async def main():
        return function()

    return asyncio.run(main())


@pytest.mark.parametrize("begun", [in_thread, in_task])
def test_a_call_can_still_be_counted_when_the_thread_or_task_that_began_it_has_ended(begun, seen):
    with step("plan", max_tokens=10**9) as plan:
        made = begun(lambda: far_call(plan))
        gc.collect()
        assert made.bound is not None
        made.count()
        assert (made.bound, plan.account.held_calls) == (None, 1)
        made.withdraw()
    assert_nothing_left(plan)


def test_the_first_call_of_a_model_is_counted():
    with step("plan", max_tokens=10**9) as plan:
        made = far_call(plan, model="gpt-4o-mini")
        assert made.bound is None
        made.withdraw()


SHARED = Budget("all", max_usd=10**6)


def held_elsewhere() -> Totals:
    """Return the account of a budget as another process finds it."""
    (totals,) = current.ledger().store.look(["budget::0:all"])
    return totals


def test_a_shared_limit_that_is_far_is_judged_by_its_ledger_at_the_bound(seen):
    with step("plan", budgets=[SHARED]) as plan:
        made = far_call(plan)
        assert made.bound is not None
        held = held_elsewhere()
        assert (held.held_calls, held.held.tokens) == (1, made.bound.tokens)
        assert from_pico(held.held.cost) == made.bound.cost
        made.settle(Usage(input_tokens=10, output_tokens=20))
        assert (held_elsewhere().held_calls, held_elsewhere().settled["calls"]) == (0, 1)
        assert_nothing_left(plan)


def test_a_shared_limit_that_few_such_calls_reach_is_judged_by_counting(seen):
    with step("plan", budgets=[SHARED]) as plan:
        made = far_call(plan)
        bound = made.bound.cost
        made.withdraw()
    for times, is_far in ((allowance.SHARED_TIMES + 1, True), (allowance.SHARED_TIMES - 1, False)):
        with step("plan", budgets=[Budget(f"{times}", max_usd=to_usd(times * bound))]) as plan:
            made = far_call(plan)
            assert (made.bound is not None) is is_far
            made.withdraw()
            assert_nothing_left(plan)


def test_a_call_that_a_ledger_has_no_room_for_is_refused_as_if_it_had_been_counted(seen):
    spent = Entry(id="elsewhere", keys=("budget::0:all",), amounts={COST: to_pico(to_units(10**6, "spent"))})
    with step("plan", budgets=[SHARED]) as plan:
        current.ledger().store.settle([spent])  # by another process, of which nothing is known here
        with pytest.raises(BudgetExhausted) as refused:
            far_call(plan)
        assert (refused.value.phase, refused.value.budget) == ("denied", "all")
        assert plan.record().denied_calls == 1
        assert_nothing_left(plan)


def test_a_call_that_waits_is_let_through_when_a_ledger_refuses_the_one_before_it(seen, monkeypatch):
    reserve, asked, may_answer = MemoryStore.reserve, threading.Event(), threading.Event()
    spent = Entry(id="elsewhere", keys=("budget::0:all",), amounts={COST: to_pico(to_units(10**6, "spent"))})

    def refusing(store, reservation):
        asked.set()
        assert may_answer.wait(60)
        store.settle([spent])
        return reserve(store, reservation)

    def ask_the_ledger():
        with step("inner", budgets=[SHARED]) as inner:
            with pytest.raises(BudgetExhausted):
                far_call(inner)
            refused.set()
            assert let_through.wait(60)  # so that it is not the end of the step that makes room

    def ask_for_more():
        counted = InputCount(tokens=60, upper_bound=60)
        Call(outer.accounts, Request(model="gpt-4o", count_input=lambda: counted)).admit()
        let_through.set()

    refused, let_through = threading.Event(), threading.Event()
    monkeypatch.setattr(MemoryStore, "reserve", refusing)
    with step("outer", max_tokens=85, wait_s=60) as outer:
        first, second = threading.Thread(target=bind(ask_the_ledger)), threading.Thread(target=ask_for_more)
        first.start()
        assert asked.wait(60)
        second.start()
        until(lambda: outer.account.waiting)
        may_answer.set()
        assert refused.wait(60)
        assert let_through.wait(20)
        first.join()
        second.join()


def test_hooks_are_told_which_model_answered_a_far_call(seen):
    with recorder() as told, step("plan", max_usd=100) as plan:
        for _ in range(2):  # the first teaches how dense its input was, and is charged as any other
            made = far_call(plan)
            assert made.bound is not None
            made.settle(text_usage(10, 20), model="gpt-4o-2024-08-06")
    assert [event.response_model for event in told.calls] == ["gpt-4o-2024-08-06"] * 2


def test_a_shared_call_that_is_counted_meanwhile_gives_all_back(seen):
    with step("plan", budgets=[SHARED], max_tokens=10**9) as plan:
        made = far_call(plan)
        assert plan.remaining("max_tokens") < 10**9  # whoever asks wants to know it
        assert made.bound is None
        assert held_elsewhere().held_calls == 1
        made.withdraw()
        assert held_elsewhere().held_calls == 0
        assert_nothing_left(plan)


def test_a_step_that_ends_while_a_ledger_is_asked_lets_nothing_through(seen, monkeypatch):
    reserve = MemoryStore.reserve

    def ending(store, reservation):
        verdict = reserve(store, reservation)
        plan.account.in_flight.count_all()  # somebody counts it on its way
        plan.account.close()
        return verdict

    with step("plan", budgets=[SHARED], max_tokens=10**9) as plan:
        monkeypatch.setattr(MemoryStore, "reserve", ending)
        with pytest.raises(BudgetExhausted) as refused:
            far_call(plan)
        assert refused.value.phase == "closed"
        assert held_elsewhere().held_calls == 0
        assert_nothing_left(plan)


@needs_fork
@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded, use of fork:DeprecationWarning")
def test_a_forked_child_holds_nothing_for_a_thread_that_is_asking_a_ledger(seen, monkeypatch):
    reserve, asked, may_answer = MemoryStore.reserve, threading.Event(), threading.Event()

    def slow(store, reservation):
        asked.set()
        assert may_answer.wait(20)
        return reserve(store, reservation)

    with step("plan", budgets=[SHARED]) as plan:
        monkeypatch.setattr(MemoryStore, "reserve", slow)
        thread = threading.Thread(target=bind(lambda: far_call(plan).withdraw()))
        thread.start()
        assert asked.wait(20)
        child = os.fork()
        if child == 0:
            os._exit(sum(account.held_calls for account in plan.accounts))
        may_answer.set()
        thread.join()
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        assert_nothing_left(plan)


@needs_fork
@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded, use of fork:DeprecationWarning")
def test_a_forked_child_holds_nothing_for_a_thread_whose_call_is_counted(seen):
    with step("plan", max_tokens=10**9) as plan:
        made = in_thread(bind(lambda: far_call(plan)))
        made.count()
        child = os.fork()
        if child == 0:
            os._exit(plan.account.held_calls)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        assert plan.account.held_calls == 1
        made.withdraw()


def test_a_ledger_that_is_away_refuses_a_far_call_and_nothing_is_left(seen, monkeypatch):
    def away(_store, _reservation):
        raise LedgerError(ledger="memory:", why="as the test wants")

    with step("plan", budgets=[SHARED]) as plan:
        monkeypatch.setattr(MemoryStore, "reserve", away)
        with pytest.raises(LedgerError):
            far_call(plan)
        assert plan.record().denied_calls == 1
        assert_nothing_left(plan)


def test_a_strict_limit_counts_where_the_provider_may_choose_a_dearer_tier(seen):
    with step("plan", max_usd=10**6, enforce="strict") as plan:
        first = far_call(plan)
        assert first.bound is not None
        learn("gpt-4o", output_tokens=20, counted_input=10, input_tokens=10, service_tier="priority")
        second = far_call(plan)
        assert second.bound is None
        first.withdraw()
        second.withdraw()


def test_a_denser_input_than_all_before_is_counted_when_its_answer_has_come(seen):
    with step("plan", max_tokens=10**9) as plan:
        made = far_call(plan)
        made.settle(Usage(input_tokens=17, output_tokens=5))
    assert output_stats.of("gpt-4o").surplus == 7


@given(
    texts=st.lists(st.text(max_size=200), max_size=5),
    model=st.sampled_from(["gpt-4o", "claude-sonnet-4-5", "mistral-small-latest"]),
    tools=st.booleans(),
)
def test_a_bound_is_never_below_what_counting_takes_to_be_the_most(texts, model, tools):
    messages = [{"role": "user", "content": text} for text in texts]
    schema = {"type": "function", "function": {"name": "search", "parameters": {"type": "object"}}}
    schemas = [schema] if tools else None
    bound = bound_messages(messages, tools=schemas)
    assert bound is not None
    assert bound >= count_messages(messages, model, tools=schemas).upper_bound


@pytest.mark.parametrize(
    "messages",
    [
        [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "https://x/y.png"}}]}],
        [{"role": "user", "content": "hi", "audio": {"id": "1"}}],
        [object()],
        "hi",
        [{"role": "user", "content": 7}],
    ],
)
def test_what_is_no_text_has_no_bound(messages):
    assert bound_messages(messages) is None


class Hiding:
    """A message that keeps its text under another name."""

    def __init__(self, *, role, content):
        self.role, self._text = role, content

    @property
    def content(self):
        return self._text


@pytest.mark.parametrize("kind", [OrderedDict, Hiding])
def test_a_message_whose_text_is_not_found_at_once_has_no_bound(kind):
    message = kind(role="user", content="Why is the sky blue? " * 500)
    assert bound_messages([message]) is None
    assert count_messages([message], "gpt-4o").tokens > 1000


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, True),
        ({"tools": [{"type": "function", "function": {"name": "search"}}]}, True),
        ({"tools": [{"name": "search", "input_schema": {}}]}, True),
        ({"tools": [{"type": "web_search_20250305", "name": "web_search"}]}, False),
        ({"tools": [{"google_search": {}}]}, False),
        ({"previous_response_id": "resp_1"}, False),
        ({"web_search_options": {}}, True),
        ({"web_search_options": {"search_context_size": "high"}}, False),
    ],
)
def test_what_a_server_adds_by_itself_has_no_bound(options, expected):
    assert is_all_sent(options) is expected
