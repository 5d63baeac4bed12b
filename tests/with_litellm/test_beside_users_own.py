"""What the user has put into LiteLLM goes on working, and may ask models itself."""

from __future__ import annotations

import pickle
from collections.abc import Iterator
from copy import deepcopy
from typing import Any

import litellm
import pytest
from calling import Events, arguments, call, read, run, wait_until, wait_until_async

from provider import FORMS, Provider, _Answer
from steptrack_callbacks import step
from steptrack_callbacks.litellm.logger import TICKET


@pytest.fixture(autouse=True)
def _no_rules_stay() -> Iterator[None]:
    yield
    litellm.pre_call_rules.clear()
    litellm.post_call_rules.clear()


def test_the_users_own_rules_go_on_working(provider: Provider) -> None:
    seen: list[str] = []

    def no_secrets(text: str) -> bool:
        seen.append(text)
        return "secret" not in text

    litellm.pre_call_rules.append(no_secrets)
    with step("plan", max_usd=1) as plan:
        call("completion", provider)
        with pytest.raises(litellm.APIResponseValidationError):
            call("completion", provider, messages=[{"role": "user", "content": "a secret"}])
        assert plan.account.held_calls == 0
    assert seen
    assert provider.count() == plan.usage.calls == 1


@pytest.mark.parametrize("name", ["completion", "acompletion", "embedding"])
def test_litellms_own_budget_goes_on_working(
    name: str, provider: Provider, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(litellm, "max_budget", 0.5)
    monkeypatch.setattr(litellm, "_current_cost", 1.0)
    with step("plan", max_usd=1) as plan, pytest.raises(litellm.BudgetExceededError):
        call(name, provider)
    assert provider.count() == plan.usage.calls == 0


@pytest.mark.parametrize("name", ["completion", "acompletion"])
def test_a_rule_of_the_users_that_asks_a_model_itself_is_charged_as_its_own_call(
    name: str, provider: Provider
) -> None:
    asking: list[bool] = []

    def judge(_text: str) -> bool:
        if not asking:
            asking.append(True)
            call("completion", provider, max_tokens=1)
        return True

    litellm.pre_call_rules.append(judge)
    with step("plan", max_usd=1) as plan:
        read(name, provider)
    assert plan.usage.calls == provider.count() == 2
    assert plan.usage.output_tokens == 201
    assert plan.usage.ungated_calls == 0


class Judge(Events):
    """A callback that asks a model about each answer."""

    def __init__(self, provider: Provider) -> None:
        super().__init__()
        self.provider = provider
        self.asked = False

    def log_success_event(self, kwargs: Any, response_obj: Any, start_time: Any, end_time: Any) -> None:
        if start_time >= self.since and not self.asked:
            self.asked = True
            call("completion", self.provider, max_tokens=1)

    async def async_log_success_event(
        self, kwargs: Any, response_obj: Any, start_time: Any, end_time: Any
    ) -> None:
        if start_time >= self.since and not self.asked:
            self.asked = True
            await litellm.acompletion(**arguments("completion", self.provider, max_tokens=1))


@pytest.mark.parametrize("name", ["completion", "acompletion"])
def test_a_callback_of_the_users_that_asks_a_model_itself_is_charged_as_its_own_call(
    name: str, provider: Provider
) -> None:
    judge = Judge(provider)
    litellm.callbacks.append(judge)

    async def main() -> None:
        await litellm.acompletion(**arguments("completion", provider))
        await wait_until_async(lambda: plan.usage.calls == 2)

    try:
        with step("plan", max_usd=1) as plan:
            if name == "acompletion":
                run(main())
            else:
                call("completion", provider)
                wait_until(lambda: plan.usage.calls == 2)
    finally:
        judge.leave()
    assert provider.count() == 2
    assert plan.usage.output_tokens == 201


class _Images(_Answer):
    """The form of `/images/generations`."""

    def whole(self) -> Any:
        usage = {"input_tokens": 10, "output_tokens": 20, "total_tokens": 30}
        usage |= {"input_tokens_details": {"text_tokens": 10, "image_tokens": 0}}
        return {"created": 1, "data": [{"b64_json": "AAAA"}], "usage": usage}


@pytest.mark.parametrize("name", ["completion", "acompletion"])
def test_a_rule_of_the_users_that_makes_an_image_is_charged_beside_the_call(
    name: str, provider: Provider, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(FORMS, "/images/generations", _Images)
    where = {"api_base": provider.url, "api_key": "none"}

    def draw(_text: str) -> bool:
        litellm.image_generation(prompt="a cat", model="openai/gpt-image-1", **where)
        return True

    litellm.pre_call_rules.append(draw)
    with step("plan", max_usd=1) as plan:
        call(name, provider)
        wait_until(lambda: plan.usage.calls == 2)
        assert plan.usage.calls == provider.count() == 2
        assert (plan.usage.failed_calls, plan.usage.total_tokens) == (0, 330)


def test_a_rule_about_answers_goes_on_working(provider: Provider) -> None:
    litellm.post_call_rules.append(lambda text: "word" not in text)
    with step("plan", max_usd=1) as plan, pytest.raises(litellm.APIResponseValidationError):
        call("completion", provider)
    assert plan.usage.calls == provider.count() == 1
    assert plan.account.held_calls == 0


class _Copying(Events):
    """Copies what it is told, as one does that hands it to a queue."""

    def __init__(self) -> None:
        super().__init__()
        self.copies: list[Any] = []

    def log_success_event(self, kwargs: Any, response_obj: Any, start_time: Any, end_time: Any) -> None:
        self.copies.append((deepcopy(kwargs), pickle.loads(pickle.dumps(kwargs)), kwargs))
        super().log_success_event(kwargs, response_obj, start_time, end_time)


def test_a_callback_of_the_users_may_copy_and_pickle_what_it_is_told(provider: Provider) -> None:
    copying = _Copying()
    litellm.callbacks.append(copying)
    with step("plan", max_usd=1) as plan:
        call("completion", provider)
        copying.wait_for()
    copying.leave()
    ((copied, pickled, told),) = copying.copies
    assert copied[TICKET] is told[TICKET]
    assert isinstance(pickled[TICKET], str)
    assert plan.usage.calls == 1
