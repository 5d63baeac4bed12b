"""Functions that were imported by name before `install()` are refused, charged once, and warned of once."""

from __future__ import annotations

import asyncio
import gc
import warnings
from collections.abc import Callable, Iterator
from decimal import Decimal
from functools import partial
from threading import Barrier, Thread
from typing import Any

import litellm
import pytest
from billed import BILLED, WAYS, module
from calling import ASK, CALL_USD, MODEL, NAMES, STREAMING, arguments, run, wait_until, wait_until_async

import steptrack_callbacks as steptrack
from left_out import FASTAPI
from provider import Provider
from steptrack_callbacks import BudgetExhausted, EarlyImportWarning, step
from steptrack_callbacks.integrations.seams_litellm import SET_UP
from steptrack_callbacks.steps.attribution import unattributed_usage

pytestmark = [
    pytest.mark.filterwarnings("ignore:deprecated:DeprecationWarning"),  # of variations of images
    pytest.mark.filterwarnings("ignore:litellm.* was imported before install:UserWarning"),
]
TOLD = [way for way in WAYS if way != ("moderation", "")]  # of which LiteLLM tells nobody
TOLD_IDS = [f"{name}{', async' * bool(mode)}" for name, mode in TOLD]


def early(get: Callable[[], Any]) -> Any:
    """Return a function as somebody holds it who imported it by name, early."""
    steptrack.uninstall()
    function = get()
    steptrack.install()
    return function


def early_named(name: str) -> Any:
    return early(lambda: getattr(litellm, name))


def ask(function: Any, name: str, provider: Provider, **options: Any) -> None:
    """Call a function and read its answer to the end."""

    async def ask_async() -> None:
        answer = await function(**arguments(name, provider, **options))
        if options.get("stream"):
            async for _ in answer:
                pass
        await asyncio.sleep(0)

    if name.startswith("a"):
        run(ask_async())
        return
    answer = function(**arguments(name, provider, **options))
    if options.get("stream"):
        list(answer)


@pytest.mark.parametrize("name", NAMES)
def test_the_second_call_is_refused_under_a_limit_of_one(name: str, provider: Provider) -> None:
    function = early_named(name)
    with step("plan", max_calls=1) as plan:
        ask(function, name, provider)
        for _ in range(3):
            with pytest.raises(BudgetExhausted) as refused:
                ask(function, name, provider)
        assert refused.value.limit == "max_calls"
        wait_until(lambda: plan.usage.calls == 1)
        assert plan.usage.input_tokens == 100
        assert plan.cost_usd > 0
        assert plan.usage.ungated_calls == plan.usage.estimated_calls == 0
    assert provider.count() == 1
    assert unattributed_usage().calls == 0


@pytest.mark.parametrize("name", NAMES)
def test_the_first_call_is_refused_where_nothing_fits(name: str, provider: Provider, capfd: Any) -> None:
    function = early_named(name)
    for limits in ({"max_calls": 0}, {"max_usd": 1e-9}, {"max_seconds": 1e-9}):
        with pytest.raises(BudgetExhausted), step("plan", **limits):
            ask(function, name, provider)
    assert provider.count() == 0
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("name", STREAMING)
def test_a_stream_is_charged_what_it_reports(name: str, provider: Provider) -> None:
    provider.behave(usage_in_stream="always")
    function = early_named(name)
    with step("plan", max_calls=1) as plan:
        ask(function, name, provider, stream=True)
        wait_until(lambda: plan.usage.calls == 1)
        assert plan.usage.output_tokens == 200
        assert plan.cost_usd == CALL_USD
        with pytest.raises(BudgetExhausted):
            ask(function, name, provider, stream=True)


@pytest.mark.parametrize("name", STREAMING)
def test_a_stream_is_cut_at_a_limit_and_charged_what_was_seen(name: str, provider: Provider) -> None:
    provider.behave(output_tokens=200_000)
    function = early_named(name)
    with step("plan", max_tokens=60) as plan:
        with pytest.raises(BudgetExhausted) as cut:
            ask(function, name, provider, stream=True)
        assert "word" in cut.value.response
        assert plan.usage.estimated_calls == plan.usage.calls == 1
        assert 45 <= plan.usage.output_tokens <= 62
        assert not plan.account.open_calls
    provider.wait_until(lambda: provider.requests[0].end == "client closed")
    assert provider.requests[0].tokens_sent < 200_000


