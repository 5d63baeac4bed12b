"""One handler, however often it is there, and everybody beside it undisturbed."""

from __future__ import annotations

import asyncio
import copy
import logging
import pickle
import subprocess
import sys
import threading
from typing import Any
from uuid import uuid4

import pytest
from asking import CALL_TOKENS, MODES, FakeChat, FakeCompletion, Recorder, chat
from langchain_core.callbacks import AsyncCallbackHandler, CallbackManager
from langchain_core.messages import AIMessage
from langchain_core.outputs import ChatGeneration, LLMResult
from langchain_core.tools import tool
from langchain_core.tracers.context import _configure_hooks

from internals import left_on
from provider import Provider
from steptrack_callbacks import BudgetExhausted, Stage, ToolDenied, UnpricedModel, persona, step
from steptrack_callbacks.langchain import StepTrackHandler, attach, attachment, budgeted, runs
from steptrack_callbacks.langchain.refusals import langchain_error
from steptrack_callbacks.steps.attribution import unattributed_usage


@pytest.mark.parametrize("how", ["config", "config twice", "constructor", "with_config and config", "all"])
@pytest.mark.parametrize("mode", ["invoke", "ainvoke", "stream", "batch"])
def test_a_call_is_charged_once_however_often_the_handler_is_there(how: str, mode: str) -> None:
    one, other = StepTrackHandler(), StepTrackHandler()
    model: Any = FakeChat(callbacks=[one] if how in ("constructor", "all") else None)
    config: Any = {
        "callbacks": {"config": [one], "config twice": [one, other], "all": [one, other, one]}.get(how, [])
    }
    if how in ("with_config and config", "all"):
        model, config = model.with_config(callbacks=[one]), {"callbacks": [one, other]}
    with step("plan") as plan:
        if mode == "stream":
            list(model.stream("hello", config))
        elif mode == "ainvoke":
            asyncio.run(model.ainvoke("hello", config))
        else:
            model.batch(["hello"], config) if mode == "batch" else model.invoke("hello", config)
    assert (plan.usage.calls, plan.usage.total_tokens) == (1, 14)


def test_an_explicit_handler_needs_no_attachment(_attached: None) -> None:
    attach()()  # off
    with step("plan") as plan:
        FakeChat().invoke("hello")
        assert plan.usage.calls == 0
        FakeChat().invoke("hello", {"callbacks": [StepTrackHandler()]})
    assert plan.usage.calls == 1


def test_one_hook_is_registered_for_the_whole_process() -> None:
    before = len(_configure_hooks)
    for _ in range(3):
        attach()()
    assert len(_configure_hooks) == before


def test_what_began_before_it_was_switched_off_is_charged() -> None:
    detach = attach()
    with step("plan") as plan:
        stream = FakeChat().stream("hello")
        next(stream)
        detach()
        list(stream)
    assert plan.usage.total_tokens == 14


def test_it_copies_deep_copies_and_pickles() -> None:
    handler = StepTrackHandler()
    assert copy.copy(handler) is copy.deepcopy(handler) is handler
    assert isinstance(pickle.loads(pickle.dumps(handler)), StepTrackHandler)
    model = FakeChat(callbacks=[handler])
    assert copy.deepcopy(model).callbacks == [handler]
    assert model.model_copy(deep=True).callbacks == [handler]


def test_an_end_without_a_start_is_charged_to_the_step_that_is_active() -> None:
    handler, run_id = StepTrackHandler(), uuid4()
    message = AIMessage("yes", usage_metadata={"input_tokens": 10, "output_tokens": 4, "total_tokens": 14})
    message.response_metadata["model_name"] = "gpt-4o"
    end = LLMResult(generations=[[ChatGeneration(message=message)]])
    with step("plan", max_usd=1) as plan:
        handler.on_llm_end(end, run_id=run_id)
        handler.on_llm_end(end, run_id=run_id)
        handler.on_llm_error(RuntimeError(), run_id=run_id)
        handler.on_llm_error(RuntimeError(), run_id=uuid4())
    assert (plan.usage.calls, plan.usage.total_tokens, plan.usage.unpriced_calls) == (1, 14, 0)


