"""Attaching to LiteLLM, once, whenever it is imported; and leaving it as it was."""

from __future__ import annotations

import functools
import importlib
import inspect
import logging
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import litellm
import pytest
from calling import NAMES, arguments, ask, call, run, wait_until

import steptrack_callbacks as steptrack
from provider import Provider
from steptrack_callbacks import BudgetExhausted, LostStepWarning, bind, step
from steptrack_callbacks.integrations.seams_litellm import ROUTER_ENDPOINTS
from steptrack_callbacks.litellm.refusals import LOGGERS

LISTS = [
    name for name in vars(litellm) if name.endswith("_callback") or name in ("callbacks", "pre_call_rules")
]
REPLACED = [
    ("litellm.litellm_core_utils.asyncify", "run_async_function"),
    ("litellm.litellm_core_utils.fallback_utils", "run_async_function"),
    ("litellm.batch_completion.main", "ThreadPoolExecutor"),
    *(("litellm", name) for name in NAMES),
]


def snapshot() -> dict[str, Any]:
    """Take down all of LiteLLM that attaching may touch."""
    state: dict[str, Any] = {name: list(getattr(litellm, name)) for name in LISTS}
    state |= {f"{module}.{name}": getattr(importlib.import_module(module), name) for module, name in REPLACED}
    state |= {f"Router.{name}": getattr(litellm.Router, name) for name in ROUTER_ENDPOINTS}
    state |= {name: list(logging.getLogger(name).filters) for name in LOGGERS}
    return state | {"finders": [each for each in sys.meta_path if "steptrack" in type(each).__module__]}


@pytest.fixture
def detached() -> None:
    steptrack.uninstall()


def test_uninstall_leaves_litellm_as_it_was(detached: None, provider: Provider) -> None:
    assert len(LISTS) > 6
    ask("completion", provider)
    ask("acompletion", provider)
    before = snapshot()
    steptrack.install()
    assert snapshot() != before
    for name in NAMES:
        for stream in (False, True):
            if not (stream and "embedding" in name):
                ask(name, provider, stream=stream)
    with step("plan", max_calls=0, error_boundary="continue"):
        call("completion", provider)
    steptrack.uninstall()
    assert snapshot() == before


def test_install_twice_is_once(detached: None, provider: Provider) -> None:
    before = snapshot()
    steptrack.install()
    once = snapshot()
    steptrack.install()
    assert snapshot() == once
    with step("plan") as plan:
        call("completion", provider)
    assert plan.usage.calls == 1
    steptrack.uninstall()
    steptrack.uninstall()
    assert snapshot() == before


@pytest.fixture
def theirs() -> Iterator[Any]:
    """What somebody else has put around an entry point after us."""
    ours = litellm.completion

    @functools.wraps(ours)
    def theirs(*args: Any, **kwargs: Any) -> Any:
        return ours(*args, **kwargs)

    litellm.completion = theirs
    yield theirs
    litellm.completion = ours
    steptrack.uninstall()
    litellm.completion = ours.__wrapped__


def test_what_somebody_else_has_put_around_an_entry_point_stays_and_we_let_through_under_it(
    theirs: Any, provider: Provider
) -> None:
    with step("plan") as plan:
        call("completion", provider)
        assert plan.usage.calls == 1
        steptrack.uninstall()
        assert litellm.completion is theirs
        call("completion", provider)
        assert plan.usage.calls == 1


def test_attaching_again_under_somebody_elses_wrapper_gates_once(theirs: Any, provider: Provider) -> None:
    steptrack.uninstall()
    steptrack.install()
    assert litellm.completion is theirs
    with step("plan", max_calls=1, error_boundary="continue") as plan:
        call("completion", provider)
        assert plan.usage.calls == 1
        call("completion", provider)
    assert provider.count() == plan.usage.calls == 1


