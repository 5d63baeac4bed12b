"""Steps from what LangChain knows already: metadata, run names, tags."""

from __future__ import annotations

import asyncio
import gc
from typing import Any

import pytest
from asking import FakeChat, prompted
from langchain_core.runnables import RunnableLambda, RunnableParallel

from internals import declare
from steptrack_callbacks import BudgetExhausted, StepDenied, bind, peek_completed_steps, settings, step
from steptrack_callbacks.hooks import CallSettled, StepStarted, on
from steptrack_callbacks.langchain import admission
from steptrack_callbacks.steps.step import open_steps

PLAN = {"metadata": {"steptrack_step": "plan"}}
Q = {"question": "hello"}


@pytest.fixture(autouse=True)
def _nothing_declared() -> Any:
    yield
    settings.reset()


def records() -> dict[str, Any]:
    return {record.path: record for record in peek_completed_steps()}


@pytest.mark.parametrize("mode", ["invoke", "ainvoke", "stream", "astream", "batch"])
@pytest.mark.parametrize("what", ["model", "chain"])
def test_metadata_names_a_step(mode: str, what: str) -> None:
    runnable: Any = FakeChat() if what == "model" else prompted(FakeChat())
    question: Any = "hello" if what == "model" else Q

    async def read() -> None:
        [chunk async for chunk in runnable.astream(question, PLAN)]

    if mode == "stream":
        list(runnable.stream(question, PLAN))
    elif mode == "batch":
        runnable.batch([question], PLAN)
    elif mode == "invoke":
        runnable.invoke(question, PLAN)
    else:
        asyncio.run(read() if mode == "astream" else runnable.ainvoke(question, PLAN))
    assert list(records()) == ["plan"]
    assert (records()["plan"].usage.total_tokens, records()["plan"].status) == (14, "completed")


@pytest.mark.parametrize("config", [PLAN, {"run_name": "plan"}, {"tags": ["x", "plan"]}])
@pytest.mark.parametrize("what", ["model", "chain", "function"])
def test_a_declared_name_brings_its_limits(config: Any, what: str) -> None:
    declare({"plan": {"max_calls": 2}})
    model = FakeChat()
    thrice = RunnableLambda(lambda _: [model.invoke("hello") for _ in range(3)])
    if what == "model":
        model.invoke("hello", config)  # each is an outermost run of its own
        model.invoke("hello", config)
        model.invoke("hello", config)
        assert model.sent == 3
        return
    runnable: Any = thrice if what == "function" else prompted(FakeChat()) | thrice
    with pytest.raises(BudgetExhausted) as refusal:
        runnable.invoke(Q, config)
    assert refusal.value.path == "plan"
    assert records()["plan"].usage.calls == 2
    assert records()["plan"].status == "failed"


@pytest.mark.parametrize("mode", ["invoke", "ainvoke", "stream", "limiter"])
def test_a_model_that_is_refused_in_a_step_of_its_own_fails_the_step(mode: str) -> None:
    declare({"plan": {"max_usd": 0}})
    model = FakeChat(rate_limiter=admission if mode == "limiter" else None)

    async def read() -> None:
        [chunk async for chunk in model.astream("hello", PLAN)]

    with pytest.raises(BudgetExhausted):
        if mode == "stream":
            list(model.stream("hello", PLAN))
        elif mode == "invoke":
            model.invoke("hello", PLAN)
        else:
            asyncio.run(read() if mode == "limiter" else model.ainvoke("hello", PLAN))
    assert records()["plan"].status == "failed"
    assert model.sent == 0


def test_a_hook_may_keep_such_a_step_from_beginning() -> None:
    def refuse(_: Any) -> None:
        raise StepDenied("not today")

    off = on(StepStarted, refuse)
    with pytest.raises(StepDenied, match="not today"):
        prompted(FakeChat()).invoke(Q, PLAN)
    off()


class Failing(FakeChat):
    def _answer(self) -> Any:
        raise ValueError("the provider is away")


@pytest.mark.parametrize("model", [FakeChat(), Failing()], ids=["answers", "fails"])
@pytest.mark.parametrize("mode", ["invoke", "ainvoke", "batch"])
def test_such_a_step_ends_with_its_run_though_a_hook_refuses_the_charge(mode: str, model: FakeChat) -> None:
    def refuse(_: Any) -> None:
        raise StepDenied("no more of this")

    off = on(CallSettled, refuse)
    with pytest.raises(StepDenied, match="no more of this") as held:
        if mode == "invoke":
            model.invoke("hello", PLAN)
        elif mode == "batch":
            model.batch(["hello"], PLAN)
        else:
            asyncio.run(model.ainvoke("hello", PLAN))
    off()
    assert open_steps() == [], held
    assert records()["plan"].usage.calls == 1


def test_a_name_that_is_not_declared_is_no_step() -> None:
    FakeChat().invoke("hello", {"run_name": "plan", "tags": ["plan"]})
    assert records() == {}


