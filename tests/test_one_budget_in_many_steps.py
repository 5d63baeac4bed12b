"""Several steps of one process on one budget: each has its own limits, and all know the same of it.

Each step has an account of its own; what is known of the one in the ledger they share.
"""

import gc
import threading
from contextlib import suppress
from contextvars import Context

import pytest

from fake_framework import until
from internals import assert_nothing_left
from spending import ask, open_call
from steptrack_callbacks import Budget, BudgetExhausted, Grant, LedgerError, Usage, step
from steptrack_callbacks.engine import queue
from steptrack_callbacks.ledgers import current

pytestmark = pytest.mark.usefixtures("each_ledger")


@pytest.fixture
def begun():
    """Steps that end with the test."""
    return []


@pytest.fixture
def run(begun):
    """Begins steps."""
    yield lambda *args, **options: begun.append(Running(*args, **options)) or begun[-1]
    for each in begun:
        if each.step.status == "open":
            each.end()
    assert_nothing_left(*[each.step for each in begun])


class Running:
    """A step that runs beside others of the same thread, in a context of its own."""

    def __init__(self, name, limits=None, **options):
        budgets = [Budget("team", **(limits or {"max_tokens": 60}))]
        self.step = step(name, budgets=budgets, **options)
        self.do = Context().run
        self.do(self.step.__enter__)

    def end(self):
        with suppress(BudgetExhausted):
            self.do(self.step.__exit__, None, None, None)
        return self.step.record()

    def refusal(self):
        with pytest.raises(BudgetExhausted) as caught:
            self.do(ask)
        return caught.value


def test_what_one_step_has_spent_refuses_the_next_call_of_another(run):
    one, other = run("one"), run("other")
    other.do(ask)
    for _ in range(3):
        one.do(ask)
    assert (other.refusal().phase, one.refusal().phase) == ("denied", "denied")
    assert other.step.remaining("max_tokens") == one.step.remaining("max_tokens") == 0


def test_what_one_step_holds_is_not_left_for_another_and_comes_back(run):
    one, other = run("one", wait_s=0), run("other", wait_s=0)
    calls = [one.do(open_call, 25, 5), one.do(open_call, 20, 5)]
    assert other.step.remaining("max_tokens") == one.step.remaining("max_tokens") < 15
    assert other.refusal().phase == "busy"
    for call in calls:
        call.withdraw()
    other.do(ask)
    assert other.step.remaining("max_tokens") == 60 - 15


def test_steps_that_limit_one_budget_differently_share_its_spend_and_keep_their_own_limits(run):
    wide, narrow = run("wide", {"max_tokens": 100}), run("narrow", {"max_tokens": 20})
    wide.do(ask)
    assert narrow.refusal().limit_value == 20
    wide.do(ask)
    assert (wide.step.remaining("max_tokens"), narrow.step.remaining("max_tokens")) == (70, 0)


def test_a_grant_of_one_step_leaves_the_limit_of_another(run):
    asked = {"error_boundary": "escalate", "escalation": lambda error: Grant(max_tokens=40)}
    one, other = run("one", {"max_tokens": 20}, **asked), run("other", {"max_tokens": 20})
    one.do(ask)
    one.do(ask)
    assert other.refusal().limit_value == 20
    assert (one.step.remaining("max_tokens"), other.step.remaining("max_tokens")) == (30, 0)


def test_a_step_that_begins_later_knows_what_the_others_have_spent_and_hold(run):
    one = run("one", wait_s=0)
    one.do(ask)
    call = one.do(open_call, 40, 5)
    later = run("later", wait_s=0)
    assert later.refusal().phase == "busy"
    call.settle(Usage(input_tokens=40, output_tokens=5))
    assert later.refusal().phase == "denied"


def test_each_record_tells_the_spend_of_the_whole_budget_and_what_was_charged_here(run):
    one, other = run("one"), run("other")
    one.do(ask)
    other.do(ask)
    record = other.end()
    assert record.budgets["team"]["spent"] == {"max_tokens": 30}
    assert (record.usage.total_tokens, one.end().usage.total_tokens) == (15, 15)


def test_who_waits_is_told_at_once_what_the_ledger_has_told_another_step(run, monkeypatch):
    monkeypatch.setattr(queue, "LOOK_EVERY_S", 3600.0)  # it does not look for itself
    one, waiting = run("one"), run("waiting", wait_s=20)
    calls = [one.do(open_call, 25, 5), one.do(open_call, 20, 5)]
    outcomes = []
    thread = threading.Thread(target=waiting.do, args=(lambda: outcomes.append(ask()),))
    thread.start()
    until(lambda: queue.QUEUE.waiters)
    calls[0].settle(Usage(input_tokens=5))
    thread.join()
    assert outcomes == ["the answer"]


