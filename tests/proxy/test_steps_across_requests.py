"""A step on the proxy lives across requests, within the key that has opened it."""

import time
from urllib.parse import quote

import pytest
from endpoints import ENDPOINTS, error_in

from steptrack_callbacks.integrations.proxy_client import encoded

CHAT = ENDPOINTS["chat"]


def test_a_step_goes_on_with_the_next_request(served, run):
    for _ in range(2):
        assert CHAT.ask(served, run, "answer/write")[0] == 200
    assert CHAT.ask(served, run, "answer")[0] == 200
    steps = served.run(run)
    assert steps["answer"]["calls"] == 3
    assert steps["answer"]["steps"] == [steps["answer/write"]]
    assert steps["answer/write"]["calls"] == 2


def test_a_closed_step_and_all_under_it_admit_no_more(served, provider, run):
    for path in ("answer", "answer/write", "answers"):
        assert CHAT.ask(served, run, path)[0] == 200
    status, _, said = served.send(f"/steptrack/runs/{run}/steps/answer/close", {})
    assert (status, sorted(said["closed"])) == (200, ["answer", "answer/write"])
    for path in ("answer", "answer/write", "answer/new/one"):
        status, _, body = CHAT.ask(served, run, path)
        assert (status, error_in(body)["provider_specific_fields"]["error"]["phase"]) == (402, "closed")
    assert CHAT.ask(served, run, "answers")[0] == 200
    assert provider.count() == 4
    assert served.run(run)["answer/write"]["status"] == "closed"


@pytest.mark.parametrize("name", ["a/b", "x/steps/y", "a%2Fb", "über uns"])
def test_a_run_may_be_called_anything_and_only_its_own_steps_are_closed(served, run, name):
    named = f"{run}/{name}"
    assert CHAT.ask(served, encoded(named), "answer")[0] == 200
    assert CHAT.ask(served, encoded(f"{run}/x"), "y/steps/answer")[0] == 200
    address = f"/steptrack/runs/{quote(named, safe='')}"
    assert served.send(address)[2]["run"] == named
    assert served.send(f"{address}/steps/answer/close", {})[0] == 200
    assert CHAT.ask(served, encoded(named), "answer")[0] == 402
    assert CHAT.ask(served, encoded(f"{run}/x"), "y/steps/answer")[0] == 200


def test_a_step_may_be_closed_before_it_was_opened(served, run):
    assert served.send(f"/steptrack/runs/{run}/steps/never/close", {})[0] == 200
    assert CHAT.ask(served, run, "never")[0] == 402


def test_a_step_ends_by_its_max_seconds(served, run):
    assert CHAT.ask(served, run, "brief")[0] == 200
    began = served.run(run)["brief"]["opened_at"]
    while time.time() < began + 0.25:
        time.sleep(0.01)  # until the time is over, by the clock that the proxy goes by
    status, _, body = CHAT.ask(served, run, "brief")
    assert (status, error_in(body)["provider_specific_fields"]["error"]["limit"]) == (402, "max_seconds")


def test_another_key_sees_nothing_of_it(served, provider, run, key):
    for _ in range(2):
        assert CHAT.ask(served, run, "twice")[0] == 200
    assert CHAT.ask(served, run, "twice", key=key)[0] == 200
    assert served.run(run, key)["twice"]["calls"] == 1
    status, _, body = served.send(f"/steptrack/runs/{run}", key=f"{key}-other")
    assert (status, body["detail"]["error"]["message"]) == (404, f"this key has no run '{run}'")


def test_the_routes_want_a_key(served, run):
    for key in (None, "nonsense"):
        assert served.send(f"/steptrack/runs/{run}", key=key)[0] == 401
        assert served.send(f"/steptrack/runs/{run}/steps/x/close", {}, key=key)[0] == 401


def test_a_key_may_have_only_so_many_steps_open(served, provider, key, run):
    """Most of them hang in one path, which needs one request."""
    deep = "/".join(f"s{number}" for number in range(200))
    assert CHAT.ask(served, f"{run}-1", deep, key=key)[0] == 200
    assert CHAT.ask(served, f"{run}-2", deep, key=key)[0] == 200
    status, _, body = CHAT.ask(served, f"{run}-3", "one-more", key=key)
    assert (status, error_in(body)["type"]) == (403, "step_denied")
    assert served.send(f"/steptrack/runs/{run}-1/steps/s0/close", {}, key=key)[0] == 200
    assert CHAT.ask(served, f"{run}-3", "one-more", key=key)[0] == 200
    assert provider.count() == 3