@pytest.mark.parametrize("model", [FakeChat(), FakeCompletion()], ids=["chat", "completion"])
@pytest.mark.parametrize("mode", [name for name in MODES if "structured" not in name and "tools" not in name])
def test_a_handler_beside_ours_sees_what_it_would_see_without_us(model: Any, mode: str) -> None:
    if isinstance(model, FakeCompletion) and "v3" in mode:
        mode = "invoke"  # completion models have no v3
    without, beside = Recorder(), Recorder()
    attach()()
    seen_without = run_with(model, mode, without)
    detach = attach()
    with step("plan") as plan:
        seen_beside = run_with(model, mode, beside)
    detach()
    assert beside.events == without.events
    assert {"end", "error"} & set(beside.events)  # of astream_events v3 LangChain tells others an error
    assert any("start" in event for event in beside.events)
    assert len(seen_beside) == len(seen_without)
    assert plan.usage.calls == 1


def run_with(model: Any, mode: str, recorder: Recorder) -> Any:
    answer = MODES[mode](type(model)(callbacks=[recorder]))
    return answer if isinstance(answer, list | dict | str) else answer.content


@pytest.mark.parametrize("mode", ["ainvoke", "astream"])
def test_an_async_handler_beside_ours_sees_async_completions(mode: str) -> None:
    seen: list[str] = []

    class Watching(AsyncCallbackHandler):
        async def on_llm_start(self, *args: Any, **kwargs: Any) -> None:
            seen.append("start")

        async def on_llm_end(self, *args: Any, **kwargs: Any) -> None:
            seen.append("end")

    with step("plan") as plan:
        MODES[mode](FakeCompletion(callbacks=[Watching()]))
    assert seen == ["start", "end"]
    assert plan.usage.calls == 1


@pytest.mark.parametrize("mode", ["ainvoke", "astream"])
def test_beside_an_inline_handler_an_async_completion_is_seen_too(mode: str) -> None:
    class Inline(Recorder):
        run_inline = True

    recorder = Inline()
    with step("plan") as plan:
        MODES[mode](FakeCompletion(callbacks=[recorder]))
    assert recorder.events == ["llm start", "end"]
    assert plan.usage.calls == 1


def test_beside_budgeted_an_async_completion_is_seen_too() -> None:
    recorder = Recorder()
    with step("plan") as plan:
        asyncio.run(budgeted(FakeCompletion(callbacks=[recorder]), step="ask").ainvoke("hello"))
    assert recorder.events == ["llm start", "end"]
    assert plan.usage.calls == 1


def test_a_refusal_prints_nothing(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG), pytest.raises(BudgetExhausted), step("plan", max_usd=0):
        FakeChat().invoke("hello")
    assert not [record for record in caplog.records if record.name.startswith("langchain")]


def test_what_others_print_is_left_alone(caplog: pytest.LogCaptureFixture) -> None:
    class Broken(Recorder):
        def on_llm_end(self, *args: Any, **kwargs: Any) -> None:
            raise ZeroDivisionError

    FakeChat().invoke("hello", {"callbacks": [Broken()]})
    assert "Error in Broken.on_llm_end callback" in caplog.text


def test_a_refusal_pickles_and_keeps_its_fields() -> None:
    with pytest.raises(BudgetExhausted) as refusal, step("plan", max_usd=0):
        FakeChat().invoke("hello")
    again = pickle.loads(pickle.dumps(refusal.value))
    assert type(again) is BudgetExhausted
    assert str(again) == str(refusal.value)
    assert again.step_id == refusal.value.step_id
    assert not langchain_error(again).is_retryable  # type: ignore[attr-defined]


def test_a_retry_asks_again_and_sends_nothing(provider: Provider) -> None:
    with pytest.raises(BudgetExhausted), step("plan", max_calls=1) as plan:
        model = chat(provider).with_retry(stop_after_attempt=3, wait_exponential_jitter=False)
        model.invoke("hello")
        model.invoke("hello")
    assert provider.count() == plan.usage.calls == 1


