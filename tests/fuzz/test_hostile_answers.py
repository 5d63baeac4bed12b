"""Whatever an answer says of its usage, it is charged once, never below nothing, and never as nothing."""

from __future__ import annotations

import json
from decimal import Decimal
from typing import Any
from uuid import uuid4

from hostile import anything, as_object, atoms, nested, sometimes_sane, table_of, tried
from hypothesis import example, given
from hypothesis import strategies as st
from langchain_core.messages import AIMessage
from langchain_core.outputs import ChatGeneration, Generation, LLMResult

from steptrack_callbacks import Step, pricing, step
from steptrack_callbacks.integrations.stated_cost import usd_in
from steptrack_callbacks.integrations.usage import read_usage
from steptrack_callbacks.langchain import usage as langchain_answers
from steptrack_callbacks.litellm import charging
from steptrack_callbacks.litellm import usage as litellm_answers
from steptrack_callbacks.litellm.call_types import CALL_TYPES
from steptrack_callbacks.litellm.messages import MessageMeter
from steptrack_callbacks.litellm.requests import request_of
from steptrack_callbacks.litellm.streams import Meter
from steptrack_callbacks.steps.attribution import new_call
from steptrack_callbacks.values.usage import MOST_TOKENS, MOST_USD

MODEL = "gpt-4o"
TEXT = "an answer of six tokens"

DETAILS = table_of(
    "cached_tokens", "cache_creation_tokens", "reasoning_tokens", "audio_tokens", "image_tokens",
    "cache_creation_token_details", "cache_read", "cache_creation", "reasoning", "audio", "image",
    "ephemeral_1h_input_tokens", "priority_cache_read", "flex_reasoning",
)  # fmt: skip
USAGE = as_object(
    table_of(
        "prompt_tokens", "completion_tokens", "input_tokens", "output_tokens", "total_tokens",
        "cache_read_input_tokens", "cache_creation_input_tokens", "cost",
        values=sometimes_sane | atoms | anything,
    )
    | st.fixed_dictionaries(
        {"prompt_tokens": sometimes_sane | atoms, "completion_tokens": sometimes_sane | atoms},
        optional={"prompt_tokens_details": as_object(DETAILS), "completion_tokens_details": as_object(DETAILS)},
    )
    | st.fixed_dictionaries(
        {"input_tokens": sometimes_sane | atoms, "output_tokens": sometimes_sane | atoms},
        optional={"input_token_details": DETAILS, "output_token_details": DETAILS, "cache_creation": anything},
    )
)  # fmt: skip


def opened(budget: Step) -> Any:
    """Begin a call of ten tokens or so."""
    messages = [{"role": "user", "content": "one two three"}]
    call = new_call(request_of("chat", MODEL, messages, {"max_tokens": 100}))
    call.admit()
    return call


def assert_charged_once(plan: Step, *, said_text: bool) -> None:
    usage = plan.usage
    assert usage.calls == 1
    assert 0 <= usage.input_tokens <= MOST_TOKENS
    assert 0 <= usage.output_tokens <= MOST_TOKENS
    assert Decimal(0) <= usage.cost_usd
    assert plan.account.open_calls == 0
    assert (plan.account.held_cost, plan.account.held_tokens, plan.account.held_calls) == (0, 0, 0)
    assert usage.input_tokens, "what was sent is never nothing"
    assert usage.output_tokens or not said_text, "nor is what was said"
    assert usage.cost_usd, "nor is what it cost"


def is_whole(value: Any) -> bool:
    return type(value) is int and 0 < value <= MOST_TOKENS


@given(usage=USAGE | anything, cost=st.none() | atoms, said=st.sampled_from(["", TEXT]))
@example(usage={"prompt_tokens": 10**30, "completion_tokens": 5}, cost=None, said=TEXT)
@example(usage={"prompt_tokens": -5, "completion_tokens": 5}, cost=0.5, said=TEXT)
@example(usage={"prompt_tokens": 5, "completion_tokens": 5}, cost=10**400, said=TEXT)
@tried()
def test_an_answer_of_litellms_is_charged(usage: Any, cost: Any, said: str) -> None:
    answer = {
        "choices": [{"message": {"content": said}, "finish_reason": "stop"}],
        "usage": usage,
        "model": MODEL,
        "_hidden_params": {"response_cost": cost},
    }
    with step("plan", max_usd=10**9) as plan:
        litellm_answers.settle(opened(plan), answer)
        assert_charged_once(plan, said_text=bool(said))
        assert plan.usage.cost_usd <= MOST_USD
        table = usage if isinstance(usage, dict) else vars(usage) if hasattr(usage, "__dict__") else {}
        if is_whole(table.get("prompt_tokens")) and is_whole(table.get("completion_tokens")):
            # More, if a part says that it was left out, or a total that it has more.
            assert plan.usage.input_tokens >= table["prompt_tokens"]
            assert plan.usage.output_tokens >= table["completion_tokens"]
            if table.keys() == {"prompt_tokens", "completion_tokens"}:
                assert plan.usage.total_tokens == table["prompt_tokens"] + table["completion_tokens"]
                assert plan.usage.estimated_calls == 0
        else:
            told = read_usage(usage)
            has_told = told is not None and told.input_tokens and (told.output_tokens or not said)
            assert plan.usage.estimated_calls == 1 or has_told


