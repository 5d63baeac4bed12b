"""A call that does not fit goes on with the next model of a list; decided in one place, whoever sends it."""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from decimal import Decimal
from typing import Any

import pytest

from steptrack_callbacks import (
    BudgetExhausted,
    CompletedStep,
    Grant,
    Usage,
    bind,
    drain_completed_steps,
    report,
    step,
)
from steptrack_callbacks.engine.call import Call
from steptrack_callbacks.engine.request import Request
from steptrack_callbacks.engine.swapping import Trial, trying
from steptrack_callbacks.hooks import CallDenied, CallSwapped, on
from steptrack_callbacks.pricing import abilities_of
from steptrack_callbacks.pricing.table import installed
from steptrack_callbacks.steps.attribution import new_call
from steptrack_callbacks.tokens import InputCount
from steptrack_callbacks.values.money import to_units

DOLLARS = {"big": 10, "small": 3, "tiny": 1}
"""What a call costs, whatever it says."""
LADDER = ["big", "small", "tiny"]


def described(model: str, **details: Any) -> Request:
    """Describe a call that can be made with any model."""
    price: Callable[[Usage], int] = lambda usage: to_units(  # noqa: E731
        Decimal(DOLLARS[model]) * usage.total_tokens / 10, "price"
    )
    request = Request(
        model=model,
        count_input=lambda: InputCount(tokens=5, upper_bound=5),
        max_output_tokens=5,
        price=price,
        **details,
    )
    request.with_model = lambda name: described(name, **details)
    return request


def ask(model: str = "big", **details: Any) -> Call:
    """Make a call from admission to its answer."""
    call = new_call(described(model, **details))
    call.admit()
    call.settle(Usage(input_tokens=5, output_tokens=5))
    return call


def test_a_call_that_does_not_fit_is_made_with_the_next_model_that_does() -> None:
    with step("answer", max_usd=25, models=LADDER) as answer:
        used = [ask().request.model for _ in range(4)]
        assert used == ["big", "big", "small", "tiny"]
        assert answer.cost_usd == 24


def test_what_does_not_fit_with_any_of_them_is_refused() -> None:
    with step("answer", max_usd=2, models=LADDER) as answer:
        ask()
        ask()
        with pytest.raises(BudgetExhausted, match="max_usd"):
            ask()
        assert answer.usage.calls == answer.record().usage.calls == 2
        assert answer.record().denied_calls == 1


def test_a_call_alone_is_made_only_if_it_will_fit() -> None:
    with step("without", max_usd=5) as without:
        ask()
        assert without.cost_usd == 10, "without a list, the last call may pass the limit"
        without.account.raised = BudgetExhausted  # type: ignore[assignment]
    with step("with", max_usd=5, models=LADDER):
        assert ask().request.model == "small"


def test_the_last_model_may_take_what_is_kept_back_while_wrapping_up() -> None:
    with step("answer", max_usd=1.9, wrap_up_usd=0.8, models=LADDER) as answer:
        ask("tiny")
        with pytest.raises(BudgetExhausted):
            ask("tiny")
        with answer.wrap_up():
            assert ask("big").request.model == "tiny"
        answer.account.raised = answer.account.raised or BudgetExhausted  # type: ignore[assignment]


def test_from_a_share_on_calls_begin_with_the_next_model() -> None:
    with step("answer", max_usd=100, models=LADDER, downgrade_at=0.2):
        swaps = [ask().swap for _ in range(3)]
    assert swaps[:2] == [None, None]
    assert swaps[2] == ("big", "small", "downgrade_at")


def test_the_share_is_of_any_limit_of_dollars_around_without_what_is_kept_back() -> None:
    with step("outer", max_usd=40, wrap_up_usd=20), step("answer", models=LADDER, downgrade_at=0.5):
        assert [ask().request.model for _ in range(2)] == ["big", "small"]


def test_a_model_that_is_on_no_list_is_never_swapped() -> None:
    with step("answer", max_usd=25, models=["small", "tiny"], downgrade_at=0):
        assert ask("big").swap is None
        assert ask("small").swap == ("small", "tiny", "downgrade_at")


