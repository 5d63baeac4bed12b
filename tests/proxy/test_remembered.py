"""What the handler remembers of a deployment or a key goes as soon as it is no longer so, and is bounded."""

import warnings
from copy import deepcopy
from types import SimpleNamespace

import litellm
import pytest

from steptrack_callbacks.litellm_proxy import identity, requests
from steptrack_callbacks.litellm_proxy.identity import key_of
from steptrack_callbacks.litellm_proxy.requests import request_for

ASKED = {"model": "house", "messages": [{"role": "user", "content": "why is the sky blue?"}]}


def deployed(model="openai/gpt-4o-mini", **more):
    return {"model_name": "house", "litellm_params": {"model": model, "api_key": "none", **more}}


@pytest.fixture
def router(monkeypatch):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of what the proxy's own modules declare
        from litellm.proxy import proxy_server

    monkeypatch.setattr(litellm, "model_cost", deepcopy(litellm.model_cost))  # where a Router puts its rates
    router = litellm.Router(model_list=[deployed()])
    monkeypatch.setattr(proxy_server, "llm_router", router)
    requests._groups.clear()
    return router


def deployments(router):
    return router.registry().all() if hasattr(router, "registry") else router.model_list  # from 1.110 on


def delete(router, deployment):
    identity = deployment["model_info"]["id"]
    if not hasattr(router, "registry"):
        router.delete_deployment(id=identity)
        return
    from litellm.router_api import ChangeSet

    router.apply(ChangeSet(delete=[identity]))


def asked(**more):
    return request_for("chat", {**ASKED, **more}, None)


def cost(request):
    return request.cost(1_000, 1_000)


def test_deployments_are_read_once_while_they_stay_as_they_are(router):
    asked()
    before = requests._groups["house", None]
    asked()
    assert requests._groups["house", None] is before


@pytest.mark.parametrize("place", ["litellm_params", "model_info"])
def test_a_rate_that_changes_within_a_deployment_is_seen_by_the_next_request(router, place):
    before = cost(asked())
    deployments(router)[0][place]["input_cost_per_token"] = 1.0
    assert cost(asked()) > 1_000 * before
    del deployments(router)[0][place]["input_cost_per_token"]
    assert cost(asked()) == before


def test_another_model_within_a_deployment_is_seen_by_the_next_request(router):
    asked()
    deployments(router)[0]["litellm_params"]["model"] = "openai/gpt-4o"
    assert asked().model == "openai/gpt-4o"


def test_a_deployment_that_comes_or_goes_is_seen_by_the_next_request(router):
    before = asked()
    router.add_deployment(litellm.Deployment(**deployed("openai/gpt-4o")))
    assert cost(asked()) > cost(before)
    delete(router, deployments(router)[1])
    assert cost(asked()) == cost(before)


def test_another_router_has_deployments_of_its_own(router, monkeypatch):
    asked()
    other = litellm.Router(model_list=[deployed("openai/gpt-4o")])
    monkeypatch.setattr(litellm.proxy.proxy_server, "llm_router", other)
    assert asked().model == "openai/gpt-4o"


def test_what_a_request_itself_says_of_its_model_is_not_taken_from_the_last_one(router):
    before = asked()
    assert asked(base_model="openai/gpt-4o").base_model == "openai/gpt-4o"
    assert cost(asked(input_cost_per_token=1.0)) > cost(before)
    assert cost(asked()) == cost(before)


def test_so_many_groups_are_remembered_and_no_more(router, monkeypatch):
    monkeypatch.setattr(requests, "MOST_GROUPS", 3)
    for number in range(10):
        request_for("chat", {**ASKED, "model": f"made-up-{number}"}, None)
        assert len(requests._groups) <= 3


def test_the_same_key_has_the_same_digest_and_another_has_another():
    first, second = (SimpleNamespace(api_key=key) for key in ("sk-one", "sk-two"))
    assert key_of(first) == key_of(first) != key_of(second)


def test_so_many_keys_are_remembered_and_no_more():
    for number in range(identity.MOST_REMEMBERED + 10):
        key_of(SimpleNamespace(api_key=f"sk-{number}"))
    assert identity._digest.cache_info().currsize == identity.MOST_REMEMBERED
