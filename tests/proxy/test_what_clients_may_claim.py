"""A client of the proxy says what it likes; what it says moves no charge, no price and no limit."""

import pytest
from endpoints import ASK, error_in
from litellm.proxy._types import UserAPIKeyAuth

from steptrack_callbacks.litellm_proxy.identity import key_of

CHAT = "/v1/chat/completions"
CALL_USD = 0.0000198  # 100 tokens in and 8 out of gpt-4o-mini


def ask(served, run, step="plan", *, persona=None, **options):
    named = {} if persona is None else {"persona": persona}
    return served.send(CHAT, {"model": "fast", "messages": ASK, **options}, run=run, step=step, **named)


def test_a_client_names_no_price_no_server_and_no_deployment(served, provider, run):
    free = {"input_cost_per_token": 0, "output_cost_per_token": 0}
    elsewhere = {"api_base": "http://127.0.0.1:9/v1"}
    for claimed in (
        free,
        elsewhere,
        {"extra_body": free},
        {"metadata": free},
        {"user_config": {"model_list": []}},
    ):
        assert ask(served, run, **claimed)[0] >= 400
    assert provider.count() == 0
    for claimed in (
        {"model_info": free},
        {"base_model": "gpt-3.5-turbo"},
        {"metadata": {"model_info": free}},
    ):
        assert ask(served, run, **claimed)[0] == 200
    assert served.settled(run, "plan")["cost_usd"] == pytest.approx(provider.count() * CALL_USD)


def test_what_belongs_to_the_proxy_is_not_the_clients_to_set(served, provider, run):
    claims = [
        {"litellm_logging_obj": {"model_call_details": {"steptrack_ticket": "mine"}}},
        {"steptrack_ticket": "mine"},
        {"proxy_server_request": {"headers": {"x-steptrack-run": "another"}}},
        {"callbacks": [], "success_callback": [], "no-log": True},
        {"litellm_call_id": "the-same"},
        {"litellm_call_id": "the-same"},
        {"litellm_metadata": {"user_api_key": "another", "user_api_key_hash": "another"}},
        {"metadata": {"user_api_key": "another", "user_api_key_team_id": "another"}},
    ]
    for claimed in claims:
        assert ask(served, run, **claimed)[0] == 200
    step = served.settled(run, "plan")
    assert (step["calls"], provider.count()) == (len(claims), len(claims))
    assert step["cost_usd"] == pytest.approx(len(claims) * CALL_USD)
    assert served.run("another") == {}


@pytest.mark.parametrize("where", ["beside", "in extra_body"])
def test_a_strict_limit_holds_wherever_the_request_says_how_much_it_wants(where, served, provider, run):
    for asked in (
        {"max_tokens": 100_000},
        {"max_completion_tokens": 1, "max_tokens": 100_000},
        {"max_tokens": 400, "n": 9},
    ):
        status, _, body = ask(
            served, run, "strict", **(asked if where == "beside" else {"extra_body": asked})
        )
        assert (status, error_in(body)["type"]) == (402, "budget_exhausted")
    assert provider.count() == 0
    assert ask(served, run, "strict", max_tokens=-1)[0] == 200
    assert 0 < provider.requests[0].body["max_tokens"] < 1000


def test_a_number_larger_than_any_ledger_can_store_is_refused_or_harmless(served, provider, run, key):
    for asked in (
        {"max_tokens": 10**30},
        {"max_tokens": 2**63},
        {"max_tokens": 1e300},
        {"n": -5},
        {"n": "9"},
    ):
        assert ask(served, run, "budgeted", **asked)[0] in (200, 400, 402)
    assert ask(served, run, "plan")[0] == 200


def test_a_tool_that_is_not_allowed_is_not_smuggled_in(served, provider, run):
    tool = {"type": "function", "function": {"name": "delete", "parameters": {}}}
    for number, claimed in enumerate(
        ({"tools": 5}, {"extra_body": {"tools": [tool]}}, {"tools": {"0": tool}})
    ):
        ask(served, f"{run}-{number}", "research", persona="writer", **claimed)
    assert [request.body.get("tools") for request in provider.requests] == [None] * provider.count()
    status, _, body = ask(
        served, f"{run}-9", "research", persona="writer",
        extra_body={"tools": [tool], "tool_choice": {"type": "function", "function": {"name": "delete"}}},
    )  # fmt: skip
    assert (status, error_in(body)["type"]) == (403, "tool_denied")


def test_a_claim_that_is_nonsense_is_told_so_and_breaks_nothing(served, provider, run):
    for claimed in (
        "[" * 5000,
        [],
        7,
        {"run": 7},
        {"run": {}},
        {"owner": "me"},
    ):
        status, _, body = ask(served, run, metadata={"steptrack": claimed})
        assert status == 400, claimed
        assert "steptrack" in error_in(body)["message"]
    ask(
        served, run, "research", persona="writer", tools=5, tool_choice="required"
    )  # LiteLLM stumbles over it
    assert provider.count() <= 1


def test_what_is_said_to_us_is_not_sent_to_the_provider(served, provider, run):
    assert ask(served, run, metadata={"steptrack": {"run": run, "step": "plan"}, "mine": "kept"})[0] == 200
    assert "steptrack" not in str(provider.requests[0].body)
    assert not [name for name in provider.requests[0].headers if "steptrack" in name.lower()]


def test_users_without_a_key_are_told_apart_by_who_they_are():
    """Whoever comes with a JWT has no key."""
    anna, ben = (UserAPIKeyAuth(api_key=None, user_id=user, team_id="one-team") for user in ("anna", "ben"))
    assert key_of(anna) != key_of(ben)
    assert key_of(anna) == key_of(UserAPIKeyAuth(api_key=None, user_id="anna", team_id="one-team"))
    assert key_of(anna) != key_of(UserAPIKeyAuth(api_key=None, user_id="anna", team_id="another"))
    assert key_of(UserAPIKeyAuth(api_key="sk-one", user_id="anna")) == key_of(
        UserAPIKeyAuth(api_key="sk-one")
    )
    assert "anna" not in key_of(anna)
