"""Answers of which a short look tells all: it says what a close reading finds, or leaves them to that."""

from __future__ import annotations

from typing import Any

import litellm
from hypothesis import given
from hypothesis import strategies as st

from steptrack_callbacks.engine.request import Request
from steptrack_callbacks.integrations.usage import Reading
from steptrack_callbacks.litellm import usage
from steptrack_callbacks.tokens import InputCount

PLAIN = {"prompt_tokens": 30, "completion_tokens": 7, "total_tokens": 37}
COUNTS = st.sampled_from([None, 0, 1, 7, 30, True, "7", 2.0, -1])
DETAILS = st.none() | st.dictionaries(
    st.sampled_from(["cached_tokens", "audio_tokens", "reasoning_tokens", "text_tokens"]), COUNTS, max_size=2
)
USAGES = st.fixed_dictionaries(
    {"prompt_tokens": COUNTS, "completion_tokens": COUNTS, "total_tokens": COUNTS | st.just(37)},
    optional={
        "prompt_tokens_details": DETAILS,
        "completion_tokens_details": DETAILS,
        "cost": st.just(0.1),
        "cache_read_input_tokens": COUNTS,
    },
)
ANSWERS = st.fixed_dictionaries(
    {
        "usage": USAGES | st.just(PLAIN),
        "choices": st.lists(
            st.fixed_dictionaries(
                {"finish_reason": st.sampled_from(["stop", "length", None, 3, ["length"]])}
            ),
            max_size=2,
        ),
    },
    optional={
        "model": st.sampled_from(["gpt-4o", "", None, 3]),
        "service_tier": st.sampled_from(["default", "flex", "", None, 3]),
        "status": st.just("incomplete"),
        "_response_ms": st.just(3.5),
    },
)


HIDDEN = st.fixed_dictionaries(
    {},
    optional={
        "provider_response_model": st.sampled_from(["gpt-4o-2024-08-06", "", None, 3]),
        "provider_specific_fields": st.sampled_from([None, {}, {"traffic_type": "ON_DEMAND_FLEX"}]),
    },
)


@given(response=ANSWERS, hidden=HIDDEN, cost=st.sampled_from([None, 0, 0.5, "x"]))
def test_an_answer_of_litellm_that_is_plain_says_what_a_close_reading_finds(
    response: Any, hidden: Any, cost: Any
) -> None:
    plain = usage._plainly_told(response, hidden, cost)
    reading = Reading()
    usage.read(reading, {**response, "_hidden_params": hidden})
    request = Request(model="gpt-4o", count_input=lambda: InputCount(tokens=1, upper_bound=1))
    assert plain in (None, usage.answer_of(reading, request, computed_cost=cost))


def test_nearly_all_answers_of_litellm_are_plain() -> None:
    answer = litellm.completion(
        model="openai/gpt-4o-mini", mock_response="Rayleigh.", messages=[{"role": "user", "content": "why?"}]
    )
    assert usage._plainly_told(answer, answer._hidden_params, 0.5) is not None
