"""What reaches LiteLLM past the entry points is charged from its events, and refused where it lets us."""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator
from typing import Any

import litellm
import pytest
from calling import (
    CALL_USD,
    NAMES,
    STREAMING,
    Events,
    arguments,
    call,
    run,
    wait_until,
    wait_until_async,
)

import steptrack_callbacks as steptrack
from provider import Provider
from steptrack_callbacks import BudgetExhausted, step
from steptrack_callbacks.litellm import StepTrackLogger
from steptrack_callbacks.steps.attribution import unattributed_usage


def imported_before_install(name: str) -> Callable[..., Any]:
    """Return an entry point as somebody holds it who imported it by name, early."""
    steptrack.uninstall()
    function = getattr(litellm, name)
    steptrack.install()
    return function  # type: ignore[no-any-return]


def logger_alone(name: str) -> Callable[..., Any]:
    """Return an entry point where only the logger listens."""
    steptrack.uninstall()
    logger = StepTrackLogger()
    litellm.callbacks.append(logger)
    litellm.pre_call_rules.append(logger.refuse_exhausted)
    return getattr(litellm, name)  # type: ignore[no-any-return]


@pytest.fixture(autouse=True)
def _no_logger_stays() -> Iterator[None]:
    yield
    for logger in [each for each in litellm.callbacks if isinstance(each, StepTrackLogger)]:
        logger.detach()


pytestmark = pytest.mark.filterwarnings("ignore:litellm.* was imported before install:UserWarning")

past_the_gate = pytest.mark.parametrize("reach", [imported_before_install, logger_alone])


def use(function: Callable[..., Any], name: str, provider: Provider, plan: Any, **options: Any) -> None:
    """Make a call, read it to its end, and wait until it is charged."""
    before = plan.usage.calls

    async def use_async() -> None:
        answer = await function(**arguments(name, provider, **options))
        if options.get("stream"):
            [chunk async for chunk in answer]
        await wait_until_async(lambda: plan.usage.calls > before)

    if name.startswith("a"):
        run(use_async())
        return
    answer = function(**arguments(name, provider, **options))
    list(answer) if options.get("stream") else None
    wait_until(lambda: plan.usage.calls > before)


@past_the_gate
@pytest.mark.parametrize("name", NAMES)
def test_a_call_is_charged_from_its_event(name: str, reach: Any, provider: Provider) -> None:
    function = reach(name)
    with step("outer") as outer, step("plan") as plan:
        use(function, name, provider, plan)
        assert outer.usage.calls == plan.usage.calls == 1
        assert plan.usage.ungated_calls == (reach is logger_alone)
        assert plan.usage.input_tokens == 100
        assert plan.cost_usd == (CALL_USD if "embedding" not in name else plan.cost_usd) > 0
    assert unattributed_usage().calls == 0


@past_the_gate
@pytest.mark.parametrize("name", STREAMING)
def test_a_stream_is_charged_from_its_event(name: str, reach: Any, provider: Provider) -> None:
    provider.behave(usage_in_stream="always")
    function = reach(name)
    with step("plan") as plan:
        use(function, name, provider, plan, stream=True)
        assert plan.usage.calls == 1
        assert plan.usage.ungated_calls == (reach is logger_alone)
        assert plan.usage.output_tokens == 200
        assert plan.cost_usd == CALL_USD
    assert unattributed_usage().calls == 0


@past_the_gate
@pytest.mark.parametrize("name", ["completion", *(name for name in NAMES if name.startswith("a"))])
def test_an_exhausted_step_is_refused(name: str, reach: Any, provider: Provider) -> None:
    function = reach(name)
    with step("plan", max_calls=1) as plan:
        use(function, name, provider, plan)
        with pytest.raises(BudgetExhausted):
            use(function, name, provider, plan)
        assert provider.count() == plan.usage.calls == 1


@past_the_gate
@pytest.mark.parametrize("name", ["completion", "acompletion"])
def test_a_failed_call_is_counted(name: str, reach: Any, provider: Provider) -> None:
    provider.fail_next(1, status=500)
    function = reach(name)
    with step("plan") as plan:
        with pytest.raises(litellm.InternalServerError):
            use(function, name, provider, plan)
        wait_until(lambda: plan.usage.calls == 1)
        assert (plan.usage.failed_calls, plan.cost_usd) == (1, 0)


@past_the_gate
@pytest.mark.parametrize("name", ["completion", "acompletion"])
def test_a_step_that_ended_before_the_event_is_charged_all_the_same(
    name: str, reach: Any, provider: Provider
) -> None:
    function = reach(name)

    async def use_async(plan: Any) -> None:
        async with plan:
            await function(**arguments(name, provider))
        await wait_until_async(lambda: plan.usage.estimated_calls == 0)

    plan = step("plan")
    if name == "acompletion":
        run(use_async(plan))
    else:
        with plan:
            function(**arguments(name, provider))
        wait_until(lambda: plan.usage.estimated_calls == 0)
    assert (plan.usage.calls, plan.cost_usd) == (1, CALL_USD)


@pytest.mark.parametrize("name", NAMES)
def test_a_logger_beside_install_charges_nothing_twice(name: str, provider: Provider, events: Events) -> None:
    logger = StepTrackLogger()
    litellm.callbacks.append(logger)
    litellm.pre_call_rules.append(logger.refuse_exhausted)

    async def main() -> None:
        await getattr(litellm, name)(**arguments(name, provider))
        await events.wait_for_async()

    with step("plan", max_calls=1) as plan:
        if name.startswith("a"):
            run(main())
        else:
            call(name, provider)
            events.wait_for()
        assert plan.usage.calls == 1
        assert plan.usage.ungated_calls == 0
    assert unattributed_usage().calls == 0


@pytest.mark.parametrize("name", STREAMING)
def test_a_stream_of_which_litellm_reports_no_end_is_charged_an_estimate_once_nobody_has_it(
    name: str, provider: Provider
) -> None:
    logger_alone(name)
    with step("plan") as plan:
        call(name, provider, stream=True)
        gc.collect()
        used = plan.usage
    assert (used.calls, used.estimated_calls, used.ungated_calls) == (1, 1, 1)
    assert used.input_tokens > 0


@pytest.mark.parametrize("name", ["completion", "acompletion"])
def test_a_logger_that_is_detached_hears_of_nothing(name: str, provider: Provider, events: Events) -> None:
    logger_alone(name)
    (logger,) = [each for each in litellm.callbacks if isinstance(each, StepTrackLogger)]
    call(name, provider, stream=True)  # LiteLLM copies the callback meanwhile to its other lists
    logger.detach()
    held = {key: each for key, each in vars(litellm).items() if isinstance(each, list) and logger in each}
    assert not held
    assert logger.refuse_exhausted not in litellm.pre_call_rules
