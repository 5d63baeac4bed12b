"""Budgets that outlive a step: shared by name, reserved together with the steps around, in windows."""

import asyncio
import datetime as dt
import pickle
import threading
from decimal import Decimal

import pytest

from fake_framework import (
    CALL_TOKENS,
    CALL_USD,
    TEN_CALLS_TOKENS,
    TEN_CALLS_USD,
    FakeFramework,
    run_all,
    until,
    until_async,
)
from spending import spend
from steptrack_callbacks import (
    Budget,
    BudgetExhausted,
    Grant,
    UnpricedModel,
    current_step,
    hooks,
    peek_completed_steps,
    persona,
    step,
)
from steptrack_callbacks.engine import budget_binding
from steptrack_callbacks.ledgers import current

pytestmark = pytest.mark.usefixtures("each_ledger")


@pytest.fixture
def at(monkeypatch):
    """Set the clock that windows go by."""

    def set_clock(text):
        seconds = dt.datetime.fromisoformat(f"{text}+00:00").timestamp()
        monkeypatch.setattr(budget_binding, "clock", lambda: seconds)

    set_clock("2026-11-22T23:30:00")
    return set_clock


def budget(**limits):
    return Budget("team-a", **(limits or {"max_calls": 10}))


def spent(name="team-a", window="", start=0):
    (totals,) = current.ledger().store.look([f"budget:{window}:{start}:{name}"])
    return totals.settled.get("calls", 0), totals.held_calls


def test_a_budget_goes_on_where_the_step_before_left_it():
    framework = FakeFramework()
    for _ in range(4):
        with step("job", budgets=[budget()]):
            framework.ask()
            framework.ask()
    with step("job", budgets=[budget()]) as last, pytest.raises(BudgetExhausted) as refused:
        framework.ask()
        framework.ask()
        framework.ask()
    assert framework.sent == 10
    assert refused.value.step_id == last.id
    assert (refused.value.budget, refused.value.limit) == ("team-a", "max_calls")
    assert spent() == (10, 0)


@pytest.mark.parametrize(
    "limits",
    [{"max_usd": TEN_CALLS_USD}, {"max_tokens": TEN_CALLS_TOKENS}, {"max_calls": 10}],
    ids=["usd", "tokens", "calls"],
)
def test_exactly_at_a_limit_is_within_it_and_admits_no_further_call(limits):
    framework = FakeFramework()
    with step("job", budgets=[budget(**limits)], error_boundary="continue"):
        for _ in range(20):
            framework.ask()
    assert framework.sent == 10


def test_all_limits_of_a_call_are_reserved_together_or_not_at_all():
    framework = FakeFramework()
    roomy, tight = Budget("roomy", max_calls=100), Budget("tight", max_calls=1)
    with step("outer", max_calls=100, budgets=[roomy]) as outer:
        with step("inner", budgets=[tight], error_boundary="continue"):
            first = framework.open()
            framework.refusal()
            assert spent("roomy") == (0, 1)
            assert outer.account.held_calls == 1
            framework.answer(first)
        assert spent("roomy") == (1, 0)
        assert spent("tight") == (1, 0)
    assert outer.account.held_calls == 0


def test_a_step_without_room_reserves_nothing_on_the_budget():
    framework = FakeFramework()
    with step("job", max_calls=0, budgets=[budget()]):
        framework.refusal()
    assert spent() == (0, 0)


def test_the_exhaustion_of_a_budget_belongs_to_the_step_that_it_hangs_on():
    framework = FakeFramework()
    with step("outer") as outer:
        with step("middle", budgets=[budget(max_calls=1)], error_boundary="continue") as middle:
            framework.ask()
            with step("inner", error_boundary="continue"):
                framework.ask()
                pytest.fail("the inner step must not handle what is not its own")
        assert middle.exhausted
        assert current_step() is outer
    assert [record.status for record in peek_completed_steps()] == ["stopped", "continued", "completed"]


def test_a_budget_on_an_outer_step_owns_before_an_inner_limit():
    framework = FakeFramework()
    with step("outer", budgets=[budget(max_calls=1)]) as outer, step("inner", max_calls=1) as inner:
        framework.ask()
        refusal = framework.refusal()
    assert refusal.step_id == outer.id
    assert [(breach.step_id, breach.budget) for breach in refusal.breaches] == [
        (outer.id, "team-a"),
        (inner.id, None),
    ]


