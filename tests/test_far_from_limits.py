"""Calls that are admitted by a bound, beside the same calls admitted by counting: nothing may differ."""

import itertools
import logging
import os
from contextlib import ExitStack
from dataclasses import dataclass, field
from decimal import Decimal
from types import SimpleNamespace
from typing import Any
from unittest.mock import patch

from hypothesis import Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from internals import assert_nothing_left
from steptrack_callbacks import BudgetExhausted, Grant, Step, StepDefinition, Usage
from steptrack_callbacks.concurrency.flow import run_sync
from steptrack_callbacks.engine import balance, call, far, queue, reservation, settlement
from steptrack_callbacks.engine.call import Call
from steptrack_callbacks.engine.output_stats import learn
from steptrack_callbacks.engine.queue import QUEUE, advance_queue
from steptrack_callbacks.engine.request import Request
from steptrack_callbacks.pricing import set_prices
from steptrack_callbacks.testing import reset
from steptrack_callbacks.tokens import InputCount

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
    """Three steps inside each other, and their calls, which may be admitted by a bound or not."""

    name: str
    is_fast: bool
    steps: list[Step] = field(default_factory=list)
    calls: dict[int, Asked] = field(default_factory=dict)
    fast = 0

    def begin(self, declared: list[dict[str, Any]]) -> None:
        for options in declared:
            definition = StepDefinition(name="step", error_boundary="continue", **options)
            self.steps.append(Step(definition, parent=self.steps[-1] if self.steps else None))
            self.steps[-1].begin()

    def ask(self, number: int, depth: int, asked: dict[str, Any], *, patient: bool) -> object:
        sent = asked["sent"]
        request = Request(
            model=f"{self.name}-{asked['model']}",
            count_input=lambda: InputCount(tokens=sent, upper_bound=sent + asked["slack"]),
            bound_input=lambda: 3 * sent + asked["slack"] + 20,
            max_output_tokens=asked["most"],
            can_clamp=asked["can_clamp"],
            streams=asked["streams"],
        )
        made = self.calls[number] = Asked(Call(self.steps[depth].accounts, request), sent)
        with patch.object(far, "enabled", self.is_fast):
            if far.let_through(made.call):
                made.call.admitted = True
                self.fast += made.call.far is not None
                return "admitted"
        made.admission = made.call._admission(patient=patient)
        return self.resume(number, None)

    def resume(self, number: int, outcome: object) -> object:
        asked = self.calls[number]
        try:
            asked.waiter = asked.admission.send(outcome)
        except StopIteration:
            asked.waiter = None
            return "admitted", asked.call.max_output_tokens
        except BudgetExhausted as refusal:
            del self.calls[number]
            return "refused", refusal.phase, str(refusal)
        return "waits", sorted(account.ref.path for account in asked.waiter.blocked_on)

    def wake(self) -> object:
        """Let those go on who were let through or refused."""
        woken = [number for number, asked in self.calls.items() if asked.waiter and asked.waiter.outcome]
        return [(number, self.resume(number, self.calls[number].waiter.outcome)) for number in woken]

    def books(self) -> object:
        return [
            (step.status, step.usage, step.own_usage, step.account.held_calls, step.account.open_calls)
            for step in self.steps
        ]

    def holds(self, now: float) -> object:
        """What is held, and left, by what is known now."""
        found = []
        for step in self.steps:
            account = step.account
            account.count_all()
            account.in_flight._stale = True
            account.in_flight.refresh(now)
            limits = ("max_usd", "max_tokens", "max_calls")
            left = [account.remaining(limit, wrapping=False) for limit in limits]
            found.append((account.held_cost, account.held_tokens, account.cold, left))
        return [(cost, tokens, sorted(cold.values()), left) for cost, tokens, cold, left in found]


near_or_far = st.sampled_from([None, None, 20, 60, 500, 700, 1000, 3000, 10**7, 10**7])
options = st.builds(
    lambda enforce, cents, tokens, calls, seconds, clamp, cut: {
        "enforce": enforce,
        "max_usd": None if cents is None else Decimal(cents) / 1000,
        "max_tokens": None if tokens is None else tokens * 100,
        "max_calls": calls,
        "max_seconds": seconds,
        "clamp": clamp,
        "cut_streams": cut,
        "wait_s": 30.0,
    },
    st.sampled_from(["estimate", "estimate", "strict", "observe"]),
    near_or_far,
    near_or_far,
    st.sampled_from([None, None, None, 3, 12]),
    st.none() | st.just(500),
    st.booleans(),
    st.booleans(),
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
        settlement.open_calls.clear()  # an example that failed leaves them
        reservation._reservations.clear()
        QUEUE.empty()
        logging.disable(logging.WARNING)
        self.now, self.owner = 1000.0, 0
        self.numbers = itertools.count()
        self.worlds = (World("fast", is_fast=True), World("slow", is_fast=False))
        set_prices({f"{world.name}-{name}": PRICES[name] for world in self.worlds for name in MODELS})
        clock = SimpleNamespace(monotonic=lambda: self.now, time=lambda: self.now)
        self.patches = ExitStack()
        for module in (balance, call, far, queue, reservation):
            self.patches.enter_context(patch.object(module, "time", clock))
        for module in (far, reservation):
            self.patches.enter_context(patch.object(module, "current_owner", lambda: self.owner))

    def both(self, do) -> Any:
        first, second = (do(world) for world in self.worlds)
        assert first == second
        return first

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
        how=st.sampled_from(["settle", "settle", "settle", "cut", "fail", "abandon", "withdraw", "free"]),
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
        self.both(lambda world: world.steps[depth].account.grant(grant))
        advance_queue()
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

    @precondition(lambda self: any(step.status == "open" for step in self.worlds[0].steps))
    @rule(really=st.integers(0, 5))
    def end_sometimes(self, really):
        if not really:
            self.end_innermost()

    def end_innermost(self):
        depth = max(depth for depth, step in enumerate(self.worlds[0].steps) if step.status == "open")
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
        for world in self.worlds:
            waiting = [number for number, asked in world.calls.items() if asked.waiter]
            for asked in [world.calls.pop(number) for number in waiting]:
                QUEUE.drop(asked.waiter)
        while any(step.status == "open" for step in self.worlds[0].steps):
            self.end_innermost()
        self.both(lambda world: [step.record().status for step in world.steps])
        assert_nothing_left(*self.worlds[0].steps, *self.worlds[1].steps)
        type(self).total_fast += self.worlds[0].fast
        assert self.worlds[1].fast == 0
        self.patches.close()
        logging.disable(logging.NOTSET)
        reset()


def _plain(outcome: object) -> object:
    return outcome[0] if isinstance(outcome, tuple) and outcome == ("admitted", None) else outcome


def _report(asked: Asked, how: str, made: int) -> None:
    made_call, most = asked.call, asked.call.request.max_output_tokens
    used = Usage(input_tokens=asked.sent, output_tokens=made if most is None else min(made, most))
    match how:
        case "settle":
            made_call.settle(used)
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


def test_zz():
    print("FAST", SideBySide.total_fast)
