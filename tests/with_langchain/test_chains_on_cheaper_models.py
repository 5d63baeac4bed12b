"""`budgeted` goes on with the next of a step's models, in every mode; a plain call is refused with the cure."""

from __future__ import annotations

import asyncio
from decimal import Decimal
from typing import Any

import pytest
from asking import CALL_USD, FakeChat, chat
from langchain_core.language_models import FakeListChatModel
from langchain_core.output_parsers import StrOutputParser
from langchain_core.prompts import ChatPromptTemplate
from langchain_core.runnables import ConfigurableField, RunnableLambda, RunnableParallel

import steptrack_callbacks as steptrack
from provider import Provider
from steptrack_callbacks import BudgetExhausted, drain_completed_steps, step
from steptrack_callbacks.hooks import CallDenied, on
from steptrack_callbacks.langchain import budgeted

MINI_USD = CALL_USD * Decimal("0.06")
LADDER = ["gpt-4o", "gpt-4o-mini"]
MODES = ["invoke", "ainvoke", "stream", "astream", "batch", "abatch", "transform", "atransform"]


def models_at(provider: Provider) -> list[str]:
    return [request.body["model"] for request in provider.requests]


async def _ask_async(runnable: Any, mode: str) -> Any:
    if mode == "abatch":
        return (await runnable.abatch(["hello"]))[0]
    if mode == "ainvoke":
        return await runnable.ainvoke("hello")

    async def said() -> Any:
        yield "hello"

    chunks = runnable.astream("hello") if mode == "astream" else runnable.atransform(said())
    return _joined([chunk async for chunk in chunks])


def _joined(chunks: list[Any]) -> Any:
    whole = chunks[0]
    for chunk in chunks[1:]:
        whole += chunk
    return whole


def ask_thrice(runnable: Any, mode: str) -> list[Any]:
    """Ask three times, on one event loop if on any: clients do not outlive theirs."""

    async def main() -> list[Any]:
        return [await _ask_async(runnable, mode) for _ in range(3)]

    return asyncio.run(main()) if mode.startswith("a") else [ask(runnable, mode) for _ in range(3)]


def ask(runnable: Any, mode: str) -> Any:
    if mode.startswith("a"):
        return asyncio.run(_ask_async(runnable, mode))
    if mode == "batch":
        return runnable.batch(["hello"])[0]
    if mode == "invoke":
        return runnable.invoke("hello")
    chunks = runnable.stream("hello") if mode == "stream" else runnable.transform(iter(["hello"]))
    return _joined(list(chunks))


def capped(provider: Provider, model: str = "gpt-4o", **options: Any) -> Any:
    return chat(provider, model=model, max_tokens=200, **options)


@pytest.fixture(params=["models", "names", "bound", "configurable"])
def pair(request: pytest.FixtureRequest, provider: Provider) -> tuple[Any, list[Any]]:
    """A model, and the list that it is the first of."""
    big, small = capped(provider), capped(provider, "gpt-4o-mini")
    if request.param == "models":
        return big, [big, small]
    if request.param == "bound":
        return big.bind(user="me"), [big.bind(user="me"), small.bind(user="me")]
    if request.param == "configurable":
        return big.configurable_fields(model_name=ConfigurableField(id="model")), LADDER
    return big, LADDER


@pytest.mark.parametrize("mode", MODES)
def test_a_call_that_does_not_fit_is_made_with_the_next_model(
    mode: str, pair: tuple[Any, list[Any]], provider: Provider
) -> None:
    model, models = pair
    denied: list[CallDenied] = []
    off = on(CallDenied, denied.append)
    with step("answer", max_usd=CALL_USD * Decimal("1.9")) as answer:
        asking = budgeted(model, "ask", models=models, downgrade_at=0.5)
        answers = ask_thrice(asking, mode)
        assert models_at(provider) == ["gpt-4o", "gpt-4o-mini", "gpt-4o-mini"]
        assert answer.cost_usd == CALL_USD + 2 * MINI_USD
    off()
    assert not denied
    told = {"asked": "gpt-4o", "used": "gpt-4o-mini", "why": "downgrade_at"}
    assert [each.response_metadata.get("steptrack_swap") for each in answers] == [None, told, told]
    swaps = [record.swaps for record in drain_completed_steps() if record.name == "ask"]
    assert [len(each) for each in swaps] == [0, 1, 1]


@pytest.mark.parametrize("mode", MODES)
def test_what_has_no_room_is_refused_for_one_model_and_sent_with_the_next(
    mode: str, provider: Provider
) -> None:
    capped(provider).invoke("hello")  # so that more is known of both than guesses
    capped(provider, "gpt-4o-mini").invoke("hello")
    provider.requests.clear()
    asking = budgeted(capped(provider), "ask", models=LADDER, max_usd=CALL_USD / 2)
    answer = ask(asking, mode)
    assert models_at(provider) == ["gpt-4o-mini"]
    assert answer.response_metadata["steptrack_swap"]["why"] == "max_usd"
    record = drain_completed_steps()[-1]
    assert (record.denied_calls, record.status, record.usage.cost_usd) == (0, "completed", MINI_USD)


