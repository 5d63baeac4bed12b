"""After uninstall(), nothing holds that install() was given; what is owed is still told."""

import pytest

import steptrack_callbacks as steptrack
from spending import spend
from steptrack_callbacks import Budget, Usage, current_policy, pricing, step
from steptrack_callbacks.engine import escalation
from steptrack_callbacks.ledgers import current, open_ledger
from steptrack_callbacks.steps import registry


@pytest.fixture(autouse=True)
def _off():
    yield
    steptrack.uninstall()


def test_what_install_was_given_is_forgotten():
    steptrack.install(
        prices={"our-model": {"input_usd_per_mtok": 1, "output_usd_per_mtok": 1}},
        steps={"plan": {"max_usd": 1}},
        nodes={"node": {"max_usd": 1}},
        tools={"search": "read_only"},
        escalation=lambda _error: None,
    )
    steptrack.uninstall()
    assert pricing.cost_usd("our-model", Usage(input_tokens=1, output_tokens=1)) is None
    assert not registry.is_declared("plan")
    assert not registry.has_nodes()
    assert not escalation.has_default()
    assert not current_policy().narrowed(steptrack.Stage("x", side_effect_level="read_only")).allows("search")


def test_steps_are_kept_in_the_ledger_of_install_no_longer(tmp_path):
    url = f"sqlite:///{tmp_path / 'keep.db'}"
    steptrack.install(ledger=url)
    with step("before"):
        spend()
    steptrack.uninstall()
    steptrack.install()
    with step("after"):
        spend()
    assert not current.is_chosen()
    assert [record["name"] for record in open_ledger(url).records()] == ["before"]


def test_a_step_that_is_open_then_goes_on_in_its_ledger_and_whoever_comes_back_finds_what_was_spent(tmp_path):
    url = f"sqlite:///{tmp_path / 'keep.db'}"
    team = Budget("team", max_calls=2)
    steptrack.install(ledger=url)
    with step("plan", budgets=[team]):
        steptrack.uninstall()
        spend()
    steptrack.install(ledger=url)
    with step("again", budgets=[team]) as again:
        spend()
    assert again.record().budgets["team"]["spent"]["max_calls"] == 2


@pytest.mark.parametrize("ledger", [5, ["sqlite:///steps.db"]])
def test_a_ledger_that_is_none_is_refused_at_once(ledger):
    with pytest.raises(ValueError, match="ledger must be a URL such as 'sqlite:///steps.db', or a store"):
        steptrack.install(ledger=ledger)
