"""What is declared is checked where it is declared, and a mistake is never 'no limit'."""

import math
from decimal import Decimal
from functools import partial

import pytest
from hypothesis import given
from hypothesis import strategies as st

from steptrack_callbacks import Budget, Grant, PersonaDefinition, Stage, StepDefinition, persona, step
from steptrack_callbacks.values.money import MOST_COUNT

NO_NUMBERS = [-1, -0.01, math.nan, math.inf, -math.inf, True, False, "0.05", "", [], Decimal("NaN"), 1e16]
NO_COUNTS = [-1, 0.5, 1.0, math.nan, True, "4000", Decimal(3), [1]]


@pytest.mark.parametrize("value", NO_NUMBERS)
@pytest.mark.parametrize("limit", ["max_usd", "max_seconds"])
def test_a_limit_in_dollars_or_seconds_is_a_number_or_an_error(limit, value):
    with pytest.raises(ValueError, match=f"step 'plan': {limit} must be"):
        step("plan", **{limit: value})


@pytest.mark.parametrize("value", NO_COUNTS)
@pytest.mark.parametrize("limit", ["max_tokens", "max_calls"])
def test_a_limit_in_tokens_or_calls_is_a_whole_number_or_an_error(limit, value):
    with pytest.raises(ValueError, match=f"step 'plan': {limit} must"):
        step("plan", **{limit: value})


def test_no_tokens_and_no_seconds_are_errors_and_no_dollars_and_no_calls_are_not():
    with pytest.raises(
        ValueError, match="max_tokens must be at least 1, not 0: max_calls=0 forbids all calls"
    ):
        step("plan", max_tokens=0)
    with pytest.raises(ValueError, match="max_seconds must be more than 0 seconds"):
        step("plan", max_seconds=0)
    assert step("plan", max_usd=0, max_calls=0).limits == {"max_usd": 0, "max_calls": 0}


@given(st.floats(0, 1e9, allow_nan=False))
def test_a_float_of_dollars_is_read_by_its_shortest_decimal_form(value):
    assert StepDefinition(name="plan", max_usd=value).max_usd == Decimal(str(value))


def test_money_is_kept_exactly():
    definition = StepDefinition(name="plan", max_usd=0.1, wrap_up_usd=0.01)
    assert (definition.max_usd, definition.wrap_up_usd) == (Decimal("0.1"), Decimal("0.01"))


@pytest.mark.parametrize(
    ("verb", "option"),
    [
        (verb, option)
        for verb in (partial(step, "a"), partial(persona, "a"), partial(Budget, "a"), Grant)
        for option in ("max_tokens", "max_calls")
    ]
    + [(partial(step, "a"), "max_tool_calls"), (partial(Stage, "a"), "max_iterations")],
)
def test_a_count_is_no_larger_than_what_a_file_may_name_and_a_ledger_keeps(verb, option):
    assert getattr(getattr(made := verb(**{option: MOST_COUNT}), "definition", made), option) == MOST_COUNT
    message = rf"{option} must be at most {MOST_COUNT}, the most that is kept, not "
    with pytest.raises(ValueError, match=f"{message}{MOST_COUNT + 1}$"):
        verb(**{option: MOST_COUNT + 1})
    with pytest.raises(ValueError, match=rf"{message}1000*\.\.\.0+$"):
        verb(**{option: 10**400})
    with pytest.raises(ValueError, match=f"{message}a number of thousands of digits$"):
        verb(**{option: 10**5000})


def test_dollars_of_thousands_of_digits_are_refused_as_any_that_are_too_many():
    with pytest.raises(
        ValueError, match="max_usd must be a finite number from 0 to 1e15, not a number of thous"
    ):
        step("plan", max_usd=10**5000)


