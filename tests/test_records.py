"""What steps leave behind: for every way out one record, in the order of ending."""

import asyncio
import json
import re
import warnings
from dataclasses import replace
from decimal import Decimal
from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fake_framework import run_all
from spending import ask, open_call, request, spend
from steptrack_callbacks import (
    BudgetEscalated,
    BudgetExhausted,
    CompletedStep,
    Grant,
    Stage,
    StepDenied,
    Usage,
    drain_completed_steps,
    peek_completed_steps,
    persona,
    step,
)
from steptrack_callbacks.hooks import StepStarted, on
from steptrack_callbacks.ledgers.memory import MemoryLedger
from steptrack_callbacks.steps import step as steps
from steptrack_callbacks.steps.attribution import new_call
from steptrack_callbacks.values.records import Kind, Status
from steptrack_callbacks.values.usage import LATER_COUNTS, count_names


class GraphBubbleUp(Exception):
    """Named as a graph framework names its pause."""


class GraphInterrupt(GraphBubbleUp):
    """And what it raises."""


def overspend():
    ask()
    ask()


WAYS_OUT = {
    "completed": ("fail", lambda: None, None),
    "error": ("fail", lambda: 1 / 0, ZeroDivisionError),
    "failed": ("fail", overspend, BudgetExhausted),
    "escalated": ("escalate", overspend, BudgetEscalated),
    "continued": ("continue", overspend, None),
}


@pytest.mark.parametrize("status", WAYS_OUT)
def test_each_way_out_leaves_one_record_that_names_it(status):
    boundary, body, leaving = WAYS_OUT[status]
    raised = None
    try:
        with step("plan", max_calls=1, error_boundary=boundary):
            body()
    except Exception as error:
        raised = error
    assert type(raised) is (leaving or type(None))
    (record,) = peek_completed_steps()
    assert record.status == status
    assert (record.error is None) == (status == "completed")


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (ValueError("x"), "error"),
        (KeyboardInterrupt(), "cancelled"),
        (SystemExit(), "cancelled"),
        (GeneratorExit(), "cancelled"),
        (asyncio.CancelledError(), "cancelled"),
        (GraphInterrupt("please"), "interrupted"),
        (ExceptionGroup("both", [ValueError("x"), KeyError("y")]), "error"),
        (BaseExceptionGroup("both", [ValueError("x"), KeyboardInterrupt()]), "error"),
        (BaseExceptionGroup("both", [KeyboardInterrupt(), asyncio.CancelledError()]), "cancelled"),
    ],
    ids=lambda value: value if isinstance(value, str) else type(value).__name__,
)
def test_any_other_exception_passes_untouched_and_is_named(error, status):
    cause, notes = OSError("the cause"), ["a note"]
    error.__cause__, error.__notes__ = cause, notes
    with pytest.raises(type(error)) as caught, step("plan"):
        spend()
        raise error
    assert caught.value is error
    assert (error.__cause__, error.__notes__) == (cause, notes)
    (record,) = peek_completed_steps()
    assert (record.status, record.llm_calls) == (status, 1)
    assert record.error.startswith(f"{type(error).__name__}: ")


def test_an_outer_steps_exhaustion_makes_an_inner_step_stopped():
    with pytest.raises(BudgetExhausted), step("outer", max_calls=1), step("inner"):
        overspend()
    assert [(r.name, r.status) for r in peek_completed_steps()] == [("inner", "stopped"), ("outer", "failed")]


def test_a_step_that_a_hook_denies_leaves_a_record():
    def deny(event):
        raise StepDenied("not on Sundays")

    on(StepStarted, deny, step="plan")
    with pytest.raises(StepDenied, match="not on Sundays"), step("plan"):
        pytest.fail("the body must not run")
    (record,) = peek_completed_steps()
    assert (record.status, record.error, record.llm_calls) == ("denied", "StepDenied: not on Sundays", 0)


