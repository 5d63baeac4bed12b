"""A `steptrack.toml` that is installed: limits without a change to the code."""

import pytest

from fake_framework import FakeFramework
from steptrack_callbacks import BudgetExhausted, current_step, install, persona, step, uninstall
from steptrack_callbacks.config import ConfigError
from steptrack_callbacks.ledgers import current
from steptrack_callbacks.steps.registry import definition_of, is_declared


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
    framework = FakeFramework()
    with step("plan") as plan:
        framework.ask()
        framework.ask()
    assert plan.status == "continued"
    with step("other"):
        framework.ask()
        framework.ask()


def test_a_ledger_in_memory_has_no_trips_to_bound(write):
    install(config=write('[ledger]\nurl = "memory:"\ntimeout_s = 1'))
    assert current.ledger().store.url == "memory:"


def test_what_the_code_says_goes_before_what_the_file_says(write):
    install(config=write("[steps.plan]\nmax_calls = 1\nmax_tokens = 5000"))
    with step("plan", max_calls=3) as plan:
        assert plan.limits == {"max_tokens": 5000, "max_calls": 3}


def test_what_the_code_says_goes_before_the_file_though_it_is_the_default(write):
    install(
        config=write(
            """
            [budgets.team-a]
            max_calls = 3
            [steps.plan]
            max_calls = 1
            enforce = "strict"
            error_boundary = "continue"
            budgets = ["team-a"]
            """
        )
    )

    @step("plan", enforce="estimate", error_boundary="fail", budgets=[])
    def plan():
        return current_step()

    definition = plan().definition
    assert (definition.enforce, definition.error_boundary, definition.budgets) == ("estimate", "fail", ())
    with step("plan", max_calls=None) as left_to_the_file:
        assert left_to_the_file.limits == {"max_calls": 1}
        assert left_to_the_file.definition.enforce == "strict"
    with persona("plan", enforce="estimate") as no_step_of_the_file:
        assert no_step_of_the_file.limits == {}


def test_what_code_and_file_say_and_does_not_go_together_is_refused_by_the_name_of_the_file(write):
    path = write(
        "[steps.plan]\nmax_usd = 1\nwrap_up_usd = 0.1\n[personas.editor]\nmax_usd = 1\nwrap_up_usd = 0.1"
    )
    install(config=path)
    for plan, table in ((step, "steps.plan"), (persona, "personas.editor")):
        name = table.partition(".")[2]
        with pytest.raises(ValueError, match="wrap_up_usd=0.1 is kept back from max_usd") as refused:
            with plan(name, max_usd=0.05):
                pytest.fail("it must not begin")
        assert f"[{table}] in {path}" in str(refused.value)


def test_a_function_that_was_decorated_before_has_the_limits_too(write):
    framework = FakeFramework()

    @step
    def plan():
        framework.ask()
        framework.ask()

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
    framework = FakeFramework()
    with persona("editor") as editor, step("plan") as plan:
        assert plan.policy.allows("search")
        assert not plan.policy.allows("shell")
        framework.ask()
        refusal = framework.refusal()
        assert (refusal.step_id, refusal.budget) == (editor.id, "team-a")


def test_the_ledger_of_the_file_is_used_unless_another_is_given(write, tmp_path):
    path = write(f'[ledger]\nurl = "sqlite:///{tmp_path}/file.db"\ntimeout_s = 0.5\non_store_error = "allow"')
    install(config=path)
    assert current.ledger().store.url.startswith(f"sqlite:///{tmp_path}/file.db")
    assert current.ledger().on_error == "allow"
    install(config=path, ledger="memory:")
    assert current.ledger().store.url == "memory:"


def in_force():
    ledger = current.ledger()
    return ledger.on_error, ledger.lease_s, ledger.store.timeout_s


def test_what_is_said_of_the_ledger_holds_for_the_one_of_the_environment(write, tmp_path, monkeypatch):
    monkeypatch.setenv("STEPTRACK_LEDGER", f"sqlite:///{tmp_path}/env.db")
    install(on_store_error="allow", lease_s=5)
    assert in_force() == ("allow", 5, 2.0)
    current.reset()
    install(config=write('[ledger]\non_store_error = "allow"\nlease_s = 60\ntimeout_s = 3'))
    assert in_force() == ("allow", 60, 3)


def test_an_argument_goes_before_the_file_and_the_file_before_the_default(write, tmp_path):
    url = f"sqlite:///{tmp_path}/file.db"
    path = write(f'[ledger]\nurl = "{url}"\non_store_error = "allow"\nlease_s = 60')
    install(config=path, lease_s=7)
    assert in_force() == ("allow", 7, 2.0)
    install(config=path, on_store_error="refuse")
    assert in_force() == ("refuse", 60, 2.0)
    install(config=path, ledger=f"sqlite:///{tmp_path}/other.db?timeout_s=2")
    assert in_force() == ("allow", 60, 2)
    assert current.ledger().store.url.startswith(f"sqlite:///{tmp_path}/other.db")


def test_what_was_said_of_the_ledger_stays_until_something_else_is_said(tmp_path):
    install(ledger=f"sqlite:///{tmp_path}/books.db", on_store_error="allow")
    ledger = current.ledger()
    install()
    install(lease_s=7)
    assert current.ledger() is ledger
    assert in_force() == ("allow", 7, 2.0)


@pytest.mark.parametrize("wrong", [{"on_store_error": "alow"}, {"lease_s": 0}, {"lease_s": "long"}])
def test_a_wrong_word_about_the_ledger_is_refused_though_none_is_named_and_changes_nothing(wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        install(**wrong)
    install(ledger="memory:")
    assert (current.ledger().on_error, current.ledger().lease_s) == ("refuse", 900)


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