@pytest.mark.parametrize(
    ("option", "message"),
    [
        (
            {"error_boundary": "skip"},
            "error_boundary must be one of 'continue', 'escalate', 'fail', not 'skip'",
        ),
        ({"error_boundary": None}, "error_boundary must be one of"),
        ({"enforce": "hard"}, "enforce must be one of 'estimate', 'strict', 'observe', not 'hard'"),
        ({"unpriced": "ignore"}, "unpriced must be one of 'warn', 'free', not 'ignore'"),
        ({"clamp": 1}, "clamp must be True or False, not 1"),
        ({"cut_streams": None}, "cut_streams must be True or False"),
        ({"wait_s": -1}, "wait_s must be a finite number"),
        ({"wait_s": True}, "wait_s must be a number"),
        ({"wait_s": "5"}, "wait_s must be a number of seconds, such as 30, not '5'"),
        ({"max_seconds": "5"}, "max_seconds must be a number of seconds, such as 30, not '5'"),
        ({"max_calls": "5"}, "max_calls must be a whole number, not '5'"),
        ({"model": 4}, "model must be a string or None"),
        ({"escalation": "ops"}, "escalation must be a function of the exception"),
        ({"wrap_up_usd": 1}, "is kept back from max_usd, so max_usd must be set and larger"),
        ({"wrap_up_usd": 1, "max_usd": 1}, "so max_usd must be set and larger"),
        ({"wrap_up_usd": "1", "max_usd": 2}, "wrap_up_usd must be a number, such as 0.05, not '1'"),
        ({"wrap_up_usd": "1", "max_usd": 2, "name": 3}, "a step needs a name"),
    ],
)
def test_every_option_is_checked_at_the_declaration(option, message):
    with pytest.raises(ValueError, match=message):
        StepDefinition(**({"name": "plan"} | option))


@pytest.mark.parametrize("name", ["", "  ", "a/b", 7, None])
def test_a_name_is_not_empty_and_has_no_slash(name):
    with pytest.raises(ValueError, match="name"):
        StepDefinition(name=name)
    with pytest.raises(ValueError, match="name"):
        persona(name)
    with pytest.raises(ValueError, match="name"):
        Stage(name)


def test_the_name_of_a_budget_that_no_ledger_could_keep_is_refused_where_it_is_declared():
    with pytest.raises(ValueError, match=r"budget name 'team-\\udfff' has a lone surrogate.*: leave it out"):
        Budget("team-\udfff", max_calls=1)
    assert Budget("team-\N{SLEUTH OR SPY}", max_calls=1).name == "team-\U0001f575"


def test_an_option_that_does_not_exist_is_an_error():
    with pytest.raises(TypeError, match=r"step\(\) got an unexpected keyword argument 'retry'"):
        step("plan", retry=3)
    with pytest.raises(TypeError, match=r"persona\(\) got an unexpected keyword argument 'approval'"):
        persona("editor", approval="required")


def test_a_misspelt_option_is_asked_about():
    with pytest.raises(TypeError, match=r"argument 'max_usdd'; did you mean 'max_usd'\?"):
        step("plan", max_usdd=3)
    with pytest.raises(
        ValueError, match=r"stage has no field 'max_iteration'; did you mean 'max_iterations'\?"
    ):
        Stage.from_dict({"name": "plan", "max_iteration": 3})


def test_a_definition_may_stand_in_the_place_of_a_name():
    definition = StepDefinition(name="plan", max_calls=2)
    assert step(definition).definition is definition
    with pytest.raises(ValueError, match="max_usd: say it in the definition, not beside it"):
        step(definition, max_usd=1)
    with pytest.raises(ValueError, match=r"persona\(\) needs a PersonaDefinition"):
        persona(definition)
    editor = PersonaDefinition(name="editor", stages=(Stage("plan"),))
    assert persona(editor).definition is editor


def test_a_step_is_read_from_plain_data():
    data = {
        "name": "plan",
        "function": "make_plan",
        "model": "m",
        "error_boundary": "continue",
        "budget": {"max_tokens": 100, "max_usd": 0.05},
        "max_calls": 3,
    }
    definition = StepDefinition.from_dict(data)
    assert definition.limits == {"max_usd": Decimal("0.05"), "max_tokens": 100, "max_calls": 3}
    assert (definition.function, definition.model, definition.error_boundary) == (
        "make_plan",
        "m",
        "continue",
    )
    assert data["budget"] == {"max_tokens": 100, "max_usd": 0.05}


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ({}, "a step needs a name: add 'name'"),
        ([], "a step must be a table of fields"),
        ({"name": "plan", "aproval": 1}, "step has no field 'aproval'; use name, function, model"),
        ({"name": "plan", "budget": 3}, "budget must be a table such as"),
        ({"name": "plan", "budget": {"usd": 3}}, "budget has no limit 'usd'; use max_usd"),
        ({"name": "plan", "max_usd": 2.0, "budget": {"max_usd": 3.0}}, "max_usd is given twice"),
        ({"name": "plan", "max_calls": 2, "budget": {"max_calls": 2}}, "max_calls is given twice"),
        ({"name": "plan", "budget": {"max_usd": math.nan}}, "max_usd must be a finite number"),
        ({"name": "plan", "stages": []}, "step has no field 'stages'"),
    ],
)
def test_malformed_plain_data_says_what_to_do(data, message):
    with pytest.raises(ValueError, match=message):
        StepDefinition.from_dict(data)


