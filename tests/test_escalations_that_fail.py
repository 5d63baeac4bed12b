"""Escalation functions that raise, cannot be awaited, or answer nonsense: the call is denied, and all is told."""

import pytest

from spending import ask
from steptrack_callbacks import Grant, step
from steptrack_callbacks.hooks import CallDenied, on
from steptrack_callbacks.steps import step as steps


def limited(ask_whom, **limits):
    return step("plan", error_boundary="escalate", escalation=ask_whom, **(limits or {"max_calls": 1}))


def test_an_exception_inside_the_function_passes():
    def broken(_):
        raise ConnectionError("nobody there")

    with limited(broken) as plan:
        ask()
        with pytest.raises(ConnectionError):
            ask()
    assert (plan.usage.calls, plan.status, plan.record().denied_calls) == (1, "exhausted", 1)


def test_an_exception_inside_the_function_at_the_end_passes_and_leaves_a_record():
    def broken(_):
        raise ConnectionError("nobody there")

    with pytest.raises(ConnectionError), limited(broken, max_tokens=12) as plan:
        ask()
    assert (plan.status, steps.open_steps()) == ("error", [])
    assert plan.records()[0].error == "ConnectionError: nobody there"


@pytest.mark.parametrize("answer", [True, 5, {"max_calls": 1}])
def test_an_answer_that_is_no_grant_is_an_error(answer):
    with limited(lambda _: answer):
        ask()
        with pytest.raises(TypeError, match="must answer with a Grant, or with None for no"):
            ask()


def test_an_async_function_cannot_answer_a_sync_call_and_says_so():
    async def ops(_):
        return Grant(max_calls=1)

    with limited(ops) as plan:
        ask()
        with pytest.raises(TypeError, match="can only answer async calls; make it a plain function"):
            ask()
    assert (plan.status, plan.record().denied_calls) == ("exhausted", 1)


def test_a_call_whose_escalation_fails_is_denied_and_its_step_ends_in_that_error():
    async def ops(_):
        return Grant(max_calls=1)

    denied = []
    on(CallDenied, denied.append)
    with pytest.raises(TypeError), limited(ops) as plan:
        ask()
        ask()
    record = plan.records()[0]
    assert (record.status, record.denied_calls, len(denied)) == ("error", 1, 1)
    assert record.error.startswith("TypeError: an async escalation")