def test_the_innermost_list_that_names_the_model_counts() -> None:
    with step("outer", max_usd=5, models=["big", "tiny"]), step("inner", models=["big", "small"]):
        assert ask().request.model == "small"
    with step("outer", max_usd=5, models=["big", "tiny"]), step("inner", models=["other", "small"]):
        assert ask().request.model == "tiny"


def test_a_limit_of_calls_is_not_cured_by_another_model() -> None:
    with step("answer", max_calls=1, models=LADDER) as answer:
        ask()
        with pytest.raises(BudgetExhausted, match="max_calls"):
            ask()
        assert not answer.record().swaps


def test_what_was_swapped_when_and_why_is_on_the_record_and_in_the_report() -> None:
    with step("answer", max_usd=16.5, models=LADDER):
        ask()
        with step("part"):
            ask()
            ask()
    text = str(report())
    part, answer = drain_completed_steps()
    (swap,) = answer.swaps
    assert (swap.asked, swap.used, swap.why, swap.calls) == ("big", "small", "max_usd", 2)
    assert answer.started_at <= swap.first_at <= swap.last_at <= answer.ended_at
    assert part.swaps == ()
    assert CompletedStep.from_dict(answer.to_dict()) == answer
    assert "2 calls of big made with small" in answer._repr_html_()
    assert "answer: 2 calls of big made with small" in text


@pytest.mark.parametrize("field", ["asked", "why", "calls", "first_at"])
def test_a_record_with_a_malformed_swap_is_none(field: str) -> None:
    with step("answer", max_usd=5, models=LADDER):
        ask()
    (record,) = drain_completed_steps()
    data = record.to_dict()
    data["swaps"][0][field] = None
    with pytest.raises(ValueError, match="this is not a record of a step"):
        CompletedStep.from_dict(data)


def test_hooks_hear_of_a_swap_and_of_no_refusal() -> None:
    swapped: list[CallSwapped] = []
    denied: list[CallDenied] = []
    offs = [on(CallSwapped, swapped.append), on(CallDenied, denied.append)]
    with step("answer", max_usd=5, models=LADDER) as answer:
        ask()
        assert answer.record().denied_calls == 0
    for off in offs:
        off()
    (event,) = swapped
    assert (event.path, event.asked, event.model, event.why) == ("answer", "big", "small", "max_usd")
    assert not denied


def test_a_person_is_asked_only_when_no_model_fits_and_a_grant_is_for_the_one_that_was_asked_for() -> None:
    asked: list[str] = []

    def grant(error: BudgetExhausted) -> Grant:
        asked.append(str(error))
        return Grant(max_usd=20)

    options: dict[str, Any] = {"error_boundary": "escalate", "escalation": grant}
    with step("answer", max_usd=4.5, models=LADDER, **options):
        assert ask().request.model == "small"
        assert ask().request.model == "tiny"
        assert not asked
        assert ask().request.model == "big"
    assert len(asked) == 1


# What the next model must take


def described_by(
    model: str, tokens: int = 10, needs: frozenset[str] = frozenset(), **details: Any
) -> Request:
    """Describe a call that has a price in the table."""
    request = Request(
        model=model,
        count_input=lambda: InputCount(tokens=tokens, upper_bound=tokens),
        needs=lambda: needs,
        **{"max_output_tokens": 20} | details,
    )
    request.with_model = lambda name: described_by(name, tokens, needs, **details)
    return request


def swapped_to(models: list[str], tokens: int = 10, *needs: str, **details: Any) -> str:
    """Say with what a call of the first model is made that has no room."""
    with step("answer", max_usd=5, models=models, downgrade_at=0):
        call = new_call(described_by(models[0], tokens, frozenset(needs), **details))
        call.admit()
        call.withdraw()
        return call.request.model