def test_an_exhaustion_that_the_body_handled_is_recorded():
    with step("plan", max_calls=1) as plan:
        ask()
        with pytest.raises(BudgetExhausted):
            ask()
    assert (plan.status, plan.exhausted) == ("exhausted", True)


def test_a_record_says_all_about_its_step():
    with persona("editor") as editor, step("plan", model="declared", max_usd=100) as plan:
        ask(model="first")
        ask(20, 5, model="second")
        ask(model="first")
    record = plan.records()[0]
    assert isinstance(record, CompletedStep)
    assert (record.id, record.run_id, record.parent_id) == (plan.id, editor.id, editor.id)
    assert (record.path, record.name, record.kind, record.persona) == (
        "editor/plan",
        "plan",
        "step",
        "editor",
    )
    assert (record.function, record.model, record.limits) == (None, "first", {"max_usd": 100})
    assert {model: used.calls for model, used in record.models.items()} == {"first": 2, "second": 1}
    assert sum(record.models.values(), Usage()) == record.own_usage == record.usage
    assert (record.denied_calls, record.in_flight_calls, record.strict_breaches) == (0, 0, 0)
    assert record.ended_at == record.started_at + record.duration_s
    assert editor.records()[-1].kind == "persona"
    assert editor.records()[-1].persona == "editor"
    assert editor.records()[-1].models == {}


def test_a_model_that_was_only_declared_is_in_the_record():
    with step("plan", model="declared") as plan:
        pass
    assert plan.records()[0].model == "declared"


def test_a_record_is_json_ready_and_has_the_keys_of_old_first():
    with step("plan", max_usd=100, max_tokens=50) as plan:
        ask()
    record = json.loads(json.dumps(plan.records()[0].to_dict()))
    assert list(record)[:5] == ["name", "function", "model", "input_tokens", "output_tokens"]
    old = {
        "name",
        "function",
        "model",
        "input_tokens",
        "output_tokens",
        "cost_usd",
        "llm_calls",
        "status",
        "error",
    }
    assert old < set(record)
    assert (record["cost_usd"], record["llm_calls"], record["input_tokens"]) == (15.0, 1, 10)
    assert record["limits"] == {"max_usd": 100.0, "max_tokens": 50}


def test_records_are_of_the_subtree_only_inner_ones_first():
    with step("root"):
        with step("a") as a, step("b"):
            pass
        with step("a") as again, step("c"):
            pass
    assert [record.name for record in a.records()] == ["b", "a"]
    assert [record.name for record in again.records()] == ["c", "a"]


def test_records_of_a_running_step_are_those_that_ended_inside_it():
    with step("root") as root, step("middle"):
        with step("leaf"):
            pass
        assert [record.name for record in root.records()] == ["leaf"]


def test_records_include_what_ended_after_its_parent():
    with step("root") as root:
        child = step("child").__enter__()
        with step("grandchild"):
            pass
        late = step("late").__enter__()
        child.__exit__(None, None, None)
        late.__exit__(None, None, None)
    assert [record.name for record in root.records()] == ["grandchild", "child", "late", "root"]


def test_draining_forgets_and_peeking_does_not():
    with step("plan"):
        pass
    assert peek_completed_steps() == peek_completed_steps() == drain_completed_steps()
    assert (peek_completed_steps(), drain_completed_steps()) == ([], [])


def test_a_late_settlement_puts_the_whole_record_back_with_its_next_revision():
    with step("plan", max_usd=100):
        call = open_call(10, 5)
    (first,) = drain_completed_steps()
    assert (first.revision, first.in_flight_calls, first.usage.estimated_calls) == (0, 1, 1)
    call.settle(Usage(input_tokens=10, output_tokens=2))
    (second,) = drain_completed_steps()
    assert (second.id, second.revision, second.in_flight_calls) == (first.id, 1, 0)
    assert (first.late_calls, second.late_calls) == (0, 1)
    assert (second.usage.total_tokens, second.usage.estimated_calls, second.usage.cost_usd) == (12, 0, 12)


