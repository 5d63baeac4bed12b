"""Calls that find no step: counted, and where a step may have been lost, loud."""

import asyncio
import subprocess
import sys
import warnings
from pathlib import Path

import pytest

from looking import in_thread, path
from spending import ask, spend
from steptrack_callbacks import (
    Budget,
    BudgetExhausted,
    LostStepWarning,
    Stage,
    UnknownCostWarning,
    attachments,
    bind,
    persona,
    record_usage,
    report,
    step,
)
from steptrack_callbacks.engine import call_log
from steptrack_callbacks.engine.request import Request
from steptrack_callbacks.steps import attribution
from steptrack_callbacks.steps.attribution import new_call, refuse_if_exhausted
from steptrack_callbacks.steps.step import open_steps
from steptrack_callbacks.testing import recorder
from steptrack_callbacks.tokens import InputCount

pytestmark = pytest.mark.usefixtures("plain_threads")


def test_a_call_without_a_step_is_unattributed_so_that_the_total_is_what_was_seen():
    spend(1, 0)
    with step("plan"):
        spend(2, 0)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        ask(3, 0)  # no step is open anywhere, so nothing was lost
    assert attribution.unattributed_usage().total_tokens == 4
    assert report().total.total_tokens == 6


def test_a_lost_step_is_a_warning_once_and_names_the_cure():
    def lost():
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            spend()
        return caught

    with step("outer") as outer:
        (warning,) = in_thread(lost)
        assert in_thread(lost) == []
    assert warning.category is LostStepWarning
    assert "no step here, though 'outer' is running elsewhere" in str(warning.message)
    for cure in ("bind(function)", "parent=outer", "install(threads=True)"):
        assert cure in str(warning.message)
    assert (outer.usage.calls, attribution.unattributed_usage().calls) == (0, 2)


def test_a_call_in_the_context_of_a_step_that_has_ended_is_a_warning_once():
    with step("plan", max_calls=1) as plan:
        bound = bind(ask)
    with pytest.warns(LostStepWarning, match="in the context of step 'plan', which has ended") as warned:
        bound()
        bound()
    assert len(warned) == 1
    assert (plan.usage.calls, attribution.unattributed_usage().calls) == (0, 2)


def test_a_task_that_outlives_its_step_is_a_warning_and_a_lost_thread_is_another():
    async def late(ended):
        await ended.wait()
        ask()

    async def main():
        ended = asyncio.Event()
        async with step("plan"):
            task = asyncio.create_task(late(ended))
        ended.set()
        await task

    with pytest.warns(LostStepWarning, match="plan', which has ended"):
        asyncio.run(main())
    with pytest.warns(LostStepWarning, match="though 'outer' is running elsewhere"), step("outer"):
        in_thread(ask)


def test_a_warning_names_the_line_that_the_user_wrote():
    def in_a_thread():
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            record_usage("gpt-4o-mini", input_tokens=1, output_tokens=1)
        return caught

    with step("outer"):
        lost = in_thread(in_a_thread)
    with pytest.warns(UnknownCostWarning) as unknown, step("plan", max_usd=1, unpriced="warn"):
        record_usage("nobody-knows", input_tokens=1, output_tokens=1)
    # Of several contexts in one `with`, Python 3.13 names another line than 3.11.
    with pytest.warns(UserWarning, match="persona 'editor' has stages") as unmet:  # noqa: SIM117
        with persona("editor", stages=[Stage("x")]):
            pass
    lines = Path(__file__).read_text(encoding="utf-8").splitlines()
    # Of the unwatched step is warned as well, if a test before this one has imported a framework.
    for warned, written in (
        (lost, "record_usage("),
        (unknown[-1:], "record_usage("),
        (unmet, "with persona("),
    ):
        (warning,) = warned
        assert warning.filename == __file__
        assert written in lines[warning.lineno - 1]


def test_a_limited_step_that_nothing_watches_is_a_warning_once(monkeypatch):
    monkeypatch.setitem(sys.modules, "langchain_core", sys)
    monkeypatch.setattr(attachments, "_attached", set())
    monkeypatch.setattr(attachments, "_attached_before", set(attachments.PACKAGES))  # as after an uninstall()
    with (
        pytest.warns(
            LostStepWarning, match=r"plan' has limits, but nothing watches .*langchain_core"
        ) as warned,
        step("unlimited"),
        step("plan", max_usd=1),
    ):
        pass
    assert warned[0].filename == __file__
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with step("plan", max_usd=1):
            pass


