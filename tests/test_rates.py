"""The arithmetic of rates where an entry leaves something out, or says something that is none."""

from __future__ import annotations

import time
from datetime import UTC, datetime

import pytest

from steptrack_callbacks.pricing.entries import rates_of
from steptrack_callbacks.pricing.off_peak import Schedule
from steptrack_callbacks.values.usage import Usage

ONE = 10**24
ALWAYS = {"hours_utc": "00:00-00:00"}
MONDAY = datetime(2026, 11, 23, 10, 15, tzinfo=UTC)


def cost(entry, usage, tier=None):
    units = rates_of(entry, tier).cost(usage)
    assert units % ONE == 0
    return units // ONE


def test_what_an_embedding_is_said_to_have_made_costs_nothing():
    entry = {"mode": "embedding", "input_cost_per_token": 1}
    assert cost(entry, Usage(input_tokens=10, output_tokens=7)) == 10


def test_a_model_that_only_makes_images_charges_its_answer_as_images():
    entry = {"input_cost_per_token": 1, "output_cost_per_image_token": 40}
    assert cost(entry, Usage(input_tokens=10, output_tokens=3)) == 10 + 120
    assert rates_of(entry, None).is_complete


def test_thoughts_keep_their_rate_in_a_tier_that_has_none_for_words():
    entry = {"output_cost_per_token": 2, "output_cost_per_reasoning_token": 7}
    entry |= {"input_cost_per_token": 1, "input_cost_per_token_flex": 1}
    assert cost(entry, Usage(output_tokens=10, reasoning_tokens=4), "flex") == 12 + 28


def test_audio_that_came_wholly_from_the_cache_is_not_charged_as_sent_anew():
    entry = {
        "input_cost_per_token": 1,
        "input_cost_per_audio_token": 50,
        "cache_read_input_token_cost": 2,
        "cache_read_input_audio_token_cost": 3,
    }
    usage = Usage(input_tokens=10, cache_read_tokens=5, cache_read_audio_tokens=5, input_audio_tokens=5)
    assert cost(entry, usage) == 5 * 3 + 5


def test_a_range_without_a_price_and_a_price_without_a_range_are_passed_over():
    ranges = [
        {"range": [0, 100]},
        {"input_cost_per_token": 99},
        {"range": [1000, 2000], "input_cost_per_token": 5},
        {"range": [0, 1000], "input_cost_per_token": 3},
    ]
    entry = {"input_cost_per_token": 1, "tiered_pricing": ranges}
    assert [cost(entry, Usage(input_tokens=sent)) for sent in (50, 1000, 1001)] == [150, 3000, 5005]


def test_of_two_ranges_that_begin_alike_the_later_one_holds():
    ranges = [
        {"range": [0, 100], "input_cost_per_token": 3},
        {"range": [0, 200], "input_cost_per_token": 5},
    ]
    assert cost({"input_cost_per_token": 1, "tiered_pricing": ranges}, Usage(input_tokens=10)) == 50


# Cheaper hours


def test_a_long_prompt_takes_its_step_in_cheaper_hours_too():
    entry = {
        "input_cost_per_token": 4,
        "input_cost_per_token_above_200k_tokens": 8,
        "cache_read_input_token_cost": 3,
        "off_peak_pricing": ALWAYS | {"cache_read_input_token_cost": 1},
    }
    usage = Usage(input_tokens=200_001, cache_read_tokens=1)
    assert cost(entry, usage) == 200_000 * 8 + 1
    assert cost(entry, usage.replace(input_tokens=200_000)) == 199_999 * 4 + 1


def test_a_provider_bills_as_it_does_in_cheaper_hours_too():
    entry = {
        "litellm_provider": "fireworks_ai",
        "input_cost_per_token": 8,
        "off_peak_pricing": ALWAYS | {"input_cost_per_token": 4},
    }
    assert cost(entry, Usage(input_tokens=10, cache_read_tokens=5)) == 5 * 2 + 5 * 4


@pytest.mark.parametrize(
    ("hours", "is_open"), [("10:10-10:20", True), ("10:20-10:30", False), ("10:00-10:15", False)]
)
def test_minutes_count(hours, is_open):
    assert Schedule.of({"hours_utc": hours}).is_open(MONDAY) is is_open


def test_hours_that_are_none_do_not_hide_those_after_them():
    assert Schedule.of({"hours_utc": ["soon", "25:00-26:00", "10:00-11:00"]}).is_open(MONDAY)


@pytest.mark.parametrize("weekdays", [1, "mon", {"mon": 1}, [[1]], [1.0], [None]])
def test_weekdays_of_another_form_open_nothing_and_break_nothing(weekdays):
    block = {"windows": [ALWAYS | {"weekdays": weekdays}]}
    assert not Schedule.of(block).is_open(MONDAY)


@pytest.mark.skipif(not hasattr(time, "tzset"), reason="the zone of a process cannot be changed here")
@pytest.mark.parametrize("zone", ["Pacific/Kiritimati", "America/Los_Angeles"])
def test_hours_are_those_of_utc_wherever_the_machine_stands(monkeypatch, zone):
    with monkeypatch.context() as elsewhere:
        elsewhere.setenv("TZ", zone)
        time.tzset()
        try:
            assert Schedule.of({"hours_utc": "10:00-10:30"}).is_open(MONDAY)
            assert not Schedule.of({"hours_utc": "11:00-10:00"}).is_open(MONDAY)
        finally:
            elsewhere.undo()
            time.tzset()
