"""A package that has changed: one warning, limits that could not be kept are refused, and the user's say in it."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from typing import Any

import pytest
from langchain_core.language_models.fake_chat_models import FakeListChatModel

import steptrack_callbacks as steptrack
from steptrack_callbacks import IntegrationChangedWarning, Stage, StepTrackError, persona, step
from steptrack_callbacks.integrations import seams_langchain, versions


@pytest.fixture(autouse=True)
def _detached() -> Iterator[None]:
    steptrack.uninstall()
    yield
    steptrack.uninstall()


def remove(monkeypatch: pytest.MonkeyPatch, place: str) -> None:
    monkeypatch.delattr(place.replace(":", "."))


@pytest.fixture
def _tools_gone(monkeypatch: pytest.MonkeyPatch) -> None:
    """A loss, and not of the gate."""
    remove(monkeypatch, seams_langchain.TOOLS.place)


@pytest.fixture
def _gate_gone(monkeypatch: pytest.MonkeyPatch) -> None:
    remove(monkeypatch, seams_langchain.HOOK.place)


def caught_by_install(**options: Any) -> list[str]:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        steptrack.install(**options)
    assert all(warning.category is IntegrationChangedWarning for warning in caught)
    return [str(warning.message) for warning in caught]


def test_one_warning_names_the_package_its_version_what_is_lost_and_the_cure(_tools_gone: None) -> None:
    [message] = caught_by_install()
    version = versions.version_of("langchain_core")
    assert message.startswith(f"langchain_core {version} is not as it was known here (tested with 1.6.0 to ")
    assert seams_langchain.TOOLS.place in message
    assert seams_langchain.TOOLS.lost in message
    assert seams_langchain.TOOLS.cure in message


def test_it_is_said_once(_tools_gone: None) -> None:
    assert len(caught_by_install()) == 1
    assert caught_by_install() == []


def test_the_rest_works(_tools_gone: None) -> None:
    caught_by_install()
    with step("plan", max_calls=1, error_boundary="continue") as plan:
        for _ in range(2):
            FakeListChatModel(responses=["one"]).invoke("hello")
    assert (plan.usage.calls, plan.status) == (1, "continued")


def test_where_no_call_could_be_refused_a_step_with_limits_does_not_begin(_gate_gone: None) -> None:
    [message] = caught_by_install()
    for limited in (
        step("plan", max_calls=1),
        step("plan", max_usd=1),
        step("plan", budgets=[steptrack.Budget("team", max_usd=1)]),
        persona("writer", stages=[Stage("plan", max_iterations=2)]),
    ):
        with pytest.raises(StepTrackError, match="limits that cannot be kept") as caught, limited:
            pytest.fail("it has begun")
        assert message in str(caught.value)
        assert 'on_integration_change="warn"' in str(caught.value)
    assert steptrack.peek_completed_steps() == []


def test_a_step_that_refuses_nothing_begins(_gate_gone: None) -> None:
    caught_by_install()
    with step("plan"), step("watched", max_calls=1, enforce="observe"):
        pass


def test_whoever_wants_only_a_warning_goes_on_all_the_same(_gate_gone: None) -> None:
    assert len(caught_by_install(on_integration_change="warn")) == 1
    with step("plan", max_calls=1):
        pass


def test_what_is_said_holds_at_the_next_install_and_until_uninstall(_gate_gone: None) -> None:
    caught_by_install(on_integration_change="warn")
    caught_by_install()
    with step("plan", max_calls=1):
        pass
    steptrack.uninstall()
    caught_by_install()
    with pytest.raises(StepTrackError), step("plan", max_calls=1):
        pass


def test_it_may_be_said_after_the_warning(_gate_gone: None) -> None:
    caught_by_install()
    assert caught_by_install(on_integration_change="warn") == []
    with step("plan", max_calls=1):
        pass
    assert caught_by_install(on_integration_change="refuse") == []
    with pytest.raises(StepTrackError), step("plan", max_calls=1):
        pass


def test_a_loss_can_be_an_error_and_then_nothing_is_installed(_tools_gone: None) -> None:
    with pytest.raises(StepTrackError, match="is not as it was known here") as caught:
        steptrack.install(on_integration_change="raise", prices={"m": {"input_cost_per_token": 1e-6}})
    assert seams_langchain.TOOLS.place in str(caught.value)
    with step("plan", max_calls=0) as plan:
        FakeListChatModel(responses=["one"]).invoke("hello")
    assert plan.usage.calls == 0


def test_where_nothing_is_lost_nothing_is_an_error() -> None:
    assert caught_by_install(on_integration_change="raise") == []
    with step("plan", max_calls=1):
        pass


@pytest.mark.parametrize("value", ["ignore", "", 1, True, ["warn"], {"warn": 1}])
def test_nonsense_names_the_choices(value: Any) -> None:
    with pytest.raises(ValueError, match=r"on_integration_change must be one of 'refuse', 'warn', 'raise'"):
        steptrack.install(on_integration_change=value)


def test_a_package_that_is_whole_again_is_trusted_again(monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        remove(patch, seams_langchain.HOOK.place)
        caught_by_install()
        steptrack.uninstall()
    assert caught_by_install() == []
    with step("plan", max_calls=1):
        pass
