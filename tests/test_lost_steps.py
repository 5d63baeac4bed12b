"""Calls that find no step: counted, and where a step may have been lost, loud."""

import asyncio
import sys
import warnings

import pytest

from looking import in_thread, path
from spending import ask, spend
from steptrack_callbacks import BudgetExhausted, LostStepWarning, hosts, pinning, report, step


def test_a_call_without_a_step_is_unattributed_so_that_the_total_is_what_was_seen():
    spend(1, 0)
    with step("plan"):
        spend(2, 0)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        ask(3, 0)  # no step is open anywhere, so nothing was lost
    assert pinning.unattributed_usage().total_tokens == 4
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
    assert (outer.usage.calls, pinning.unattributed_usage().calls) == (0, 2)


def test_a_limited_step_that_nothing_watches_is_a_warning_once(monkeypatch):
    monkeypatch.setitem(sys.modules, "langchain_core", sys)
    monkeypatch.setattr(hosts, "_attached", set())
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
