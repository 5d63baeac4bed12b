"""A chain of accounts, driven at random beside a reference that does everything the naive way."""

import itertools
import logging
from dataclasses import dataclass
from decimal import Decimal
from typing import Any
from unittest.mock import patch

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from fake_framework import price
from internals import assert_nothing_left
from steptrack_callbacks import BudgetExhausted, Grant, Step, StepDefinition, Usage
from steptrack_callbacks.concurrency.flow import run_sync
from steptrack_callbacks.engine import open_call, reservation
from steptrack_callbacks.engine.call import Call
from steptrack_callbacks.engine.queue import QUEUE, Waiter, making_room
from steptrack_callbacks.engine.request import Request
from steptrack_callbacks.testing import reset
from steptrack_callbacks.tokens import InputCount
from steptrack_callbacks.values.money import to_units, to_usd

LIMITS = ("max_usd", "max_tokens", "max_calls")
Amounts = tuple[int, int, int]
"""Money units, tokens, calls."""


def amounts_of(usage: Usage) -> Amounts:
    return price(usage), usage.total_tokens, 1


def add(amounts: list[Amounts]) -> Amounts:
    return tuple(map(sum, zip((0, 0, 0), *amounts, strict=True)))  # type: ignore[return-value]


@dataclass(eq=False)
class Asked:
    """A call as the reference sees it: what it may use, what it holds, what it was charged."""

    call: Call
    depth: int
    tokens_in: int
    most_in: int
    most_out: int
    reservation: Any = None
    waiter: Waiter | None = None
    in_flight: bool = False
    charged: tuple[Amounts, ...] = ()

    @property
    def certain(self) -> Amounts:
        return amounts_of(Usage(input_tokens=self.tokens_in))

    @property
    def expected(self) -> Amounts:
        return amounts_of(Usage(input_tokens=self.tokens_in, output_tokens=self.most_out))

    @property
    def worst(self) -> Amounts:
        return amounts_of(Usage(input_tokens=self.most_in, output_tokens=self.most_out))

    def held_by(self, enforce: str) -> Amounts:
        return self.worst if enforce == "strict" else self.expected


