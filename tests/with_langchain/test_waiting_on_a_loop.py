"""A call on an event loop waits for room as one in a thread does, with nothing but `install()`."""

from __future__ import annotations

import asyncio
import gc
import inspect
import warnings
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from typing import Any

import pytest
from asking import (
    CALL_USD,
    INPUT_USD,
    MODEL,
    OUTPUT_USD,
    FakeChat,
    FakeCompletion,
    Recorder,
    chat,
    in_lambda,
    prompted,
)
from langchain_core.callbacks import AsyncCallbackHandler
from langchain_core.messages import AIMessage, HumanMessage
from langchain_core.runnables import RunnableParallel

from fake_framework import until_async
from provider import Provider
from steptrack_callbacks import BudgetExhausted, step
from steptrack_callbacks.engine import queue
from steptrack_callbacks.langchain import StepTrackHandler, awaited

Way = Callable[[Any], Awaitable[Any]]
TEN_CALLS = 10 * (8 * INPUT_USD + 200 * OUTPUT_USD)
Q = {"question": "hello"}


async def read(stream: AsyncIterator[Any]) -> list[Any]:
    return [part async for part in stream]


async def events_v3(model: Any) -> list[Any]:
    return await read(await model.astream_events("hello", version="v3"))


async def given() -> AsyncIterator[str]:
    yield "hello"


WAYS: dict[str, Way] = {
    "ainvoke": lambda m: m.ainvoke("hello"),
    "abatch": lambda m: m.abatch(["hello"]),
    "abatch_as_completed": lambda m: read(m.abatch_as_completed(["hello"])),
    "agenerate": lambda m: m.agenerate([[HumanMessage("hello")]]),
    "astream": lambda m: read(m.astream("hello")),
    "atransform": lambda m: read(m.atransform(given())),
    "astream_log": lambda m: read(m.astream_log("hello")),
    "astream_events v1": lambda m: read(m.astream_events("hello", version="v1")),
    "astream_events v2": lambda m: read(m.astream_events("hello", version="v2")),
    "astream_events v3": events_v3,
    "sequence ainvoke": lambda m: prompted(m).ainvoke(Q),
    "sequence abatch": lambda m: prompted(m).abatch([Q]),
    "sequence astream": lambda m: read(prompted(m).astream(Q)),
    "sequence astream_events v2": lambda m: read(prompted(m).astream_events(Q, version="v2")),
    "parallel ainvoke": lambda m: RunnableParallel(a=m).ainvoke("hello"),
    "lambda ainvoke": lambda m: in_lambda(m).ainvoke("hello"),
    "with_retry ainvoke": lambda m: m.with_retry().ainvoke("hello"),
    "with_fallbacks ainvoke": lambda m: m.with_fallbacks([m]).ainvoke("hello"),
}
EACH_WAY = pytest.mark.parametrize("way", WAYS)


class AsyncRecorder(AsyncCallbackHandler):
    """An async handler beside ours, as users have them."""

    def __init__(self) -> None:
        self.events: list[str] = []

    async def on_chat_model_start(self, *args: Any, **kwargs: Any) -> None:
        self.events.append("chat start")

    async def on_llm_start(self, *args: Any, **kwargs: Any) -> None:
        self.events.append("llm start")


