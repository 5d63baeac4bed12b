"""One answer, many prices: several models in it, and terms that only the answer knows."""

from decimal import Decimal

import pytest

from fake_framework import FakeFramework
from steptrack_callbacks import Usage, step
from steptrack_callbacks.engine.request import Request
from steptrack_callbacks.pricing import Terms, cost_usd
from steptrack_callbacks.steps.attribution import new_call
from steptrack_callbacks.tokens import InputCount
from steptrack_callbacks.values.money import to_units

WORKER = Usage(input_tokens=2_000, output_tokens=100)
ADVISER = Usage(input_tokens=500, output_tokens=40)


def request(**details):
    options = {"model": "claude-sonnet-4-5", "provider": "anthropic"} | details
    return Request(count_input=lambda: InputCount(tokens=1, upper_bound=1), **options)


def settled(asked, usage, **report):
    with step("plan") as plan:
        call = new_call(asked)
        call.admit()
        call.settle(usage, **report)
    return plan.usage


def test_each_model_that_made_a_part_of_an_answer_has_its_own_price():
    parts = (("claude-sonnet-4-5", WORKER), ("claude-opus-4-6", ADVISER))
    used = settled(request(), WORKER + ADVISER, parts=parts)
    assert used.cost_usd == cost_usd("claude-sonnet-4-5", WORKER) + cost_usd("claude-opus-4-6", ADVISER)
    assert used.cost_usd == Decimal("0.006") + Decimal("0.0015") + Decimal("0.0025") + Decimal("0.001")
    assert (used.input_tokens, used.calls) == (2_500, 1)


def test_a_part_that_nobody_can_price_leaves_the_answer_without_a_price():
    parts = (("my-own-model", WORKER), ("strangers-model", ADVISER))
    asked = request(model="my-own-model", provider="my-own-host")
    assert settled(asked, WORKER + ADVISER, parts=parts).unpriced_calls == 1


def test_a_stated_cost_goes_before_the_prices_of_the_parts():
    used = settled(request(), WORKER, cost_usd="0.5", parts=(("claude-sonnet-4-5", WORKER),))
    assert used.cost_usd == Decimal("0.5")


@pytest.mark.parametrize(
    ("asked", "served", "billed"),
    [(None, "priority", "priority"), ("priority", "default", "default"), ("flex", None, "flex")],
)
def test_the_tier_that_served_is_billed_and_not_the_one_that_was_asked_for(asked, served, billed):
    usage = Usage(input_tokens=1_000, output_tokens=500)
    used = settled(
        request(model="gpt-5", provider="openai", service_tier=asked),
        usage,
        model="gpt-5-2025-08-07",
        terms=Terms(service_tier=served),
    )
    usd = {"priority": "0.0125", "default": "0.00625", "flex": "0.003125"}[billed]
    assert used.cost_usd == Decimal(usd) == cost_usd("gpt-5", usage, service_tier=billed)


def test_a_price_given_with_the_request_is_that_of_whoever_answered():
    used = settled(FakeFramework().request(), WORKER, model="gpt-5", terms=Terms(service_tier="priority"))
    assert to_units(used.cost_usd, "cost") == 2_000 * to_units("0.0000025", "in") + 100 * to_units(
        "0.00001", "out"
    )
