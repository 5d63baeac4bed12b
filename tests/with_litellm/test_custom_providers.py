"""A provider of the user's own (`CustomLLM`): each of its requests is charged once, whoever sees it."""

from __future__ import annotations

import gc
import inspect
from typing import Any

import litellm
import pytest
from calling import ASK, CALL_USD, Events, run, wait_until

import steptrack_callbacks as steptrack
from custom_providers import KINDS, MODEL, RATES, ByHTTP, ThroughLiteLLM, registered
from provider import Provider
from steptrack_callbacks import BudgetExhausted, step
from steptrack_callbacks.litellm import entry_points
from steptrack_callbacks.steps.attribution import unattributed_usage

FORMS = ("completion", "acompletion", "stream", "astream")
in_every_form = pytest.mark.parametrize("form", FORMS)
of_every_kind = pytest.mark.parametrize("kind", KINDS)


@pytest.fixture(autouse=True)
def _priced(_attached: None) -> None:
    steptrack.install(prices={MODEL: RATES})


def ask(form: str, events: Events | None = None, **options: Any) -> Any:
    """Ask for an answer, read it, and wait until LiteLLM has reported it."""
    return run(_ask_async(form, events, **options)) if form[0] == "a" else _ask(form, events, **options)


def _ask(form: str, events: Events | None, **options: Any) -> Any:
    answer = litellm.completion(model=MODEL, messages=ASK, stream="stream" in form, **options)
    if "stream" in form:
        answer = list(answer)
    if events:
        events.wait_for()
    return answer


async def _ask_async(form: str, events: Events | None, **options: Any) -> Any:
    answer = await litellm.acompletion(model=MODEL, messages=ASK, stream="stream" in form, **options)
    if "stream" in form:
        answer = [chunk async for chunk in answer]
    if events:
        await events.wait_for_async()
    return answer


@in_every_form
@of_every_kind
def test_an_answer_is_charged_once(kind: Any, form: str, provider: Provider, events: Events) -> None:
    with registered(kind(provider)), step("plan", max_usd=1) as plan:
        ask(form, events)
    assert provider.count() == plan.usage.calls == 1
    assert (plan.usage.total_tokens, plan.cost_usd) == (300, CALL_USD)
    assert (plan.usage.ungated_calls, plan.usage.estimated_calls) == (0, 0)
    assert unattributed_usage().calls == 0


@in_every_form
@of_every_kind
def test_without_budget_nothing_is_sent(kind: Any, form: str, provider: Provider) -> None:
    with registered(kind(provider)), pytest.raises(BudgetExhausted), step("plan", max_usd=0) as plan:
        ask(form)
    assert provider.count() == plan.usage.calls == 0


@in_every_form
@of_every_kind
def test_an_attempt_that_fails_is_a_failed_call(kind: Any, form: str, provider: Provider) -> None:
    provider.fail_next(1)
    with registered(kind(provider)), step("plan", max_usd=1) as plan:
        with pytest.raises(Exception, match="500"):
            ask(form)
        ask(form)
    assert provider.count() == plan.usage.calls == 2
    assert (plan.usage.failed_calls, plan.usage.output_tokens) == (1, 200)


@pytest.mark.parametrize("form", ["completion", "acompletion"])
@of_every_kind
def test_each_attempt_counts_of_those_that_litellm_makes_again(
    kind: Any, form: str, provider: Provider
) -> None:
    provider.fail_next(2)
    with registered(kind(provider)), step("plan", max_usd=1) as plan:
        ask(form, num_retries=3)
    assert provider.count() == plan.usage.calls == 3
    assert (plan.usage.failed_calls, plan.cost_usd) == (2, CALL_USD)


@in_every_form
def test_what_it_sends_besides_is_a_call_of_its_own(form: str, provider: Provider) -> None:
    custom = ThroughLiteLLM(provider)
    custom.requests_each = 3
    with registered(custom), step("plan", max_calls=2) as plan, pytest.raises(BudgetExhausted):
        ask(form)
    assert provider.count() == plan.usage.calls == 2


@in_every_form
def test_what_it_sends_for_a_call_is_priced_as_what_it_is(form: str, provider: Provider) -> None:
    steptrack.install(prices={MODEL: dict.fromkeys(RATES, 1)})
    with registered(ThroughLiteLLM(provider)), step("plan") as plan:
        ask(form)
    assert plan.cost_usd == CALL_USD


