"""An agent does its work with the dear model, goes on with the cheap one, and closes from what is kept back."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from decimal import Decimal
from typing import Any

import pytest
from agents import HELLO, ScriptedChat, by_path, last, look
from langchain.agents import create_agent
from langchain.agents.middleware import ModelFallbackMiddleware, ModelRetryMiddleware
from langchain_openai import ChatOpenAI
from langgraph.checkpoint.memory import InMemorySaver
from test_running_low_on_loopback import assert_taken

from provider import Provider
from steptrack_callbacks import BudgetExhausted, peek_completed_steps, step
from steptrack_callbacks.langchain import budgeted
from steptrack_callbacks.langgraph import StepBudgetMiddleware

DEAR_USD = 100 * Decimal("2.5e-6") + 200 * Decimal("1e-5")  # of gpt-4o
CHEAP_USD = DEAR_USD * Decimal("0.06")
LADDER = ["gpt-4o", "gpt-4o-mini"]


@pytest.fixture
def provider() -> Iterator[Provider]:
    with Provider(tool="look") as provider:
        yield provider


def chat(provider: Provider, model: str = "gpt-4o", **options: Any) -> ChatOpenAI:
    given = {"base_url": provider.url, "api_key": "none", "max_retries": 0, "max_tokens": 200}
    return ChatOpenAI(model=model, **{**given, **options})


def models_at(provider: Provider) -> list[str]:
    return [request.body["model"] for request in provider.requests]


def billed(provider: Provider) -> Decimal:
    """Sum up what the provider takes for what it has answered."""
    return sum((CHEAP_USD if "mini" in model else DEAR_USD for model in models_at(provider)), Decimal(0))


async def _streamed(agent: Any, config: Any) -> Any:
    async for state in agent.astream(HELLO, config, stream_mode="values"):
        answer = state
    return answer


def run(agent: Any, mode: str) -> Any:
    config: Any = {"recursion_limit": 200}
    if mode == "invoke":
        return agent.invoke(HELLO, config)
    if mode == "stream":
        return list(agent.stream(HELLO, config, stream_mode="values"))[-1]
    if mode == "batch":
        return agent.batch([HELLO], config)[0]
    return asyncio.run(agent.ainvoke(HELLO, config) if mode == "ainvoke" else _streamed(agent, config))


MODES = ["invoke", "ainvoke", "stream", "astream", "batch"]


@pytest.mark.parametrize("given", ["names", "models"])
@pytest.mark.parametrize("mode", MODES)
def test_the_program_of_an_agent_whose_money_runs_low(mode: str, given: str, provider: Provider) -> None:
    """With $X it works with the dear model, from 80% on with the cheap one, and closes from what is kept back."""
    big, small = chat(provider), chat(provider, "gpt-4o-mini")
    kept_back = CHEAP_USD * 2
    budget = StepBudgetMiddleware(
        "research",
        max_usd=DEAR_USD * 3 + kept_back,
        wrap_up_usd=kept_back,
        models=LADDER if given == "names" else [big, small],
        downgrade_at=0.65,
        closing_turn=True,
        tell=True,
        error_boundary="continue",
    )
    answer = run(create_agent(big, [look], system_prompt="Look.", middleware=[budget]), mode)
    bodies = [request.body for request in provider.requests]
    sent = models_at(provider)
    assert sent[:2] == ["gpt-4o", "gpt-4o"]
    assert set(sent[2:]) == {"gpt-4o-mini"}
    assert len(sent) > 10
    for body in bodies:
        assert_taken(body["messages"])
    for before, after in zip(bodies, bodies[1:], strict=False):
        prefix = before["messages"][:-1]
        assert after["messages"][: len(prefix)] == prefix
    assert [body.get("tool_choice") for body in bodies] == [None] * (len(bodies) - 1) + ["none"]
    assert "the last turn" in bodies[-1]["messages"][-1]["content"]
    assert last(answer)
    record = by_path()["research"]
    assert (record.usage.calls, record.usage.cost_usd) == (len(sent), billed(provider))
    assert record.usage.cost_usd <= DEAR_USD * 3 + kept_back
    assert sum(swap.calls for swap in record.swaps) == len(sent) - 2
    answers = [
        message for message in answer["messages"] if message.type == "ai" and message.response_metadata
    ]
    told = [message.response_metadata.get("steptrack_swap", {}).get("used") for message in answers]
    assert told[:3] == [None, None, "gpt-4o-mini"]


@pytest.mark.parametrize("mode", ["invoke", "ainvoke"])
def test_a_list_of_a_step_around_the_agent_counts(mode: str, provider: Provider) -> None:
    agent = create_agent(chat(provider), [look], middleware=[StepBudgetMiddleware("research", max_calls=3)])
    with step("answer", max_usd=1, models=LADDER, downgrade_at=0), pytest.raises(BudgetExhausted):
        run(agent, mode)
    assert models_at(provider) == ["gpt-4o-mini"] * 3


def test_a_middleware_inside_that_retries_or_falls_back_leaves_it_to_the_list(provider: Provider) -> None:
    inside = [
        ModelRetryMiddleware(max_retries=2, initial_delay=0),
        ModelFallbackMiddleware(chat(provider, "o3")),
    ]
    budget = StepBudgetMiddleware(
        "research", max_usd=DEAR_USD, models=LADDER, downgrade_at=0, max_calls=3, error_boundary="continue"
    )
    create_agent(chat(provider), [look], middleware=[budget, *inside]).invoke(HELLO)
    assert models_at(provider) == ["gpt-4o-mini"] * 3


def test_a_thread_goes_on_with_the_cheap_model_in_its_next_turn(provider: Provider) -> None:
    budget = StepBudgetMiddleware(
        "research",
        max_usd=1,
        run_limit=2,
        models=LADDER,
        downgrade_at=float(DEAR_USD),
        error_boundary="continue",
    )
    agent = create_agent(chat(provider), [look], middleware=[budget], checkpointer=InMemorySaver())
    config: Any = {"configurable": {"thread_id": "1"}}
    for _ in range(2):
        agent.invoke(HELLO, config)
    assert models_at(provider) == ["gpt-4o", *["gpt-4o-mini"] * 3]


@pytest.mark.parametrize("mode", MODES)
def test_an_agent_in_budgeted_closes_and_goes_on_cheaper_by_what_is_around_it(
    mode: str, provider: Provider
) -> None:
    closing = StepBudgetMiddleware(closing_turn=True, tell=True, models=LADDER, downgrade_at=0.5)
    agent = create_agent(chat(provider), [look], middleware=[closing])
    answer = run(budgeted(agent, "all", max_calls=4, wrap_up_calls=1, max_usd=DEAR_USD * 2), mode)
    bodies = [request.body for request in provider.requests]
    assert models_at(provider) == ["gpt-4o", *["gpt-4o-mini"] * 3]
    assert [body.get("tool_choice") for body in bodies] == [None, None, None, "none"]
    assert "model calls, this one included" in bodies[0]["messages"][-1]["content"]
    for body in bodies:
        assert_taken(body["messages"])
    assert last(answer)
    record = next(each for each in peek_completed_steps() if each.path == "all")
    assert (record.status, record.usage.calls, record.usage.cost_usd) == ("exhausted", 4, billed(provider))


def test_models_that_cannot_be_are_refused_at_once(provider: Provider) -> None:
    with pytest.raises(ValueError, match="models must be models with a name"):
        StepBudgetMiddleware("research", models=[chat(provider), create_agent(chat(provider))])


def test_names_may_have_their_provider_before_them_as_agents_take_them(provider: Provider) -> None:
    models = ["openai:gpt-4o", "openai:gpt-4o-mini"]
    budget = StepBudgetMiddleware("a", max_usd=1, run_limit=1, models=models, downgrade_at=0)
    with pytest.raises(BudgetExhausted):
        create_agent(chat(provider), [look], middleware=[budget]).invoke(HELLO)
    assert models_at(provider) == ["gpt-4o-mini"]


class Fixed(ScriptedChat):
    """A model that goes by one name, whatever it is given."""

    def _get_ls_params(self, stop: Any = None, **kwargs: Any) -> Any:
        return {**super()._get_ls_params(stop, **kwargs), "ls_model_name": "gpt-4o"}


def test_a_model_that_takes_no_other_name_asks_for_the_other_model_itself() -> None:
    budget = StepBudgetMiddleware("a", max_usd=1, models=LADDER, downgrade_at=0)
    agent = create_agent(Fixed(), middleware=[budget])
    with pytest.raises(ValueError, match="cannot be given the name 'gpt-4o-mini': give the model itself"):
        agent.invoke(HELLO)