def test_what_one_step_spends_and_holds_another_knows_without_asking_the_ledger(run):
    one, other = run("one"), run("other")
    one.do(ask)
    call = one.do(open_call, 20, 5)
    (account,) = other.step.budgets
    assert (account.settled.tokens, account.held_tokens, account.held_calls) == (15, 25, 1)
    call.settle(Usage(input_tokens=20, output_tokens=1))
    assert (account.settled.tokens, account.held_tokens, account.held_calls) == (36, 0, 0)


def test_nobody_waits_for_room_that_a_call_of_its_own_holds_in_another_step(run):
    one, other = run("one", wait_s=3600), run("other", wait_s=3600)
    call = one.do(open_call, 40, 5)
    other.do(ask)
    assert other.refusal().phase == "busy"
    call.settle(Usage(input_tokens=30))


def test_who_came_first_goes_first_whichever_step_it_is_in(run):
    one, other = run("one", wait_s=20), run("other", wait_s=20)
    call, went = one.do(open_call, 30, 5), []

    def job(running, input_tokens):
        running.do(ask, input_tokens)
        went.append(input_tokens)

    threads = [threading.Thread(target=job, args=args) for args in ((one, 30), (other, 10))]
    for many, thread in enumerate(threads, 1):
        thread.start()
        until(lambda many=many: len(queue.QUEUE.waiters) == many)  # there is room for the second
    call.settle(Usage(input_tokens=5))
    for thread in threads:
        thread.join()
    assert sorted(went) == [10, 30]


def test_what_is_known_of_a_budget_goes_with_the_last_step_on_it(run, begun):
    replicas = current.ledger().replicas
    one = run("one")
    with step("other", budgets=[Budget("team", max_tokens=60)]):
        ask()
    gc.collect()
    assert len(replicas) == 1
    begun.clear()
    one.end()
    del one
    gc.collect()
    assert not replicas


def test_no_charge_counts_twice_while_the_ledger_is_told_of_it(run, monkeypatch):
    store, is_told, may_answer = current.ledger().store, threading.Event(), threading.Event()
    settle = store.settle

    def answer_late(entries):
        answer = settle(entries)
        is_told.set()
        may_answer.wait(20)
        return answer

    one, other = run("one", {"max_calls": 3}), run("other", {"max_calls": 3}, wait_s=20)
    monkeypatch.setattr(store, "settle", answer_late)
    monkeypatch.delattr(type(store), "try_settle", raising=False)
    first = threading.Thread(target=one.do, args=(ask,))
    first.start()
    assert is_told.wait(20)
    calls = [other.do(open_call, 1, 1)]  # whose reservation is answered with the charge of the first
    (account,) = other.step.budgets
    assert (account.settled.calls, account.held_calls) == (1, 1)
    calls.append(other.do(open_call, 1, 1))
    may_answer.set()
    first.join()
    assert (account.settled.calls, account.held_calls) == (1, 2)
    for call in calls:
        call.settle(Usage(input_tokens=1))
    assert account.settled.calls == 3


def test_no_charge_counts_twice_while_the_ledger_is_told_what_it_was_owed(run, monkeypatch):
    store, is_told, may_answer = current.ledger().store, threading.Event(), threading.Event()
    settle = store.settle
    one, other = run("one", {"max_calls": 3}), run("other", {"max_calls": 3}, wait_s=20)
    (account,) = other.step.budgets

    def fail(entries):
        raise LedgerError(ledger=store.url, why="it is away")

    def answer_late(entries):
        answer = settle(entries)
        is_told.set()
        may_answer.wait(20)
        return answer

    monkeypatch.delattr(type(store), "try_settle", raising=False)
    with monkeypatch.context() as away:
        away.setattr(store, "settle", fail)
        one.do(ask)
    assert account.settled.calls == 1
    monkeypatch.setattr(store, "settle", answer_late)
    telling = threading.Thread(target=current.ledger().flush)
    telling.start()
    assert is_told.wait(20)
    account.replica.learn(store.look([account.replica.key])[0])
    assert account.settled.calls == 1
    may_answer.set()
    telling.join()
    assert account.settled.calls == 1


def test_a_charge_that_the_ledger_could_not_be_told_counts_here(run, monkeypatch):
    one = run("one", {"max_calls": 3})
    store = current.ledger().store

    def fail(entries):
        raise LedgerError(ledger=store.url, why="it is away")

    with monkeypatch.context() as away:
        away.setattr(store, "settle", fail)
        away.delattr(type(store), "try_settle", raising=False)
        one.do(ask)
        (account,) = one.step.budgets
        assert account.settled.calls == 1
    one.do(ask)  # and with it the ledger is told what it is owed
    assert account.settled.calls == 2
