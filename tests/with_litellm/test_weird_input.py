"""Input that makes no sense, or little, ends as it does without us."""

from __future__ import annotations

import gc
import re
from collections.abc import Callable
from copy import deepcopy
from typing import Any

import litellm
import pytest
from calling import ASK, arguments, call, run
from litellm import Message

import steptrack_callbacks as steptrack
from internals import left_on
from provider import Provider
from steptrack_callbacks import BudgetExhausted, step
from steptrack_callbacks.litellm.entry_points import enclosing_call


def outcome(make: Callable[[], Any]) -> Any:
    """Tell what came of a call: the class of its error, or of its answer."""
    try:
        return type(make()).__name__
    except Exception as error:
        return type(error).__name__


WEIRD: list[tuple[str, dict[str, Any]]] = [
    ("completion", {"messages": None}),
    ("completion", {"messages": []}),
    ("completion", {"messages": tuple(ASK)}),
    ("completion", {"messages": [{"role": "user"}]}),
    ("completion", {"messages": [{"role": "user", "content": None}]}),
    ("completion", {"messages": [{"role": "user", "content": 7}]}),
    ("completion", {"messages": [{"role": "user", "content": [{"type": "text"}, "x", None]}]}),
    ("completion", {"messages": "hello"}),
    ("completion", {"messages": [None]}),
    ("completion", {"messages": {"role": "user", "content": "hello"}}),
    ("completion", {"messages": iter(ASK)}),
    ("completion", {"model": None}),
    ("completion", {"model": ""}),
    ("completion", {"model": 5}),
    ("completion", {"stream": "yes"}),
    ("completion", {"stream": 1}),
    ("completion", {"max_tokens": "5"}),
    ("completion", {"max_tokens": -5}),
    ("completion", {"max_tokens": 0}),
    ("completion", {"max_tokens": 5.5}),
    ("completion", {"max_tokens": True}),
    ("completion", {"max_tokens": 10**30}),
    ("completion", {"n": "2"}),
    ("completion", {"n": 0}),
    ("completion", {"n": -1}),
    ("completion", {"tools": "search"}),
    ("completion", {"tools": [None]}),
    ("completion", {"tools": {"type": "function"}}),
    ("completion", {"tools": 5}),
    ("completion", {"service_tier": 5}),
    ("completion", {"input_cost_per_token": "much", "output_cost_per_token": "more"}),
    ("completion", {"input_cost_per_token": -1, "output_cost_per_token": float("nan")}),
    ("completion", {"stream": True, "stream_options": "usage"}),
    ("completion", {"stream": True, "stream_options": {}}),
    ("completion", {"stream": True, "api_base": ["nowhere"]}),
    ("completion", {"fallbacks": "x"}),
    ("completion", {"unknown_argument": object()}),
    ("text_completion", {"prompt": None}),
    ("text_completion", {"prompt": [1, 2, 3]}),
    ("text_completion", {"prompt": ["one", "two"]}),
    ("text_completion", {"prompt": [[1, 2], [3]]}),
    ("text_completion", {"prompt": 5}),
    ("text_completion", {"best_of": "x"}),
    ("embedding", {"input": None}),
    ("embedding", {"input": [[1, 2], [3]]}),
    ("embedding", {"input": []}),
    ("embedding", {"input": 5}),
    ("responses", {"input": None}),
    ("responses", {"input": []}),
    ("responses", {"input": [{"type": "function_call_output", "call_id": "x", "output": "y"}]}),
    ("responses", {"input": 5}),
    ("responses", {"instructions": 5}),
    ("responses", {"max_output_tokens": "5"}),
]


@pytest.mark.filterwarnings("ignore::UserWarning:pydantic.main")
@pytest.mark.parametrize(
    ("name", "given"),
    WEIRD,
    ids=[re.sub(" object at 0x.*", ">", f"{name}-{given}")[:60] for name, given in WEIRD],
)
def test_what_makes_no_sense_ends_as_it_does_without_us(
    name: str, given: dict[str, Any], provider: Provider, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(litellm, "model_cost", deepcopy(litellm.model_cost))
    provider.behave(output_tokens=3)

    def make() -> Any:
        return getattr(litellm, name)(**(arguments(name, provider) | given))

    async def make_async() -> Any:
        return await getattr(litellm, f"a{name}")(**(arguments(name, provider) | given))

    steptrack.uninstall()
    plain, plain_async = outcome(make), outcome(lambda: run(make_async()))
    steptrack.install()
    with step("plan", max_tokens=10**6, max_usd=100, unpriced="free") as plan:
        assert outcome(make) == plain
        assert outcome(lambda: run(make_async())) == plain_async
        gc.collect(1)
        assert left_on(plan.account) == {}
    assert enclosing_call() is None


def test_messages_may_be_litellms_own_objects(provider: Provider) -> None:
    question = Message(role="user", content=" word" * 100)
    with step("plan", max_tokens=1000) as plan:
        call("completion", provider, messages=[question])
        assert plan.usage.calls == 1
    with step("plan", max_tokens=50), pytest.raises(BudgetExhausted):
        call("completion", provider, messages=[question])
    assert provider.count() == 1


def test_no_arguments_at_all_are_an_error_of_the_users() -> None:
    for name in ("completion", "text_completion", "embedding", "responses"):
        users = (LookupError, TypeError, ValueError, litellm.BadRequestError)
        with step("plan", max_tokens=1000), pytest.raises(users):
            getattr(litellm, name)()