@pytest.mark.parametrize("name", ["completion", "responses"])
def test_a_stream_that_nobody_reads_on_is_charged_what_was_seen(name: str, provider: Provider) -> None:
    function = early_named(name)
    provider.hold(after_chunks=5)
    with step("plan") as plan:
        stream = function(**arguments(name, provider, stream=True))
        for _ in range(3):
            next(stream)
        del stream
        wait_until(lambda: gc.collect() >= 0 and plan.usage.calls == 1)  # LiteLLM's own threads hold it, too
        assert (plan.usage.estimated_calls, plan.account.open_calls) == (1, 0)
    provider.wait_until(lambda: provider.requests[0].end == "client closed")


@pytest.mark.parametrize("name", ["completion", "acompletion"])
def test_a_stream_that_the_provider_breaks_is_charged_what_was_seen(name: str, provider: Provider) -> None:
    provider.behave(drop_after_chunks=20)
    function = early_named(name)
    with step("plan") as plan:
        with pytest.raises(Exception, match="(?i)connection ?error"):
            ask(function, name, provider, stream=True)
        assert (plan.usage.calls, plan.usage.estimated_calls) == (1, 1)
        assert 10 <= plan.usage.output_tokens <= 30


@pytest.mark.parametrize(("name", "mode"), TOLD, ids=TOLD_IDS)
def test_whatever_else_is_billed_is_held_too(name: str, mode: str, provider: Provider) -> None:
    billed = BILLED[name]
    function = early(lambda: getattr(module(billed.place), mode + billed.name))

    async def acall(given: Any) -> None:
        await function(**given)
        await wait_until_async(lambda: not plan.account.open_calls)

    def call() -> None:
        given = billed.arguments(provider)
        billed.run(acall(given)) if mode else function(**given)

    with step("plan", max_calls=1) as plan:
        call()
        with pytest.raises(BudgetExhausted):
            call()
        wait_until(lambda: plan.usage.calls == 1)
        assert plan.usage.unpriced_calls == (billed.usd is None)
        assert plan.cost_usd == Decimal(billed.usd or 0)
    assert provider.count() == plan.usage.calls == 1


@pytest.mark.parametrize("name", ["completion", "acompletion", "embedding", "responses", "aresponses"])
def test_it_is_warned_of_once_with_the_cure_and_at_the_users_own_line(name: str, provider: Provider) -> None:
    function = early_named(name)
    with warnings.catch_warnings(record=True) as caught, step("plan"):
        warnings.simplefilter("always")
        ask(function, name, provider)
        ask(function, name, provider)
        early_warnings = [each for each in caught if each.category is EarlyImportWarning]
    assert len(early_warnings) == 1
    assert f"write litellm.{name}(" in str(early_warnings[0].message)
    assert "install() first" in str(early_warnings[0].message)


def test_who_calls_by_attribute_is_not_warned(provider: Provider) -> None:
    with warnings.catch_warnings(), step("plan") as plan:
        warnings.simplefilter("error", EarlyImportWarning)
        ask(litellm.completion, "completion", provider)
        ask(litellm.acompletion, "acompletion", provider)
    assert plan.usage.calls == 2


HOLDERS: dict[str, Callable[[Any], Any]] = {
    "partial": partial,
    "method": lambda function: type("Client", (), {"ask": staticmethod(function)})().ask,
    "default": lambda function: lambda function=function, **given: function(**given),
    "table": lambda function: {"chat": function}["chat"],
}


@pytest.mark.parametrize("holder", HOLDERS)
def test_however_the_function_is_held(holder: str, provider: Provider) -> None:
    function = HOLDERS[holder](early_named("completion"))
    with step("plan", max_calls=1) as plan:
        ask(function, "completion", provider)
        with pytest.raises(BudgetExhausted):
            ask(function, "completion", provider)
    assert provider.count() == plan.usage.calls == 1


