"""What rides along in what frameworks copy and pickle is one call or run of this process, and stays it."""

from __future__ import annotations

import pickle
from copy import copy, deepcopy
from typing import Any

import pytest

from spending import request
from steptrack_callbacks import step
from steptrack_callbacks.engine.chain import AccountChain
from steptrack_callbacks.langgraph.terms import Terms
from steptrack_callbacks.langgraph.visits import Visit
from steptrack_callbacks.litellm_proxy.tickets import Ticket
from steptrack_callbacks.steps.attribution import new_call


def a_call() -> Any:
    with step("plan", max_usd=1):
        return new_call(request())


def a_request_to_the_proxy() -> Any:
    accounts: Any = None
    return Ticket("chat", AccountChain(()), accounts)


def a_run_of_an_agent() -> Any:
    terms: Any = Terms
    return Visit.of(terms)


@pytest.mark.parametrize("make", [a_call, a_request_to_the_proxy, a_run_of_an_agent])
def test_a_copy_of_what_it_sits_in_has_the_very_same_and_a_pickle_has_its_text(make: Any) -> None:
    one = make()
    assert copy(one) is one
    assert deepcopy({"logged": [one]})["logged"][0] is one
    assert pickle.loads(pickle.dumps({"logged": one})) == {"logged": str(one)}
