"""Hooks see what happens, may stop a step, and break nobody's call."""

import logging
from decimal import Decimal
from functools import partial

import pytest

from looking import in_thread
from spending import ask, open_call, spend
from steptrack_callbacks import (
    BudgetExhausted,
    Grant,
    StepDenied,
    Usage,
    current_step,
    hooks,
    peek_completed_steps,
    persona,
    step,
)
from steptrack_callbacks.concurrency.lock import LOCK
from steptrack_callbacks.hooks import (
    BudgetThreshold,
    CallAdmitted,
    CallDenied,
    CallSettled,
    Escalated,
    Event,
    StepEnded,
    StepStarted,
    on,
)
from steptrack_callbacks.steps import step as steps
from steptrack_callbacks.testing import recorder, strict


@pytest.fixture
def events():
    """All events, as they come."""
    seen = []
    on(Event, seen.append)
    return seen


def test_events_come_in_the_order_of_what_happens(events):
    with persona("editor"), step("plan", max_calls=1, error_boundary="continue"):
        ask()
        ask()
    assert [(type(event).__name__, event.path) for event in events] == [
        ("StepStarted", "editor"),
        ("StepStarted", "editor/plan"),
        ("CallAdmitted", "editor/plan"),
        ("CallSettled", "editor/plan"),
        ("BudgetThreshold", "editor/plan"),
        ("CallDenied", "editor/plan"),
        ("StepEnded", "editor/plan"),
        ("StepEnded", "editor"),
    ]
    assert {(event.step, event.persona) for event in events[1:7]} == {("plan", "editor")}
    assert len({event.run_id for event in events}) == 1


def test_what_events_carry(events):
    with step("plan", max_usd=18, error_boundary="escalate", escalation=lambda _: None):
        ask(model="m")
        with pytest.raises(BudgetExhausted):
            ask(model="m")
    by_kind = {type(event): event for event in events}
    assert by_kind[CallAdmitted].model == by_kind[CallDenied].model == by_kind[CallSettled].model == "m"
    assert by_kind[CallSettled].usage == Usage(
        input_tokens=10, output_tokens=5, cost_usd=Decimal(15), calls=1
    )
    assert by_kind[CallDenied].error.phase == "denied"
    assert (by_kind[Escalated].error.limit, by_kind[Escalated].grant) == ("max_usd", None)
    assert by_kind[StepEnded].record.status == "exhausted"
    assert by_kind[BudgetThreshold].step_id == by_kind[StepEnded].record.id


def test_a_call_of_unknown_price_says_so_in_its_event(events):
    with step("plan"):
        ask(price=lambda _: None)
    (settled,) = [event for event in events if isinstance(event, CallSettled)]
    assert (settled.usage.cost_usd, settled.usage.unpriced_calls) == (0, 1)


def test_a_late_settlement_is_told_again_as_a_whole():
    with recorder() as seen:
        settled = []
        on(CallSettled, settled.append)
        with step("plan", max_calls=3):
            call = open_call(10, 5)
        call.settle(Usage(input_tokens=10, output_tokens=1))
    assert [event.usage.total_tokens for event in settled] == [15, 11]
    assert settled[0].call_id == settled[1].call_id
    assert [event.usage.total_tokens for event in seen.calls] == [11]


@pytest.mark.parametrize(
    ("globs", "paths"),
    [
        ({}, ["editor", "editor/plan", "editor/plan/search", "plan"]),
        ({"step": "plan"}, ["editor/plan", "plan"]),
        ({"step": "p*"}, ["editor/plan", "plan"]),
        ({"step": "*/plan"}, ["editor/plan"]),
        ({"step": "editor/*"}, ["editor/plan", "editor/plan/search"]),
        ({"persona": "ed[ij]tor"}, ["editor", "editor/plan", "editor/plan/search"]),
        ({"persona": ""}, ["plan"]),
        ({"persona": "editor", "step": "search"}, ["editor/plan/search"]),
        ({"step": "PLAN"}, []),
    ],
)
def test_a_hook_is_for_the_steps_that_its_globs_name(globs, paths):
    seen = []
    on(StepStarted, lambda event: seen.append(event.path), **globs)
    with persona("editor"), step("plan"), step("search"):
        pass
    with step("plan"):
        pass
    assert seen == paths


def test_a_hook_may_be_removed_again():
    seen = []
    off = on(StepEnded, seen.append)
    off()
    off()
    with step("plan"):
        pass
    assert seen == []


