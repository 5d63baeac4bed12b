"""Nearly all answers are read at a glance, and charged as a close look would have charged them."""

from __future__ import annotations

from typing import Any
from uuid import uuid4

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from langchain_core.messages import AIMessage
from langchain_core.outputs import ChatGeneration, LLMResult

from steptrack_callbacks import Step, step
from steptrack_callbacks.langchain import usage
from steptrack_callbacks.langchain.requests import chat_request
from steptrack_callbacks.steps.attribution import new_call

MODEL = "gpt-4o"


def of_openai() -> dict[str, Any]:
    """Return what the package for OpenAI hands over: the same usage three times."""
    told = {
        "token_usage": {
            "completion_tokens": 7,
            "prompt_tokens": 30,
            "total_tokens": 37,
            "completion_tokens_details": {
                "accepted_prediction_tokens": 0,
                "audio_tokens": 0,
                "reasoning_tokens": 0,
                "rejected_prediction_tokens": 0,
            },
            "prompt_tokens_details": {"audio_tokens": 0, "cached_tokens": 0},
        },
        "model_provider": "openai",
        "model_name": "gpt-4o-2024-08-06",
        "system_fingerprint": "fp_1",
        "id": "chatcmpl-1",
        "service_tier": "default",
    }
    return {
        "usage": {
            "input_tokens": 30,
            "output_tokens": 7,
            "total_tokens": 37,
            "input_token_details": {"audio": 0, "cache_read": 0},
            "output_token_details": {"audio": 0, "reasoning": 0},
        },
        "told": {**told, "finish_reason": "stop", "logprobs": None},
        "output": told,
        "content": "Rayleigh.",
    }


def with_one(path: str, value: Any) -> dict[str, Any]:
    """Return the same answer, with another value at a path, there or not before."""
    answer = of_openai()
    *way, last = path.split("/")
    holder: Any = answer
    for name in way:
        holder = holder[name]
    holder[last] = value
    return answer


def result_of(answer: dict[str, Any]) -> LLMResult:
    message = AIMessage("")
    message.content, message.usage_metadata = answer["content"], answer["usage"]
    message.response_metadata = answer["told"]
    result = LLMResult(generations=[[ChatGeneration(message=message)]])
    result.llm_output = answer["output"]
    return result


def charged(answer: dict[str, Any], *, closely: bool) -> tuple[Any, ...]:
    """Return all that is known of an answer's call once it is charged, read at a glance or closely."""
    with step("plan") as plan, pytest.MonkeyPatch.context() as patch:
        if closely:
            patch.setattr(usage, "_plainly_told", lambda result: None)
        call = new_call(
            chat_request({"name": "ChatOpenAI"}, [], {"ls_provider": "openai", "ls_model_name": MODEL}, {})
        )
        call.admit()
        is_told = usage.settle(call, result_of(answer), uuid4())
        return plan.usage, dict(plan_models(plan)), is_told


def plan_models(plan: Step) -> dict[str, Any]:
    return {name: tally.sums[:] for name, tally in plan.account.models.items()}


def is_read_at_a_glance(answer: dict[str, Any]) -> bool:
    return usage._plainly_told(result_of(answer)) is not None


COUNTS = st.sampled_from([None, 0, 1, 7, 30, 37, True, False, "7", 2.0, -1, 10**9 + 1])
PARTS = st.none() | st.dictionaries(
    st.sampled_from(
        ["audio", "cache_read", "cache_creation", "reasoning", "priority_cache_read", "flex", "audio_tokens",
         "cached_tokens", "reasoning_tokens", "image_tokens", "cache_write_tokens"]
    ),
    st.just(0) | COUNTS | st.just([]) | st.just({"cache_read": 3}),
    max_size=2,
)  # fmt: skip
COUNTED = st.fixed_dictionaries(
    {"input_tokens": st.just(30) | COUNTS, "output_tokens": st.just(7) | COUNTS},
    optional={
        "total_tokens": st.just(37) | COUNTS,
        "input_token_details": PARTS,
        "output_token_details": PARTS,
        "cost": st.just(0.1),
        "total_cost": st.just(0),
    },
)
PROVIDERS = st.none() | st.fixed_dictionaries(
    {},
    optional={
        "prompt_tokens": st.just(30) | COUNTS,
        "completion_tokens": st.just(7) | COUNTS,
        "total_tokens": st.just(37) | COUNTS,
        "prompt_tokens_details": PARTS,
        "completion_tokens_details": PARTS,
        "cost": st.just(0.1),
        "cache_creation_input_tokens": st.just(5),
    },
)
WORDS = st.sampled_from(
    ["gpt-4o-mini", "default", "flex", "stop", "length", "", None, 1, True, 1.0, ["length"]]
)
TOLD = st.fixed_dictionaries(
    {},
    optional={
        **dict.fromkeys(
            ("token_usage", "usage", "usage_metadata"), PROVIDERS | st.sampled_from(["7", 7, []])
        ),
        **dict.fromkeys(("model_name", "model", "service_tier", "finish_reason", "stop_reason"), WORDS),
        "id": st.just("chatcmpl-1"),
        "response_cost": st.just(0.5),
        "status": st.just("incomplete"),
    },
)
ANSWERS = st.fixed_dictionaries(
    {
        "usage": COUNTED | st.none() | st.just(of_openai()["usage"]),
        "told": TOLD | st.just(of_openai()["told"]),
        "output": TOLD | st.none() | st.just(of_openai()["output"]),
        "content": st.just("Rayleigh.") | st.just([{"type": "text", "text": "Rayleigh."}]),
    }
)


