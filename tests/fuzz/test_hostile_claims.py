"""Whatever a client of the proxy claims, or a proxy answers: it is understood, or refused in our own words."""

from __future__ import annotations

import gc
import weakref
from decimal import Decimal
from typing import Any

import pytest
from hostile import TEXTS, anything, atoms, table_of, texts, tried
from hypothesis import assume, example, given
from hypothesis import strategies as st

from internals import point_at
from steptrack_callbacks import BudgetExhausted, ToolDenied, Usage, pricing, step
from steptrack_callbacks.config import ConfigError, load, parse
from steptrack_callbacks.engine.call import Call
from steptrack_callbacks.integrations import proxy_client
from steptrack_callbacks.ledgers import current
from steptrack_callbacks.litellm.call_types import CALL_TYPES
from steptrack_callbacks.litellm_proxy import accounts as proxy_accounts
from steptrack_callbacks.litellm_proxy.accounts import Accounts
from steptrack_callbacks.litellm_proxy.identity import Identity, MalformedIdentity, identity_of
from steptrack_callbacks.litellm_proxy.requests import request_from
from steptrack_callbacks.litellm_proxy.tools import narrow
from steptrack_callbacks.pricing import sources
from steptrack_callbacks.steps.tool_policy import ToolPolicy
from steptrack_callbacks.values.definitions import Stage
from steptrack_callbacks.values.usage import MOST_TOKENS

LIMITS = """
[budgets.per-key]
max_usd = 5
scope = "key"
[budgets.all]
max_usd = 50
[steps.plan]
max_usd = 1
budgets = ["per-key"]
[steps."a:b"]
max_usd = 2
[personas.writer]
max_calls = 3
budgets = ["all"]
[proxy]
budgets = ["per-key", "all"]
"""
CONFIG = parse(LIMITS)
NAMES = (
    st.sampled_from(
        ["plan", "writer", "a", "a:b", "a/b", "plan/writer", "..", "%2F", ":", "proxy", "run-1", "*"]
    )
    | texts
)
HEADERS = st.dictionaries(
    st.sampled_from(["x-steptrack-run", "X-StepTrack-Step", "x-steptrack-persona", "x-steptrack-max-usd"]) | texts,
    NAMES | st.sampled_from(["0.5", "-1", "1e400", "1e-400", "Infinity", "%ed%a0%80", "%00", "%0d%0aset-cookie:x"]),
    max_size=4,
)  # fmt: skip
CLAIMS = st.dictionaries(st.sampled_from(["run", "step", "persona", "max_usd"]), NAMES | atoms, max_size=4)
BODY = (
    st.none()
    | anything
    | st.fixed_dictionaries({"steptrack": CLAIMS | anything | st.sampled_from(["[" * 5000, '{"run": 1}'])})
)


@given(
    headers=HEADERS,
    metadata=BODY,
    litellm_metadata=BODY,
    session=st.none() | texts,
)
@example(headers={}, metadata={"steptrack": "[" * 100_000}, litellm_metadata=None, session=None)
@tried(300)
def test_a_claim_is_understood_or_refused(
    headers: Any, metadata: Any, litellm_metadata: Any, session: Any
) -> None:
    data = {
        "metadata": metadata,
        "litellm_metadata": litellm_metadata,
        "litellm_session_id": session,
        "proxy_server_request": {"headers": headers, "body": {}},
    }
    try:
        identity = identity_of("0123456789abcdef", data)
    except MalformedIdentity as refused:
        assert str(refused).isprintable() or refused.field  # noqa: PT017
        return
    assert identity.key == "0123456789abcdef"
    assert identity.run is None or identity.run.isprintable()
    assert all(name.isprintable() and "/" not in name for name in identity.path)
    assert identity.max_usd is None or identity.max_usd >= 0
    for holder in (metadata, litellm_metadata):
        assert not isinstance(holder, dict) or "steptrack" not in holder, (
            "what is ours is not sent to providers"
        )


