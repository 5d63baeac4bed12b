"""Never run: written as a user would, so that the types are checked as a user meets them."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Coroutine, Iterator, MutableMapping
from decimal import Decimal
from typing import Any, assert_type

from opentelemetry.metrics import get_meter_provider
from opentelemetry.trace import get_tracer_provider

import steptrack_callbacks as steptrack
from steptrack_callbacks import (
    BudgetEscalated,
    BudgetExhausted,
    CompletedStep,
    Grant,
    PersonaDefinition,
    Stage,
    Step,
    StepDefinition,
    ToolDenied,
    UnpricedModel,
    Usage,
    bind,
    check_tool,
    current_model,
    current_persona,
    current_policy,
    current_step,
    drain_completed_steps,
    install,
    persona,
    record_usage,
    report,
    step,
    uninstall,
)
from steptrack_callbacks import opentelemetry as otel
from steptrack_callbacks.hooks import BudgetThreshold, CallSettled, Event, StepEnded, StepStarted, on
from steptrack_callbacks.pricing import cost_usd
from steptrack_callbacks.testing import recorder, reset, strict


@step
def bare(question: str, *, times: int = 1) -> str:
    return question * times


@step("named", model="gpt-4o-mini", max_usd=0.05, error_boundary="continue", default="")
def named(question: str) -> str:
    return question


@step(max_calls=3)
async def coroutine(question: str) -> int:
    return len(question)


@step("items", max_tokens=4_000)
def items(most: int) -> Iterator[int]:
    yield from range(most)


@step
async def async_items(most: int) -> AsyncIterator[int]:
    for number in range(most):
        yield number


@persona("editor", stages=[Stage("plan", allowed_tools=["search"], side_effect_level="read_only")], max_usd=1)
def edit(text: str) -> str:
    return text


class Agent:
    @step("method")
    def method(self, question: str) -> str:
        return question


async def functions_keep_their_signatures() -> None:
    assert_type(bare("why", times=2), str)
    assert_type(named("why"), str)
    made: Coroutine[Any, Any, int] = coroutine("why")
    assert_type(await made, int)
    assert_type(items(3), Iterator[int])
    assert_type(async_items(3), AsyncIterator[int])
    assert_type(edit("text"), str)
    assert_type(Agent().method("why"), str)
    bare(3)  # type: ignore[arg-type]
    named()  # type: ignore[call-arg]
    assert_type([number async for number in async_items(3)], list[int])


def options_are_checked() -> None:
    step("plan", max_usd=Decimal("0.05"), max_tokens=4_000, max_calls=8, max_seconds=60, enforce="strict")
    step(StepDefinition(name="plan", max_usd=0.05), run_id="run-7")
    step("plan", error_boundary="skip")  # type: ignore[call-overload]
    step("plan", retry=3)  # type: ignore[call-overload]
    persona(PersonaDefinition(name="editor", stages=(Stage("plan"),)))


async def blocks() -> None:
    with step("answer", max_usd=0.50, wrap_up_usd=0.10) as answer, step("write", parent=answer):
        assert_type(answer, Step)
        assert_type(answer.cost_usd, Decimal)
        assert_type(answer.usage, Usage)
        assert_type(answer.remaining("max_usd"), Decimal | float | None)
        assert_type(answer.exhausted, bool)
        with answer.wrap_up() as wrapping:
            assert_type(wrapping, Step)
    async with persona("editor") as editor:
        assert_type(editor, Step)
    assert_type(answer.records(), list[CompletedStep])
    assert_type(current_step(), Step | None)
    assert_type(current_persona(), Step | None)
    assert_type(current_model(), str | None)
    assert_type(current_policy().allows("search"), bool)


def reporting() -> None:
    record_usage("my-model", input_tokens=10, output_tokens=5, cost_usd=0.02, cache_read_tokens=4)
    record_usage("my-model", input_tokens="10", output_tokens=5)  # type: ignore[arg-type]
    check_tool("search", "read_only")
    assert_type(report().total.cost_usd, Decimal)
    assert_type(str(report("run-7")), str)
    assert_type(drain_completed_steps(), list[CompletedStep])
    assert_type(cost_usd("gpt-4o-mini", Usage(input_tokens=10)), Decimal | None)


def ops(error: BudgetExhausted) -> Grant | None:
    return Grant(max_usd=0.1, by="ops") if error.limit == "max_usd" else None


async def ops_on_call(error: BudgetExhausted) -> Grant | None:
    return ops(error)


def escalations() -> None:
    install(threads=True, escalation=ops, tools={"search": "read_only"})
    step("plan", error_boundary="escalate", escalation=ops_on_call)
    uninstall()
    steptrack.install(prices={"my-model": {"input_cost_per_token": 1e-6}})


def at_threshold(event: BudgetThreshold) -> None:
    assert_type(event.share, float)
    assert_type(event.persona, str | None)


def at_end(event: StepEnded) -> None:
    assert_type(event.record, CompletedStep)


def hooks() -> None:
    off = on(BudgetThreshold, at_threshold, step="plan", threshold=0.8)
    assert_type(off, Callable[[], None])
    on(StepEnded, at_end, persona="editor*")
    on(StepStarted, lambda event: print(event.path))
    on(Event, lambda event: print(event.run_id))
    on(CallSettled, at_end)  # type: ignore[arg-type]
    off()


def traces() -> None:
    otel.install(get_tracer_provider(), call_spans=True, thresholds=[0.5, 0.9])
    otel.install(meter_provider=get_meter_provider())
    otel.install("otlp")  # type: ignore[arg-type]
    assert_type(otel.inject(), MutableMapping[str, str])
    with otel.continued({"traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"}):
        otel.inject({"x-steptrack-step": "plan"})
    otel.uninstall()


def errors() -> None:
    try:
        named("why")
    except BudgetEscalated as escalated:
        assert_type(escalated.grants, tuple[Grant, ...])
    except BudgetExhausted as error:
        assert_type(error.step_id, str | None)
        assert_type(error.consumed_cost_usd, Decimal)
        assert_type(error.to_dict(), dict[str, Any])
    except UnpricedModel as unpriced:
        assert_type(unpriced.model, str)
    except ToolDenied as denied:
        assert_type(denied.why, str)


def threads(work: Callable[[int], str]) -> None:
    assert_type(bind(work)(3), str)


def tests() -> None:
    reset()
    with strict(), recorder() as seen:
        named("why")
    assert_type(seen.calls, list[CallSettled])
    assert_type(seen.records, list[CompletedStep])