def test_a_step_that_a_warning_kept_from_beginning_may_begin_later(monkeypatch):
    monkeypatch.setitem(sys.modules, "langchain_core", sys)
    monkeypatch.setattr(attachments, "_attached", set())
    monkeypatch.setattr(attachments, "_attached_before", set(attachments.PACKAGES))
    plan = step("plan", max_usd=1)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(LostStepWarning):
            plan.begin()
    assert (plan.status, open_steps()) == ("new", [])
    with plan:
        assert open_steps() == [plan]


def test_what_an_exhausted_step_left_running_may_not_go_on_spending():
    async def late(ended):
        await ended.wait()
        with pytest.raises(BudgetExhausted) as caught:
            ask()
        return caught.value

    async def main():
        ended = asyncio.Event()
        async with step("plan", max_calls=1) as plan:
            ask()
            task = asyncio.create_task(late(ended))
        ended.set()
        return await task, plan

    error, plan = asyncio.run(main())
    assert (error.phase, error.step_id, plan.usage.calls) == ("closed", plan.id, 1)
    assert plan.records()[0].denied_calls == 1


def test_what_a_step_left_running_that_had_room_only_for_less_is_refused():
    with step("plan", max_tokens=100) as plan:
        later = bind(ask)
        with pytest.raises(BudgetExhausted):
            new_call(Request(model="m", count_input=lambda: InputCount(tokens=500, upper_bound=500))).admit()
    with pytest.raises(BudgetExhausted) as refused:
        later()
    error = refused.value
    assert (error.phase, error.step_id, error.limit, error.consumed) == ("closed", plan.id, "max_tokens", 0)


@pytest.mark.parametrize("calls", [1, 2])
@pytest.mark.parametrize("own", [{}, {"max_usd": 500}, {"max_calls": 9}])
def test_what_a_step_left_running_whose_budget_is_spent_is_refused_in_the_budgets_name(own, calls):
    with step("plan", budgets=[Budget("team", max_calls=1)], error_boundary="continue", **own) as plan:
        later = bind(ask)
        for _ in range(calls):
            ask()
    with pytest.raises(BudgetExhausted) as refused:
        later()
    error = refused.value
    assert (error.phase, error.step_id, error.budget) == ("closed", plan.id, "team")
    assert (error.limit, error.limit_value, error.consumed) == ("max_calls", 1, 1)
    assert plan.records()[0].denied_calls == calls


def test_hooks_and_the_timeline_are_told_of_every_refusal():
    with recorder() as seen:
        with step("plan", max_calls=1) as plan:
            later = bind(ask)
            ask()
            with pytest.raises(BudgetExhausted):
                refuse_if_exhausted("a batch")
        with pytest.raises(BudgetExhausted):
            later()
    assert [(event.model, event.error.phase) for event in seen.denied] == [
        ("a batch", "denied"),
        ("test-model", "closed"),
    ]
    assert [call.outcome for call in call_log.seen_calls()] == ["settled", "denied", "denied"]
    assert plan.records()[0].denied_calls == 2


def test_what_a_step_with_room_left_running_goes_on_in_the_step_around_it():
    async def late(ended):
        await ended.wait()
        ask()
        return path()

    async def main():
        ended = asyncio.Event()
        async with step("outer") as outer:
            async with step("inner", max_calls=5) as inner:
                task = asyncio.create_task(late(ended))
            ended.set()
            return await task, outer.usage.calls, inner.usage.calls

    assert asyncio.run(main()) == ("outer", 1, 0)


@pytest.mark.parametrize(
    "ask",
    [
        "model.invoke('q', {'callbacks': [StepTrackHandler()]})",
        "budgeted(model, step='ask').invoke('q')",
        "attach(); model.invoke('q')",
    ],
)
def test_a_limited_step_is_watched_by_what_is_attached_by_hand(ask):
    program = f"""
import warnings
from langchain_core.language_models.fake_chat_models import FakeListChatModel
from steptrack_callbacks import LostStepWarning, step
from steptrack_callbacks.langchain import StepTrackHandler, attach, budgeted

warnings.simplefilter("error", LostStepWarning)
model = FakeListChatModel(responses=["yes"])
with step("plan", max_calls=3) as plan:
    {ask}
assert plan.usage.calls == 1
"""
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr
