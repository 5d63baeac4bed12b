"""`steptrack run`, `report`, `top` and `ledger` on a Redis ledger, as on a file."""

from __future__ import annotations

import json

import pytest
from programs import SPENDER, steptrack

from steptrack_callbacks.cli import main
from steptrack_callbacks.ledgers import open_ledger


@pytest.fixture
def url(own_redis):
    return own_redis.url()


@pytest.fixture
def said(capsys):
    """Run a command in this process; returns its exit code, stdout and stderr."""

    def run(*arguments):
        return main(list(arguments)), *capsys.readouterr()

    return run


def test_a_run_on_redis_is_gone_on_with_and_every_command_finds_it(url, said, tmp_path):
    script = tmp_path / "nightly.py"
    script.write_text(SPENDER + "spend(2)\n", encoding="utf-8")
    command = ("run", "--ledger", url, "--run-id", "tonight", "--max-calls", "3", script)
    first, second = steptrack(*command), steptrack(*command)
    assert first.returncode == 0, first.stderr
    assert second.returncode != 0
    assert "exceeded max_calls: 4 calls spent of 3" in second.stderr

    total = json.loads(said("report", url, "--run", "tonight", "--json")[1])["total"]
    assert (total["calls"], total["cost_usd"]) == (4, 0.04)
    code, out, err = said("top", "--once", url)
    assert (code, err) == (0, "")
    assert "nightly" in out
    info = json.loads(said("ledger", "info", url, "--json")[1])
    assert (info["kind"], info["charges"], info["records"], info["reservations"]) == ("redis", 4, 2, 0)
    lines = said("ledger", "export", url)[1].splitlines()
    assert lines
    assert said("ledger", "prune", url, "--before", "2999-01-01")[0] == 0
    assert open_ledger(url).records() == []
    [account] = open_ledger(url).accounts()  # what limits go by is not pruned
    assert account.settled["calls"] == 4


def test_a_password_in_the_url_is_shown_nowhere(own_redis, url, said):
    own_redis.client().config_set("requirepass", "hunter2")
    secret = url.replace("redis://", "redis://:hunter2@")
    open_ledger(secret).put_record({"id": "one", "run_id": "r", "ended_at": 1.0})
    for command in (
        ["ledger", "info", secret],
        ["top", "--once", secret],
        ["report", secret, "--run", "other"],
    ):
        _, out, err = said(*command)
        assert "hunter2" not in out + err


def test_a_redis_that_is_away_is_one_line(own_redis, url, said):
    own_redis.stop()
    for command in (["report", url], ["top", url], ["ledger", "info", url]):
        code, out, err = said(*command)
        assert (code, out, len(err.splitlines())) == (2, "", 1)
        assert "it cannot be reached" in err
