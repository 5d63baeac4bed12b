"""What is public, that it is documented, and that importing it brings in no framework."""

import inspect
import pydoc
import re
import subprocess
import sys
from dataclasses import is_dataclass
from typing import get_overloads

import pytest

import steptrack_callbacks
from steptrack_callbacks import hooks, pricing, testing
from steptrack_callbacks.values.definitions import StepOptions

DOOR = """
    Budget BudgetEscalated BudgetExhausted CompletedStep EarlyImportWarning Grant IntegrationChangedWarning
    LedgerError LostStepWarning PersonaDefinition Stage Step
    StepDefinition StepDenied StepTrackError ToolDenied UnknownCostWarning UnpricedModel Usage
    aremaining bind check_tool current_model current_persona current_policy current_step drain_completed_steps install
    peek_completed_steps persona record_usage remaining report step uninstall
"""
HOOKS = """
    BudgetThreshold CallAdmitted CallDenied CallSettled CallSwapped Escalated Event StepEnded StepStarted on
"""
TESTING = "Recording recorder reset strict"

PUBLIC = [
    (module, name)
    for module in (steptrack_callbacks, hooks, pricing, testing)
    for name in sorted(module.__all__)
]


@pytest.mark.parametrize(
    ("module", "names"),
    [(steptrack_callbacks, DOOR), (hooks, HOOKS), (testing, TESTING)],
    ids=["door", "hooks", "testing"],
)
def test_the_public_names_are_these(module, names):
    assert sorted(module.__all__) == sorted(names.split())


@pytest.mark.parametrize(("module", "name"), PUBLIC, ids=[f"{m.__name__}.{name}" for m, name in PUBLIC])
def test_every_public_name_is_there_and_documented(module, name):
    thing = getattr(module, name)
    assert thing.__doc__
    assert not thing.__doc__.startswith(f"{name}("), "it must not be the one that a dataclass writes itself"
    if not inspect.isclass(thing):
        return
    for member, value in vars(thing).items():
        if not member.startswith("_") and (inspect.isroutine(value) or isinstance(value, property)):
            assert value.__doc__, f"{name}.{member} has no docstring"


@pytest.mark.parametrize(
    "name", [name for name in steptrack_callbacks.__all__ if is_dataclass(getattr(steptrack_callbacks, name))]
)
def test_public_values_are_frozen_and_take_keywords(name):
    value = getattr(steptrack_callbacks, name)
    assert value.__dataclass_params__.frozen
    kinds = [parameter.kind for parameter in inspect.signature(value).parameters.values()]
    assert set(kinds[1:]) == {inspect.Parameter.KEYWORD_ONLY}


def test_the_options_of_a_step_are_those_of_its_definition():
    declared = inspect.signature(steptrack_callbacks.StepDefinition).parameters
    options = inspect.signature(get_overloads(steptrack_callbacks.step)[-1]).parameters
    assert set(options) == set(declared) - {"function"} | {"parent", "run_id"}
    assert {name: options[name].default for name in set(declared) & set(options) - {"name"}} == {
        name: declared[name].default for name in set(declared) & set(options) - {"name"}
    }


def taking_options():
    from steptrack_callbacks.langchain import budgeted
    from steptrack_callbacks.langgraph import StepBudgetMiddleware

    return [steptrack_callbacks.step, steptrack_callbacks.persona, budgeted, StepBudgetMiddleware]


@pytest.mark.parametrize("index", range(4), ids=["step", "persona", "budgeted", "StepBudgetMiddleware"])
def test_help_shows_each_option_of_a_step_with_its_type_and_default(index):
    function = taking_options()[index]
    text = re.sub(r"\s+", " ", pydoc.plain(pydoc.render_doc(function)))
    for option in (
        "max_usd: 'Decimal | float | None' = None",
        "error_boundary: 'ErrorBoundary' = 'fail'",
        "wait_s: 'float' = 30.0",
        "budgets: 'Sequence[BudgetDefinition | str]' = ()",
    ):
        assert option in text
    shown = inspect.signature(function).parameters
    assert set(StepOptions.__annotations__) <= set(shown)
    assert all(parameter.kind is not parameter.VAR_KEYWORD for parameter in shown.values())


def test_dir_of_a_step_shows_what_is_public_and_nothing_else():
    public = {
        "aremaining",
        "budgets",
        "cost_usd",
        "definition",
        "exhausted",
        "exhaustion",
        "id",
        "kind",
        "limits",
        "model",
        "name",
        "own_usage",
        "parent",
        "path",
        "persona",
        "policy",
        "record",
        "records",
        "remaining",
        "run_id",
        "status",
        "usage",
        "wrap_up",
    }
    new = steptrack_callbacks.step("plan")
    assert {name for name in dir(new) if not name.startswith("__")} == public
    with new as running:
        assert {name for name in dir(running) if not name.startswith("__")} == public
        assert all(hasattr(running, name) for name in public)
    described = pydoc.plain(pydoc.render_doc(steptrack_callbacks.Step))
    assert "wrap_up(self)" in described
    assert "count_tool_call" not in described
    assert "chain" not in described
    assert {"__enter__", "__aexit__", "__call__"} <= set(dir(steptrack_callbacks.Step))


def test_dir_of_the_package_shows_what_is_public_and_nothing_else():
    shown = {name for name in dir(steptrack_callbacks) if not name.startswith("__")}
    assert shown == {*steptrack_callbacks.__all__, "hooks", "pricing", "testing"}


def test_importing_the_package_brings_in_no_framework_and_no_extra():
    frameworks = [
        "litellm",
        "langchain_core",
        "langgraph",
        "tiktoken",
        "genai_prices",
        "rich",
        "opentelemetry",
        "IPython",
    ]
    code = f"""
import sys
import steptrack_callbacks
from steptrack_callbacks import hooks, testing
with steptrack_callbacks.step("plan", max_calls=2, max_tokens=100):
    steptrack_callbacks.record_usage("m", input_tokens=1, output_tokens=1, cost_usd=0.01)
steptrack_callbacks.install()
steptrack_callbacks.uninstall()
print(sorted(set(sys.modules) & set({frameworks!r})))
"""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, check=False
    )
    assert (done.stdout, done.stderr) == ("[]\n", "")
