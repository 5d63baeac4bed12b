"""What can have no effect, and what others call otherwise, is said where it is written."""

from __future__ import annotations

from typing import Any

import pytest
from langchain_core.runnables import RunnableLambda

import steptrack_callbacks as steptrack
from steptrack_callbacks import Budget, BudgetExhausted, Grant, Stage, persona, record_usage, step
from steptrack_callbacks.langchain import budgeted
from steptrack_callbacks.langgraph import StepBudgetMiddleware

VERBS: dict[str, Any] = {
    "step": lambda **options: step("plan", **options),
    "persona": lambda **options: persona("editor", **options),
    "budgeted": lambda **options: budgeted(RunnableLambda(str.upper), step="shout", **options),
    "StepBudgetMiddleware": lambda **options: StepBudgetMiddleware("agent", **options),
}


@pytest.mark.parametrize("verb", VERBS)
@pytest.mark.parametrize(
    ("option", "ours"),
    [
        ("max_dollars", "'max_usd'"),
        ("max_dollar", "'max_usd'"),
        ("max_cost", "'max_usd'"),
        ("max_budget", "'max_usd'"),
        ("budget", "'max_usd' or 'budgets'"),
        ("timeout", "'max_seconds'"),
        ("on_exceed", "'error_boundary'"),
        ("exit_behavior", "'error_boundary'"),
        ("token_limit", "'max_tokens'"),
        ("max_requests", "'max_calls'"),
        ("fallback", "'default'"),
        ("fallback_models", "'models'"),
        ("duration", "'max_seconds'"),
    ],
)
def test_an_option_of_somebody_elses_names_ours(verb: str, option: str, ours: str) -> None:
    with pytest.raises(TypeError, match=f"{verb}.*unexpected keyword argument '{option}'; here it is {ours}"):
        VERBS[verb](**{option: 5})


def test_an_option_that_is_like_none_of_ours_is_taken_for_none() -> None:
    with pytest.raises(TypeError, match=r"unexpected keyword argument 'max_retries'$"):
        step("plan", max_retries=5)  # type: ignore[call-overload]


def test_the_cost_of_a_tool_given_as_its_level_is_told_where_it_belongs() -> None:
    with pytest.raises(ValueError, match=r"not 0\.01; what a use costs is said as {'usd': 0\.01}"):
        steptrack.install(tools={"search": 0.01})  # type: ignore[dict-item]


@pytest.mark.parametrize(
    ("declaration", "option", "ours"),
    [
        (Budget, "max_dollars", "max_usd"),
        (Budget, "period", "window"),
        (Grant, "usd", "max_usd"),
        (Grant, "timeout", "max_seconds"),
        (Stage, "tools", "allowed_tools"),
        (Stage, "max_calls", "max_iterations"),
    ],
)
def test_a_declaration_names_ours_too(declaration: Any, option: str, ours: str) -> None:
    wanted = f"{declaration.__name__}.*unexpected keyword argument '{option}'; here it is '{ours}'"
    with pytest.raises(TypeError, match=wanted):
        declaration(**{option: 5})


@pytest.mark.parametrize("table", ["steps.plan", "personas.editor", "budgets.team"])
def test_so_does_one_in_a_file(table: str, tmp_path: Any) -> None:
    path = tmp_path / "steptrack.toml"
    path.write_text(f"[{table}]\nmax_dollars = 5\n")
    with pytest.raises(ValueError, match='max_dollars: is unknown; here it is "max_usd"'):
        steptrack.install(config=str(path))


def test_a_word_that_is_merely_misspelt_is_still_asked_about() -> None:
    with pytest.raises(TypeError, match="did you mean 'max_tokens'"):
        step("plan", max_tokenss=5)  # type: ignore[call-overload]


@pytest.mark.parametrize("verb", VERBS)
@pytest.mark.parametrize("boundary", [None, "fail", "continue"])
def test_an_escalation_that_nobody_would_ask_is_an_error(verb: str, boundary: Any) -> None:
    options = {} if boundary is None else {"error_boundary": boundary}
    with pytest.raises(ValueError, match="escalation is asked under error_boundary='escalate' only"):
        VERBS[verb](max_calls=1, escalation=lambda _: None, **options)


@pytest.mark.parametrize("verb", VERBS)
@pytest.mark.parametrize("boundary", [None, "fail", "escalate"])
def test_a_default_that_nothing_would_return_is_an_error(verb: str, boundary: Any) -> None:
    options = {} if boundary is None else {"error_boundary": boundary}
    with pytest.raises(ValueError, match="default is returned under error_boundary='continue' only"):
        VERBS[verb](max_calls=1, default="none", **options)


def test_a_block_has_nowhere_to_put_a_default() -> None:
    with (
        pytest.raises(ValueError, match="a `with` block has nowhere to put its default"),
        step("plan", error_boundary="continue", default="none"),
    ):
        pass

    @step(max_calls=0, error_boundary="continue", default="none")
    def plan() -> str:
        record_usage("my-model", input_tokens=1, output_tokens=1)
        return "a plan"

    assert plan() == "none"


def test_a_file_may_say_more_of_a_step_than_its_code(tmp_path: Any) -> None:
    path = tmp_path / "steptrack.toml"
    path.write_text('[steps.plan]\nmax_calls = 0\nerror_boundary = "continue"\ndefault = "from the file"\n')
    steptrack.install(config=str(path))

    def body() -> str:
        record_usage("my-model", input_tokens=1, output_tokens=1)
        return "a plan"

    assert step("plan")(body)() == "from the file"
    with pytest.raises(BudgetExhausted):
        step("plan", error_boundary="fail")(body)()
    with step("plan"):
        pass
