"""Whatever LiteLLM can be asked for, it is refused before it is sent, and charged once and exactly."""

from __future__ import annotations

import asyncio
import inspect
import json
import re
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from threading import Barrier, Thread
from typing import Any

import litellm
import pytest
from billed import BILLED, IDS, WAYS, module
from calling import run

import provider_media
import steptrack_callbacks as steptrack
from left_out import FASTAPI
from provider import FORMS, Provider
from steptrack_callbacks import BudgetExhausted, UnknownCostWarning, UnpricedModel, step
from steptrack_callbacks.litellm import batches
from steptrack_callbacks.litellm.call_types import ENTRY_POINTS, UNGATED, kind_named
from steptrack_callbacks.steps.attribution import unattributed_usage

pytestmark = pytest.mark.filterwarnings("ignore:deprecated:DeprecationWarning")  # variations of images

each_way = pytest.mark.parametrize(("name", "mode"), WAYS, ids=IDS)
DOCS = Path(__file__).parents[2] / "docs" / "litellm.md"


@pytest.fixture(autouse=True)
def _no_batch_is_known() -> Iterator[None]:
    batches.forget()
    yield
    batches.forget()


@each_way
def test_a_call_is_charged_once_and_at_once(name: str, mode: str, provider: Provider) -> None:
    billed = BILLED[name]
    with step("outer") as outer, step("plan") as plan:
        billed.call(provider, mode)
        usage = plan.usage
        assert usage.calls == outer.usage.calls == provider.count() == 1
        assert usage.ungated_calls == usage.estimated_calls == 0
        assert (usage.unpriced_calls, usage.cost_usd) == (billed.usd is None, Decimal(billed.usd or 0))
    assert unattributed_usage().calls == 0


@each_way
def test_without_room_nothing_is_sent_and_nothing_is_printed(
    name: str, mode: str, provider: Provider, capfd: Any, caplog: Any
) -> None:
    for limits in ({"max_calls": 0}, {"max_seconds": 1e-9}):
        with pytest.raises(BudgetExhausted) as refused, step("plan", **limits):
            BILLED[name].call(provider, mode)
        assert refused.value.phase == "denied"
    assert provider.count() == 0
    assert capfd.readouterr() == ("", "")
    assert caplog.records == []


@each_way
def test_a_limit_that_is_reached_refuses_the_next(name: str, mode: str, provider: Provider) -> None:
    with step("plan", max_calls=1) as plan:
        BILLED[name].call(provider, mode)
        with pytest.raises(BudgetExhausted):
            BILLED[name].call(provider, mode)
    assert provider.count() == plan.usage.calls == 1


@each_way
def test_a_failed_call_counts_and_costs_nothing(name: str, mode: str, provider: Provider) -> None:
    provider.fail_next(9, status=400)
    with step("plan") as plan:
        with pytest.raises(Exception, match="400|as the test wants"):
            BILLED[name].call(provider, mode)
        assert plan.usage.calls == plan.usage.failed_calls >= 1
        assert plan.cost_usd == plan.usage.unpriced_calls == 0


@each_way
def test_a_model_without_a_price_is_refused_where_dollars_are_limited(
    name: str, mode: str, provider: Provider
) -> None:
    billed = BILLED[name]
    with step("plan", max_usd=1) as plan:
        if billed.usd is None:
            with pytest.raises(UnpricedModel):
                billed.call(provider, mode)
        else:
            billed.call(provider, mode)
    assert provider.count() == plan.usage.calls == (billed.usd is not None)


FIFTY = [(name, mode) for name, mode in WAYS if name != "chat with retries"]