def test_a_hook_may_keep_a_step_from_starting():
    def deny(event):
        raise StepDenied(f"no {event.step}")

    on(StepStarted, deny, step="bad")

    @step("bad")
    def bad():
        pytest.fail("it must not run")

    with step("outer") as outer:
        with pytest.raises(StepDenied, match="no bad"):
            bad()
        assert current_step() is outer
    assert [(record.name, record.status) for record in peek_completed_steps()] == [
        ("bad", "denied"),
        ("outer", "completed"),
    ]


def test_a_step_whose_hook_raises_another_error_of_ours_is_not_left_open():
    def exhausted(_):
        raise BudgetExhausted(step="elsewhere", limit="max_usd", limit_value=1)

    on(StepStarted, exhausted)
    with pytest.raises(BudgetExhausted), step("plan"):
        pytest.fail("it must not run")
    assert steps.open_steps() == []
    assert [record.status for record in peek_completed_steps()] == ["error"]


@pytest.mark.parametrize(
    "event", [StepStarted, CallAdmitted, CallSettled, CallDenied, BudgetThreshold, StepEnded]
)
def test_a_broken_hook_is_logged_and_counted_and_breaks_nobodys_call(event, caplog):
    def broken(_):
        raise ZeroDivisionError("in the hook")

    on(event, broken)
    with (
        caplog.at_level(logging.ERROR, "steptrack_callbacks"),
        step("plan", max_calls=1, error_boundary="continue") as plan,
    ):
        assert ask() == "the answer"
        ask()
    assert (hooks.failures(), plan.usage.calls, plan.status) == (1, 1, "continued")
    assert f"hook 'broken' failed on {event.__name__} of step 'plan'" in caplog.text


def test_in_strict_mode_a_broken_hook_is_raised():
    on(StepStarted, lambda _: 1 / 0)
    with strict(), pytest.raises(ZeroDivisionError), step("plan"):
        pytest.fail("it must not run")
    assert steps.open_steps() == []


def test_a_threshold_fires_once_per_step_and_limit_when_settled_spend_crosses_it():
    seen = []
    on(BudgetThreshold, seen.append, threshold=0.5)
    with step("outer", max_tokens=100), step("plan", max_usd=100, max_calls=4):
        for _ in range(4):
            spend(20, 0)
    assert [(event.step, event.limit, event.share) for event in seen] == [
        ("plan", "max_calls", 0.5),
        ("plan", "max_usd", 0.6),
        ("outer", "max_tokens", 0.6),
    ]
    assert (seen[1].limit_value, seen[1].consumed, seen[1].threshold) == (100, 60, 0.5)


def test_each_hook_hears_its_own_threshold_only():
    seen = []
    on(BudgetThreshold, lambda event: seen.append((event.threshold, event.consumed)))
    on(BudgetThreshold, lambda event: seen.append((event.threshold, event.consumed)), threshold=1)
    with step("plan", max_calls=5):
        for _ in range(5):
            spend()
    assert seen == [(0.8, 4), (1.0, 5)]


def test_what_is_merely_reserved_crosses_no_threshold():
    seen = []
    on(BudgetThreshold, seen.append, threshold=0.1)
    with step("plan", max_tokens=20):
        open_call(10, 5).withdraw()
    assert seen == []


def test_a_hook_on_an_exhausted_step_can_still_speak():
    def speak(event):
        ask(30, 30)
        seen.append(current_step().path)

    seen = []
    on(BudgetThreshold, speak, step="plan", threshold=1)
    with step("plan", max_calls=1) as plan:
        ask()
        assert current_step() is plan
    assert seen == ["hook:speak"]
    assert plan.usage.total_tokens == 15
    record = peek_completed_steps()[0]
    assert (record.path, record.kind, record.parent_id, record.llm_calls) == ("hook:speak", "hook", None, 1)


def test_a_step_of_the_users_is_told_to_hooks_though_it_is_named_as_those_of_hooks_are():
    seen = []
    on(StepEnded, lambda event: seen.append(event.path))
    with step("hook:mine"):
        spend()
    assert seen == ["hook:mine"]


def test_what_is_inside_a_hooks_own_step_is_told_to_no_hook():
    def speak(_):
        with step("inner"):
            ask()

    seen = []
    on(StepStarted, speak, step="plan")
    on(StepEnded, lambda event: seen.append(event.path))
    with step("plan"):
        pass
    assert [record.path for record in peek_completed_steps()] == ["hook:speak/inner", "hook:speak", "plan"]
    assert seen == ["plan"]