def test_the_error_says_whose_limit_it_is_and_when_it_begins_anew(at):
    framework = FakeFramework()
    with step("job", budgets=[budget(max_usd=CALL_USD, window="1d")]):
        framework.ask()
        refusal = framework.refusal()
    assert refusal.resets_at == dt.datetime(2026, 11, 23, tzinfo=dt.UTC)
    assert str(refusal) == (
        "step 'job' has no room under max_usd of budget 'team-a': $0.00225 spent of $0.00225, and the next"
        " call needs at least $0.00025; it resets at 2026-11-23T00:00:00+00:00"
    )
    assert refusal.to_dict()["resets_at"] == "2026-11-23T00:00:00+00:00"
    copy = pickle.loads(pickle.dumps(refusal))
    assert (copy.budget, copy.resets_at, str(copy)) == ("team-a", refusal.resets_at, str(refusal))


def test_a_window_begins_anew_inside_an_open_step(at):
    framework = FakeFramework()
    with step("job", budgets=[budget(max_calls=1, window="1h")]):
        framework.ask()
        framework.refusal()
        at("2026-11-23T00:00:00")
        framework.ask()
        framework.refusal()
    assert framework.sent == 2


def test_a_window_rolls_for_the_steps_inside_as_well(at):
    framework = FakeFramework()
    with step("outer", budgets=[budget(max_calls=1, window="1h")]), step("inner"):
        framework.ask()
        framework.refusal()
        at("2026-11-23T00:00:00")
        framework.ask()


def test_spend_recorded_late_counts_in_the_window_in_which_the_call_was_admitted(at):
    framework = FakeFramework()
    before = int(dt.datetime(2026, 11, 22, tzinfo=dt.UTC).timestamp())
    with step("job", budgets=[budget(max_calls=5, window="1d")]):
        call = framework.open()
        at("2026-11-23T00:10:00")
        framework.answer(call)
        framework.ask()
    assert spent(window="1d", start=before) == (1, 0)
    assert spent(window="1d", start=before + 86400) == (1, 0)


def test_a_clock_that_is_set_back_opens_no_window_again(at):
    framework = FakeFramework()
    with step("job", budgets=[budget(max_calls=1, window="1h")]):
        framework.ask()
        at("2026-11-22T22:59:00")
        framework.refusal()


def test_a_call_still_open_when_its_step_ends_is_charged_its_estimate_and_corrected_later():
    framework = FakeFramework()
    with step("job", budgets=[budget(max_tokens=10_000)]):
        call = framework.open()
    totals = current.ledger().store.look(["budget::0:team-a"])[0]
    assert totals.held_calls == 0
    assert totals.settled["output_tokens"] == 200
    framework.answer(call, 17)
    totals = current.ledger().store.look(["budget::0:team-a"])[0]
    assert totals.settled["output_tokens"] == 17
    assert totals.settled["calls"] == 1


def test_a_cache_hit_and_a_withdrawn_call_give_the_room_back():
    framework = FakeFramework()
    with step("job", budgets=[budget()]):
        framework.open().settle_free()
        framework.open().withdraw()
        assert spent() == (0, 0)
        framework.open().fail()
        assert spent() == (1, 0)


def test_what_is_recorded_by_hand_is_charged_to_the_budget_too():
    with pytest.raises(BudgetExhausted) as over, step("job", budgets=[budget(max_usd=20)]):
        spend(cost_usd=15)
        spend(cost_usd=15)
    assert (over.value.phase, over.value.budget, over.value.consumed_cost_usd) == ("settled", "team-a", 30)


def test_a_step_that_overspends_a_budget_raises_at_its_end_and_one_that_made_no_calls_does_not():
    framework = FakeFramework()
    tight = budget(max_tokens=150)
    with pytest.raises(BudgetExhausted) as over, step("job", budgets=[tight]):
        framework.ask(max_output_tokens=None, can_clamp=False)
    assert (over.value.phase, over.value.budget) == ("settled", "team-a")
    with step("idle", budgets=[tight]) as idle:
        pass
    assert idle.status == "completed"


