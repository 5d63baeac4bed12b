"""What is left, and what was spent, asked in code: of steps, of budgets without a step, and of errors."""

from __future__ import annotations

import asyncio
import pickle
from decimal import Decimal
from typing import Any

import pytest

import steptrack_callbacks as steptrack
from fake_framework import FakeFramework
from steptrack_callbacks import Budget, BudgetExhausted, persona, record_usage, step
from steptrack_callbacks.ledgers import budget as budget_module


def spend(calls: int = 1, usd: float = 0.01, tokens: int = 10) -> None:
    for _ in range(calls):
        record_usage("my-model", input_tokens=tokens, output_tokens=0, cost_usd=usd)


def test_what_is_left_is_the_least_that_all_limits_around_leave() -> None:
    with step("answer", max_calls=3), persona("team", max_usd=0.05), step("plan", max_calls=9) as plan:
        assert plan.remaining("max_calls") == steptrack.remaining("max_calls") == 3
        assert plan.remaining("max_usd") == Decimal("0.05")
        assert plan.remaining("max_tokens") is None
        spend(2)
        assert steptrack.remaining("max_calls") == 1
        assert steptrack.remaining("max_usd") == Decimal("0.03")
    assert steptrack.remaining("max_calls") is None


def test_all_that_is_left_is_told_at_once() -> None:
    with step("answer", max_calls=3, max_usd=1), step("plan", max_calls=9) as plan:
        assert plan.remaining() == {"max_usd": Decimal(1), "max_calls": 3}
        assert asyncio.run(plan.aremaining()) == plan.remaining()


def test_a_budget_on_a_step_around_counts_though_others_have_spent_it() -> None:
    team = Budget("team", max_calls=5)
    with step("others", budgets=[team]):
        spend(2)
    with step("answer", budgets=[team]), step("plan", max_calls=4) as plan:
        assert plan.remaining("max_calls") == 3
        spend()
        assert plan.remaining("max_calls") == 2
        assert asyncio.run(plan.aremaining("max_calls")) == 2
        assert asyncio.run(steptrack.aremaining("max_calls")) == 2


def test_seconds_are_the_least_around() -> None:
    with step("answer", max_seconds=5), step("plan", max_seconds=1_000):
        left = steptrack.remaining("max_seconds")
        assert left is not None
        assert left <= 5


def test_what_is_kept_back_counts_while_wrapping_up_only() -> None:
    with step("answer", max_usd=0.10, wrap_up_usd=0.04) as answer, step("plan") as plan:
        assert plan.remaining("max_usd") == Decimal("0.06")
        with answer.wrap_up():
            assert plan.remaining("max_usd") == Decimal("0.1")


@pytest.mark.parametrize(
    "ask", [steptrack.remaining, step("plan").remaining, Budget("a", max_calls=1).remaining]
)
def test_a_limit_that_there_is_none_of_is_an_error(ask: Any) -> None:
    with pytest.raises(ValueError, match="there is no limit 'max_dollars'.*use max_usd"):
        ask("max_dollars")


def test_a_step_that_has_not_begun_has_all_of_its_own_left() -> None:
    assert step("plan", max_calls=4).remaining("max_calls") == 4


# Budgets without a step


@pytest.mark.parametrize("where", ["memory:", "sqlite"])
def test_a_budget_says_what_was_spent_and_what_is_left(where: str, tmp_path: Any) -> None:
    steptrack.install(ledger=where if where == "memory:" else f"sqlite:///{tmp_path / 'steps.db'}")
    team = Budget("team", max_usd=0.10, max_calls=5, window="1d")
    assert team.spent().calls == 0
    assert team.remaining() == {"max_usd": Decimal("0.1"), "max_calls": 5}
    with step("plan", budgets=[team]):
        spend(2, usd=0.03, tokens=7)
    spent = team.spent()
    assert (spent.calls, spent.total_tokens, spent.cost_usd) == (2, 14, Decimal("0.06"))
    assert team.remaining() == {"max_usd": Decimal("0.04"), "max_calls": 3}
    assert team.remaining("max_usd") == Decimal("0.04")
    assert team.remaining("max_tokens") is None

    async def twins() -> Any:
        return await team.aspent(), await team.aremaining(), await team.aremaining("max_calls")

    assert asyncio.run(twins()) == (spent, team.remaining(), 3)


def test_a_budget_that_is_passed_has_nothing_left() -> None:
    team = Budget("team", max_tokens=10)
    with pytest.raises(BudgetExhausted), step("plan", budgets=[team]):
        spend(tokens=25)
    assert team.remaining() == {"max_tokens": 0}