@pytest.mark.parametrize("mode", MODES)
def test_what_fits_with_no_model_is_refused_once(mode: str, provider: Provider) -> None:
    asking = budgeted(
        capped(provider), "ask", models=LADDER, max_usd=1e-9, error_boundary="continue", default="none"
    )
    assert ask(asking, mode) == "none"
    assert not provider.requests
    (record,) = drain_completed_steps()
    assert (record.denied_calls, record.status) == (1, "continued")


def test_a_list_of_a_step_around_counts_and_its_names_are_put_into_a_copy(provider: Provider) -> None:
    with step("answer", max_usd=1, models=LADDER, downgrade_at=0):
        budgeted(capped(provider, temperature=0.5), "ask").invoke("hello")
    (sent,) = provider.requests
    assert (sent.body["model"], sent.body["temperature"]) == ("gpt-4o-mini", 0.5)


def test_a_sequence_with_one_model_goes_on_as_well(provider: Provider) -> None:
    chain = ChatPromptTemplate.from_template("{text}") | capped(provider) | StrOutputParser()
    asking = budgeted(chain, "ask", models=LADDER, max_usd=1, downgrade_at=0)
    assert asking.invoke({"text": "hello"})
    assert models_at(provider) == ["gpt-4o-mini"]


def test_a_model_that_is_chosen_by_the_configuration_is_the_one_that_is_asked_for(provider: Provider) -> None:
    model = capped(provider).configurable_fields(model_name=ConfigurableField(id="llm"))
    asking = budgeted(model, "ask", models=["gpt-4o", "gpt-4.1", "gpt-4o-mini"], max_usd=1, downgrade_at=0)
    asking.invoke("hello", {"configurable": {"llm": "gpt-4.1"}})
    asking.invoke("hello", {"configurable": {"llm": "o3"}})
    assert models_at(provider) == ["gpt-4o-mini", "o3"]


def test_a_model_that_cannot_take_an_image_is_passed_over(provider: Provider) -> None:
    image = {"type": "image_url", "image_url": {"url": "data:image/png;base64,aa"}}
    models = ["gpt-4o", "gpt-3.5-turbo", "gpt-4o-mini"]
    asking = budgeted(capped(provider), "ask", models=models, max_usd=1, downgrade_at=0)
    asking.invoke([("user", [image])])
    asking.invoke("hello")
    assert models_at(provider) == ["gpt-4o-mini", "gpt-3.5-turbo"]


def test_the_history_is_the_same_so_that_its_prefix_is(provider: Provider) -> None:
    asking = budgeted(capped(provider), "ask", models=LADDER, max_usd=1, downgrade_at=0)
    asking.invoke([("system", "be brief"), ("user", "hello")])
    capped(provider).invoke([("system", "be brief"), ("user", "hello")])
    after, before = (request.body for request in provider.requests)
    assert after == {**before, "model": "gpt-4o-mini"}


def test_a_plain_call_is_refused_as_usual_and_says_what_would_go_on(provider: Provider) -> None:
    steptrack.install()
    try:
        with step("answer", max_usd=1e-9, models=LADDER) as answer:
            with pytest.raises(
                BudgetExhausted, match=r"give the models to budgeted\(model, models=\[...\]\)"
            ):
                capped(provider).invoke("hello")
            assert answer.record().denied_calls == 1
    finally:
        steptrack.uninstall()
    assert not provider.requests


class Nameless(FakeListChatModel):
    """A model that says nothing of its name."""


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda p: budgeted(RunnableLambda(str), models=LADDER), "with exactly one, not RunnableLambda:"),
        (
            lambda p: budgeted(RunnableParallel(a=capped(p), b=capped(p)), models=LADDER),
            "with exactly one, not RunnableParallel:",
        ),
        (
            lambda p: budgeted(capped(p), models=[capped(p), RunnableLambda(str)]),
            "must be models with a name, .* not RunnableLambda$",
        ),
        (lambda p: budgeted(capped(p), models=[capped(p), Nameless(responses=["a"])]), "with a name"),
        (lambda p: budgeted(capped(p), models=[capped(p), capped(p)]), "names gpt-4o twice"),
        (lambda p: budgeted(capped(p), models="gpt-4o"), "models must be a list of names"),
    ],
)
def test_what_cannot_be_done_is_said_at_once(make: Any, says: str, provider: Provider) -> None:
    with pytest.raises(ValueError, match=says):
        make(provider)


class Claude(FakeChat):
    """A model of another provider."""

    model: str = "claude-haiku-4-5"

    def _get_ls_params(self, stop: Any = None, **kwargs: Any) -> Any:
        return {**super()._get_ls_params(stop, **kwargs), "ls_provider": "anthropic"}


def test_models_of_several_providers_are_refused_at_once(provider: Provider) -> None:
    with pytest.raises(
        ValueError, match="of anthropic and of openai, and a call goes on with the same provider"
    ):
        budgeted(capped(provider), models=[capped(provider), Claude()])
