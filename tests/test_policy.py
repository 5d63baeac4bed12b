"""Personas, stages and tools: a ceiling that stages only lower."""

import warnings

import pytest
from hypothesis import given
from hypothesis import strategies as st

from internals import set_tool_levels
from spending import ask
from steptrack_callbacks import (
    BudgetExhausted,
    Stage,
    ToolDenied,
    check_tool,
    current_persona,
    current_policy,
    persona,
    step,
)
from steptrack_callbacks.steps.tool_policy import LEVELS, ToolPolicy

TOOLS = ["search", "read", "write", "shell"]


def test_outside_of_stages_every_tool_may_run():
    assert current_policy() == ToolPolicy()
    check_tool("shell")
    with step("plan"):
        assert current_policy().allows("shell")


def test_a_stage_policy_is_in_force_exactly_while_its_step_is():
    with persona("editor", stages=[Stage("plan", allowed_tools=["search"])]):
        assert current_policy().allows("shell")
        with step("plan"):
            assert (current_policy().allows("search"), current_policy().allows("shell")) == (True, False)
        assert current_policy().allows("shell")
        with pytest.raises(ZeroDivisionError), step("plan"):
            raise ZeroDivisionError
        assert current_policy() == ToolPolicy()
    assert current_policy() == ToolPolicy()


def test_a_stage_narrows_but_does_not_widen_its_parent():
    outer = [Stage("plan", allowed_tools=["search", "read"], side_effect_level="read_only")]
    inner = [Stage("plan", allowed_tools=["read", "shell"], side_effect_level="network")]
    with persona("outer", stages=outer), step("plan"), persona("inner", stages=inner), step("plan"):
        now = current_policy()
    assert (now.allowed_tools, now.side_effect_level) == (frozenset({"read"}), "read_only")


STAGES = st.builds(
    Stage,
    st.just("plan"),
    allowed_tools=st.none() | st.lists(st.sampled_from(TOOLS), max_size=4),
    side_effect_level=st.none() | st.sampled_from(LEVELS),
)


@given(st.lists(STAGES, max_size=5), st.sampled_from(TOOLS), st.sampled_from(LEVELS))
def test_what_stages_allow_together_each_of_them_allows_alone(stages, tool, level):
    together = ToolPolicy()
    for stage in stages:
        together = together.narrowed(stage)
    alone = [ToolPolicy().narrowed(stage).allows(tool, level) for stage in stages]
    assert together.allows(tool, level) == all(alone)


def test_a_step_inside_a_stages_step_is_under_its_policy_too():
    with persona("editor", stages=[Stage("plan", allowed_tools=[])]), step("plan"), step("helper"):
        assert not current_policy().allows("search")


def test_an_empty_list_allows_nothing_and_none_narrows_nothing():
    with persona("editor", stages=[Stage("plan", allowed_tools=[]), Stage("write")]):
        with step("plan"), pytest.raises(ToolDenied, match="'search' is not allowed in .*: allowed are none"):
            check_tool("search")
        with step("write"):
            check_tool("search")


def test_stages_that_have_nothing_in_common_allow_nothing():
    stages = [Stage("plan", allowed_tools=["search"]), Stage("write", allowed_tools=["read"])]
    with persona("editor", stages=stages), step("plan"), step("write"):
        assert current_policy().allowed_tools == frozenset()
        assert not any(current_policy().allows(tool) for tool in TOOLS)


def test_a_tools_level_is_said_or_registered_or_counts_as_the_strongest():
    set_tool_levels({"read": "read_only"})
    with persona("editor", stages=[Stage("plan", side_effect_level="workspace_write")]), step("plan"):
        check_tool("read")
        check_tool("shell", "workspace_write")
        with pytest.raises(
            ToolDenied, match="side effects are 'network', and the ceiling is 'workspace_write'"
        ):
            check_tool("shell")
        with pytest.raises(ToolDenied, match="'process_exec'"):
            check_tool("read", "process_exec")


def test_levels_are_checked_where_they_enter():
    with pytest.raises(ValueError, match="tool 'b': its level must be one of none, read_only"):
        set_tool_levels({"a": "none", "b": "some"})
    with pytest.raises(ValueError, match="side_effect_level must be one of"):
        check_tool("a", "some")
    with persona("editor", stages=[Stage("plan", side_effect_level="none")]), step("plan"):
        assert not current_policy().allows("a")


def test_tools_that_were_let_through_are_counted():
    with persona("editor", stages=[Stage("plan", allowed_tools=["search"])]), step("plan") as plan:
        check_tool("search")
        check_tool("search")
        with pytest.raises(ToolDenied):
            check_tool("shell")
    assert plan.records()[0].tool_calls == 2


@pytest.mark.parametrize(("iterations", "calls", "limit"), [(1, None, 1), (1, 5, 1), (5, 1, 1), (2, 3, 2)])
def test_of_max_iterations_and_max_calls_the_smaller_wins(iterations, calls, limit):
    with (
        persona("editor", stages=[Stage("plan", max_iterations=iterations)]),
        step("plan", max_calls=calls, error_boundary="continue") as plan,
    ):
        for _ in range(9):
            ask()
    assert (plan.usage.calls, plan.limits, plan.status) == (limit, {"max_calls": limit}, "continued")


def test_a_stage_matches_the_name_of_the_step_and_not_of_the_function():
    @step("plan")
    def make_plan():
        return current_policy().allows("shell")

    @step
    def plan():
        return current_policy().allows("shell")

    with persona("editor", stages=[Stage("plan", allowed_tools=[])]):
        assert (make_plan(), plan()) == (False, False)
    with (
        pytest.warns(UserWarning, match="make_plan"),
        persona("editor", stages=[Stage("make_plan", allowed_tools=[])]),
    ):
        assert make_plan()


def test_a_stage_is_about_steps_and_not_about_the_persona_itself():
    with persona("plan", stages=[Stage("plan", allowed_tools=[])]):
        assert current_policy().allows("shell")
        with step("plan"):
            assert not current_policy().allows("shell")


def test_a_stage_that_no_step_ran_under_is_a_warning():
    match = "persona 'editor' has stages that no step of that name ran under: wirte; check the spelling"
    editor = persona("editor", stages=[Stage("plan"), Stage("wirte")])
    with pytest.warns(UserWarning, match=match) as warned, editor, step("plan"):
        pass
    assert warned[0].filename == __file__


def test_a_stage_that_a_step_ran_under_is_no_warning():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with persona("editor", stages=[Stage("plan")]), step("outer"), step("plan"):
            pass


def test_a_persona_is_a_step_with_limits_over_all_its_steps():
    @persona("editor", max_calls=2, error_boundary="continue", default="instead")
    def edit():
        for name in ("plan", "write"):
            with step(name):
                ask()
                ask()

    assert edit() == "instead"


def test_the_nearest_persona_is_the_current_one():
    assert current_persona() is None
    with persona("outer") as outer, step("plan"):
        assert current_persona() is outer
        with persona("inner") as inner:
            assert current_persona() is inner
        assert current_persona() is outer


def test_the_outermost_owner_may_be_a_persona():
    with pytest.raises(BudgetExhausted) as caught, persona("editor", max_calls=1), step("plan", max_calls=1):
        ask()
        ask()
    assert (caught.value.step, caught.value.persona) == ("editor", "editor")
