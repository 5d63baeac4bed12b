"""Strict steps around models of LangChain, whose requests nobody may change: they say how to fit."""

from __future__ import annotations

import re

import pytest
from asking import chat

from provider import Provider
from steptrack_callbacks import BudgetExhausted, step


def test_a_model_without_max_tokens_is_told_which_fits_and_then_does(provider: Provider) -> None:
    with step("plan", max_tokens=5000, enforce="strict") as plan:
        with pytest.raises(BudgetExhausted) as caught:
            chat(provider).invoke("hello")
        found = re.search(r"give the model a max_tokens of at most (\d+)", str(caught.value))
        assert found is not None
        most = int(found[1])
        with pytest.raises(BudgetExhausted):
            chat(provider, max_tokens=most + 1).invoke("hello")
        chat(provider, max_tokens=most).invoke("hello")
    assert (plan.usage.calls, provider.count()) == (1, 1)