@given(
    answer=as_object(table_of("choices", "output", "usage", "model", "status", "_hidden_params")) | anything
)
@tried()
def test_an_answer_of_litellms_may_be_anything(answer: Any) -> None:
    with step("plan", max_usd=10**9) as plan:
        litellm_answers.settle(opened(plan), answer)
        assert plan.usage.calls == 1
        assert plan.usage.input_tokens > 0


CHOICE = table_of("delta", "message", "text", "finish_reason") | st.fixed_dictionaries(
    {"delta": as_object(table_of("content", "reasoning_content", "tool_calls"))}
)
CHUNK = as_object(
    st.fixed_dictionaries(
        {"choices": st.lists(as_object(CHOICE), max_size=2) | anything},
        optional={
            "usage": USAGE | anything,
            "delta": anything,
            "response": as_object(table_of("usage", "status")),
        },
    )
)


@given(chunks=st.lists(CHUNK, max_size=5), ending=st.sampled_from(["finish", "break_off", "fail"]))
@tried()
def test_a_stream_of_litellms_is_charged_however_it_ends(chunks: list[Any], ending: str) -> None:
    with step("plan", max_usd=10**9) as plan:
        meter = Meter(opened(plan), None)
        for chunk in chunks:
            meter.see(chunk)
            meter.call.progress(meter.output_tokens)
        getattr(meter, ending)()
        assert_charged_once(plan, said_text=bool(meter.text))


@given(
    usage=USAGE | nested(),
    told=table_of(
        "token_usage", "model_name", "service_tier", "response_cost", "finish_reason", "status", "usage"
    ),
    said=st.sampled_from(["", TEXT]),
    is_chat=st.booleans(),
)
@example(usage={"input_tokens": 10**30, "output_tokens": 5}, told={}, said=TEXT, is_chat=True)
@example(
    usage={"input_tokens": 5, "output_tokens": 5, "input_token_details": {7: 1}},
    told={},
    said="",
    is_chat=True,
)
@example(
    usage={"input_tokens": 5, "output_tokens": 5}, told={"response_cost": 10**400}, said="", is_chat=True
)
@tried()
def test_an_answer_of_langchains_is_charged(
    usage: Any, told: dict[str, Any], said: str, is_chat: bool
) -> None:
    if is_chat:
        message = AIMessage(said)
        message.usage_metadata = usage
        message.response_metadata = told
        answer: Generation = ChatGeneration(message=message)
        result = LLMResult(generations=[[answer]], llm_output=None)
    else:
        answer = Generation(text=said, generation_info=told)
        result = LLMResult(generations=[[answer]])
        result.llm_output = {"token_usage": usage}
    with step("plan", max_usd=10**9) as plan:
        call = opened(plan)
        langchain_answers.settle(call, result, uuid4())
        if isinstance(usage, dict) and usage.get("total_cost") == 0:
            return  # the mark of LangChain's own cache
        assert_charged_once(plan, said_text=bool(said))


@given(
    answer=st.fixed_dictionaries(
        {"usage": USAGE | anything}, optional={"content": anything, "stop_reason": anything}
    )
    | as_object(table_of("usage", "content", "choices", "_hidden_params")),
    kind=st.sampled_from(list(CALL_TYPES)),
    cost=st.none() | atoms,
)
@tried()
def test_an_answer_of_the_proxys_is_charged(answer: Any, kind: Any, cost: Any) -> None:
    with step("plan", max_usd=10**9) as plan:
        charging.settle(opened(plan), kind, answer, cost=cost)
        assert plan.usage.calls == 1
        assert plan.usage.cost_usd >= 0
        assert plan.account.open_calls == 0
        if CALL_TYPES[kind].answers_in_words:
            assert plan.usage.input_tokens > 0


def as_event(table: dict[str, Any]) -> bytes:
    """Put a table on the wire as Anthropic does."""
    return b"data: " + json.dumps(table, default=str, skipkeys=True).encode() + b"\n\n"


EVENT = table_of("delta", "usage", "message") | st.fixed_dictionaries(
    {"usage": table_of("input_tokens", "output_tokens")}
)


@given(chunks=st.lists(st.binary(max_size=60) | EVENT | EVENT.map(as_event), max_size=6))
@tried()
def test_a_stream_of_anthropics_may_be_anything(chunks: list[Any]) -> None:
    with step("plan", max_usd=10**9) as plan:
        meter = MessageMeter(opened(plan))
        for chunk in chunks:
            meter.see(chunk)
        meter.finish()
        assert_charged_once(plan, said_text=bool(meter.text))


@given(cost=anything)
@tried()
def test_a_cost_that_no_call_has_is_not_stated(cost: Any) -> None:
    stated = usd_in(cost)
    assert stated is None or 0 < stated <= MOST_USD


@given(model=st.text(max_size=60) | anything.filter(lambda value: isinstance(value, str)))
@tried()
def test_a_model_may_be_called_anything(model: str) -> None:
    cost = pricing.cost_usd(model, read_usage({"prompt_tokens": 5, "completion_tokens": 5}))
    assert cost is None or cost > 0
    messages = [{"role": "user", "content": "one two three"}]
    with step("plan", max_tokens=1000) as plan:
        call = new_call(request_of("chat", model, messages, {"max_tokens": 100}))
        call.admit()
        litellm_answers.settle(call, {"usage": {"prompt_tokens": 5, "completion_tokens": 5}, "model": model})
        assert plan.usage.total_tokens == 10
