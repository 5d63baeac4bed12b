"""Errors keep their fields wherever they go, and say in which unit it broke."""

import copy
import json
import pickle
import traceback
from decimal import Decimal
from pkgutil import resolve_name

import pytest

from spending import ask, open_call, spend
from steptrack_callbacks import (
    BudgetEscalated,
    BudgetExhausted,
    Grant,
    LedgerError,
    LostStepWarning,
    StepDenied,
    StepTrackError,
    ToolDenied,
    UnknownCostWarning,
    UnpricedModel,
    persona,
    step,
)
from steptrack_callbacks.values.errors import Breach


class FrameworksOwnError(Exception):
    """Stands for an error class of a framework."""


class BudgetExhaustedForFramework(BudgetExhausted, FrameworksOwnError):
    """As an integration makes one, so that its framework knows what it is."""

    status_code = 400


FULL = {
    "step": "plan",
    "step_id": "p-1",
    "path": "editor/plan",
    "function": "make_plan",
    "persona": "editor",
    "phase": "settled",
    "limit": "max_usd",
    "limit_value": Decimal("0.05"),
    "consumed_tokens": 120,
    "consumed_cost_usd": Decimal("0.0612"),
    "projected_cost_usd": Decimal("0.07"),
    "breaches": (
        Breach(
            path="editor/plan",
            step_id="p-1",
            limit="max_usd",
            limit_value=Decimal("0.05"),
            consumed=Decimal("0.0612"),
        ),
    ),
    "error_boundary": "escalate",
    "grants": (Grant(max_usd=0.01, by="ops"),),
    "hint": "ask ops",
}
ERRORS = [
    BudgetExhausted(**FULL),
    BudgetEscalated(**FULL),
    BudgetExhaustedForFramework(**FULL),
    UnpricedModel(model="m", step="plan", path="editor/plan"),
    UnpricedModel(model="m", step="plan", path="editor/plan", lacks="output_usd_per_mtok"),
    ToolDenied(tool="shell", path="editor/plan", why="allowed are search"),
    StepDenied("not on Sundays"),
]
COPIES = {
    "copy": copy.copy,
    "deepcopy": copy.deepcopy,
    "pickle": lambda error: pickle.loads(pickle.dumps(error)),
}


@pytest.mark.parametrize("how", COPIES)
@pytest.mark.parametrize("error", ERRORS, ids=lambda error: type(error).__name__)
def test_every_error_survives_being_copied(error, how):
    error.add_note("seen in the test")
    again = COPIES[how](error)
    assert again is not error
    assert (type(again), again.fields(), str(again)) == (type(error), error.fields(), str(error))
    assert again.args == error.args
    assert again.__notes__ == error.__notes__


@pytest.mark.parametrize("how", COPIES)
def test_the_answer_and_the_result_are_copied_along(how):
    error = BudgetExhausted(**FULL)
    error.response, error.result = {"answer": 1}, ["result"]
    again = COPIES[how](error)
    assert (again.response, again.result) == ({"answer": 1}, ["result"])


def test_all_errors_are_runtime_errors_of_one_family():
    assert all(isinstance(error, StepTrackError) for error in ERRORS)
    assert issubclass(StepTrackError, RuntimeError)
    assert issubclass(BudgetEscalated, BudgetExhausted)
    assert all(issubclass(kind, UserWarning) for kind in (UnknownCostWarning, LostStepWarning))