def test_an_observed_budget_refuses_nothing_and_counts():
    framework = FakeFramework()
    with step("job", budgets=[Budget("team-a", max_calls=1, enforce="observe")]):
        framework.ask()
        framework.ask()
    assert spent() == (2, 0)


def test_a_persona_may_have_budgets():
    framework = FakeFramework()
    with persona("writer", budgets=[budget(max_calls=1)]) as writer, step("draft"):
        framework.ask()
        assert framework.refusal().step_id == writer.id


def test_a_budget_that_hangs_on_a_step_around_is_charged_once():
    framework = FakeFramework()
    with step("outer", budgets=[budget()]), step("inner", budgets=[budget()]):
        framework.ask()
    assert spent() == (1, 0)


def test_one_name_is_one_budget():
    with step("outer", budgets=[budget()]):
        with pytest.raises(ValueError, match="'team-a' is attached to an enclosing step with other limits"):
            with step("inner", budgets=[budget(max_calls=3)]):
                pytest.fail("it must not begin")
    with pytest.raises(ValueError, match="'team-a' is attached twice"):
        step("job", budgets=[budget(), budget()])
    with pytest.raises(ValueError, match="budgets must be a list of Budget"):
        step("job", budgets=[5])


def test_a_decorated_function_hangs_on_its_budget_anew_each_time():
    framework = FakeFramework()

    @step(budgets=[budget(max_calls=2)], error_boundary="continue", default="none")
    def job():
        framework.ask()
        return "done"

    assert [job(), job(), job()] == ["done", "done", "none"]


def test_a_grant_raises_the_budget_for_this_step_only():
    framework = FakeFramework()

    def grant(error):
        assert error.budget == "team-a"
        return Grant(max_calls=1, by="ops")

    tight = budget(max_calls=1)
    with step("job", budgets=[tight], error_boundary="escalate", escalation=grant):
        framework.ask()
        framework.ask()
    with step("other", budgets=[tight]):
        framework.refusal()
    assert spent() == (2, 0)


def test_thresholds_of_budgets_are_announced():
    framework, shares = FakeFramework(), []
    hook = hooks.on(
        hooks.BudgetThreshold, lambda event: shares.append((event.budget, event.share)), threshold=0.5
    )
    with step("job", budgets=[budget(max_calls=4)]):
        for _ in range(3):
            framework.ask()
    del hook
    assert shares == [("team-a", 0.5)]


def test_calls_wait_for_room_that_another_step_on_the_same_budget_gives_back():
    framework, tight, held = FakeFramework(), budget(max_tokens=CALL_TOKENS), threading.Event()
    replicas = []

    def hold():
        with step("holder", budgets=[tight]):
            call = framework.open()
            held.set()
            until(lambda: replicas and replicas[0].waiting)
            call.withdraw()

    def wait():
        held.wait(20)
        with step("waiter", budgets=[tight]) as waiter:
            replicas.extend(waiter.budgets)
            framework.ask()

    run_all([hold, wait])
    assert spent() == (1, 0)


def test_fifty_threads_with_a_step_each_share_a_budget_worth_ten_calls():
    framework = FakeFramework()

    def job():
        with step("job", budgets=[budget(max_usd=TEN_CALLS_USD)], error_boundary="continue"):
            framework.ask()

    with step("warm"):
        framework.ask()
    run_all([job] * 50)
    assert framework.sent == 11
    totals = current.ledger().store.look(["budget::0:team-a"])[0]
    assert totals.settled["calls"] == 10
    assert Decimal(totals.settled["cost_pico_usd"]).scaleb(-12) == TEN_CALLS_USD
    assert totals.held_calls == 0


def test_fifty_tasks_in_one_step_share_a_budget_worth_ten_calls():
    framework = FakeFramework()

    async def main():
        async with step("job", budgets=[budget(max_tokens=TEN_CALLS_TOKENS)]):
            await asyncio.gather(*(framework.try_to_ask_async() for _ in range(50)))

    asyncio.run(main())
    assert framework.sent == 10
    assert len(framework.refused) == 40
    assert spent() == (10, 0)