@pytest.fixture(params=["awaited", "called"])
def _seam(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let LangChain's helper be the one that we know, or another."""
    if request.param == "called":
        monkeypatch.setattr(awaited, "_asking", None)


@pytest.fixture
def warned() -> Iterator[list[str]]:
    """The warnings of a test that reach a user's screen."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        found: list[str] = []
        yield found
        gc.collect()
        found += [str(each.message) for each in caught if "never awaited" in str(each.message)]


async def somebody_waits() -> None:
    await until_async(lambda: bool(queue.QUEUE))


@EACH_WAY
def test_a_call_that_would_fit_once_another_settles_waits_for_it(way: str, provider: Provider) -> None:
    provider.behave(output_tokens=20)
    provider.hold()
    model = chat(provider, max_tokens=200)

    async def main() -> None:
        async with step("plan", max_usd=CALL_USD * 3 / 2) as plan:
            first = asyncio.create_task(model.ainvoke("hello"))
            await asyncio.to_thread(provider.wait_for, 1)
            second = asyncio.ensure_future(WAYS[way](model))
            await somebody_waits()
            assert provider.count() == 1
            provider.release()
            await asyncio.gather(first, second)
            assert plan.usage.calls == 2

    asyncio.run(main())
    assert provider.count() == 2


@EACH_WAY
@pytest.mark.usefixtures("_seam")
def test_a_call_that_can_never_fit_is_refused_at_once_and_without_a_warning_of_pythons(
    way: str, provider: Provider, warned: list[str]
) -> None:
    others = [Recorder(), AsyncRecorder()]

    async def main() -> None:
        with pytest.raises(BudgetExhausted) as refused, step("plan", max_calls=0):
            await WAYS[way](chat(provider, max_tokens=200, callbacks=others))
        assert refused.value.phase == "denied"

    asyncio.run(main())
    assert provider.count() == 0
    assert not warned


def test_a_call_waits_in_the_callers_own_task_and_sees_its_context(provider: Provider) -> None:
    tasks: list[Any] = []

    class Watching(StepTrackHandler):
        async def await_chat_model_start(self, *args: Any, **kwargs: Any) -> None:
            tasks.append(asyncio.current_task())
            await super().await_chat_model_start(*args, **kwargs)

    async def main() -> None:
        async with step("plan") as plan:
            await FakeChat(callbacks=[Watching()]).ainvoke("hello")
            assert tasks == [asyncio.current_task()]
            assert plan.usage.calls == 1

    asyncio.run(main())


def test_calls_wait_no_longer_than_wait_s_says(provider: Provider) -> None:
    provider.hold()
    model = chat(provider, max_tokens=200)

    async def main() -> None:
        async with step("plan", max_usd=CALL_USD * 3 / 2, wait_s=0.05):
            first = asyncio.create_task(model.ainvoke("hello"))
            await asyncio.to_thread(provider.wait_for, 1)
            with pytest.raises(BudgetExhausted) as refused:
                await model.ainvoke("hello")
            assert refused.value.phase == "busy"
            assert "wait_s" in str(refused.value)
            provider.release()
            await first

    asyncio.run(main())


@pytest.mark.parametrize("mode", ["ainvoke", "astream"])
def test_a_call_that_is_cancelled_while_it_waits_leaves_nothing_behind(mode: str, provider: Provider) -> None:
    provider.hold()
    model = chat(provider, max_tokens=200)

    async def main() -> None:
        async with step("plan", max_usd=CALL_USD * 3 / 2) as plan:
            first = asyncio.create_task(model.ainvoke("hello"))
            await asyncio.to_thread(provider.wait_for, 1)
            waiting = asyncio.ensure_future(WAYS[mode](model))
            await somebody_waits()
            waiting.cancel()
            with pytest.raises(asyncio.CancelledError):
                await waiting
            assert not queue.QUEUE
            provider.release()
            await first
            assert plan.usage.calls == 1

    asyncio.run(main())
    assert provider.count() == 1


def test_a_stream_that_holds_room_is_not_waited_for_by_its_own_reader(provider: Provider) -> None:
    model = chat(provider, max_tokens=200)

    async def main() -> None:
        async with step("plan", max_usd=CALL_USD * 3 / 2):
            stream = model.astream("hello")
            await anext(stream)
            with pytest.raises(BudgetExhausted):
                await model.ainvoke("hello")
            await stream.aclose()

    asyncio.run(main())
    assert provider.count() == 1


def test_a_sync_call_on_a_loop_cannot_wait_and_says_what_can(provider: Provider) -> None:
    provider.hold()
    model = chat(provider, max_tokens=200)

    async def main() -> None:
        async with step("plan", max_usd=CALL_USD * 3 / 2):
            first = asyncio.create_task(model.ainvoke("hello"))
            await asyncio.to_thread(provider.wait_for, 1)
            with pytest.raises(BudgetExhausted) as refused:
                model.invoke("hello")
            assert refused.value.phase == "busy"
            assert "use the async function" in str(refused.value)
            provider.release()
            await first

    asyncio.run(main())
    assert provider.count() == 1


class HeldCompletion(FakeCompletion):
    """A completion model that answers once it may."""

    may_answer: Any = None
    sent: int = 0

    async def _acall(self, prompt: str, *args: Any, **kwargs: Any) -> str:
        self.sent += 1
        await self.may_answer.wait()
        return self._call(prompt)


@pytest.mark.parametrize("others", [[], [Recorder()], [AsyncRecorder()]], ids=["alone", "sync", "async"])
def test_completion_models_wait_too_whoever_is_beside(others: list[Any]) -> None:
    async def main() -> None:
        model = HeldCompletion(callbacks=others, may_answer=asyncio.Event())
        async with step("plan", max_tokens=1_000) as plan:
            asked = [asyncio.create_task(model.ainvoke("hello")) for _ in range(2)]
            await until_async(lambda: bool(model.sent))
            await somebody_waits()  # nothing is known of the model, so one call of it goes first
            assert model.sent == 1
            model.may_answer.set()
            await asyncio.gather(*asked)
            assert plan.usage.calls == model.sent == 2

    asyncio.run(main())


@pytest.mark.parametrize("history", ["cold", "warm"])
def test_20_calls_of_a_chain_that_all_fit_are_all_sent(history: str, provider: Provider) -> None:
    provider.behave(input_tokens=8, output_tokens=42)
    chain = prompted(chat(provider, model="gpt-4o-mini"))

    async def main() -> None:
        if history == "warm":
            await chain.ainvoke(Q)
        async with step("plan", max_usd=0.002) as plan:
            await asyncio.gather(*(chain.ainvoke(Q) for _ in range(20)))
            assert plan.usage.calls == 20

    asyncio.run(main())
    assert provider.count() == 20 + (history == "warm")


@pytest.mark.parametrize("history", ["cold", "warm"])
@pytest.mark.parametrize("options", [{}, {"max_tokens": 200}], ids=["unbounded", "bounded"])
def test_of_50_calls_at_once_that_are_worth_10_ten_are_sent(
    history: str, options: Any, provider: Provider
) -> None:
    provider.behave(input_tokens=8)  # as many as they are
    model = chat(provider, **options)

    async def main() -> None:
        if history == "warm":
            await model.ainvoke("hello")
        provider.requests.clear()
        async with step("plan", max_usd=TEN_CALLS):
            asked = (model.ainvoke("hello") for _ in range(50))
            answers = await asyncio.gather(*asked, return_exceptions=True)
        assert sum(isinstance(answer, AIMessage) for answer in answers) >= 9
        assert {type(answer).__name__ for answer in answers} == {"AIMessage", "BudgetExhausted"}

    asyncio.run(main())
    assert 9 <= provider.count() <= 10


def test_a_coroutine_that_the_user_forgets_is_still_warned_of(provider: Provider) -> None:
    async def forgotten() -> None: ...

    async def main() -> None:
        left = [forgotten()]
        with pytest.raises(BudgetExhausted), step("plan", max_calls=0):
            await chat(provider).ainvoke("hello")
        del left

    with pytest.warns(RuntimeWarning, match="forgotten.* was never awaited"):
        asyncio.run(main())
        gc.collect()


def test_langchain_awaits_the_handler_in_its_installed_version() -> None:
    assert awaited.can_wait()


def test_without_the_seam_calls_are_refused_as_before_and_told_what_can_wait(
    provider: Provider, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(awaited, "_asking", None)
    assert not awaited.can_wait()

    async def main() -> None:
        async with step("plan", max_usd=2 * CALL_USD):
            asked = (chat(provider, max_tokens=200).ainvoke("hello") for _ in range(3))
            answers = await asyncio.gather(*asked, return_exceptions=True)
            [refusal] = [answer for answer in answers if isinstance(answer, BudgetExhausted)]
        assert refusal.phase == "busy"
        for cure in ("rate_limiter=steptrack_callbacks.langchain.admission", "budgeted("):
            assert cure in str(refusal)

    asyncio.run(main())
    assert provider.count() == 2


@pytest.mark.parametrize("gone", [None, "renamed", "asks nobody"])
def test_a_langchain_that_awaits_otherwise_is_noticed(gone: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    async def asks_nobody(*_: Any, **__: Any) -> None: ...

    if gone == "asks nobody":
        monkeypatch.setattr(awaited.manager, "_ahandle_event_for_handler", asks_nobody)
    elif gone == "renamed":
        monkeypatch.delattr(awaited.manager, "_ahandle_event_for_handler")
    else:
        monkeypatch.setattr(awaited.manager, "_ahandle_event_for_handler", None)
    assert not awaited.can_wait()


def test_the_handlers_methods_look_like_plain_methods_to_everybody_else() -> None:
    handler = StepTrackHandler()
    for name in ("on_chat_model_start", "on_llm_start"):
        assert inspect.isfunction(getattr(StepTrackHandler, name))
        assert inspect.ismethod(getattr(handler, name))
        assert not inspect.iscoroutinefunction(getattr(handler, name))
        assert "run_id" in inspect.signature(getattr(handler, name)).parameters
        assert "Admit a call" in getattr(handler, name).__doc__


def test_a_handler_of_the_users_that_builds_on_ours_is_still_called(provider: Provider) -> None:
    class Mine(StepTrackHandler):
        seen = 0

        def on_chat_model_start(self, *args: Any, **kwargs: Any) -> None:
            type(self).seen += 1
            super().on_chat_model_start(*args, **kwargs)

    async def main() -> None:
        async with step("plan") as plan:
            await FakeChat(model=MODEL, callbacks=[Mine()]).ainvoke("hello")
            assert plan.usage.calls == 1

    asyncio.run(main())
    assert Mine.seen == 1