@pytest.mark.parametrize(
    ("limit", "amounts", "message"),
    [
        ("max_usd", {"limit_value": Decimal("0.05")}, "exceeded max_usd: $0.0612 spent of $0.0500"),
        ("max_usd", {"limit_value": 0.0000123}, "exceeded max_usd: $0.0612 spent of $0.0000123"),
        ("max_tokens", {"limit_value": 100}, "exceeded max_tokens: 120 tokens spent of 100"),
        ("max_calls", {"limit_value": 2}, "exceeded max_calls: 3 calls spent of 2"),
        ("max_calls", {"limit_value": 2_000_000}, "exceeded max_calls: 3 calls spent of 2000000"),
        ("max_seconds", {"limit_value": 1.5}, "exceeded max_seconds: 3 s spent of 1.5"),
    ],
)
def test_the_message_gives_the_unit_that_broke(limit, amounts, message):
    breach = Breach(path="plan", step_id=None, limit=limit, limit_value=1, consumed=3)
    error = BudgetExhausted(
        step="plan",
        limit=limit,
        phase="settled",
        consumed_tokens=120,
        consumed_cost_usd=Decimal("0.0612"),
        breaches=(breach,),
        **amounts,
    )
    assert str(error) == f"step 'plan' {message}"


@pytest.mark.parametrize(
    ("consumed", "said"),
    [(0.0570729, "0.057 s spent"), (1.23456, "1.23 s spent"), (7200.5, "7200.5 s spent")],
)
def test_seconds_are_said_in_few_digits(consumed, said):
    breach = Breach(path="plan", step_id=None, limit="max_seconds", limit_value=0.001, consumed=consumed)
    error = BudgetExhausted(step="plan", limit="max_seconds", limit_value=0.001, breaches=(breach,))
    assert f": {said} of 0.001" in str(error)


@pytest.mark.parametrize(("limit", "said"), [("max_calls", "1 call spent"), ("max_tokens", "1 token spent")])
def test_one_is_said_in_the_singular(limit, said):
    breach = Breach(path="plan", step_id=None, limit=limit, limit_value=1, consumed=1)
    error = BudgetExhausted(step="plan", limit=limit, limit_value=1, consumed_tokens=1, breaches=(breach,))
    assert f"{said} of 1" in str(error)


@pytest.mark.parametrize(
    ("limit", "reserved", "said"),
    [
        ("max_usd", Decimal("0.5"), "$0.0000 spent and $0.5000 reserved of $1.0000"),
        ("max_tokens", 70, "0 tokens spent and 70 reserved of 1"),
        ("max_calls", 1, "0 calls spent and 1 reserved of 1"),
    ],
)
def test_what_is_reserved_is_told_beside_what_is_spent(limit, reserved, said):
    breach = Breach(path="plan", step_id=None, limit=limit, limit_value=1, consumed=0, reserved=reserved)
    error = BudgetExhausted(step="plan", limit=limit, limit_value=1, breaches=(breach,))
    assert said in str(error)
    assert breach.to_dict()["reserved"] == float(reserved)


def test_each_phase_says_what_happened():
    texts = {
        "denied": "has no room under max_usd: $3.0000 spent of $5.0000, and the next call needs at least $4.0000",
        "busy": "has no room under max_usd beside calls in flight: $3.0000 spent of $5.0000; "
        "raise wait_s, make fewer calls at once, or give them a max_tokens",
        "stream": "exceeded max_usd in a running stream, which was cut: $3.0000 spent of $5.0000",
        "settled": "exceeded max_usd: $3.0000 spent of $5.0000",
        "closed": "has ended, and admits no more calls: $3.0000 spent of $5.0000",
    }
    for phase, text in texts.items():
        error = BudgetExhausted(
            step="plan",
            phase=phase,
            limit="max_usd",
            limit_value=Decimal(5),
            consumed_cost_usd=Decimal(3),
            projected_cost_usd=Decimal(7),
        )
        assert str(error) == f"step 'plan' {text}"
    assert str(ERRORS[0]).startswith("step 'editor/plan' ")
    assert str(ERRORS[0]).endswith("; ask ops")


KEYS = ["category", "kind", "reason", "step", "function", "limit", "limit_value", "consumed_tokens"]
KEYS += ["consumed_cost_usd", "error_boundary", "message"]


