"""A `steptrack.toml` that is installed: limits without a change to the code."""

import pytest

from fake_host import FakeHost
from steptrack_callbacks import BudgetExhausted, install, keeping, persona, step, uninstall
from steptrack_callbacks.config import ConfigError
from steptrack_callbacks.declared import definition_of, is_declared


@pytest.fixture
def write(tmp_path):
    def write(text):
        path = tmp_path / "steptrack.toml"
        path.write_text(text)
        return path

    yield write
    uninstall()


def test_a_step_takes_its_limits_from_the_file(write):
    install(config=write("[steps.plan]\nmax_calls = 1\nerror_boundary = 'continue'"))
    host = FakeHost()
    with step("plan") as plan:
        host.ask()
        host.ask()
    assert plan.status == "continued"
    with step("other"):
        host.ask()
        host.ask()


def test_a_ledger_in_memory_has_no_trips_to_bound(write):
    install(config=write('[ledger]\nurl = "memory:"\ntimeout_s = 1'))
    assert keeping.keeper().store.url == "memory:"


def test_what_the_code_says_goes_before_what_the_file_says(write):
    install(config=write("[steps.plan]\nmax_calls = 1\nmax_tokens = 5000"))
    with step("plan", max_calls=3) as plan:
        assert plan.limits == {"max_tokens": 5000, "max_calls": 3}


def test_a_function_that_was_decorated_before_has_the_limits_too(write):
    host = FakeHost()

    @step
    def plan():
        host.ask()
        host.ask()

    install(config=write("[steps.plan]\nmax_calls = 1"))
    with pytest.raises(BudgetExhausted):
        plan()


def test_budgets_personas_and_stages_come_from_the_file(write):
    install(
        config=write(
            """
            [budgets.team-a]
            max_calls = 1
            [personas.editor]
            max_calls = 9
            budgets = ["team-a"]
            [personas.editor.stages.plan]
            allowed_tools = ["search"]
            [steps.plan]
            """
        )
    )
    host = FakeHost()
    with persona("editor") as editor, step("plan") as plan:
        assert plan.policy.allows("search")
        assert not plan.policy.allows("shell")
        host.ask()
        refusal = host.refusal()
        assert (refusal.step_id, refusal.budget) == (editor.id, "team-a")


def test_the_ledger_of_the_file_is_used_unless_another_is_given(write, tmp_path):
    path = write(f'[ledger]\nurl = "sqlite:///{tmp_path}/file.db"\ntimeout_s = 0.5\non_store_error = "allow"')
    install(config=path)
    assert keeping.keeper().store.url.startswith(f"sqlite:///{tmp_path}/file.db")
    assert keeping.keeper().on_error == "allow"
    install(config=path, ledger="memory:")
    assert keeping.keeper().store.url == "memory:"


def test_a_file_with_an_error_installs_nothing(write):
    with pytest.raises(ConfigError, match="max_callz"):
        install(config=write("[steps.plan]\nmax_callz = 1\n[steps.other]\nmax_calls = 1"))
    assert not is_declared("other")


def test_a_step_that_only_its_name_tells_keeps_the_limits_of_the_file_and_can_only_fail(write):
    install(config=write("[steps.plan]\nmax_calls = 1\nerror_boundary = 'continue'\ndefault = 'none'"))
    definition = definition_of("plan")
    assert (definition.max_calls, definition.error_boundary, definition.default) == (1, "fail", None)


def test_the_environment_may_name_the_file(write, monkeypatch):
    monkeypatch.setenv("STEPTRACK_CONFIG", str(write("[steps.plan]\nmax_calls = 1")))
    install()
    with step("plan") as plan:
        assert plan.limits == {"max_calls": 1}