@pytest.mark.parametrize(
    ("models", "needs", "tokens", "used"),
    [
        (["gpt-4o", "gpt-3.5-turbo", "gpt-4o-mini"], ["vision"], 10, "gpt-4o-mini"),
        (["gpt-4o", "gpt-3.5-turbo", "gpt-4o-mini"], [], 10, "gpt-3.5-turbo"),
        (["gpt-4o", "gpt-3.5-turbo", "gpt-4o-mini"], [], 100_000, "gpt-4o-mini"),
        (["gpt-4o", "gpt-3.5-turbo-instruct", "gpt-4o-mini"], ["function_calling"], 10, "gpt-4o-mini"),
        (["gpt-4o", "gpt-3.5-turbo"], ["vision"], 10, "gpt-4o"),
        (["gpt-4o", "claude-haiku-4-5", "gpt-4o-mini"], [], 10, "gpt-4o-mini"),
        (["gpt-4o", "a-model-that-nobody-knows", "gpt-4o-mini"], [], 10, "gpt-4o-mini"),
        (["openai/gpt-4o", "gpt-4o-mini"], [], 10, "gpt-4o-mini"),
    ],
)
def test_the_next_model_must_take_what_the_request_has(
    models: list[str], needs: list[str], tokens: int, used: str
) -> None:
    assert swapped_to(models, tokens, *needs) == used


def test_a_model_whose_answers_may_not_be_as_long_as_asked_for_is_passed_over() -> None:
    models = ["gpt-4o", "gpt-3.5-turbo", "gpt-4o-mini"]
    assert swapped_to(models, max_output_tokens=5000) == "gpt-4o-mini"
    assert swapped_to(models, max_output_tokens=4000) == "gpt-3.5-turbo"


def test_names_are_spelled_as_the_call_spells_its_own() -> None:
    with step("answer", max_usd=5, models=["gpt-4o", "gpt-4o-mini"], downgrade_at=0):
        call = new_call(described_by("azure/gpt-4o"))
        call.admit()
        call.withdraw()
    assert call.request.model == "azure/gpt-4o-mini"


def test_a_refusal_says_which_models_were_passed_over_and_why() -> None:
    models = ["gpt-4o", "claude-haiku-4-5", "gpt-3.5-turbo"]
    with step("answer", max_usd=1e-9, models=models) as answer:
        with pytest.raises(BudgetExhausted) as caught:
            new_call(described_by("gpt-4o", 10, frozenset({"vision"}))).admit()
        answer.account.raised = caught.value
    assert "claude-haiku-4-5 was passed over: it is of anthropic, and a swap stays with openai" in str(
        caught.value
    )
    assert "gpt-3.5-turbo was passed over: it has no vision" in str(caught.value)


def test_a_model_that_litellm_no_longer_lists_is_known_to_be_of_another_provider() -> None:
    assert "claude-3-5-haiku-latest" not in installed().entries, "else take another one for this test"
    assert abilities_of("claude-3-5-haiku-latest").owner == "anthropic"
    assert abilities_of("gemini-1.0-pro").owner is None, "it may be of two"
    models = ["gpt-4o", "claude-3-5-haiku-latest", "gpt-4o-mini"]
    with step("answer", max_usd=5, models=models, downgrade_at=0):
        call = new_call(described_by("gpt-4o"))
        call.admit()
        call.withdraw()
    assert call.request.model == "gpt-4o-mini"


# Where the framework makes the whole call again


def framework(trial: Trial, answer: Any) -> Call:
    """Make a call as a framework does that can only try again."""
    trial.begin(answer.accounts, answer.definition.model_list)
    while True:
        with trying(trial):
            request = replace(described(trial.models[trial.place]), with_model=None)
            call = new_call(request)
            try:
                call.admit()
            except BudgetExhausted:
                if not trial.refused:
                    raise
                trial.go_on()
                continue
            call.settle(Usage(input_tokens=5, output_tokens=5))
            return call


def priced(request: Request, name: str) -> Request:
    return replace(described(name), with_model=None)


def test_a_framework_is_told_to_try_the_next_one_and_nobody_else_hears_of_it() -> None:
    denied: list[CallDenied] = []
    off = on(CallDenied, denied.append)
    with step("answer", max_usd=25, models=LADDER) as answer:
        trials = [Trial(tuple(LADDER), priced) for _ in range(4)]
        models = [framework(trial, answer).request.model for trial in trials]
        assert models == ["big", "big", "small", "tiny"]
        assert [trial.swap and trial.swap.used for trial in trials] == [None, None, "small", "tiny"]
        assert not denied
        assert framework(Trial(tuple(LADDER), priced), answer).request.model == "tiny"
        with pytest.raises(BudgetExhausted):
            framework(Trial(tuple(LADDER), priced), answer)
        assert len(denied) == answer.record().denied_calls == 1
        assert [swap.calls for swap in answer.record().swaps] == [1, 2]
    off()