def test_an_exhaustion_is_told_as_json_in_the_shape_of_old():
    told = BudgetExhausted(**FULL).to_dict()
    assert json.loads(json.dumps(told)) == told
    assert set(KEYS) <= set(told)
    assert (told["category"], told["kind"], told["reason"]) == (
        "budget_exceeded",
        "budget_exhausted",
        "step_budget_exhausted",
    )
    assert (told["limit_value"], told["consumed_tokens"], told["consumed_cost_usd"]) == (0.05, 120, 0.0612)
    assert "escalated" not in told


def test_an_escalation_stands_beside_the_category_and_does_not_replace_it():
    exhausted, escalated = BudgetExhausted(**FULL).to_dict(), BudgetEscalated(**FULL).to_dict()
    assert escalated == exhausted | {"escalated": True, "handoff": "handoff_escalation"}
    assert (BudgetExhausted.escalated, BudgetEscalated.escalated) == (False, True)


def test_an_exhaustion_before_and_after_a_call_has_one_shape():
    with pytest.raises(BudgetExhausted) as before, step("plan", max_usd=20):
        ask()
        ask()
    with pytest.raises(BudgetExhausted) as after, step("plan", max_usd=20):
        spend(cost_usd=21)
    assert (before.value.phase, after.value.phase) == ("denied", "settled")
    assert set(before.value.to_dict()) == set(after.value.to_dict())
    assert (before.value.consumed_cost_usd, before.value.projected_cost_usd) == (15, 25)
    for error in (before.value, after.value):
        assert isinstance(error.consumed_tokens, int)
        assert isinstance(error.limit_value, Decimal)


def test_a_refusal_says_how_many_tokens_the_call_needs():
    with step("plan", max_tokens=20):
        ask(10, 5)
        with pytest.raises(BudgetExhausted) as caught:
            ask(10, 5)
    assert "15 tokens spent of 20, and the next call needs at least 10" in str(caught.value)


def test_a_refusal_beside_a_call_in_flight_says_that_there_is_one():
    with step("plan", max_calls=1):
        running = open_call()
        with pytest.raises(BudgetExhausted) as caught:
            ask()
        running.withdraw()
    assert "0 calls spent and 1 reserved of 1" in str(caught.value)


def test_an_exhaustion_knows_whose_it_is():
    @step("plan", max_calls=1, error_boundary="escalate")
    def make_plan():
        ask()
        ask()

    with pytest.raises(BudgetExhausted) as caught, persona("editor") as editor:
        make_plan()
    error = caught.value
    record = editor.records()[0]
    assert (error.step, error.path, error.function) == ("plan", "editor/plan", "make_plan")
    assert (error.persona, error.step_id, error.error_boundary) == ("editor", record.id, "escalate")
    assert [breach.to_dict() for breach in error.breaches] == [
        {
            "path": "editor/plan",
            "budget": None,
            "limit": "max_calls",
            "limit_value": 1,
            "consumed": 1,
            "reserved": 0,
            "kept_back": 0,
        }
    ]


def test_an_unknown_price_says_how_to_give_one():
    assert str(ERRORS[3]) == (
        "step 'editor/plan' has a max_usd, but the price of model 'm' is unknown: give it with"
        " install(prices={'m': {'input_usd_per_mtok': ..., 'output_usd_per_mtok': ...}}), or say unpriced='warn'"
        " or 'free' on the step"
    )
    assert "the price of model 'm' has no output_usd_per_mtok: give it with install(" in str(ERRORS[4])
    assert str(ERRORS[5]) == "tool 'shell' is not allowed in step 'editor/plan': allowed are search"


def test_a_traceback_names_an_error_as_users_import_it():
    ours = [error for error in ERRORS if not isinstance(error, FrameworksOwnError)]
    for error in [*ours, LedgerError(ledger="sqlite:///steps.db", why="is locked")]:
        name = f"steptrack_callbacks.{type(error).__name__}"
        assert traceback.format_exception_only(error)[0].startswith(f"{name}: ")
        assert resolve_name(name) is type(error)
