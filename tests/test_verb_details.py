"""What the verbs take, and what of it reaches the step or the charge."""

from __future__ import annotations

import threading
from contextvars import copy_context
from decimal import Decimal

import pytest

from fake_framework import FakeFramework
from looking import record_of
from steptrack_callbacks import (
    Stage,
    StepDefinition,
    ToolDenied,
    UnpricedModel,
    Usage,
    check_tool,
    current_model,
    persona,
    record_usage,
    step,
)


def test_a_persona_may_name_its_run():
    with persona("editor", run_id="night-1"):
        pass
    assert record_of("editor").run_id == "night-1"


def test_a_persona_may_be_given_the_step_that_it_begins_in():
    def edit():
        with persona("editor", parent=job):
            record_usage("gpt-4o", input_tokens=10, output_tokens=5)

    with step("job") as job:
        editing = threading.Thread(target=edit)
        editing.start()
        editing.join(60)
    assert (record_of("editor").path, job.usage.calls) == ("job/editor", 1)


@pytest.mark.parametrize("estimated", [False, True])
def test_recorded_usage_is_the_providers_count_unless_it_is_called_an_estimate(estimated):
    with step("plan") as plan:
        record_usage("gpt-4o", input_tokens=10, output_tokens=5, **({"estimated": True} if estimated else {}))
    assert plan.usage.estimated_calls == estimated


def test_recorded_usage_has_the_price_of_its_tier():
    with step("plan") as plan:
        record_usage("gpt-5-mini", input_tokens=10**6, output_tokens=0, service_tier="flex")
    assert plan.cost_usd == Decimal("0.125")


def test_recorded_usage_of_unknown_price_is_refused_by_the_models_name():
    with step("plan", max_usd=1), pytest.raises(UnpricedModel) as refusal:
        record_usage("no-such-model", input_tokens=10, output_tokens=5)
    assert refusal.value.model == "no-such-model"


def test_the_innermost_model_is_the_current_one():
    assert current_model() is None
    with step("plan", model="gpt-4o"), step("draft"):
        assert current_model() == "gpt-4o"


def test_a_tool_is_denied_at_the_path_where_it_was_asked_for():
    stages = [Stage("plan", allowed_tools=[])]
    with persona("editor", stages=stages), step("plan"), pytest.raises(ToolDenied) as refusal:
        check_tool("shell")
    assert refusal.value.path == "editor/plan"


def test_usage_of_a_named_provider_has_its_price_only():
    with step("plan") as plan:
        record_usage("gpt-4o", input_tokens=10**6, output_tokens=0, provider="openai")
        assert plan.cost_usd == Decimal("2.5")
        record_usage("gpt-4o", input_tokens=10**6, output_tokens=0, provider="my-own-server")
    assert (plan.cost_usd, plan.usage.unpriced_calls) == (Decimal("2.5"), 1)


def test_usage_that_was_had_is_charged_though_it_is_told_after_an_exhausted_step():
    with step("outer") as outer:
        with step("plan", max_calls=0, error_boundary="continue") as plan:
            left_running = copy_context()
            FakeFramework().open()
        assert plan.exhausted
        left_running.run(record_usage, "gpt-4o", input_tokens=10, output_tokens=5)
        assert outer.usage.calls == 1


def test_counts_that_do_not_exist_are_all_named():
    with pytest.raises(ValueError, match="Usage has no counts cached, thought; see its fields"):
        record_usage("gpt-4o", input_tokens=1, output_tokens=1, cached=1, thought=1)


@pytest.mark.parametrize("verb", [step, persona])
def test_a_parent_that_is_no_step_is_refused_where_it_is_given(verb):
    with pytest.raises(
        ValueError, match=r"parent must be a step itself, such as the `outer` of .*, not 'outer'"
    ):
        verb("plan", parent="outer")


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"estimated": "yes"}, "estimated must be True or False, not 'yes'"),
        ({"estimated": 5}, "estimated must be True or False, not 5"),
        ({"provider": 5}, "provider must be a string or None, not 5"),
        ({"service_tier": ["flex"]}, r"service_tier must be a string or None, not \['flex'\]"),
        ({"input_tokens": -1}, "input_tokens must not be negative, not -1"),
        ({"calls": 7}, r"record_usage\(\) takes no calls: it is one call each time, so use it once for each"),
        ({"failed_calls": 1}, "takes no failed_calls"),
        ({"unpriced_calls": 1}, "takes no unpriced_calls"),
        ({"ungated_calls": 1}, "takes no ungated_calls"),
        ({"estimated_calls": 1}, "takes no estimated_calls: say estimated=True"),
    ],
)
def test_what_is_said_wrongly_of_a_call_is_refused_and_charges_nothing(wrong, says):
    with step("plan", max_usd=1) as plan:
        with pytest.raises(ValueError, match=says):
            record_usage("gpt-4o", **{"input_tokens": 10, "output_tokens": 5, **wrong})
        assert plan.record().in_flight_calls == 0
    assert plan.usage == Usage()


def test_a_definition_takes_no_options_beside_it_and_no_persona_takes_a_steps():
    definition = StepDefinition(name="plan")
    with pytest.raises(ValueError, match="^max_usd, max_calls: say it in the definition, not beside it$"):
        step(definition, max_usd=1, max_calls=1)
    with pytest.raises(ValueError, match=r"persona\(\) needs a PersonaDefinition, not StepDefinition"):
        persona(definition)
    assert step(definition).definition is definition


def test_an_unknown_option_is_told_as_one_of_the_verb():
    with pytest.raises(TypeError, match=r"^step\(\) got an unexpected keyword argument 'max_euro'"):
        step("plan", max_euro=1)