def test_such_a_step_is_inside_the_step_around_its_run() -> None:
    declare({"plan": {"max_calls": 5}})
    with step("answer") as answer:
        prompted(FakeChat()).invoke(Q, PLAN)
    assert list(records()) == ["answer/plan", "answer"]
    assert answer.usage.calls == 1
    assert answer.own_usage.calls == 0


def test_a_step_that_is_opened_inside_its_run_is_charged_beside_it() -> None:
    declare({"plan": {"max_calls": 1}})
    model = FakeChat()

    def body(_: Any) -> None:
        for _ in range(2):
            with step("inner"):
                model.invoke("hello")

    with pytest.raises(BudgetExhausted) as refusal, step("answer") as answer:
        RunnableLambda(body).invoke("hello", PLAN)
    assert refusal.value.step == "plan"
    assert model.sent == answer.usage.calls == records()["answer/plan"].usage.calls == 1


def test_all_runs_of_that_name_in_one_outermost_run_are_one_step() -> None:
    declare({"plan": {"max_calls": 3}})
    model = FakeChat()
    many = RunnableParallel({f"a{n}": model.with_config(run_name="plan") for n in range(3)})
    many.invoke("hello")
    assert records()["plan"].usage.calls == 3
    with pytest.raises(BudgetExhausted):
        (many | RunnableLambda(lambda _: model.invoke("hello", {"run_name": "plan"}))).invoke("hello")


def test_names_nest() -> None:
    declare({"plan": {}, "search": {"max_calls": 1}})
    search = RunnableLambda(lambda _: FakeChat().invoke("hello")).with_config(run_name="search")
    RunnableLambda(lambda _: search.invoke("hello")).invoke("hello", PLAN)
    assert list(records()) == ["plan/search", "plan"]
    assert records()["plan"].usage.calls == 1


def test_a_thread_without_its_context_is_found_by_its_runs_parents() -> None:
    import threading

    model = FakeChat()

    def body(_: Any, config: Any) -> None:
        thread = threading.Thread(target=lambda: model.invoke("hello", config))
        thread.start()
        thread.join()

    with step("answer") as answer:
        RunnableLambda(body).invoke("hello", PLAN)
    assert answer.usage.calls == records()["answer/plan"].usage.calls == 1


def test_concurrent_runs_are_apart() -> None:
    declare({"plan": {"max_calls": 1}})
    model = FakeChat()

    async def main() -> None:
        await asyncio.gather(*(RunnableLambda(model.ainvoke).ainvoke("hello", PLAN) for _ in range(5)))

    asyncio.run(main())
    assert [record.usage.calls for record in peek_completed_steps()] == [1] * 5


def test_a_run_that_is_over_its_limit_at_its_end_raises_with_the_answer() -> None:
    declare({"plan": {"max_tokens": 12}})
    with pytest.raises(BudgetExhausted) as exhaustion:
        prompted(FakeChat()).invoke(Q, PLAN)
    assert exhaustion.value.phase == "settled"
    assert exhaustion.value.response.text.startswith("word")
    assert records()["plan"].status == "failed"


def test_a_run_that_fails_ends_its_step_with_its_error() -> None:
    with pytest.raises(ZeroDivisionError):
        RunnableLambda(lambda _: 1 / 0).invoke("hello", PLAN)
    assert records()["plan"].status == "error"


def test_a_stream_that_is_broken_off_ends_its_step() -> None:
    stream = prompted(FakeChat(words=50)).stream(Q, PLAN)
    next(stream)
    stream.close()
    del stream
    gc.collect()
    assert records()["plan"].usage.calls == 1


@pytest.mark.parametrize(
    "options",
    [{"error_boundary": "continue"}, {"error_boundary": "escalate"}, {"default": ""}, {"escalation": print}],
)
def test_such_a_step_can_only_fail_and_the_error_names_what_can_do_more(options: Any) -> None:
    with pytest.raises(ValueError, match=r"can only fail; use budgeted\(...\)"):
        declare({"fine": {"max_usd": 1}, "plan": options})
    FakeChat().invoke("hello", {"run_name": "fine"})
    assert records() == {}


def test_bound_functions_keep_their_step() -> None:
    declare({"plan": {"max_calls": 1}})
    with step("answer") as answer:
        bind(prompted(FakeChat()).invoke)(Q, PLAN)
    assert answer.usage.calls == 1


@pytest.mark.parametrize("name", [5, "", " ", "a/b", ["x"], {}])
def test_metadata_that_names_no_step_says_which_key_it_is(name: Any) -> None:
    model = FakeChat()
    with pytest.raises(ValueError, match="'steptrack_step' names a step"):
        model.invoke("hello", {"metadata": {"steptrack_step": name}})
    assert model.sent == 0


@pytest.mark.parametrize(
    ("steps", "message"),
    [
        (["plan"], r"steps must be a mapping, .*\['plan'\]"),
        ({"plan": {"max_dollars": 1}}, "'plan' has no field 'max_dollars'"),
        ({"plan": {"max_usd": -1}}, "'plan': max_usd"),
    ],
)
def test_a_malformed_declaration_says_whose_it_is(steps: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        declare(steps)