@pytest.mark.parametrize("form", ["stream", "astream"])
@of_every_kind
def test_a_stream_is_cut_as_it_runs(kind: Any, form: str, provider: Provider) -> None:
    provider.behave(output_tokens=2_000)
    with registered(kind(provider)), pytest.raises(BudgetExhausted) as cut:
        with step("plan", max_tokens=100) as plan:
            ask(form)
    assert cut.value.phase == "stream"
    assert cut.value.response.startswith(" word time word")
    assert provider.count() == plan.usage.calls == plan.usage.estimated_calls == 1
    assert 100 < plan.usage.total_tokens < 110


@of_every_kind
def test_direct_calls_between_the_chunks_of_a_stream_are_calls_of_their_own(
    kind: Any, provider: Provider
) -> None:
    direct = {"model": "openai/gpt-4o", "messages": ASK, "api_base": provider.url, "api_key": "none"}
    with registered(kind(provider)), step("plan", max_usd=1) as plan:
        for number, _ in enumerate(litellm.completion(model=MODEL, messages=ASK, stream=True)):
            if number == 3:
                litellm.completion(**direct)
    assert provider.count() == plan.usage.calls == 2
    assert plan.cost_usd == 2 * CALL_USD


def test_a_stream_that_is_closed_closes_the_one_under_it(provider: Provider) -> None:
    provider.hold(after_chunks=20)
    with registered(ThroughLiteLLM(provider)), step("plan", max_usd=1) as plan:
        stream = litellm.completion(model=MODEL, messages=ASK, stream=True)
        next(stream)
        stream.close()
    gc.collect()
    provider.wait_until(lambda: provider.requests[0].end == "client closed")
    assert provider.count() == plan.usage.calls == plan.usage.estimated_calls == 1


def test_an_async_stream_that_is_closed_closes_the_one_under_it(provider: Provider) -> None:
    provider.hold(after_chunks=20)

    async def main() -> None:
        stream = await litellm.acompletion(model=MODEL, messages=ASK, stream=True)
        await anext(stream)
        await stream.aclose()

    with registered(ThroughLiteLLM(provider)), step("plan", max_usd=1) as plan:
        run(main())
    gc.collect()
    provider.wait_until(lambda: provider.requests[0].end == "client closed")
    assert provider.count() == plan.usage.calls == plan.usage.estimated_calls == 1


@in_every_form
def test_past_the_gate_it_is_charged_from_events(form: str, provider: Provider, events: Events) -> None:
    entry_points.gates.active = False
    with registered(ByHTTP(provider)), step("plan", max_usd=1) as plan:
        ask(form, events)
    assert provider.count() == plan.usage.calls == plan.usage.ungated_calls == 1
    assert (plan.usage.total_tokens, plan.cost_usd) == (300, CALL_USD)


@pytest.mark.filterwarnings("ignore:litellm.* was imported before install:UserWarning")
def test_past_the_gate_what_it_sends_through_the_gate_takes_its_place(
    provider: Provider, events: Events
) -> None:
    past_the_gate = inspect.unwrap(litellm.completion, stop=lambda f: "steptrack_gate" not in vars(f))
    with registered(ThroughLiteLLM(provider)), step("plan", max_usd=1) as plan:
        past_the_gate(model=MODEL, messages=ASK)
        wait_until(lambda: len(events.successes) == 2)
    assert provider.count() == plan.usage.calls == 1
    assert (plan.usage.ungated_calls, plan.cost_usd) == (0, CALL_USD)


class Kept(ThroughLiteLLM):
    """Holds on to its streams."""

    def streaming(self, *args: Any, **kwargs: Any) -> Any:
        self.begun = super().streaming()
        return self.begun

    def astreaming(self, *args: Any, **kwargs: Any) -> Any:
        self.begun = super().astreaming()
        return self.begun


def test_a_stream_that_is_closed_closes_that_of_the_provider(provider: Provider) -> None:
    kept = Kept(provider)
    with registered(kept):
        stream = litellm.completion(model=MODEL, messages=ASK, stream=True)
        next(stream)
        stream.close()
    assert kept.begun.gi_frame is None


def test_an_async_stream_that_is_closed_closes_that_of_the_provider(provider: Provider) -> None:
    kept = Kept(provider)

    async def main() -> None:
        stream = await litellm.acompletion(model=MODEL, messages=ASK, stream=True)
        await anext(stream)
        await stream.aclose()
        assert kept.begun.ag_frame is None

    with registered(kept):
        run(main())


def test_once_it_is_uninstalled_nothing_of_it_is_left(provider: Provider) -> None:
    steptrack.uninstall()
    with registered(ByHTTP(provider)), step("plan") as plan:
        ask("completion")
    assert (provider.count(), plan.usage.calls) == (1, 0)
    assert litellm.main.custom_chat_llm_router is litellm.llms.custom_llm.custom_chat_llm_router