def test_a_task_that_is_cancelled_while_its_step_ends_leaves_a_record():
    async def work():
        async with step("plan"):
            new_call(request(), sent=True).begin()

    async def main():
        task = asyncio.create_task(work())
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(main())
    (record,) = peek_completed_steps()
    assert (record.status, record.in_flight_calls) == ("cancelled", 1)


def test_a_coroutine_that_is_closed_leaves_a_record_and_awaits_nothing_more():
    async def work():
        async with step("plan"):
            new_call(request(), sent=True).begin()
            await asyncio.sleep(0)

    coroutine = work()
    coroutine.send(None)
    coroutine.close()
    (record,) = peek_completed_steps()
    assert (record.status, record.in_flight_calls) == ("cancelled", 1)


def test_the_ledger_keeps_the_newest_and_says_how_many_it_let_go():
    ledger = MemoryLedger(kept=2)
    for name in ("a", "b", "c"):
        with step(name) as ended:
            pass
        ledger.put(ended.id, ended.record)
    assert ([record.name for record in ledger.peek()], ledger.dropped) == (["b", "c"], 1)
    ledger.put(ended.id, ended.record)
    assert ([record.name for record in ledger.peek()], ledger.dropped) == (["b", "c"], 1)


def test_a_record_is_drained_by_one_of_those_who_drain_at_the_same_time():
    for _ in range(100):
        with step("plan"):
            pass
    drained = []
    run_all([lambda: drained.extend(drain_completed_steps())] * 4)
    assert len(drained) == len({record.id for record in drained}) == 100


def test_a_record_that_is_revised_while_it_is_drained_is_left_for_the_next_time():
    ledger = MemoryLedger()
    with step("plan") as plan:
        pass
    newer = replace(plan.record(), revision=1)

    def older():
        ledger.put(plan.id, lambda: newer, 1)
        return plan.record()

    ledger.put(plan.id, older)
    assert ledger.drain(plan.run_id) == []
    assert ledger.drain(plan.run_id) == [newer]


def test_a_persona_of_which_a_stage_met_no_step_warns_after_its_record_is_safe():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        editor = persona("editor", stages=[Stage("plam")])
        with pytest.raises(UserWarning, match="stages that no step of that name ran under: plam"), editor:
            pass
    assert [record.status for record in peek_completed_steps()] == ["completed"]


def test_an_error_is_never_hidden_by_the_warning_about_stages():
    with pytest.raises(ZeroDivisionError), persona("editor", stages=[Stage("plan")]):
        raise ZeroDivisionError
    assert steps.open_steps() == []


NAMES = st.text(min_size=1, max_size=8)
NUMBERS = st.integers(0, 10**12)
DOLLARS = st.integers(0, 10**14).map(lambda units: Decimal(units).scaleb(-8))
SECONDS = st.floats(0, 1e10)
USAGES = st.builds(Usage, cost_usd=DOLLARS, **dict.fromkeys(count_names(), NUMBERS))
LIMITS = st.fixed_dictionaries(
    {}, optional={"max_usd": DOLLARS, "max_tokens": NUMBERS, "max_calls": NUMBERS, "max_seconds": SECONDS}
)
GRANTS = st.builds(Grant, max_calls=st.integers(1, 9), max_usd=DOLLARS | st.none(), by=NAMES | st.none())
AMOUNTS = st.fixed_dictionaries({"max_usd": SECONDS, "max_calls": NUMBERS})
BUDGETS = st.fixed_dictionaries(
    {"limits": AMOUNTS, "spent": AMOUNTS, "window": NAMES | st.none(), "resets_at": NAMES | st.none()}
)
RECORDS = st.builds(
    CompletedStep,
    **dict.fromkeys(("id", "run_id", "path", "name"), NAMES),
    **dict.fromkeys(("parent_id", "function", "persona", "model", "error"), NAMES | st.none()),
    **dict.fromkeys(("usage", "own_usage", "here_usage", "resumed_usage"), USAGES),
    **dict.fromkeys(("started_at", "ended_at", "duration_s"), SECONDS),
    **dict.fromkeys(
        ("denied_calls", "in_flight_calls", "late_calls", "strict_breaches", "tool_calls", "revision"),
        NUMBERS,
    ),
    kind=st.sampled_from(get_args(Kind)),
    status=st.sampled_from(get_args(Status)),
    models=st.dictionaries(NAMES, USAGES, max_size=2),
    limits=LIMITS,
    grants=st.lists(GRANTS, max_size=2).map(tuple),
    budgets=st.dictionaries(NAMES, BUDGETS, max_size=2),
)