def test_of_fifty_at_once_as_many_are_sent_as_there_is_room_for(provider: Provider) -> None:
    function = early_named("acompletion")

    async def main() -> list[Any]:
        with step("plan", max_calls=10):
            given = arguments("acompletion", provider)
            return await asyncio.gather(*(function(**given) for _ in range(50)), return_exceptions=True)

    refused = [answer for answer in run(main()) if isinstance(answer, BaseException)]
    assert len(refused) == 40
    assert all(isinstance(error, BudgetExhausted) for error in refused), refused
    assert provider.count() == 10


def test_of_ten_threads_as_many_send_as_there_is_room_for(provider: Provider) -> None:
    function, start, refused = early_named("embedding"), Barrier(10), list[BaseException]()
    with step("plan", max_calls=3):

        def work() -> None:
            start.wait()
            try:
                ask(function, "embedding", provider)
            except BudgetExhausted as error:
                refused.append(error)

        threads = [Thread(target=steptrack.bind(work)) for _ in range(10)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert (len(refused), provider.count()) == (7, 3)


@pytest.mark.parametrize("name", ["completion", "acompletion"])
def test_a_refusal_is_not_retried_and_sent_by_litellms_own_retries(name: str, provider: Provider) -> None:
    """LiteLLM would send the function itself again, past all that had refused it."""
    function = early_named(name)
    with pytest.raises(BudgetExhausted), step("plan", max_calls=0):
        ask(function, name, provider, num_retries=2)
    assert provider.count() == 0


@pytest.mark.parametrize("name", ["completion", "acompletion", "embedding", "aembedding", "responses"])
def test_a_failed_call_counts_and_costs_nothing(name: str, provider: Provider) -> None:
    function = early_named(name)
    provider.fail_next(1, status=400)
    with step("plan") as plan:
        with pytest.raises(litellm.BadRequestError):
            ask(function, name, provider)
        wait_until(lambda: plan.usage.failed_calls == 1)
        assert (plan.usage.calls, plan.cost_usd) == (1, 0)


@FASTAPI
def test_an_answer_from_a_cache_is_free(provider: Provider) -> None:
    function = early_named("completion")
    litellm.cache = litellm.Cache()
    with step("plan", max_calls=5) as plan:
        for _ in range(3):
            ask(function, "completion", provider)
            wait_until(lambda: not plan.account.open_calls)
        assert provider.count() == plan.usage.calls == 1


def test_without_the_place_where_calls_are_set_up_a_limit_that_is_reached_still_refuses(
    provider: Provider, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(type(SET_UP), "get", _without(SET_UP))
    function = early_named("acompletion")

    async def main(plan: Any) -> None:
        given = arguments("acompletion", provider)
        await function(**given)
        await wait_until_async(lambda: plan.usage.calls == 1)
        with pytest.raises(BudgetExhausted):
            await function(**given)

    with step("plan", max_calls=1) as plan:
        run(main(plan))
    assert provider.count() == 1


def _without(lost: Any) -> Any:
    get = type(lost).get
    return lambda seam: None if seam is lost else get(seam)


def test_a_router_that_was_built_before_is_held(provider: Provider) -> None:
    where = {"model": MODEL, "api_base": provider.url, "api_key": "none"}
    router = early(lambda: litellm.Router([{"model_name": "fast", "litellm_params": where}], num_retries=0))

    async def main() -> None:
        await router.aresponses(model="fast", input="hello")
        with pytest.raises(BudgetExhausted):
            await router.aresponses(model="fast", input="hello")
        with pytest.raises(BudgetExhausted):
            await router.acompletion(model="fast", messages=ASK)

    with step("plan", max_calls=1):
        run(main())
    assert provider.count() == 1


@pytest.fixture(autouse=True)
def _leaves_no_cache() -> Iterator[None]:
    yield
    litellm.cache = None