SAID = NAMES.filter(lambda name: name.isprintable() and bool(name.strip()))


def identities(key: str) -> st.SearchStrategy[Identity]:
    path = st.lists(SAID.filter(lambda name: "/" not in name), min_size=1, max_size=3)
    return st.builds(
        Identity, key=st.just(key), run=SAID, path=path.map(tuple), persona=st.none() | SAID,
        max_usd=st.none() | st.decimals(0, 10, places=4),
    )  # fmt: skip


@given(mine=identities("a" * 16), yours=identities("b" * 16))
@tried(150)
def test_nothing_of_one_key_is_charged_to_another(mine: Identity, yours: Identity) -> None:
    accounts = Accounts(CONFIG, current.ledger())
    around = [accounts.around(identity) for identity in (mine, yours)]
    assert around[0] is not None
    assert around[1] is not None
    keys = [{account.replica.key for account in each.shared} for each in around]
    assert keys[0] & keys[1] <= {"budget::0:all"}


@given(one=identities("a" * 16), two=identities("a" * 16))
@tried(150)
def test_two_steps_of_a_key_never_share_an_account(one: Identity, two: Identity) -> None:
    assume((one.run, one.path) != (two.run, two.path))
    accounts = Accounts(CONFIG, current.ledger())
    leaves = [accounts.around(identity) for identity in (one, two)]
    assert leaves[0] is not None
    assert leaves[1] is not None
    assert leaves[0].shared[0].replica.key != leaves[1].shared[0].replica.key


@given(claimed=st.decimals(0, 10**6, allow_nan=False))
@tried(60)
def test_a_client_never_widens_a_limit(claimed: Decimal) -> None:
    accounts = Accounts(CONFIG, current.ledger())
    around = accounts.around(Identity(key="k", run="r", path=("plan",), max_usd=claimed))
    assert around is not None
    limit = around.shared[0].limits.as_dict()["max_usd"]
    assert limit <= min(Decimal(1), claimed)


TOOLS = st.lists(
    anything | st.sampled_from(["search", "delete", {"name": "search"}, {"function": {"name": "delete"}}, {"type": "web_search"}]),
    max_size=4,
)  # fmt: skip


@given(
    data=st.fixed_dictionaries(
        {},
        optional={
            "tools": TOOLS | anything,
            "functions": TOOLS | anything,
            "tool_choice": anything
            | st.sampled_from(["required", "auto", {"type": "any"}, {"function": {"name": "delete"}}]),
            "function_call": anything | st.just({"name": "delete"}),
        },
    )
)
@example(data={"tools": 5, "tool_choice": "required"})
@tried(200)
def test_tools_are_taken_out_or_refused(data: dict[str, Any]) -> None:
    policy = ToolPolicy().narrowed(Stage("plan", allowed_tools=["search"]))
    try:
        narrow(data, policy, "plan")
    except ToolDenied:
        return
    for field in ("tools", "functions"):
        for tool in data[field] if isinstance(data.get(field), list) else ():
            assert "delete" not in str(tool) or "search" in str(tool)


@given(
    options=st.fixed_dictionaries(
        {"messages": anything},
        optional=dict.fromkeys(("max_tokens", "max_completion_tokens", "n", "tools", "system", "service_tier", "model_info", "base_model", "input_cost_per_token", "output_cost_per_token", "custom_llm_provider", "best_of"), anything),
    ),
    kind=st.sampled_from(sorted(CALL_TYPES)),
    model=texts,
)  # fmt: skip
@tried(200)
def test_a_request_may_hold_anything(options: dict[str, Any], kind: Any, model: str) -> None:
    request = request_from(kind, model, options)
    assert 0 <= request.counted.tokens <= request.counted.upper_bound
    assert request.max_output_tokens is None or 0 <= request.max_output_tokens <= MOST_TOKENS
    assert request.is_priced in (True, False)
    cost = request.cost(10, 10)
    assert cost is None or cost >= 0


# At the client