def test_a_budget_counts_in_the_window_that_runs(monkeypatch: Any) -> None:
    team = Budget("team", max_calls=5, window="1h")
    with step("plan", budgets=[team]):
        spend(2)
    now = budget_module.clock()
    monkeypatch.setattr(budget_module, "clock", lambda: now + 3600)
    assert (team.spent().calls, team.remaining("max_calls")) == (0, 5)


def test_a_budget_is_the_same_whoever_has_read_it() -> None:
    team = Budget("team", max_usd=5, window="24h")
    assert pickle.loads(pickle.dumps(team)) == team == Budget("team", max_usd=5.0, window="1d")
    assert len({team, Budget("team", max_usd=5, window="1d"), Budget("team", max_usd=6)}) == 2
    assert repr(team).startswith("Budget(name='team'")


# Budgets by name


@pytest.fixture
def file(tmp_path: Any) -> str:
    path = tmp_path / "steptrack.toml"
    path.write_text('[budgets.team-a]\nmax_calls = 2\n\n[steps.plan]\nbudgets = ["team-a"]\nmax_calls = 50\n')
    return str(path)


def test_budgets_of_the_file_hang_on_steps_by_their_names(file: str) -> None:
    steptrack.install(config=file)
    with pytest.raises(BudgetExhausted, match="budget 'team-a'"), step("draft", budgets=["team-a"]):
        spend(3)
    with step("plan") as plan:
        assert plan.remaining("max_calls") == 0
    with step("plan", budgets=["team-a", Budget("mine", max_calls=9)]) as plan:
        assert plan.remaining("max_calls") == 0


def test_the_name_and_the_budget_that_it_means_are_one(file: str) -> None:
    steptrack.install(config=file)
    with step("outer", budgets=["team-a"]), step("inner", budgets=[Budget("team-a", max_calls=2)]) as inner:
        spend()
        assert inner.remaining("max_calls") == 1
    assert Budget("team-a", max_calls=2).spent().calls == 1


def test_a_name_that_no_file_says_is_an_error_that_names_the_fix(file: str) -> None:
    with (
        pytest.raises(ValueError, match=r"declare it as \[budgets.team-a\] in steptrack.toml"),
        step("plan", budgets=["team-a"]),
    ):
        pass
    steptrack.install(config=file)
    with (
        pytest.raises(ValueError, match="no budget 'team-b'; did you mean 'team-a'"),
        step("x", budgets=["team-b"]),
    ):
        pass


@pytest.mark.parametrize(
    ("budgets", "problem"),
    [
        ("team-a", r"budgets must be a list: write budgets=\['team-a'\]"),
        (Budget("a", max_calls=1), "budgets must be a list: write"),
        ([5], "names from the file, not"),
        (["a", Budget("a", max_calls=1)], "budget 'a' is attached twice"),
        ([""], "a budget needs a name"),
    ],
)
def test_malformed_budgets_are_errors(budgets: Any, problem: str) -> None:
    with pytest.raises(ValueError, match=problem):
        step("plan", budgets=budgets)


# Errors


def test_an_error_says_what_is_consumed_and_left_in_the_limits_unit() -> None:
    for options, consumed, left in (
        ({"max_usd": 0.015}, Decimal("0.02"), Decimal(0)),
        ({"max_tokens": 15}, 20, 0),
        ({"max_calls": 1}, 2, 0),
    ):
        with pytest.raises(BudgetExhausted) as caught, step("plan", **options):
            spend(2)
        error = caught.value
        assert error.limit == next(iter(options))
        assert (error.consumed, error.remaining) == (consumed, left)
        assert type(error.remaining) is type(consumed)
        assert error.retry_after_s is None


def test_a_budget_with_a_window_says_when_to_try_again() -> None:
    team = Budget("team", max_calls=0, window="1h")
    with pytest.raises(BudgetExhausted) as caught, step("plan", budgets=[team]):
        spend()
    error = caught.value
    assert error.retry_after_s is not None
    assert 0 <= error.retry_after_s <= 3600
    error.phase = "busy"
    assert error.retry_after_s is None


@pytest.mark.parametrize("limit", [{"max_tokens": 299}, {"max_usd": 0.0022}])
def test_who_needs_more_than_a_whole_budget_is_not_told_to_try_again(limit: dict[str, Any]) -> None:
    small = Budget("small", enforce="strict", window="1h", **limit)
    with pytest.raises(BudgetExhausted) as caught, step("plan", budgets=[small]):
        FakeFramework().open()
    assert caught.value.resets_at is not None
    assert caught.value.retry_after_s is None