@given(answer=ANSWERS)
@example(answer=of_openai())
def test_an_answer_of_langchain_is_charged_what_a_close_look_would_charge(answer: Any) -> None:
    assert charged(answer, closely=False) == charged(answer, closely=True)


def test_what_the_package_for_openai_hands_over_is_read_at_a_glance() -> None:
    assert is_read_at_a_glance(of_openai())
    streamed = {
        **of_openai(),
        "told": {"model_name": "gpt-4ogpt-4o", "finish_reason": "stop"},
        "output": None,
    }
    assert is_read_at_a_glance(streamed)
    told = usage._plainly_told(result_of(streamed))
    assert told is not None
    assert told.model == "gpt-4o"


SAYS_MORE: list[tuple[str, Any]] = [
    ("usage/input_tokens", 31),
    ("usage/input_tokens", True),
    ("usage/input_tokens", 30.0),
    ("usage/output_tokens", 0),
    ("usage/output_tokens", -7),
    ("usage/total_tokens", 40),
    ("usage/total_tokens", None),
    ("usage/cost", 0.5),
    ("usage/input_token_details/cache_read", 20),
    ("usage/input_token_details/audio", 3),
    ("usage/input_token_details/cache_creation", 9),
    ("usage/input_token_details", {"audio": 0, "cache_read": {"tokens": 20}}),
    ("usage/input_token_details", [{"cache_read": 20}]),
    ("usage/input_token_details", {"audio": 3, "cache_read": -3}),
    ("usage/output_token_details/reasoning", 5),
    ("usage/output_token_details", {"image": 5}),
    ("told/token_usage/cost", 0.5),
    ("told/token_usage/cache_creation_input_tokens", 9),
    ("told/token_usage/prompt_tokens_details/cache_write_tokens", 9),
    ("told/token_usage/prompt_tokens_details/image_tokens", 9),
    ("told/token_usage/completion_tokens_details/image_tokens", 3),
    ("told/token_usage/completion_tokens_details", {"image_tokens": 3}),
    ("told/usage", {"cost": 0.5}),
    ("told/response_cost", 0.5),
    ("told/num_search_queries", 2),
    ("told/finish_reason", ["length"]),
    ("output/usage", {"cost": 0.5}),
    ("output/usage_metadata", {"cache_creation_input_tokens": 9}),
    ("output/token_usage", {"prompt_tokens": 30, "completion_tokens": 7, "cost": 0.5}),
    ("content", [{"type": "text", "text": "Rayleigh."}]),
]


@pytest.mark.parametrize(("path", "value"), SAYS_MORE)
def test_an_answer_that_says_more_is_looked_at_however_many_plain_ones_came_before(
    path: str, value: Any
) -> None:
    for _ in range(2):
        assert is_read_at_a_glance(of_openai())
        assert not is_read_at_a_glance(with_one(path, value))
        changed = with_one(path, value)
        assert charged(changed, closely=False) == charged(changed, closely=True)


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("usage/input_token_details/cache_read", 20),
        ("usage/output_token_details/reasoning", 5),
        ("told/token_usage/cost", 0.5),
        ("told/service_tier", "priority"),
        ("told/model_name", "gpt-4o-mini"),
        ("usage/input_tokens", 3000),
    ],
)
def test_what_changes_the_price_changes_the_charge(path: str, value: Any) -> None:
    assert charged(with_one(path, value), closely=False) != charged(of_openai(), closely=False)


def test_a_usage_that_is_changed_after_it_was_read_is_read_anew() -> None:
    answer = of_openai()
    assert is_read_at_a_glance(answer)
    answer["told"]["token_usage"]["prompt_tokens_details"]["cache_write_tokens"] = 9
    assert not is_read_at_a_glance(answer)


def test_words_that_are_alike_are_told_apart() -> None:
    for word, is_cut in (("stop", False), ("length", True), (1, False), (True, False), ("stop", False)):
        told = usage._plainly_told(result_of(with_one("told/finish_reason", word)))
        assert told is not None
        assert told.is_cut == is_cut
    for model, known in ((1, None), ("1", "1"), (True, None), ("", None), (1.0, None), ("1", "1")):
        told = usage._plainly_told(result_of(with_one("told/model_name", model)))
        assert told is not None
        assert told.model == known


def test_a_server_that_calls_itself_something_else_each_time_fills_no_memory() -> None:
    for number in range(1000):
        told = usage._plainly_told(result_of(with_one("told/model_name", f"model-{number:04}")))
        assert told is not None
        assert told.model == f"model-{number:04}"
    known = usage._said_beside.cache_info()
    assert known.maxsize is not None
    assert known.currsize <= known.maxsize
