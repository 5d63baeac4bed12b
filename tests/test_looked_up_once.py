"""What is remembered to be fast must not change an amount."""

from __future__ import annotations

import math
from collections import deque
from dataclasses import replace
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from steptrack_callbacks import pricing, step, tokens
from steptrack_callbacks.engine import output_stats
from steptrack_callbacks.engine.account import Account
from steptrack_callbacks.engine.chain import AccountChain
from steptrack_callbacks.engine.estimating import estimate_of
from steptrack_callbacks.engine.forecasts import UNBOUNDED
from steptrack_callbacks.engine.request import Request
from steptrack_callbacks.engine.step_ref import StepRef
from steptrack_callbacks.pricing.table import installed
from steptrack_callbacks.steps.attribution import new_call
from steptrack_callbacks.tokens import InputCount, count_messages, count_text
from steptrack_callbacks.values import definitions
from steptrack_callbacks.values.usage import Usage


@pytest.fixture(autouse=True)
def _clean():
    pricing.reset()
    output_stats.reset()
    yield
    pricing.reset()
    output_stats.reset()


def request(model: str = "my-model", **options) -> Request:
    return Request(model=model, count_input=lambda: InputCount(tokens=10, upper_bound=20), **options)


@pytest.mark.parametrize("tier", [None, "priority", "flex", "batch"])
def test_plain_tokens_cost_what_a_usage_of_them_costs_for_every_model(tier):
    for model in list(installed().entries):
        prices = pricing.prices_of(model, service_tier=tier)
        quotes = [quote for quote in prices.quotes if quote.is_complete]
        for sent, made in ((0, 0), (1, 1), (1000, 10), (128_001, 7), (300_000, 100_000)):
            usage = Usage(input_tokens=sent, output_tokens=made)
            assert [quote.plain(sent, made) for quote in quotes] == [quote.cost(usage) for quote in quotes]


def test_a_call_is_settled_at_the_prices_that_it_was_admitted_by():
    pricing.set_prices({"my-model": {"input_usd_per_mtok": 1, "output_usd_per_mtok": 1}})
    with step("plan", max_usd=1) as plan:
        call = new_call(request(max_output_tokens=5))
        call.admit()
        pricing.set_prices({"my-model": {"input_usd_per_mtok": 9, "output_usd_per_mtok": 9}})
        call.settle(Usage(input_tokens=500_000))
    assert float(plan.cost_usd) == 0.5


def test_a_price_that_becomes_known_while_a_call_runs_is_charged():
    with step("plan") as plan:
        call = new_call(request())
        assert not call.request.is_priced
        call.admit()
        pricing.set_prices({"my-model": {"input_usd_per_mtok": 1, "output_usd_per_mtok": 1}})
        call.settle(Usage(input_tokens=500_000))
    assert (float(plan.cost_usd), plan.usage.unpriced_calls) == (0.5, 0)


def test_another_service_tier_than_was_asked_for_has_its_own_price():
    asked, usage = request("gpt-5-mini"), Usage(input_tokens=1000, output_tokens=1000)
    assert asked.cost_of(usage) == pricing.cost_units("gpt-5-mini", usage)
    asked = replace(asked, service_tier="flex")
    assert asked.cost_of(usage) == pricing.cost_units("gpt-5-mini", usage, service_tier="flex")
    assert asked.cost(1000, 1000) == asked.cost_of(usage)


def test_what_a_call_needs_follows_what_is_learned_while_it_waits():
    asked = request("gpt-4o")
    before = estimate_of(asked, None, in_usd=True)
    assert estimate_of(asked, None, in_usd=True) is before
    output_stats.learn("gpt-4o", output_tokens=70, counted_input=10, input_tokens=15)
    after = estimate_of(asked, None, in_usd=True)
    assert (after.expected[1], after.unseen, after.unbounded) == (15 + (70 + 600) / 2, False, False)


def test_the_largest_answer_is_forgotten_after_twenty_others():
    output_stats.learn("gpt-4o", output_tokens=900, counted_input=None, input_tokens=0)
    for _ in range(19):
        output_stats.learn("gpt-4o", output_tokens=5, counted_input=None, input_tokens=0)
    assert output_stats.of("gpt-4o").output == 900
    output_stats.learn("gpt-4o", output_tokens=7, counted_input=None, input_tokens=0)
    assert output_stats.of("gpt-4o").output == 7


@pytest.mark.parametrize("asks_every", [1, 5, 90, 1000])
def test_what_is_expected_of_a_model_is_the_same_however_seldom_somebody_asks(asks_every):
    random, stats = Random(7), output_stats.OutputStats("m")
    answers = [(random.random(), random.randrange(1, 3000)) for _ in range(450)]
    for number, (took_s, tokens_made) in enumerate(answers, 1):
        stats.add_output(tokens_made, took_s, whole=True)
        if number % asks_every == 0:
            assert stats.longest(clamps=True) <= stats.reach
    remembered = output_stats.OutputStats("m")
    for took_s, tokens_made in answers[-output_stats.REMEMBERED_ANSWERS :]:
        remembered.add_output(tokens_made, took_s, whole=True)
    assert stats.longest(clamps=True) <= stats.reach
    assert (stats.longest(clamps=False), stats.median()) == (
        remembered.longest(clamps=False),
        remembered.median(),
    )
    for most in (40, 700, UNBOUNDED):
        assert stats.fresh(most, clamps=False) == remembered.fresh(most, clamps=False)