class Chain(RuleBasedStateMachine):
    """Three steps inside each other; every call is of a model of its own, so that none learns from another."""

    def __init__(self) -> None:
        super().__init__()
        reset()
        open_call.open_calls.clear()  # an example that failed leaves them
        reservation._reservations.clear()
        self.asked: list[Asked] = []
        self.steps: list[Step] = []
        self.limits: list[list[int | None]] = []
        self.numbers = itertools.count()
        # Each call counts as made by a task of its own, or nobody here would ever wait.
        self.owners = patch.object(reservation, "current_owner", object)
        self.owners.start()
        logging.disable(logging.WARNING)

    @initialize(
        declared=st.lists(
            st.tuples(
                st.sampled_from(["estimate", "strict", "observe"]),
                st.none() | st.integers(0, 40),
                st.none() | st.integers(1, 4000),
                st.none() | st.integers(0, 12),
            ),
            min_size=3,
            max_size=3,
        )
    )
    def begin(self, declared):
        for enforce, tenths_of_cents, tokens, requests in declared:
            usd = None if tenths_of_cents is None else Decimal(tenths_of_cents) / 1000
            definition = StepDefinition(
                name="step",
                enforce=enforce,
                max_usd=usd,
                max_tokens=tokens,
                max_calls=requests,
                error_boundary="continue",
            )
            self.steps.append(Step(definition, parent=self.steps[-1] if self.steps else None))
            self.steps[-1].begin()
            self.limits.append([None if usd is None else to_units(usd, "usd"), tokens, requests])

    # The reference

    def of(self, depth: int) -> list[Asked]:
        """Calls that count in a step: those made in it and inside it."""
        return [asked for asked in self.asked if asked.depth >= depth]

    def settled(self, depth: int) -> Amounts:
        return add([amounts for asked in self.of(depth) for amounts in asked.charged])

    def fits(self, asked: Asked, depth: int, flying: list[Asked]) -> bool:
        """Tell whether a step has room for a call beside others."""
        enforce = self.steps[depth].definition.enforce
        if enforce == "observe":
            return True
        wanted = asked.worst if enforce == "strict" else asked.expected if flying else asked.certain
        held = add([other.held_by(enforce) for other in flying])
        for limit, settled, reserved, more in zip(
            self.limits[depth], self.settled(depth), held, wanted, strict=True
        ):
            if limit is not None and (settled >= limit or settled + reserved + more > limit):
                return False
        return True

    def flying(self, depth: int) -> list[Asked]:
        return [other for other in self.of(depth) if other.in_flight]

    def only_calls(self, depth: int) -> int | None:
        """Calls that may still be made: those in flight count whatever becomes of them."""
        most = self.limits[depth][2]
        return None if most is None else most - self.settled(depth)[2] - len(self.flying(depth))

    def fits_everywhere(self, asked: Asked) -> bool:
        return all(self.fits(asked, depth, self.flying(depth)) for depth in range(asked.depth + 1))

    def hopeless(self, asked: Asked) -> bool:
        """Tell whether a step could not take a call even if all in flight came to nothing."""
        for depth in range(asked.depth + 1):
            enforced = self.steps[depth].definition.enforce != "observe"
            left = self.only_calls(depth)
            if not self.fits(asked, depth, []) or (enforced and left is not None and left <= 0):
                return True
        return False

    # What happens

    def make(self, depth: int, tokens_in: int, slack: int, most_out: int) -> Asked:
        request = Request(
            model=f"model-{next(self.numbers)}",
            count_input=lambda: InputCount(tokens=tokens_in, upper_bound=tokens_in + slack),
            max_output_tokens=most_out,
            price=price,
        )
        call = Call(self.steps[depth].accounts, request)
        return Asked(call, depth, tokens_in, tokens_in + slack, most_out)

    depths = st.integers(0, 2)
    sizes = st.tuples(st.integers(0, 400), st.integers(0, 50), st.integers(0, 400))

    @rule(depth=depths, size=sizes)
    def ask(self, depth, size):
        """Ask where nothing can wait: the call goes exactly if it fits, for it cannot stand in line."""
        asked = self.make(depth, *size)
        closed, limited = self.steps[depth].account.closed, bool(asked.call.accounts.limited)
        if closed and not limited:
            return  # no call finds a step that has ended; one with limits may end while it asks
        free_to_go = not closed and self.fits_everywhere(asked)
        expected = free_to_go or not limited
        try:
            asked.call.admit(patient=False)
        except BudgetExhausted as refusal:
            assert not expected, refusal
            if closed:
                assert refusal.phase == "closed"
            else:
                assert (refusal.phase == "denied") == self.hopeless(asked)
        else:
            assert expected
            asked.in_flight = True
            self.asked.append(asked)

    @rule(depth=depths, size=sizes)
    def ask_and_wait(self, depth, size):
        """Ask where one can wait: a call that does not go now waits exactly if there is hope."""
        asked = self.make(depth, *size)
        if self.steps[depth].account.closed and not asked.call.accounts.limited:
            return
        overtakes, fits = self.overtakes(asked), self.fits_everywhere(asked)
        asked.admission = asked.call._admission(patient=True)
        try:
            asked.waiter = asked.admission.send(None)
        except StopIteration:
            asked.in_flight = True
            self.asked.append(asked)
        except BudgetExhausted as refusal:
            assert refusal.phase == "closed" or self.hopeless(asked)
        else:
            assert not self.hopeless(asked)
            assert overtakes or not fits
            self.asked.append(asked)

    @staticmethod
    def overtakes(asked: Asked) -> bool:
        return any(account.waiting for account in asked.call.accounts.limited)

    def open_calls(self) -> list[Asked]:
        return [asked for asked in self.asked if asked.call.is_open]

    @precondition(lambda self: self.open_calls())
    @rule(
        data=st.data(),
        how=st.sampled_from(["settle", "settle", "fail", "abandon", "withdraw", "free"]),
        share=st.integers(0, 10),
        slack=st.integers(0, 10),
    )
    def report(self, data, how, share, slack):
        asked = data.draw(st.sampled_from(self.open_calls()))
        tokens_in = asked.tokens_in + (asked.most_in - asked.tokens_in) * slack // 10
        used = Usage(input_tokens=tokens_in, output_tokens=asked.most_out * share // 10)
        asked.in_flight = False
        match how:
            case "settle":
                asked.charged = (amounts_of(used),)
                asked.call.settle(used)
            case "fail":
                asked.charged = ((0, 0, 1),)
                asked.call.fail()
            case "abandon":
                asked.charged = (amounts_of(used.replace(input_tokens=asked.tokens_in)),)
                asked.call.abandon(used.output_tokens)
            case "withdraw":
                asked.charged = ()
                asked.call.withdraw()
            case "free":
                asked.charged = ()
                asked.call.settle_free()
        asked.call.settle(Usage(input_tokens=10**6))  # a second report changes nothing
        self.wake()

    @precondition(lambda self: any(asked.waiter for asked in self.asked))
    @rule(data=st.data())
    def cancel(self, data):
        asked = data.draw(st.sampled_from([asked for asked in self.asked if asked.waiter]))
        self.asked.remove(asked)
        QUEUE.drop(asked.waiter)
        self.wake()

    @rule(depth=depths, usd=st.integers(1, 5), tokens=st.integers(1, 500))
    def grant(self, depth, usd, tokens):
        grant = Grant(max_usd=Decimal(usd) / 1000, max_tokens=tokens, max_calls=1)
        limits = self.limits[depth]
        more = (to_units(grant.max_usd, "usd"), tokens, 1)
        self.limits[depth] = [
            limit if limit is None else limit + plus for limit, plus in zip(limits, more, strict=True)
        ]
        with making_room:
            self.steps[depth].account.grant(grant)
        self.wake()

    @precondition(lambda self: any(step.status == "open" for step in self.steps))
    @rule()
    def end_innermost(self):
        depth = max(depth for depth, step in enumerate(self.steps) if step.status == "open")
        for asked in self.flying(depth):
            asked.in_flight = False
            reservation = asked.call.reservation
            strict = reservation is not None and any(
                account.enforce == "strict" for account in reservation.accounts
            )
            asked.charged = (asked.worst if strict else asked.expected,)
        run_sync(self.steps[depth].end(None))
        self.wake()

    def wake(self) -> None:
        """Let those go on who were let through or refused."""
        for asked in [asked for asked in self.asked if asked.waiter and asked.waiter.outcome is not None]:
            outcome, asked.waiter = asked.waiter.outcome, None
            try:
                asked.admission.send(outcome)
            except StopIteration:
                asked.in_flight = True
            except BudgetExhausted:
                self.asked.remove(asked)

    # What must always hold

    @invariant()
    def books_are_right(self):
        for depth, running in enumerate(self.steps):
            account = running.account
            cost, tokens, calls = self.settled(depth)
            assert (account.settled.cost, account.settled.tokens, account.settled.calls) == (
                cost,
                tokens,
                calls,
            )
            own = add([amounts for asked in self.asked if asked.depth == depth for amounts in asked.charged])
            assert running.own_usage.cost_usd == to_usd(own[0])
            assert account.open_calls == len(self.flying(depth))

    @invariant()
    def reservations_are_right(self):
        for depth, running in enumerate(self.steps):
            account = running.account
            holding = self.flying(depth) if account.limited and account.enforce != "observe" else []
            cost, tokens, _ = add([asked.held_by(account.enforce) for asked in holding])
            assert (account.held_tokens, account.held_calls) == (tokens, len(holding))
            if self.limits[depth][0] is not None:  # else nobody asks for prices
                assert account.held_cost == cost

    @invariant()
    def strict_limits_hold(self):
        for running in self.steps:
            if running.account.enforce == "strict":
                assert running.account.passed_limits() == []
                assert running.account.breached == 0

    @invariant()
    def nobody_waits_in_vain(self):
        """The first in line does not fit, and whoever waits has hope; or it was missed when room came free."""
        waiting = [asked for asked in self.asked if asked.waiter]
        if waiting:
            assert not self.fits_everywhere(waiting[0])
        for asked in waiting:  # one that only lacks a call is refused when the next one in flight ends
            assert all(self.fits(asked, depth, []) for depth in range(asked.depth + 1))

    def teardown(self):
        for asked in [asked for asked in self.asked if asked.waiter]:
            QUEUE.drop(asked.waiter)
            self.asked.remove(asked)
        for depth in reversed(range(len(self.steps))):
            if self.steps[depth].status == "open":
                self.end_innermost()
        assert_nothing_left(*self.steps)
        self.owners.stop()
        logging.disable(logging.NOTSET)
        reset()


TestChain = Chain.TestCase
TestChain.settings = settings(max_examples=100, stateful_step_count=40, deadline=None)
