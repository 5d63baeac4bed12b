"""Pools inside a step make LangChain's calls for it, with nothing but `install()`."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextvars import ContextVar
from typing import Any

import litellm
import pytest
from asking import CALL_USD, INPUT_USD, OUTPUT_USD, FakeChat, chat
from langchain_core.messages import AIMessage
from langchain_core.outputs import ChatResult

import steptrack_callbacks as steptrack
from provider import Provider
from queue_worker import Worker
from steptrack_callbacks import BudgetExhausted, LostStepWarning, step
from steptrack_callbacks.steps.attribution import unattributed_usage

pytestmark = pytest.mark.contract
theirs = ContextVar("theirs", default="nothing")
TEN_CALLS = 10 * (8 * INPUT_USD + 200 * OUTPUT_USD)


@pytest.fixture(autouse=True)
def _installed(_attached: None) -> Iterator[None]:
    steptrack.install()
    yield
    steptrack.uninstall()


@pytest.mark.parametrize("limit", [{"max_calls": 10}, {"max_usd": TEN_CALLS}], ids=["calls", "dollars"])
def test_of_50_calls_in_a_pool_in_a_step_worth_10_ten_are_sent(limit: Any, provider: Provider) -> None:
    provider.behave(input_tokens=8)
    model = chat(provider, max_tokens=200)
    with step("plan", error_boundary="continue", **limit) as plan, ThreadPoolExecutor(50) as pool:
        asked = [pool.submit(model.invoke, "hello") for _ in range(50)]
        refused = [future.exception() for future in asked]
    assert sum(isinstance(error, BudgetExhausted) for error in refused) == 40
    assert provider.count() == plan.usage.calls == 10


@pytest.mark.filterwarnings("ignore::UserWarning:pydantic", "ignore:Items? .* on TypedDict:UserWarning")
def test_a_model_that_sends_through_litellm_in_a_thread_of_its_own_is_charged_once() -> None:
    class Threaded(FakeChat):
        def _generate(self, *args: Any, **kwargs: Any) -> ChatResult:
            ask = {"model": "gpt-4o", "messages": [{"role": "user", "content": "hello"}]}
            with ThreadPoolExecutor(1) as pool:
                pool.submit(litellm.completion, mock_response="there", **ask).result()
            return super()._generate(*args, **kwargs)

    with step("plan", max_usd=CALL_USD) as plan:
        Threaded().invoke("hello")
        with ThreadPoolExecutor(1) as pool:
            pool.submit(Threaded().invoke, "hello").result()
    assert plan.usage.calls == 2


def test_a_queue_worker_that_was_started_in_a_step_that_is_exhausted_later_goes_on_for_others() -> None:
    model = FakeChat()

    def ask() -> Any:
        return model.invoke("hello")

    with step("plan", max_calls=1, error_boundary="continue") as plan:
        worker = Worker()
        worker.do(ask)
        assert isinstance(worker.do(ask), BudgetExhausted)
    with worker, pytest.warns(LostStepWarning, match="outlived step 'plan'"):
        assert worker.do(ask).usage_metadata["total_tokens"] == 14
    assert (plan.usage.calls, unattributed_usage().calls, model.sent) == (1, 1, 2)


class Looking(FakeChat):
    """A model that says what the variable of another library is where it is asked."""

    def _answer(self) -> AIMessage:
        answer = super()._answer()
        answer.content = theirs.get()
        return answer


def test_the_variable_of_another_library_is_what_langchain_and_pools_make_it_without_us() -> None:
    token = theirs.set("the caller's")
    with step("plan") as plan, ThreadPoolExecutor(2) as pool:
        in_a_batch = Looking().batch(["hello", "there"])
        in_a_pool = list(pool.map(Looking().invoke, ["hello", "there"]))
    theirs.reset(token)
    assert [answer.content for answer in in_a_batch] == ["the caller's", "the caller's"]
    assert [answer.content for answer in in_a_pool] == ["nothing", "nothing"]
    assert plan.usage.calls == 4