FIELDS = table_of(
    "kind", "step", "path", "phase", "limit", "limit_value", "consumed_tokens", "consumed_cost_usd", "persona",
    "breaches", "budget", "resets_at", "error_boundary", values=anything,
)  # fmt: skip
REFUSALS = st.fixed_dictionaries(
    {"kind": st.just("budget_exhausted"), "limit_value": anything},
    optional={
        "step": texts, "path": texts | st.just("plan"), "phase": texts, "limit": st.sampled_from(["max_usd", "max_calls", "max_seconds"]) | anything,
        "consumed_tokens": anything, "consumed_cost_usd": anything, "breaches": anything, "resets_at": anything,
    },
)  # fmt: skip


class Said(Exception):
    """An error of a client, with the body of an answer."""

    def __init__(self, body: Any) -> None:
        super().__init__(str(body))
        self.body = body


@given(body=FIELDS | REFUSALS | REFUSALS.map(lambda fields: {"error": fields}) | anything)
@tried(200)
def test_what_a_proxy_answers_is_a_refusal_or_nothing_of_ours(body: Any) -> None:
    point_at("http://127.0.0.1:4000")
    try:
        with step("plan"):
            refused = proxy_client.refusal_in(Said(body))
            assert refused is None or isinstance(refused, BudgetExhausted)
            assert refused is None or str(refused)
    finally:
        point_at(None)


# steptrack.toml


@given(flips=st.lists(st.tuples(st.integers(0, 10**5), st.integers(0, 255)), min_size=1, max_size=6))
@tried(150)
def test_a_file_with_any_bytes_in_it_is_read_or_refused(flips: list[tuple[int, int]], tmp_path: Any) -> None:
    content = bytearray(LIMITS.encode())
    for place, byte in flips:
        content[place % len(content)] = byte
    path = tmp_path / "steptrack.toml"
    path.write_bytes(content)
    try:
        load(path)
    except ConfigError as refused:
        assert refused.problems  # noqa: PT017


@pytest.mark.parametrize("name", TEXTS)
def test_a_step_may_have_any_name_that_is_one(name: str) -> None:
    try:
        named = step(name)
    except ValueError as refused:
        assert "name" in str(refused)
        return
    with named as plan:
        pass
    assert plan.path.endswith(name)


def test_a_client_that_makes_up_names_fills_no_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(proxy_accounts, "MOST_MIRRORS", 100)
    accounts = Accounts(CONFIG, current.ledger())
    for number in range(500):
        accounts.around(
            Identity(key=f"key-{number % 7}", run=f"run-{number}", path=("plan", f"step-{number}"))
        )
        pricing.cost_usd(f"model-{number}", Usage(input_tokens=1), service_tier=f"tier-{number}")
    assert len(accounts._met) <= 100
    monkeypatch.setattr(sources, "_MOST_ANSWERS", 50)
    for number in range(200):
        pricing.cost_usd("gpt-4o", Usage(input_tokens=1), service_tier=f"other-tier-{number}")
    assert len(sources._answers) <= 50


class Answer:
    """What a model has said."""


def test_a_step_of_the_proxy_keeps_no_request_and_no_answer_in_memory() -> None:
    accounts = Accounts(CONFIG, current.ledger())

    def ask() -> tuple[Any, Any]:
        prompt, answer = Answer(), Answer()
        around = accounts.around(Identity(key="k", run="r", path=("writer", "plan")))
        assert around is not None
        call = Call(around, request_from("chat", "gpt-4o", {"messages": [], "max_tokens": 5}))
        try:
            call.admit(patient=False)
            call.settle(Usage(input_tokens=1, output_tokens=1), response=answer)
        except BudgetExhausted:
            assert prompt is not None  # it is in this frame, which the refusal holds
        return weakref.ref(prompt), weakref.ref(answer)

    for _ in range(5):  # the persona has three calls
        prompt, answer = ask()
        gc.collect()
        assert prompt() is None
        assert answer() is None
