"""A request's calls leave no room reserved, whatever becomes of the request."""

import asyncio
import gc
import weakref

import litellm
import pytest

from steptrack_callbacks.config import parse
from steptrack_callbacks.ledgers.budget import Budget
from steptrack_callbacks.ledgers.current import LedgerClient
from steptrack_callbacks.ledgers.memory import MemoryStore
from steptrack_callbacks.ledgers.protocol import Totals
from steptrack_callbacks.litellm_proxy.accounts import KEPT_AFTER_S, Accounts
from steptrack_callbacks.litellm_proxy.identity import Identity
from steptrack_callbacks.litellm_proxy.requests import request_from
from steptrack_callbacks.litellm_proxy.runs import members_of, tree_of
from steptrack_callbacks.litellm_proxy.tickets import Ticket
from steptrack_callbacks.values.errors import BudgetExhausted, LedgerError, UnpricedModel

LIMITS = """
[budgets.mine]
max_calls = 5
scope = "key"
[budgets.ours]
max_calls = 7
[steps.plan]
max_calls = 2
budgets = ["ours", "mine"]
[personas.plan]
max_calls = 1
[proxy]
budgets = ["ours"]
"""
OPTIONS = {"messages": [{"role": "user", "content": "hello"}], "max_tokens": 5}


@pytest.fixture
def accounts():
    return Accounts(parse(LIMITS), LedgerClient(MemoryStore()))


def who(*path, key="key", persona=None, run="r"):
    return Identity(key=key, run=run, path=path, persona=persona)


def ticket(accounts, *path, **more):
    return Ticket("chat", accounts.around(who(*path, **more)), accounts)


async def admitted(accounts, *path):
    made = ticket(accounts, *path)
    call = await made.admit(request_from("chat", "gpt-4o-mini", OPTIONS))
    return made, call


def totals(accounts):
    return {each.key: each for each in accounts.ledger.store.accounts()}


@pytest.mark.parametrize(("attempts", "calls"), [(0, 0), (1, 1)])
def test_a_request_that_nobody_reports_any_more_is_charged_if_it_was_sent(accounts, attempts, calls):
    async def forget():
        made, call = await admitted(accounts, "plan")
        call.attempts = attempts
        del made, call
        gc.collect()

    asyncio.run(forget())
    for kept in totals(accounts).values():
        assert (kept.settled.get("calls", 0), kept.held_calls) == (calls, 0)


class Logged:
    """Where LiteLLM keeps what it knows of a request; what is sent knows it in turn."""

    def __init__(self):
        self.model_call_details = {}


def test_a_request_that_is_over_is_not_left_to_the_garbage_collector(accounts):
    async def serve():
        made, logged = ticket(accounts, "plan"), Logged()
        options = {**OPTIONS, "litellm_logging_obj": logged}
        made.bind(options)
        await made.admit(request_from("chat", "gpt-4o-mini", options))
        await made.begin_attempt(request_from("chat", "openai/gpt-4o-mini", options))
        await made.give_up()
        return weakref.ref(logged), weakref.ref(made)

    gc.disable()
    try:
        gone = asyncio.run(serve())
        assert [each() for each in gone] == [None, None]
    finally:
        gc.enable()


def test_each_account_is_asked_once_however_often_it_is_named(accounts):
    keys = [account.replica.key for account in accounts.around(who("plan", "plan", "plan"))]
    assert len(keys) == len(set(keys)) == 5
    assert "budget::0:ours" in keys  # as for steps of any program on the same ledger
    assert "budget::0:mine/key" in keys


def test_a_name_is_a_persona_only_if_the_client_says_so_or_nothing_else_has_it(accounts):
    assert accounts.around(who("plan"))[0].limits.calls == 2
    assert accounts.around(who("plan", persona="plan"))[0].limits.calls == 1


def test_a_budget_begins_anew_with_its_window(accounts, monkeypatch):
    assert Budget("hourly", max_calls=1, window="1h").window_at(0) != Budget(
        "hourly", max_calls=1, window="1h"
    ).window_at(3600)


def test_a_replica_of_a_step_that_the_ledger_has_forgotten_is_made_anew(accounts):
    account = accounts.around(who("plan"))[0]
    assert accounts.around(who("plan"))[0] is account
    account.expires_at -= 3 * 86_400
    assert accounts.around(who("plan"))[0] is not account


def test_a_step_is_kept_until_the_same_second_however_often_the_ledger_tells_of_it(accounts):
    account = accounts.around(who("plan"))[0]
    account.follow(Totals(key=account.replica.key, seq=1, opened_at=1_000.25))
    first = account.expires_at
    account.follow(Totals(key=account.replica.key, seq=2, opened_at=1_000.25))
    assert account.expires_at == first == 1_001 + account.ttl_s + KEPT_AFTER_S