@pytest.mark.parametrize("name", [name for name, mode in FIFTY if mode])
@pytest.mark.parametrize("enforce", ["estimate", "strict"])
def test_of_fifty_at_once_as_many_are_sent_as_there_is_room_for(
    name: str, enforce: Any, provider: Provider
) -> None:
    async def main() -> list[Any]:
        with step("plan", max_calls=3, enforce=enforce, error_boundary="fail") as plan:
            calls = [BILLED[name].acall(provider) for _ in range(50)]
            answers = await asyncio.gather(*calls, return_exceptions=True)
            assert plan.usage.calls == 3
            return answers

    refused = [answer for answer in run(main()) if isinstance(answer, BaseException)]
    assert len(refused) == 47
    assert all(isinstance(error, BudgetExhausted) for error in refused), refused
    assert provider.count() == 3


@pytest.mark.parametrize("name", [name for name, mode in FIFTY if not mode])
def test_of_ten_threads_as_many_send_as_there_is_room_for(name: str, provider: Provider) -> None:
    start, errors = Barrier(10), list[BaseException]()
    with step("plan", max_calls=3) as plan:

        def work(ask: Any) -> None:
            start.wait()
            try:
                ask(provider)
            except BudgetExhausted as error:
                errors.append(error)

        threads = [Thread(target=steptrack.bind(work), args=(BILLED[name].call,)) for _ in range(10)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert plan.usage.calls == 3
    assert (len(errors), provider.count()) == (7, 3)


def test_a_dear_image_is_the_last(provider: Provider) -> None:
    with pytest.raises(BudgetExhausted) as refused, step("plan", max_usd=0.01) as plan:
        for _ in range(4):
            BILLED["image"].call(provider)
    assert refused.value.limit == "max_usd"
    assert provider.count() == plan.usage.calls == 1
    assert plan.cost_usd == Decimal("0.1669")


@pytest.mark.parametrize(
    ("options", "usd"),
    [
        ({"model": "openai/gpt-image-1", "quality": "high", "size": "1024x1024"}, 0.167),
        ({"model": "openai/gpt-image-1", "quality": "low", "size": "1024x1024", "n": 4}, 0.044),
        ({"model": "openai/gpt-image-1"}, 0.25),  # at most: the provider chooses quality and size
    ],
)
def test_strict_knows_what_an_image_may_cost(options: Any, usd: float, provider: Provider) -> None:
    with pytest.raises(BudgetExhausted), step("plan", max_usd=usd * 0.99, enforce="strict"):
        BILLED["image"].call(provider, **options)
    assert provider.count() == 0


def test_strict_lets_an_image_go_that_fits(provider: Provider) -> None:
    with step("plan", max_usd=0.169, enforce="strict") as plan:
        BILLED["image"].call(provider, quality="high", size="1024x1024")
    assert plan.cost_usd == Decimal("0.1669")


@pytest.mark.parametrize(
    ("name", "usd"), [("speech", 0.000165), ("transcription", 0.0002), ("rerank", 0.002)]
)
def test_what_is_sent_by_the_piece_has_to_fit_before_it_is_sent(
    name: str, usd: float, provider: Provider
) -> None:
    with pytest.raises(BudgetExhausted), step("plan", max_usd=usd * 0.9):
        BILLED[name].call(provider)
    assert provider.count() == 0
    with step("plan", max_usd=usd * 1.1):
        BILLED[name].call(provider)
    assert provider.count() == 1


def test_a_file_is_where_it_was_after_it_was_measured(provider: Provider) -> None:
    """LiteLLM reads the recording once more."""
    with step("plan", max_usd=1):
        BILLED["transcription"].call(provider)
    assert provider.requests[0].body["file"] == "a.wav"


@pytest.mark.parametrize("name", ["messages", "messages of another"])
def test_twelve_messages_at_once_under_a_strict_limit(name: str, provider: Provider) -> None:
    async def main() -> list[Any]:
        with step("plan", max_calls=3, enforce="strict"):
            return await asyncio.gather(
                *(BILLED[name].acall(provider) for _ in range(12)), return_exceptions=True
            )

    assert sum(isinstance(answer, BudgetExhausted) for answer in run(main())) == 9
    assert provider.count() == 3


STREAMS = ["messages", "messages of another"]


@FASTAPI
@pytest.mark.parametrize("name", STREAMS)
def test_a_stream_of_messages_costs_what_the_whole_answer_would(name: str, provider: Provider) -> None:
    async def main() -> None:
        stream = await BILLED[name].acall(provider, stream=True)
        pieces = [piece async for piece in stream]
        assert b"message_stop" in b"".join(pieces)

    with step("plan") as plan:
        run(main())
        assert (plan.usage.calls, plan.usage.output_tokens, plan.usage.estimated_calls) == (1, 200, 0)
    assert plan.cost_usd == Decimal(BILLED[name].usd or 0)


@FASTAPI
@pytest.mark.parametrize("name", STREAMS)
def test_a_stream_of_messages_is_cut_at_a_limit_and_charged_what_was_seen(
    name: str, provider: Provider
) -> None:
    async def main() -> None:
        async for _ in await BILLED[name].acall(provider, stream=True):
            pass

    provider.behave(output_tokens=900)
    with pytest.raises(BudgetExhausted) as cut, step("plan", max_tokens=130) as plan:
        run(main())
    assert cut.value.phase == "stream"
    assert plan.usage.calls == plan.usage.estimated_calls == 1
    assert 0 < plan.usage.output_tokens < 900  # how much comes in one piece is the network's choice


@FASTAPI
@pytest.mark.parametrize("name", STREAMS)
def test_a_stream_of_messages_that_nobody_reads_on_is_charged_what_was_seen(
    name: str, provider: Provider
) -> None:
    async def main() -> None:
        stream = await BILLED[name].acall(provider, stream=True)
        async for piece in stream:
            if b"word" in piece:
                break
        await stream.aclose()

    with step("plan") as plan:
        run(main())
        assert (plan.usage.calls, plan.usage.estimated_calls) == (1, 1)
        assert plan.usage.output_tokens >= 1


BATCH: dict[str, Any] = {"batch_id": "batch_1", "custom_llm_provider": "openai", "api_key": "none"}


@pytest.mark.parametrize("mode", ["", "a"])
def test_a_batch_is_charged_once_and_polling_it_never(mode: str, provider: Provider) -> None:
    async def poll() -> None:
        for _ in range(3):
            await litellm.aretrieve_batch(api_base=provider.url, **BATCH)

    with step("plan") as plan:
        if mode:
            run(poll())
        else:
            for _ in range(3):
                litellm.retrieve_batch(api_base=provider.url, **BATCH)
        assert (plan.usage.calls, plan.usage.unpriced_calls, plan.usage.ungated_calls) == (1, 0, 0)
        assert (plan.usage.input_tokens, plan.usage.output_tokens) == (100_000, 20_000)
        assert plan.cost_usd == Decimal("0.0135")
    assert plan.usage.calls == 1


@pytest.mark.parametrize("mode", ["", "a"])
def test_a_batch_whose_answers_cannot_be_read_is_charged_when_they_can(
    mode: str, provider: Provider, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = {"api_base": provider.url, "max_retries": 0, **BATCH}

    def retrieve() -> None:
        run(litellm.aretrieve_batch(**given)) if mode else litellm.retrieve_batch(**given)

    with step("plan") as plan:
        with monkeypatch.context() as broken, pytest.warns(UnknownCostWarning, match="'batch_1'"):
            unreadable = type("Unreadable", (provider_media.Answers,), {"has_unknown_parameter": True})
            broken.setitem(FORMS, "/files/", unreadable)
            retrieve()
        assert plan.usage.calls == 0
        retrieve()
        retrieve()
        assert (plan.usage.calls, plan.cost_usd) == (1, Decimal("0.0135"))


def test_answers_of_a_batch_are_read_as_others_are(
    provider: Provider, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = {"input_tokens": 700, "output_tokens": 90, "server_tool_use": {"web_search_requests": 2}}
    rounds = [
        {"type": "message", "input_tokens": 700, "output_tokens": 90},
        {"type": "advisor_message", "model": "claude-opus-4-6", "input_tokens": 900, "output_tokens": 20},
    ]
    message = {"model": "claude-sonnet-4-6", "usage": usage | {"iterations": rounds}}
    line = json.dumps({"custom_id": "1", "result": {"type": "succeeded", "message": message}}).encode()
    monkeypatch.setattr(provider_media.Answers, "whole", lambda _self: line)
    with step("plan") as plan:
        litellm.retrieve_batch(api_base=provider.url, **BATCH | {"custom_llm_provider": "openai"})
    assert (plan.usage.input_tokens, plan.usage.output_tokens) == (1_600, 110)
    assert plan.usage.web_search_requests == 2


def test_a_batch_that_runs_is_no_call(provider: Provider, monkeypatch: pytest.MonkeyPatch) -> None:
    running = type("Running", (provider_media.Batch,), {"status": "in_progress"})
    monkeypatch.setitem(FORMS, "/batches/", running)
    with step("plan", max_calls=0) as plan:
        litellm.retrieve_batch(api_base=provider.url, **BATCH)
        litellm.file_content("file-out", custom_llm_provider="openai", api_base=provider.url, api_key="none")
    assert plan.usage.calls == 0


def test_a_batch_is_begun_only_while_there_is_room(provider: Provider) -> None:
    given: dict[str, Any] = {"completion_window": "24h", "endpoint": "/v1/chat/completions"}
    given |= {"input_file_id": "file-in", "custom_llm_provider": "openai", "api_key": "none"}
    with step("plan", max_calls=1) as plan:
        litellm.create_batch(api_base=provider.url, **given)
        assert plan.usage.calls == 0
        litellm.retrieve_batch(api_base=provider.url, **BATCH)
        with pytest.raises(BudgetExhausted):
            litellm.create_batch(api_base=provider.url, **given)
    assert provider.count("/batches") == 1


# What there is

_NO_MODELS = re.compile(
    r"(?:get|list|delete|cancel|retrieve|count|update)_\w+|file_\w+|video_\w+|vector_store_\w+|create_realtime_\w+"
)
_KEEPS = {"create_file", "create_eval", "create_skill", "create_assistants", "create_thread", "add_message"}
_ASKS_AGAIN = {"batch_completion", "ingest", "query", "arun_tool_loop", "run_tool_loop", "health_check"}


def public_functions() -> Iterator[str]:
    """Name the functions of this LiteLLM that go through its own wrapper, which is to say: call somebody."""
    for name, function in vars(litellm).items():
        if inspect.isfunction(function) and hasattr(function, "__wrapped__"):
            yield name


def test_every_function_that_may_be_billed_has_a_gate_or_a_reason_why_not() -> None:
    gated = {point.name for point in ENTRY_POINTS}
    undecided = [
        name
        for name in public_functions()
        if name not in gated
        and not {name, name.removeprefix("a")} & {*UNGATED, *_KEEPS, *_ASKS_AGAIN}
        and not _NO_MODELS.fullmatch(name.removeprefix("a"))
    ]
    assert undecided == []


def test_every_gate_stands_where_this_litellm_has_the_function() -> None:
    for point in ENTRY_POINTS:
        function = getattr(module(point.place), point.name, None)
        assert function is None or "steptrack_gate" in vars(function), point


def test_the_page_names_every_gate_and_what_has_none() -> None:
    page = DOCS.read_text(encoding="utf-8")
    named = {name.rpartition(".")[2] for name in re.findall(r"`([\w.]+)`", page)}
    named |= {f"a{name}" for name in named}
    assert {point.name for point in ENTRY_POINTS} - named == set()
    assert set(UNGATED) - named == set()


@pytest.mark.parametrize(
    "name", ["afile_content", "list_batches", "aretrieve_batch", "create_batch", "avideo_status"]
)
def test_files_lists_and_polling_are_no_model_calls(name: str) -> None:
    assert kind_named(name) is None