def test_a_persona_is_read_from_plain_data():
    data = {
        "name": "editor",
        "budget": {"max_usd": 1},
        "stages": [
            {"name": "plan", "allowed_tools": ["search"], "side_effect_level": "read_only"},
            {"name": "write", "max_iterations": 3},
        ],
    }
    editor = PersonaDefinition.from_dict(data)
    assert editor.stages == (
        Stage("plan", allowed_tools=["search"], side_effect_level="read_only"),
        Stage("write", max_iterations=3),
    )
    assert editor.max_usd == 1


@pytest.mark.parametrize(
    ("stages", "message"),
    [
        ("plan", "stages must be a list of tables"),
        ([{}], "a stage needs a name"),
        ([{"name": "a", "on_exit": {}}], "stage has no field 'on_exit'; use name, allowed_tools"),
        ([{"name": "a", "allowed_tools": "search"}], "allowed_tools must be a list of names"),
        ([{"name": "a", "allowed_tools": [1]}], "allowed_tools must be a list of names"),
        (
            [{"name": "a", "side_effect_level": "some"}],
            "side_effect_level must be one of 'none', 'read_only'",
        ),
        ([{"name": "a", "max_iterations": -1}], "max_iterations must not be negative"),
        ([{"name": "a", "max_iterations": True}], "max_iterations must be a whole number"),
        ([{"name": "a"}, {"name": "a"}], "stage 'a' is declared twice; keep one"),
    ],
)
def test_malformed_stages_say_what_to_do(stages, message):
    with pytest.raises(ValueError, match=message):
        PersonaDefinition.from_dict({"name": "editor", "stages": stages})


@pytest.mark.parametrize("stages", [["plan"], "plan", 5])
def test_stages_are_stages(stages):
    with pytest.raises(ValueError, match=r"persona 'editor': stages must be a list of Stage\(...\), not"):
        persona("editor", stages=stages)


def test_a_stage_that_is_given_without_a_list_is_named_with_the_list_to_write():
    with pytest.raises(
        ValueError, match=r"'editor': stages must be a list: write stages=\[Stage\(name='plan'"
    ):
        persona("editor", stages=Stage("plan"))


def test_stages_may_come_in_anything_that_can_be_walked_through_once():
    assert persona("editor", stages=map(Stage, ["plan", "write"])).definition.stages[1].name == "write"


@pytest.mark.parametrize("amount", [{}, {"max_usd": 0}, {"max_calls": 0, "max_usd": 0}, {"by": "ops"}])
def test_a_grant_of_nothing_is_an_error(amount):
    with pytest.raises(ValueError, match="a Grant must add to at least one limit"):
        Grant(**amount)


@pytest.mark.parametrize(
    "amount", [{"max_usd": -1}, {"max_calls": 1.5}, {"max_usd": math.nan}, {"max_tokens": 0}]
)
def test_a_malformed_grant_is_an_error(amount):
    with pytest.raises(ValueError, match="max_"):
        Grant(**amount)


def test_a_grant_is_json_ready():
    assert Grant(max_usd=0.5, by="ops").to_dict() == {"max_usd": 0.5, "by": "ops"}


def test_definitions_are_values():
    assert StepDefinition(name="plan", max_usd=1) == StepDefinition(name="plan", max_usd=Decimal("1.00"))
    with pytest.raises(AttributeError):
        StepDefinition(name="plan").max_usd = 3