@given(RECORDS)
def test_a_record_comes_back_from_its_dict_as_it_was(record):
    assert CompletedStep.from_dict(json.loads(json.dumps(record.to_dict()))) == record


@given(RECORDS, st.data())
def test_a_dict_that_was_damaged_makes_no_record_and_says_what_is_wrong(record, data):
    damaged = record.to_dict()
    name = data.draw(st.sampled_from(sorted(set(damaged) - {"total_tokens"} - LATER_COUNTS)))
    if name not in {"busy_calls", "cut_calls", "swaps"} and data.draw(st.booleans()):
        del damaged[name]
    else:
        damaged[name] = data.draw(st.sampled_from([[3], -1, float("nan"), {"x": "y"}]))
    with pytest.raises(ValueError, match="this is not a record of a step: ."):
        CompletedStep.from_dict(damaged)


@given(RECORDS)
def test_a_record_of_an_older_version_is_read_with_none_of_what_it_could_not_count(record):
    old = without_later_counts(record.to_dict())
    read = CompletedStep.from_dict(old)
    assert without_later_counts(read.to_dict()) == old
    assert {getattr(read.usage, name) for name in LATER_COUNTS} == {0}


def without_later_counts(written):
    if not isinstance(written, dict):
        return written
    return {name: without_later_counts(each) for name, each in written.items() if name not in LATER_COUNTS}


INSIDE = {
    "a limit nobody knows": ("limits", {"max_fun": 1}, "there is no limit 'max_fun'"),
    "a limit as text": ("limits", {"max_calls": "3"}, "max_calls must be a number, not '3'"),
    "a budget without its spend": (
        "budgets",
        {"team": {"limits": {"max_calls": 3}, "spent": {}, "window": None, "resets_at": None}},
        "'max_calls' is missing",
    ),
    "a budget with a spend as text": (
        "budgets",
        {
            "team": {
                "limits": {"max_calls": 3},
                "spent": {"max_calls": "x"},
                "window": None,
                "resets_at": None,
            }
        },
        "max_calls must be a number, not 'x'",
    ),
    "a grant of nothing": ("grants", [{}], "a Grant must add to at least one limit"),
    "a grant by a number": ("grants", [{"max_calls": 1, "by": 3}], "by must be text, not 3"),
    "a model without its counts": ("models", {"m": {"calls": 1}}, "'input_tokens' is missing"),
    "a status nobody knows": ("status", "fine", "status must be one of new, open, completed"),
    "a time beyond all calendars": ("ended_at", 1e14, "ended_at must be a number of seconds up to 1e"),
}


@pytest.mark.parametrize(("name", "value", "why"), INSIDE.values(), ids=INSIDE)
def test_what_is_wrong_inside_a_dict_is_said(name, value, why):
    with step("plan"):
        spend()
    (record,) = peek_completed_steps()
    with pytest.raises(ValueError, match=f"this is not a record of a step: .*{re.escape(why)}"):
        CompletedStep.from_dict(record.to_dict() | {name: value})


@given(USAGES, USAGES)
def test_a_part_of_a_usage_can_be_taken_off_and_no_more_than_there_is(one, other):
    assert one + other - other == one
    with pytest.raises(ValueError, match="must not be negative"):
        one - (one + Usage(calls=1))