def test_a_budget_of_a_key_holds_whatever_its_runs_are_called(served, provider, run, key):
    for number in range(2):
        assert CHAT.ask(served, f"{run}-{number}", "budgeted", key=key)[0] == 200
    status, _, body = CHAT.ask(served, f"{run}-new", "budgeted", key=key)
    fields = error_in(body)["provider_specific_fields"]["error"]
    assert (status, fields["budget"], fields["limit"]) == (402, "few", "max_calls")
    assert fields["resets_at"] is not None
    assert CHAT.ask(served, run, "budgeted", key=f"{key}-other")[0] == 200


def test_a_persona_is_a_step_around_and_its_stage_limits_what_is_in_it(served, provider, run):
    def ask(step, persona="writer"):
        return served.send("/v1/chat/completions", BODY, run=run, step=step, persona=persona)[0]

    assert ask("research") == 200
    assert ask("research") == 402  # max_iterations
    assert ask("other") == 200
    assert ask("writer/other") == 200
    assert ask("third") == 402  # the persona's own limit
    assert served.run(run)["writer"]["calls"] == provider.count() == 3


def test_tools_that_a_stage_does_not_allow_are_taken_out(served, provider, run):
    tools = [
        {"type": "function", "function": {"name": name, "parameters": {}}} for name in ("search", "delete")
    ]
    body = {**BODY, "tools": tools}
    assert served.send("/v1/chat/completions", body, run=run, step="research", persona="writer")[0] == 200
    assert [tool["function"]["name"] for tool in provider.requests[0].body["tools"]] == ["search"]
    forced = {**body, "tool_choice": {"type": "function", "function": {"name": "delete"}}}
    status, _, said = served.send("/v1/chat/completions", forced, run=run, step="research", persona="writer")
    assert (status, error_in(said)["type"]) == (403, "tool_denied")
    assert provider.count() == 1


def test_a_client_may_lower_a_limit_and_not_raise_it(served, provider, run):
    def ask(step, max_usd):
        return served.send("/v1/chat/completions", BODY, run=run, step=step, max_usd=max_usd)

    status, _, body = ask("free", "0.0000001")
    fields = error_in(body)["provider_specific_fields"]["error"]
    assert (status, fields["limit"], fields["limit_value"]) == (402, "max_usd", 1e-07)
    assert ask("free", "0.1")[0] == 200
    assert ask("dollars", "100")[1]["x-steptrack-remaining-usd"] < "0.001"


def test_litellms_own_session_is_the_run_of_a_client_that_names_none(served, run):
    client = served.client()
    client.chat.completions.create(
        model="fast", messages=BODY["messages"], extra_headers={"x-litellm-session-id": run}
    )
    assert served.run(run)["run"]["calls"] == 1


def test_a_request_without_any_run_is_charged_to_budgets_only(served, key):
    answer = served.client(key).chat.completions.with_raw_response.create(
        model="fast", messages=BODY["messages"]
    )
    assert float(answer.headers["x-steptrack-remaining-usd"]) < 5


def test_the_body_may_name_the_step(served, run):
    body = {**BODY, "metadata": {"steptrack": {"run": run, "step": "answer"}}}
    assert served.send("/v1/chat/completions", body)[0] == 200
    assert served.run(run)["answer"]["calls"] == 1


def test_nonsense_is_told_with_the_fix(served, provider, run):
    for headers, words in (
        ({"step": "plan"}, "send x-steptrack-run with it"),
        ({"run": run, "step": "a//b"}, "names joined with '/'"),
        ({"run": run, "step": "a", "max_usd": "lots"}, "must be US dollars"),
        ({"run": run, "persona": "a/b"}, "one name"),
        ({"run": "%ff"}, "percent-encoded"),
        ({"run": run, "setp": "plan"}, "x-steptrack-setp: is not a known header; did you mean"),
        ({"run": run, "owner": "me"}, "known are x-steptrack-run, x-steptrack-step"),
        ({"run": ""}, "x-steptrack-run: must be 1 to 256"),
        ({"run": run, "max_usd": "-1"}, "must be US dollars, 0 or more"),
    ):
        status, _, body = served.send("/v1/chat/completions", BODY, **headers)
        assert (status, error_in(body)["type"]) == (400, "invalid_request_error")
        assert words in error_in(body)["message"]
    for claimed, words in (
        ({"run": ""}, "metadata.steptrack.run: must be 1 to 256"),
        ({"run": run, "step": "a//b"}, "metadata.steptrack.step: must be names"),
        ({"run": run, "persona": "a/b"}, "metadata.steptrack.persona: must be one name"),
        ({"run": run, "max_usd": -1}, "metadata.steptrack.max_usd: must be US dollars"),
    ):
        status, _, body = served.send("/v1/chat/completions", {**BODY, "metadata": {"steptrack": claimed}})
        assert status == 400
        assert words in error_in(body)["message"]
    assert provider.count() == 0


BODY = {"model": "fast", "messages": [{"role": "user", "content": "hello"}]}
