"""Models that LangChain knows by no name, or by that of a deployment: the refusal names the cure that works."""

from __future__ import annotations

from typing import Any

import pytest
from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage
from langchain_core.outputs import ChatGeneration, ChatResult
from langchain_openai import AzureChatOpenAI

import payloads
from payloads import U
from provider import Provider
from steptrack_callbacks import UnpricedModel, step


def azure(provider: Provider, **options: Any) -> AzureChatOpenAI:
    return AzureChatOpenAI(
        azure_endpoint=provider.url,
        azure_deployment="gpt_chat_updated",
        api_version="2024-10-21",
        api_key="none",
        max_retries=0,
        **options,
    )


def test_the_model_of_a_deployment_is_what_is_asked_for_and_what_helps(provider: Provider) -> None:
    with pytest.raises(UnpricedModel) as refused, step("plan", max_usd=1):
        azure(provider).invoke("hello")
    assert str(refused.value) == (
        "step 'plan' has a max_usd, but the price of model 'gpt_chat_updated' is unknown: if"
        " 'gpt_chat_updated' is a deployment, say which model it is of beside it: model=\"gpt-4o\", or say"
        " unpriced='warn' or 'free' on the step"
    )
    provider.behave(**payloads.chat(U, "gpt-4o-2024-08-06"))
    with step("plan", max_usd=1) as plan:
        azure(provider, model="gpt-4o").invoke("hello")
    assert float(plan.cost_usd) == 1_000 * 2.5e-6 + 500 * 1e-5


class Nameless(BaseChatModel):
    """A class of a user's own that does not say what its model is called."""

    @property
    def _llm_type(self) -> str:
        return "nameless"

    def _generate(
        self, messages: Any, stop: Any = None, run_manager: Any = None, **kwargs: Any
    ) -> ChatResult:
        told = {"input_tokens": 1_000, "output_tokens": 500, "total_tokens": 1_500}
        message = AIMessage(content="hi", usage_metadata=told)
        return ChatResult(generations=[ChatGeneration(message=message)])


class Named(Nameless):
    """The same with the field that the refusal speaks of."""

    model: str


def test_a_class_without_a_name_is_told_to_have_one_and_that_helps() -> None:
    with pytest.raises(UnpricedModel) as refused, step("plan", max_usd=1):
        Nameless().invoke("hello")
    assert 'set one that has a price, such as model="gpt-4o"' in str(refused.value)
    assert "install(prices" not in str(refused.value)
    with step("plan", max_usd=1) as plan:
        Named(model="gpt-4o").invoke("hello")
    assert float(plan.cost_usd) == 1_000 * 2.5e-6 + 500 * 1e-5


def test_a_model_with_a_name_of_its_own_is_offered_a_price_for_it() -> None:
    with pytest.raises(UnpricedModel, match=r"install\(prices=\{'our-own': "), step("plan", max_usd=1):
        Named(model="our-own").invoke("hello")
