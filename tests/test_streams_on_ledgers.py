"""A stream that runs past what a ledger holds for it takes more room there, so others are admitted by the truth."""

from __future__ import annotations

import asyncio
import gc
from itertools import pairwise

import pytest

from fake_framework import CALL_TOKENS, CALL_USD, FakeFramework, open_elsewhere
from internals import assert_nothing_left
from steptrack_callbacks import Budget, step
from steptrack_callbacks.engine.room import remaining
from steptrack_callbacks.ledgers import current, open_ledger
from steptrack_callbacks.ledgers.protocol import AccountRequest, Asked, ReservationRequest, to_pico
from steptrack_callbacks.ledgers.sqlite import SqliteStore
from steptrack_callbacks.values.money import to_units

LIMIT = 30_000
TEAM = Budget("team", max_tokens=LIMIT)
KEY = "budget::0:team"


@pytest.fixture(params=["file", "redis"])
def url(request, tmp_path):
    """Where two processes share a budget."""
    if request.param == "file":
        return f"sqlite:///{tmp_path}/steps.db"
    return request.getfixturevalue("redis_server").url(prefix=f"streams-{request.node.name[-40:-7]}")


@pytest.fixture
def warm() -> FakeFramework:
    """Twenty answers of 200 tokens were seen."""
    host = FakeFramework()
    for _ in range(20):
        host.ask(None)
    return host


class Noting(SqliteStore):
    """Notes how much is asked for by calls that grow.

    Attributes:
        asked: Tokens.
        blocked: Whether it was told of a charge by somebody who waited for it.
    """

    def __init__(self, path) -> None:
        super().__init__(path)
        self.asked: list[int] = []
        self.blocked = False

    def settle(self, entries):
        self.blocked = True
        return super().settle(entries)

    def reserve(self, reservation):
        if reservation.grows:
            self.asked.append(reservation.asks[0].held.tokens)
        return super().reserve(reservation)


@pytest.fixture
def store(tmp_path) -> Noting:
    store = Noting(tmp_path / "steps.db")
    current.use(store)
    return store


def test_another_process_finds_the_room_of_a_long_stream_taken(url, warm):
    current.use(url)
    other = open_ledger(url)  # as another process would
    with step("job", budgets=[TEAM]) as job:
        stream = open_elsewhere(warm, None, streams=True)
        for produced in range(0, 16_000, 100):
            stream.progress(produced)
            (seen,) = other.look([KEY])
            assert produced <= seen.held.tokens <= 100 + max(2 * produced, 2000)
        current.use(other)
        with step("elsewhere", budgets=[TEAM], wait_s=0):
            assert warm.refusal(None).phase == "busy"
        stream.abandon(16_000)
        with step("elsewhere", budgets=[TEAM], wait_s=0):
            warm.ask(None)
        assert_nothing_left(job)
    (seen,) = other.look([KEY])
    assert (seen.held.tokens, seen.held_calls) == (0, 0)
    other.close_connections()


@pytest.fixture
def elsewhere(store):
    """Let another process hold room on the budget of the team."""

    def hold(**held: int) -> None:
        ask = AccountRequest(key=KEY, held=Asked(held.get("cost", 0), held.get("tokens", 0)))
        store.reserve(ReservationRequest(id="elsewhere", asks=(ask,), lease_s=900))

    return hold


def test_what_others_hold_is_told_from_what_is_held_here(elsewhere, warm):
    elsewhere(tokens=1000)
    with step("job", budgets=[Budget("team", max_tokens=LIMIT, max_calls=10)]) as job:
        warm.open(200, streams=True)
        account = job.accounts.shared[0]
        assert remaining(account, "max_calls", wrapping=False) == 10 - 1 - 1
        assert remaining(account, "max_tokens", wrapping=False) == LIMIT - 1000 - CALL_TOKENS


def test_a_ledger_is_asked_for_dollars_beside_those_that_others_hold(elsewhere, warm):
    with step("job", budgets=[Budget("team", max_usd=CALL_USD)], wait_s=0):
        elsewhere(cost=to_pico(to_units(CALL_USD, "held")) - 1000)  # nothing is known of it here
        assert warm.refusal(200).phase == "busy"


def test_a_stream_takes_few_trips_to_grow(store, warm):
    with step("job", budgets=[TEAM]):
        stream = warm.open(None, streams=True)
        for produced in range(0, 16_000, 10):
            stream.progress(produced)
        stream.abandon(16_000)
    assert 3 <= len(store.asked) <= 6
    assert all(2 * less <= more + CALL_TOKENS for less, more in pairwise(store.asked))


def test_a_stream_holds_no_more_than_its_max_tokens(store, warm):
    with step("job", budgets=[TEAM]):
        stream = warm.open(5000, streams=True)
        for produced in range(0, 5001, 10):
            stream.progress(produced)
        stream.abandon(5000)
    assert 0 < max(store.asked) <= 5000 + 100


def test_a_ledger_that_is_away_cuts_no_stream(tmp_path, warm, caplog):
    store = SqliteStore(tmp_path / "steps.db", timeout_s=0.01)
    current.use(store)
    with step("job", budgets=[TEAM]):
        stream = warm.open(None, streams=True)
        writer = open_ledger(store.url)
        assert writer._file.begin(1)  # and is not done before the stream has grown
        for produced in range(0, 16_000, 10):
            stream.progress(produced)
        writer._file.finish(lambda *_: None, None, 0.0)
        stream.abandon(16_000)
    assert "was locked by others" in caplog.text
    (seen,) = store.look([KEY])
    assert (seen.held_calls, seen.settled["output_tokens"]) == (0, 16_000)


def test_a_stream_of_an_event_loop_grows_without_blocking_it(store, warm):
    async def main() -> None:
        async with step("job", budgets=[TEAM]):
            stream = await warm.open_async(None, streams=True)
            await stream.progress_async(9000)
            assert store.look([KEY])[0].held.tokens >= 9000
            async with stream.telling_ledger():
                stream.abandon(9000)
            assert not store.blocked
        assert store.look([KEY])[0].held_calls == 0

    asyncio.run(main())
    gc.collect()