def test_a_hook_that_makes_no_call_leaves_no_record():
    on(StepEnded, lambda _: None)
    with step("plan"):
        pass
    assert [record.name for record in peek_completed_steps()] == ["plan"]


def test_what_a_hook_does_is_not_told_to_hooks(events):
    on(CallSettled, lambda _: ask())
    with step("plan"):
        ask()
    assert [event.path for event in events] == ["plan"] * 4


def test_handlers_are_called_in_the_order_of_registration_and_outside_locks():
    import threading

    from steptrack_callbacks.concurrency.lock import LOCK

    def try_lock(_):
        thread = threading.Thread(
            target=lambda: free.append(LOCK.acquire(timeout=5) and LOCK.release() is None)
        )
        thread.start()
        thread.join()

    free, order = [], []
    for number in range(3):
        on(CallSettled, lambda _, number=number: order.append(number))
    for event in (StepStarted, CallAdmitted, CallSettled, BudgetThreshold, CallDenied, StepEnded):
        on(event, try_lock)
    with step("plan", max_calls=1, error_boundary="continue"):
        ask()
        ask()
    assert (order, free) == ([0, 1, 2], [True] * 6)


def test_a_grant_is_told():
    answers = []
    on(Escalated, lambda event: answers.append(event.grant))
    grant = Grant(max_calls=1, by="ops")
    with step("plan", max_calls=1, error_boundary="escalate", escalation=lambda _: grant):
        ask()
        ask()
    assert answers == [grant]


async def hear(event):
    """Hear in a coroutine."""


async def hear_in_turns(event):
    """Hear in an async generator."""
    yield event


class Heard:
    """Hears in a coroutine where it is called."""

    async def __call__(self, event):
        """Hear."""


@pytest.mark.parametrize(
    ("arguments", "options", "message"),
    [
        ((int, print), {}, "event must be a class of steptrack_callbacks.hooks"),
        (("StepEnded", print), {}, "event must be a class"),
        ((StepEnded, "print"), {}, "handler must be a function of the event"),
        ((StepEnded, print), {"threshold": 0.5}, "threshold is for BudgetThreshold only, not for StepEnded"),
        ((BudgetThreshold, print), {"threshold": 80}, "a fraction above 0 and up to 1, such as 0.8 for 80%"),
        ((BudgetThreshold, print), {"threshold": 0}, "a fraction above 0"),
        ((BudgetThreshold, print), {"threshold": float("nan")}, "threshold must be a finite number"),
        ((BudgetThreshold, print), {"threshold": True}, "threshold must be a number"),
        ((StepEnded, print), {"step": 5}, r"step must be a glob of names, such as 'plan\*', not 5"),
        ((StepEnded, print), {"persona": None}, r"persona must be a glob of names, such as .*, not None"),
        (
            (StepEnded, hear),
            {},
            "would never run, and <function hear at .* is async; make it a plain function",
        ),
        ((StepEnded, hear_in_turns), {}, "make it a plain function"),
        ((StepEnded, partial(hear)), {}, "make it a plain function"),
        ((StepEnded, Heard()), {}, "make it a plain function"),
    ],
)
def test_a_malformed_hook_is_an_error_where_it_is_registered(arguments, options, message):
    before = hooks.registered
    with pytest.raises(ValueError, match=message) as raised:
        on(*arguments, **options)
    assert [frame.name for frame in raised.traceback][1:] == ["checked"]
    assert hooks.registered == before


@pytest.mark.parametrize("change", ["on", "watch", "off", "reset"])
def test_hooks_change_while_no_other_thread_can_change_them(change, monkeypatch):
    def can_change():
        can = LOCK.acquire(blocking=False)
        if can:
            LOCK.release()
        return can

    class Read(tuple):
        __slots__ = ()

        def __iter__(self):
            could.append(in_thread(can_change))
            return super().__iter__()

    could = []
    off = on(StepEnded, print)
    monkeypatch.setattr(hooks, "registered", Read(hooks.registered))
    if change == "on":
        on(StepStarted, print)
    elif change == "watch":
        hooks.watch(StepStarted, print)()
    else:
        off() if change == "off" else hooks.reset()
    assert set(could) == {False}
