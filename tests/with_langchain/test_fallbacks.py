"""A fallback that was refused is hidden by the failure before it: the step's boundary acts all the same."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from asking import FakeChat
from langchain_core.runnables import RunnableLambda

from steptrack_callbacks import BudgetEscalated, BudgetExhausted, peek_completed_steps, step
from steptrack_callbacks.langchain import budgeted

Mode = Any


class Failing(FakeChat):
    """A model that is down."""

    def _generate(self, *args: Any, **kwargs: Any) -> Any:
        self.sent += 1
        raise ConnectionError("down")

    def _stream(self, *args: Any, **kwargs: Any) -> Any:
        self.sent += 1
        raise ConnectionError("down")
        yield

    async def _agenerate(self, *args: Any, **kwargs: Any) -> Any:
        return self._generate()

    async def _astream(self, *args: Any, **kwargs: Any) -> Any:
        self.sent += 1
        raise ConnectionError("down")
        yield


async def _read(chunks: Any) -> list[Any]:
    return [chunk async for chunk in chunks]


MODES: dict[str, Mode] = {
    "invoke": lambda runnable: [runnable.invoke("hello")],
    "ainvoke": lambda runnable: [asyncio.run(runnable.ainvoke("hello"))],
    "stream": lambda runnable: list(runnable.stream("hello")),
    "astream": lambda runnable: asyncio.run(_read(runnable.astream("hello"))),
}


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("fallbacks", [1, 2])
def test_continue_gives_the_default_where_no_fallback_had_room(mode: str, fallbacks: int) -> None:
    failing, second, third = Failing(), Failing(), FakeChat()
    chain = failing.with_fallbacks([second, third][-fallbacks:])
    explain = budgeted(chain, step="explain", max_calls=fallbacks, error_boundary="continue", default="none")
    assert MODES[mode](explain) == ["none"]
    [record] = peek_completed_steps()
    assert (record.status, record.usage.calls, record.denied_calls) == ("continued", fallbacks, 1)
    assert third.sent == 0


@pytest.mark.parametrize("mode", MODES)
def test_escalate_hands_it_on_and_fail_raises_what_has_failed(mode: str) -> None:
    for boundary, error in (("escalate", BudgetEscalated), ("fail", ConnectionError)):
        chain = Failing().with_fallbacks([FakeChat()])
        with pytest.raises(error) as raised:
            MODES[mode](budgeted(chain, step="explain", max_calls=1, error_boundary=boundary))
        if boundary == "escalate":
            assert isinstance(raised.value.__cause__, ConnectionError)


def test_a_step_around_a_chain_sees_it_too() -> None:
    chain = RunnableLambda(str.upper) | Failing().with_fallbacks([FakeChat()])

    @step(max_calls=1, error_boundary="continue", default="none")
    def explain() -> Any:
        return chain.invoke("hello")

    assert explain() == "none"


def test_a_failure_after_a_refusal_is_raised() -> None:
    def ask(_: Any) -> Any:
        try:
            FakeChat().invoke("a much longer question than that" * 99)
        except BudgetExhausted:
            return Failing().invoke("hi")

    with pytest.raises(ConnectionError):
        budgeted(
            RunnableLambda(ask), step="explain", max_tokens=60, error_boundary="continue", default="none"
        ).invoke(1)


def test_an_error_of_ones_own_after_a_refusal_is_raised() -> None:
    def ask(_: Any) -> Any:
        try:
            FakeChat().invoke("hello")
        except BudgetExhausted:
            raise ValueError("mine") from None

    with pytest.raises(ValueError, match="mine"):
        budgeted(RunnableLambda(ask), step="explain", max_calls=0, error_boundary="continue").invoke(1)


def test_the_exhaustion_of_a_step_around_is_not_ones_own() -> None:
    chain = budgeted(
        Failing().with_fallbacks([FakeChat()]), step="explain", error_boundary="continue", default="none"
    )
    with step("answer", max_calls=1, error_boundary="continue") as answer:
        chain.invoke("hello")
    assert answer.status == "continued"
    assert {record.path: record.status for record in peek_completed_steps()}["answer/explain"] == "error"