def test_a_wrapper_imported_by_name_gates_while_we_are_attached(provider: Provider) -> None:
    completion = litellm.completion
    given = arguments("completion", provider)
    steptrack.uninstall()
    with step("plan") as plan:
        completion(**given)
        assert plan.usage.calls == 0
    steptrack.install()
    with step("plan", max_calls=1) as plan:
        completion(**given)
        assert (plan.usage.calls, plan.usage.ungated_calls) == (1, 0)
        with pytest.raises(BudgetExhausted):
            completion(**given)


@pytest.mark.parametrize("name", NAMES)
def test_an_entry_point_keeps_its_name_and_signature(name: str) -> None:
    wrapped = getattr(litellm, name)
    assert wrapped.__name__ == wrapped.__wrapped__.__name__
    assert inspect.signature(wrapped) == inspect.signature(wrapped.__wrapped__)
    assert inspect.iscoroutinefunction(wrapped) is name.startswith("a")


PROGRAM = """
import sys
import steptrack_callbacks as steptrack
from steptrack_callbacks import BudgetExhausted, LostStepWarning, bind, step

steptrack.install()
assert "litellm" not in sys.modules
with step("plan", max_calls=1) as plan:
    import litellm

    ask = dict(model="openai/gpt-4o", messages=[{"role": "user", "content": "hello"}], mock_response="Hi!")
    litellm.completion(**ask)
    assert plan.usage.calls == 1, plan.usage
    try:
        litellm.completion(**ask)
    except BudgetExhausted as error:
        print(error.step)
"""


def test_install_before_litellm_is_imported_attaches_on_import() -> None:
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", PROGRAM], capture_output=True, text=True, check=False
    )
    assert done.stdout.split() == ["plan"], done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.filterwarnings("ignore:litellm.* was imported before install:UserWarning")
@pytest.mark.parametrize("name", NAMES)
def test_refusals_leave_no_traceback_in_litellms_logs(
    name: str, provider: Provider, caplog: pytest.LogCaptureFixture
) -> None:
    for logger in LOGGERS:
        logging.getLogger(logger).addHandler(caplog.handler)
    try:
        with caplog.at_level(logging.INFO), step("plan", max_calls=1, error_boundary="continue"):
            call(name, provider)
            call(name, provider)
        early = getattr(litellm, name).__wrapped__
        with step("again", max_calls=1, error_boundary="continue") as again:
            call(name, provider)
            wait_until(lambda: again.exhausted)
            given = {"model": "openai/gpt-4o", "api_base": provider.url, "api_key": "none"}
            if name == "completion":
                early(**given, messages=[{"role": "user", "content": "hello"}])
            if name == "acompletion":
                run(early(**given, messages=[{"role": "user", "content": "hello"}]))
        assert not [
            record for record in caplog.records if record.exc_info or "Traceback" in record.getMessage()
        ]
        assert "steptrack" not in caplog.text
    finally:
        for logger in LOGGERS:
            logging.getLogger(logger).removeHandler(caplog.handler)


def test_a_lost_step_names_the_line_that_called_litellm(provider: Provider) -> None:
    with step("plan"):
        late = bind(call)
    with pytest.warns(LostStepWarning, match="plan', which has ended") as warned:
        late("completion", provider)
    assert warned[0].filename == call.__code__.co_filename


class Kept(logging.Handler):
    """Keeps what is logged, as text."""

    def __init__(self) -> None:
        super().__init__()
        self.told: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.told.append(record.getMessage())


@pytest.mark.parametrize("name", LOGGERS)
def test_litellm_logs_nothing_of_a_refusal_though_its_own_filters_make_text_of_it(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(BudgetExhausted) as refused, step("plan", max_calls=0):
        litellm.completion("gpt-4o-mini", [{"role": "user", "content": "hello"}], mock_response="hello")
    kept = Kept()
    monkeypatch.setattr(logging.getLogger(name), "handlers", [kept])
    logging.getLogger(name).error("Exception occured - %s - %s", "id", refused.value)
    logging.getLogger(name).error("something else: %s", ValueError("no"))
    assert kept.told == ["something else: no"]