def test_a_cancelled_task_leaves_no_room_reserved():
    framework = FakeFramework()

    async def main():
        async with step("job", budgets=[budget(max_tokens=CALL_TOKENS)]) as job:
            call = await framework.open_async()
            waiter = asyncio.create_task(framework.open_async())
            await until_async(lambda: job.budgets[0].waiting)
            waiter.cancel()
            with pytest.raises(asyncio.CancelledError):
                await waiter
            framework.answer(call)
        assert spent() == (1, 0)

    asyncio.run(main())


def test_records_say_what_hung_on_a_step(at):
    framework = FakeFramework()
    with step("job", budgets=[budget(max_usd=1, window="1d")]):
        framework.ask()
    (record,) = peek_completed_steps()
    assert record.to_dict()["budgets"] == {
        "team-a": {
            "limits": {"max_usd": 1.0},
            "spent": {"max_usd": 0.00225},
            "window": "1d",
            "resets_at": "2026-11-23T00:00:00+00:00",
        }
    }


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({}, "set at least one"),
        ({"max_calls": 1, "window": "1y"}, "window must be a number and"),
        ({"max_calls": 1, "window": 3600}, "window must be a number and"),
        ({"max_usd": 10_000_000}, "at most 9000000"),
        ({"max_usd": -1}, "max_usd must be"),
        ({"max_calls": 1, "enforce": "maybe"}, "enforce must be one of"),
    ],
)
def test_a_malformed_budget_is_refused_where_it_is_declared(options, says):
    with pytest.raises(ValueError, match=says):
        Budget("team-a", **options)


@pytest.mark.parametrize(
    ("window", "at", "starts", "ends"),
    [
        ("1h", "2026-11-22T16:54:27", "2026-11-22T16:00", "2026-11-22T17:00"),
        ("1d", "2026-11-22T16:54:27", "2026-11-22T00:00", "2026-11-23T00:00"),
        ("1w", "2026-11-22T16:54:27", "2026-11-16T00:00", "2026-11-23T00:00"),
        ("1mo", "2026-12-31T23:59:59", "2026-12-01T00:00", "2027-01-01T00:00"),
        ("15m", "2026-11-22T16:54:27", "2026-11-22T16:45", "2026-11-22T17:00"),
        ("3mo", "2026-11-22T16:54:27", "2026-10-01T00:00", "2027-01-01T00:00"),
    ],
)
def test_windows_begin_with_the_calendar(window, at, starts, ends):
    moment = dt.datetime.fromisoformat(f"{at}+00:00")
    found = Budget("b", max_calls=1, window=window).window_at(moment.timestamp())
    assert (found.starts_at.isoformat()[:16], found.ends_at.isoformat()[:16]) == (starts, ends)


@pytest.mark.parametrize(
    ("written", "kept"),
    [
        ("24h", "1d"),
        ("60m", "1h"),
        ("1440m", "1d"),
        ("90m", "90m"),
        ("36h", "36h"),
        ("7d", "7d"),  # a week begins on Monday
        ("12mo", "12mo"),
    ],
)
def test_a_window_has_one_name_however_it_is_written(written, kept):
    long, short = (Budget("team-a", max_calls=1, window=window) for window in (written, kept))
    assert (long.window, long) == (kept, short)
    framework = FakeFramework()
    with step("job", budgets=[long]):
        framework.ask()
    with step("job", budgets=[short]):
        assert framework.refusal().budget == "team-a"


def test_threads_that_begin_together_have_one_ledger():
    current.reset()
    framework, found = FakeFramework(), []

    def job():
        with step("job", budgets=[budget()]) as mine:
            framework.ask()
            found.append(mine.budgets[0].replica.ledger)

    run_all([job] * 8)
    assert len(set(map(id, found))) == 1
    assert spent() == (8, 0)


def test_a_model_without_a_price_is_refused_in_the_name_of_the_budget_that_limits_dollars():
    with step("job", budgets=[Budget("team-a", max_usd=1)]), pytest.raises(UnpricedModel) as refused:
        FakeFramework().ask(model="nobody-knows", price=None)
    assert (refused.value.budget, refused.value.path) == ("team-a", "job")
    assert str(refused.value).startswith(
        "budget 'team-a' has a max_usd, but the price of model 'nobody-knows'"
    )
    assert "on the step" not in str(refused.value)
    assert pickle.loads(pickle.dumps(refused.value)).budget == "team-a"