def test_a_framework_begins_with_the_next_model_from_a_share_on() -> None:
    with step("answer", max_usd=20, models=LADDER, downgrade_at=0.5) as answer:
        assert framework(Trial(tuple(LADDER), priced), answer).request.model == "big"
        trial = Trial(tuple(LADDER), priced)
        assert framework(trial, answer).request.model == "small"
        assert trial.swap == ("big", "small", "downgrade_at")


def test_where_nobody_can_change_the_model_a_call_is_refused_with_the_cure() -> None:
    with step("answer", max_usd=1e-9, models=LADDER) as answer:
        with pytest.raises(BudgetExhausted, match=r"budgeted\(model, models=\[...\]\)") as caught:
            new_call(replace(described("big"), with_model=None)).admit()
        answer.account.raised = caught.value


# Many at once


def fifty(limit: int, **options: Any) -> tuple[Decimal, dict[str, int]]:
    """Make fifty calls at once, all answered only after all were admitted or refused; returns what it cost."""
    ready, answer_now = threading.Barrier(51), threading.Event()
    models: dict[str, int] = {}

    with suppress(BudgetExhausted), step("answer", max_usd=limit, wait_s=0, **options) as answer:

        def one() -> None:
            call = new_call(described("big"))
            try:
                call.admit()
            except BudgetExhausted:
                ready.wait(60)
                return
            ready.wait(60)
            answer_now.wait(60)
            models[call.request.model] = models.get(call.request.model, 0) + 1
            call.settle(Usage(input_tokens=5, output_tokens=5))

        threads = [threading.Thread(target=bind(one)) for _ in range(50)]
        for thread in threads:
            thread.start()
        ready.wait(60)
        answer_now.set()
        for thread in threads:
            thread.join()
    return answer.cost_usd, models


def test_fifty_at_once_pass_the_limit_no_more_than_without_swaps() -> None:
    ask("big"), ask("small"), ask("tiny")  # none of them is cold
    limits = range(90, 101)
    without = [max(Decimal(0), fifty(limit)[0] - limit) for limit in limits]
    swapping = [fifty(limit, models=LADDER) for limit in limits]
    passed = [cost - limit for limit, (cost, _) in zip(limits, swapping, strict=True)]
    assert max(passed) <= max(without) <= 5
    assert all(rest < 1 for rest in map(Decimal.copy_negate, passed)), (
        "nothing is left that a call would fit in"
    )
    assert {model for _, models in swapping for model in models} == set(LADDER)


# What is said of them


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"models": "gpt-5"}, "models must be a list of names"),
        ({"models": ["gpt-5"]}, "leaves nothing to go on with"),
        ({"models": ["gpt-5", "gpt-5"]}, "names gpt-5 twice"),
        ({"models": ["gpt-5", 5]}, "models must be names, not 5"),
        ({"models": ["gpt-5", " "]}, "models must be names"),
        ({"downgrade_at": 0.8}, "downgrade_at is about models"),
        ({"models": LADDER, "downgrade_at": 80}, "a share from 0 to 1, such as 0.8, not 80"),
        ({"models": LADDER, "downgrade_at": True}, "a share from 0 to 1"),
        ({"models": LADDER, "downgrade_at": float("nan")}, "a share from 0 to 1"),
        ({"models": LADDER, "downgrade_at": Decimal("NaN")}, "a share from 0 to 1"),
        ({"models": LADDER, "downgrade_at": Decimal("sNaN")}, "a share from 0 to 1"),
        ({"models": LADDER, "downgrade_at": Decimal("1.1")}, "a share from 0 to 1"),
        ({"models": LADDER, "downgrade_at": 10**400}, "a share from 0 to 1"),
    ],
)
def test_nonsense_is_said_at_once(options: dict[str, Any], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        step("answer", **options)


def test_a_share_may_be_a_decimal_as_money_may_be() -> None:
    with step("answer", max_usd=100, models=LADDER, downgrade_at=Decimal("0.2")) as answer:
        swaps = [ask().swap for _ in range(3)]
    assert swaps[2] == ("big", "small", "downgrade_at")
    assert answer.definition.downgrade_at == 0.2