@given(
    answers=st.lists(
        st.tuples(st.integers(0, 4000), st.floats(0, 90), st.booleans(), st.booleans()), max_size=500
    )
)
def test_the_longest_answer_that_is_reckoned_with_follows_those_that_are_remembered(answers):
    stats, kept = output_stats.OutputStats("m"), deque(maxlen=output_stats.REMEMBERED_ANSWERS)
    for tokens_made, took_s, is_whole, asks in answers:
        made, took = (tokens_made, took_s) if is_whole else stats._completed(tokens_made, took_s)
        stats.add_output(tokens_made, took_s, whole=is_whole)
        kept.append((took, made))
        usual = math.ceil(5 * (sum(length for _, length in kept) / len(kept)))
        assert stats.reach >= max(1000, usual, *(length for _, length in kept))
        if asks:
            assert stats.longest(clamps=True) == max(1000, usual, *(length for _, length in kept))
            assert stats._by_age == sorted(kept)
            assert stats._seconds == pytest.approx(sum(took for took, _ in kept), rel=1e-6, abs=1e-6)
            assert stats._sums(UNBOUNDED) == (
                len(kept),
                sum(length for _, length in kept),
                sum(length * length for _, length in kept),
            )


def test_a_long_answer_is_reckoned_with_no_longer_than_it_is_remembered():
    stats = output_stats.OutputStats("m")
    stats.add_output(9000, 1.0, whole=True)
    for _ in range(output_stats.REMEMBERED_ANSWERS):
        stats.add_output(10, 1.0, whole=True)
    assert (stats.reach, stats.longest(clamps=True)) == (9000, 1000)
    stats.add_output(10, 1.0, whole=True)
    assert stats.reach == 1000


class SlowToSort(float):
    """Seconds that another answer comes in while they are compared, as a garbage collection may bring one."""

    meanwhile = staticmethod(lambda: None)

    def __lt__(self, other):
        meanwhile, SlowToSort.meanwhile = SlowToSort.meanwhile, lambda: None
        meanwhile()
        return float(self) < float(other)


def test_an_answer_that_comes_while_others_are_sorted_is_remembered():
    stats = output_stats.OutputStats("m")
    for number in range(20):
        stats.add_output(number, SlowToSort(number), whole=True)

    def meanwhile():
        stats.add_output(5000, 1.0, whole=True)
        assert stats.longest(clamps=True) == 5000

    SlowToSort.meanwhile = meanwhile
    assert stats.median() == 10
    assert stats.longest(clamps=True) == 5000
    assert len(stats._by_age) == stats.seen == 21


def test_a_text_is_counted_the_same_again_and_apart_for_each_encoding(monkeypatch):
    monkeypatch.setattr(tokens, "_MOST_KNOWN_COUNTS", 2)
    text = "Przepraszam, naïve 東京の天気は？ " * 50
    first = {model: count_text(text, model) for model in ("gpt-4o", "gpt-4")}
    assert first["gpt-4o"] < first["gpt-4"]
    for model in ("gpt-4o", "gpt-4", "gpt-4o", "gpt-4"):
        assert count_text(text, model) == first[model]
        count_text(f"{model} is asked something else", model)
    assert len(tokens._known_counts) <= 2


def test_tool_calls_of_an_assistant_are_counted_whatever_the_message_says_of_its_type():
    call = {"function": {"name": "look_up", "arguments": '{"city": "Tokyo, the capital"}'}}
    plain = count_messages([{"role": "assistant", "content": "ok"}], "gpt-4o").tokens
    for message in ({"role": "assistant"}, {"type": "ai"}, {}):
        assert count_messages([{**message, "content": "ok", "tool_calls": [call]}], "gpt-4o").tokens > plain


def test_accounts_around_a_call_are_sorted_by_what_they_enforce():
    declared = {
        "free": {},
        "estimated": {"max_calls": 3},
        "strict": {"max_usd": 1, "enforce": "strict"},
        "observed": {"max_usd": 1, "enforce": "observe"},
    }
    free, estimated, strict, observed = (
        Account(StepRef(name=name, path=name), definitions.StepDefinition(name=name, **options))
        for name, options in declared.items()
    )
    around = AccountChain((free, estimated, strict, observed))
    assert around.limited == (estimated, strict)
    assert (around.strict, around.observed) == ((strict,), (observed,))
    assert around.limits_usd
    assert not AccountChain((free, estimated)).watches_usd
    assert (AccountChain((observed,)).limits_usd, AccountChain((observed,)).watches_usd) == (False, True)
