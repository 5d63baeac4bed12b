"""What the first release has written is gone on with: its SQLite file, and its keys in a Redis."""

import json
import sqlite3
from decimal import Decimal
from pathlib import Path

import pytest
import redis

import steptrack_callbacks as steptrack
from steptrack_callbacks import Budget, BudgetExhausted, record_usage, step

HERE = Path(__file__).parent
SPENT_USD = Decimal("0.0078")
"""Of the budget `team`, in two calls: 1,000 tokens in and 500 out of gpt-4o, and 2,000 in of gpt-4o-mini."""


@pytest.fixture(params=["sqlite", "redis"])
def ledger(request, tmp_path):
    if request.param == "sqlite":
        return a_file(tmp_path / "steps.db")
    return keys_in(request.getfixturevalue("own_redis"))


def a_file(path):
    connection = sqlite3.connect(path)
    connection.executescript((HERE / "first_release.sql").read_text(encoding="utf-8"))
    connection.close()
    return f"sqlite:///{path}"


def keys_in(server):
    client = redis.Redis(port=server.port, decode_responses=True)
    for key, kind, value in json.loads((HERE / "first_release_redis.json").read_text(encoding="utf-8")):
        if kind == "hash":
            client.hset(key, mapping=value)
        elif kind == "zset":
            client.zadd(key, value)
        else:
            client.set(key, value)
    client.close()
    return server.url()


@pytest.fixture
def team(ledger):
    steptrack.install(ledger=ledger)
    yield Budget("team", max_usd=Decimal("0.0180"), enforce="strict")
    steptrack.uninstall()


def test_what_was_spent_of_a_budget_is_still_spent(team):
    assert (team.spent().cost_usd, team.spent().calls) == (SPENT_USD, 2)
    assert team.remaining("max_usd") == team.max_usd - SPENT_USD


def test_what_is_charged_now_adds_up_with_it_and_holds_the_limit(team):
    with pytest.raises(BudgetExhausted, match="budget 'team'"), step("nightly", budgets=[team]):
        record_usage("gpt-4o", input_tokens=1000, output_tokens=500)
        assert team.spent().cost_usd == SPENT_USD + Decimal("0.0075")
        record_usage("gpt-4o", input_tokens=1000, output_tokens=500)
    assert team.spent().calls == 4


def test_a_run_that_it_began_is_resumed(team):
    with step("nightly", run_id="mon", budgets=[team]) as nightly:
        pass
    assert nightly.record().resumed_usage.cost_usd == SPENT_USD
