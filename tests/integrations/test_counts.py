"""A usage is understood in whoever's words it is written, and corrects what it says of itself."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from steptrack_callbacks import Usage
from steptrack_callbacks.integrations.counts import Sum, counts_in, over, sum_of
from steptrack_callbacks.integrations.usage import Reading, read_usage
from steptrack_callbacks.values.usage import MOST_TOKENS


def summed(*reports: Any) -> Sum:
    """Read the usages that the pieces of one stream tell."""
    told: dict[str, int] = {}
    for report in reports:
        told = over(told, counts_in(report))
    found = sum_of(told)
    assert found is not None
    return found


def parts(usage: Usage | None) -> dict[str, int]:
    assert usage is not None
    return {name: count for name, count in usage.to_dict().items() if count}


P, C, T = "prompt_tokens", "completion_tokens", "total_tokens"


def cached(tokens: int, **more: int) -> Any:
    return {"prompt_tokens_details": {"cached_tokens": tokens, **more}}


def thought(tokens: int) -> Any:
    return {"completion_tokens_details": {"reasoning_tokens": tokens}}


LEFT_OUT: dict[str, tuple[dict[str, Any], tuple[int, int]]] = {
    "a cache that is larger than the input": ({P: 150, C: 50, **cached(5_000)}, (5_150, 50)),
    "the same beside a total of the two": ({P: 150, C: 50, T: 200, **cached(5_000)}, (5_150, 50)),
    "a cache that the total says is beside": ({P: 150, C: 50, T: 300, **cached(100)}, (250, 50)),
    "a cache that the total says is within": ({P: 150, C: 50, T: 200, **cached(100)}, (150, 50)),
    "thinking that is longer than the output": ({P: 150, C: 50, **thought(400)}, (150, 450)),
    "thinking that the total says is beside": ({P: 150, C: 50, T: 240, **thought(40)}, (150, 90)),
    "thinking that the total says is within": ({P: 150, C: 50, T: 200, **thought(40)}, (150, 50)),
    "both, by the total": ({P: 150, C: 50, T: 340, **cached(100), **thought(40)}, (250, 90)),
    "what was written, which alone is larger": (
        {P: 150, C: 50, **cached(0, cache_write_tokens=700)},
        (850, 50),
    ),
    "sound that is longer than the input": ({P: 150, C: 50, **cached(0, audio_tokens=400)}, (550, 50)),
}


@pytest.mark.parametrize("case", LEFT_OUT)
def test_a_total_takes_in_what_it_has_left_out(case: str) -> None:
    reported, right = LEFT_OUT[case]
    found = summed(reported)
    assert (found.usage.input_tokens, found.usage.output_tokens) == right
    assert not found.is_contradictory


@pytest.mark.parametrize("case", LEFT_OUT)
def test_whoever_added_up_a_total_that_was_corrected_is_not_believed(case: str) -> None:
    reported, right = LEFT_OUT[case]
    assert summed(reported).is_corrected == (right != (reported[P], reported[C]))


CONTRADICTIONS: dict[str, tuple[dict[str, Any], tuple[int, int]]] = {
    "a total that nothing explains": ({P: 100, C: 50, T: 700}, (100, 600)),
    "a total that is too small": ({P: 100, C: 50, T: 90}, (100, 50)),
    "read and written are more than was sent": (
        {P: 150, C: 50, T: 200, **cached(100, cache_write_tokens=90)},
        (340, 50),
    ),
    "parts of the output are more than it": (
        {P: 1, C: 50, "completion_tokens_details": {"reasoning_tokens": 40, "audio_tokens": 30}},
        (1, 50),
    ),
}


@pytest.mark.parametrize("case", CONTRADICTIONS)
def test_what_stays_contradictory_is_said_to_be(case: str) -> None:
    reported, right = CONTRADICTIONS[case]
    found = summed(reported)
    assert (found.usage.input_tokens, found.usage.output_tokens) == right
    assert found.is_contradictory


START = {
    "input_tokens": 14,
    "cache_creation_input_tokens": 35_000,
    "cache_read_input_tokens": 0,
    "output_tokens": 1,
}
STREAMS: dict[str, tuple[list[dict[str, Any]], dict[str, int]]] = {
    "a zero takes back": (
        [START, {"cache_creation_input_tokens": 0, "cache_read_input_tokens": 35_000, "output_tokens": 9}],
        {"input_tokens": 35_014, "cache_read_tokens": 35_000, "output_tokens": 9},
    ),
    "nothing takes back nothing": (
        [START, {"output_tokens": 9}],
        {"input_tokens": 35_014, "cache_write_tokens": 35_000, "output_tokens": 9},
    ),
    "null takes back nothing": (
        [START, {"output_tokens": 9, "input_tokens": None, "cache_creation_input_tokens": None}],
        {"input_tokens": 35_014, "cache_write_tokens": 35_000, "output_tokens": 9},
    ),
    "an input of nothing was not told": (
        [START, {"output_tokens": 9, "input_tokens": 0, "cache_creation_input_tokens": 0}],
        {"input_tokens": 35_014, "cache_write_tokens": 35_000, "output_tokens": 9},
    ),
    "a later input replaces": ([START, START | {"input_tokens": 20}], {
        "input_tokens": 35_020, "cache_write_tokens": 35_000, "output_tokens": 1,
    }),
    "the input comes at the end": (
        [{"input_tokens": 0, "output_tokens": 0}, {"input_tokens": 20, "output_tokens": 9}],
        {"input_tokens": 20, "output_tokens": 9},
    ),
    "growing": (
        [{P: 10, C: 1, T: 11}, {P: 10, C: 2, T: 12}, {P: 10, C: 7, T: 17}],
        {"input_tokens": 10, "output_tokens": 7},
    ),
    "a total of an earlier piece counts no more": (
        [{P: 10, C: 1, T: 11}, {C: 7}],
        {"input_tokens": 10, "output_tokens": 7},
    ),
    "a search is told at the end": (
        [START, {"output_tokens": 9, "server_tool_use": {"web_search_requests": 3}}],
        {
            "input_tokens": 35_014,
            "cache_write_tokens": 35_000,
            "output_tokens": 9,
            "web_search_requests": 3,
        },
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", STREAMS)
def test_counts_of_a_stream_correct_themselves(case: str) -> None:
    pieces, right = STREAMS[case]
    found = summed(*pieces)
    assert parts(found.usage) == right
    assert not found.is_contradictory


@pytest.mark.parametrize(
    "nonsense", [True, -1, 1.5, "7.5", "-7", "seven", "7" * 30, None, [], MOST_TOKENS + 1, float("nan")]
)
def test_what_is_no_count_says_nothing(nonsense: Any) -> None:
    found = summed(
        {P: 10, C: 5, "cached_tokens": nonsense, "prompt_tokens_details": {"cached_tokens": nonsense}}
    )
    assert parts(found.usage) == {"input_tokens": 10, "output_tokens": 5}
    assert read_usage({P: nonsense}) is None


@pytest.mark.parametrize("seven", [7, 7.0, "7"])
def test_a_count_may_have_a_fraction_of_zero_or_be_written_as_text(seven: Any) -> None:
    found = summed({P: 10, C: seven, "prompt_tokens_details": {"cached_tokens": seven}})
    assert parts(found.usage) == {"input_tokens": 10, "output_tokens": 7, "cache_read_tokens": 7}


def test_a_total_of_two_texts_that_were_joined_is_no_sum() -> None:
    found = summed({P: 10, C: 2, T: 102})
    assert parts(found.usage) == {"input_tokens": 10, "output_tokens": 2}
    assert found.is_contradictory


COUNT = st.integers(0, 10_000) | st.none() | st.just(MOST_TOKENS)
REPORT = st.fixed_dictionaries(
    {P: COUNT, C: COUNT},
    optional={
        T: COUNT,
        "cached_tokens": COUNT,
        "cache_creation_input_tokens": COUNT,
        "prompt_tokens_details": st.fixed_dictionaries(
            {}, optional={"cached_tokens": COUNT, "cache_write_tokens": COUNT, "audio_tokens": COUNT}
        ),
        "completion_tokens_details": st.fixed_dictionaries(
            {}, optional={"reasoning_tokens": COUNT, "image_tokens": COUNT}
        ),
    },
)


@given(reports=st.lists(REPORT, min_size=1, max_size=3))
@settings(deadline=None, derandomize=True)
def test_whatever_was_told_a_part_is_no_more_than_its_total_or_marked(reports: list[Any]) -> None:
    told: dict[str, int] = {}
    for report in reports:
        told = over(told, counts_in(report))
    found = sum_of(told)
    if found is None:
        return
    usage = found.usage
    assert usage.input_tokens <= MOST_TOKENS
    assert usage.output_tokens <= MOST_TOKENS
    if not found.is_contradictory:
        assert usage.cache_read_tokens + usage.cache_write_tokens <= usage.input_tokens
        assert usage.reasoning_tokens <= usage.output_tokens
        assert usage.input_audio_tokens <= usage.input_tokens


@given(reports=st.lists(REPORT, min_size=1, max_size=4))
@settings(deadline=None, derandomize=True)
def test_a_piece_that_is_told_twice_is_told_once(reports: list[Any]) -> None:
    once, twice = Reading(), Reading()
    for report in reports:
        once.add_usage(report)
        twice.add_usage(report)
        twice.add_usage(report)
    assert once.answer() == twice.answer()