def test_a_cheaper_fallback_that_fits_may_go(provider: Provider) -> None:
    dear = chat(provider, model="gpt-4", max_tokens=10_000)
    cheap = chat(provider, model="gpt-4o-mini", max_tokens=100)
    with step("plan", max_usd=0.0002, enforce="strict") as plan:
        dear.with_fallbacks([cheap]).invoke("hello")
    assert [request.body["model"] for request in provider.requests] == ["gpt-4o-mini"]
    assert plan.usage.calls == 1


def test_a_failed_attempt_counts_as_a_call(provider: Provider) -> None:
    provider.fail_next(1)
    with step("plan") as plan:
        chat(provider).with_retry(stop_after_attempt=2, wait_exponential_jitter=False).invoke("hello")
    assert provider.count() == plan.usage.calls == 2
    assert (plan.usage.failed_calls, plan.usage.total_tokens) == (1, CALL_TOKENS)


def test_a_plain_thread_loses_the_step_and_is_still_counted() -> None:
    with step("plan") as plan, pytest.warns(match="found no step here"):
        thread = threading.Thread(target=FakeChat().invoke, args=("hello",))
        thread.start()
        thread.join()
    assert plan.usage.calls == 0
    assert unattributed_usage().calls == 1


def test_an_unpriced_model_is_refused_as_a_model_error_too() -> None:
    with pytest.raises(UnpricedModel) as refusal, step("plan", max_usd=1):
        FakeChat(model="nobody-knows-it").invoke("hello")
    assert not refusal.value.is_retryable  # type: ignore[attr-defined]


@tool
def look_up(word: str) -> str:
    """Look a word up."""
    return word


def test_a_tool_that_the_stage_does_not_allow_does_not_run() -> None:
    with persona("editor", stages=[Stage("plan", allowed_tools=["search"])]), step("plan"):
        with pytest.raises(ToolDenied):
            look_up.invoke("sky")
        with pytest.raises(ToolDenied):
            asyncio.run(look_up.ainvoke("sky"))


def test_a_tool_that_runs_is_counted_once() -> None:
    with step("plan") as plan:
        look_up.invoke("sky", {"callbacks": [StepTrackHandler(), StepTrackHandler()]})
    assert plan.record().tool_calls == 1


def test_importing_the_integration_does_not_import_litellm() -> None:
    program = (
        "import sys, steptrack_callbacks.langchain as integration;"
        "from langchain_core.language_models.fake_chat_models import FakeListChatModel as Fake;"
        "from steptrack_callbacks import step;"
        "integration.attach();\n"
        "with step('plan', max_usd=1, unpriced='free'): Fake(responses=['a']).invoke('hello')\n"
        "assert not {'litellm', 'langchain', 'langgraph', 'langchain_openai'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", program], check=True)


@pytest.mark.parametrize("mode", ["invoke", "ainvoke"])
def test_a_call_that_is_interrupted_between_its_admission_and_being_sent_is_withdrawn(
    mode: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Interrupted(BaseException):
        pass

    def interrupt(_: runs.Run) -> None:
        raise Interrupted

    model = FakeChat()
    monkeypatch.setattr(runs.Run, "begun", interrupt)
    with step("plan", max_usd=1) as plan:
        with pytest.raises(Interrupted):
            model.invoke("hello") if mode == "invoke" else asyncio.run(model.ainvoke("hello"))
        assert left_on(plan.account) == {}
    assert (plan.usage.calls, model.sent) == (0, 0)


def test_once_detached_no_run_calls_a_handler_of_ours(monkeypatch: pytest.MonkeyPatch) -> None:
    def handlers() -> list[Any]:
        return [each for each in CallbackManager.configure().handlers if isinstance(each, StepTrackHandler)]

    monkeypatch.setattr(
        attachment._attached, "follows_agents", False
    )  # an agent's budget is followed for good
    assert handlers() == [attachment._attached]
    attachment._detach()
    assert not handlers()
    attachment.attach()
    assert handlers() == [attachment._attached]