def test_what_is_around_the_requests_of_many_keys_is_not_remembered_without_end(accounts, monkeypatch):
    monkeypatch.setattr("steptrack_callbacks.litellm_proxy.accounts.MOST_MIRRORS", 10)
    for number in range(50):
        accounts.around(Identity(key=f"key-{number}"))
    assert len(accounts._surroundings) <= 10


def test_a_request_without_a_run_has_budgets_only(accounts):
    around = accounts.around(Identity(key="key"))
    assert [account.replica.key for account in around] == ["budget::0:ours"]
    assert Accounts(parse("[steps.plan]"), accounts.ledger).around(Identity(key="key")) is None


def test_an_exhausted_budget_of_the_proxy_belongs_to_no_step(accounts):
    async def spend():
        for number in range(9):
            made = Ticket("chat", accounts.around(Identity(key=f"key-{number}")), accounts)
            call = await made.admit(request_from("chat", "gpt-4o-mini", OPTIONS))
            call.attempts = 1
            await made.give_up()

    with pytest.raises(BudgetExhausted) as exhausted:
        asyncio.run(spend())
    assert (exhausted.value.step_id, exhausted.value.budget) == (None, "ours")
    assert totals(accounts)["budget::0:ours"].settled["calls"] == 7


def test_the_tree_has_each_step_under_the_one_around_it(accounts):
    async def spend():
        for path in (("a", "b"), ("a",), ("c", "d")):
            made, call = await admitted(accounts, *path)
            call.attempts = 1
            await made.give_up()

    asyncio.run(spend())
    store = accounts.ledger.store
    members = members_of(store, accounts.group("key"), accounts.prefix("key", "r"))
    tree = tree_of("r", members, accounts.ttl_s)
    assert [
        (top["path"], top["calls"], [each["path"] for each in top["steps"]]) for top in tree["steps"]
    ] == [
        ("a", 2, ["a/b"]),
        ("c", 1, ["c/d"]),
    ]
    assert members_of(store, accounts.group("other"), accounts.prefix("other", "r")) == {}


def test_the_fastest_of_several_models_is_charged_as_its_own_call(accounts):
    """The answer that the client gets is not the one of the attempt that began last."""
    made = ticket(accounts, "races")
    answers = {
        model: litellm.ModelResponse(
            model=model,
            choices=[{"message": {"content": "word"}}],
            usage={"prompt_tokens": tokens, "completion_tokens": 1},
        )
        for model, tokens in (("gpt-4o-mini", 100), ("gpt-4o", 7))
    }

    async def attempt(model):
        call = await made.begin_attempt(request_from("chat", model, OPTIONS))
        call.attempts = 1
        made.note_answer(answers[model])

    async def race():
        for model in answers:
            await asyncio.create_task(attempt(model))
        await made.finish(answers["gpt-4o-mini"])

    asyncio.run(race())
    step = totals(accounts)[accounts.prefix("key", "r") + "races"]
    assert (step.settled["calls"], step.settled["input_tokens"]) == (2, 107)


class LateStore(MemoryStore):
    """A ledger whose answer is not seen in time, for so many times."""

    def __init__(self, times):
        super().__init__()
        self.times = times

    def reserve(self, reservation):
        verdict = super().reserve(reservation)
        if self.times:
            self.times -= 1
            raise LedgerError(ledger=self.url, why="it did not answer in time") from TimeoutError()
        return verdict


@pytest.mark.parametrize("times", [1, 2])
def test_an_answer_of_the_ledger_that_is_not_seen_in_time_is_asked_for_once_more(times):
    accounts = Accounts(parse(LIMITS), LedgerClient(LateStore(times)))

    async def spend():
        made, _ = await admitted(accounts, "plan")
        await made.give_up()

    if times == 1:
        asyncio.run(spend())
    else:
        with pytest.raises(LedgerError):
            asyncio.run(spend())
    accounts.ledger.flush()
    assert all(kept.held_calls == 0 for kept in totals(accounts).values())


def test_an_attempt_after_one_that_was_refused_for_its_price_is_held_and_charged():
    accounts = Accounts(
        parse('[budgets.ours]\nmax_usd = 1\n[proxy]\nbudgets = ["ours"]'), LedgerClient(MemoryStore())
    )
    answer = litellm.mock_completion(model="gpt-4o-mini", messages=OPTIONS["messages"], mock_response="hello")

    async def main():
        made, first = await admitted(accounts)
        with pytest.raises(UnpricedModel):
            await made.begin_attempt(request_from("chat", "nobody-knows-its-price", OPTIONS))
        second = await made.begin_attempt(request_from("chat", "gpt-4o-mini", OPTIONS))
        second.attempts += 1
        assert (first.state, second.state) == ("withdrawn", "in flight")
        made.note_answer(answer)
        await made.finish(answer)
        assert second.state == "settled"

    asyncio.run(main())
    (ours,) = totals(accounts).values()
    assert (ours.settled["calls"], ours.held_calls) == (1, 0)
