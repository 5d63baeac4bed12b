"""Wrong arguments: whose frames are left out of a traceback, and what an escalation has to take."""

import functools
import traceback

import pytest

from steptrack_callbacks import Budget, Grant, Stage, StepDefinition, install, settings, step
from steptrack_callbacks.values.arguments import checks_arguments

OURS = {"__name__": "steptrack_callbacks.somewhere"}


def raised_by(body: str, **names: object) -> BaseException:
    """What a checked function raises that runs code of this package."""
    names = {**OURS, **names}
    exec(f"def inner():\n    {body}\ndef door():\n    inner()", names)  # noqa: S102
    with pytest.raises((TypeError, ValueError)) as raised:
        checks_arguments(names["door"])()
    return raised.value


def frames_of(error: BaseException) -> list[str]:
    """Names of the functions in its traceback, without this file's."""
    return [frame.name for frame in traceback.extract_tb(error.__traceback__)][1:]


def test_what_a_check_raises_shows_no_frame_of_the_check_and_keeps_its_cause():
    error = raised_by("raise ValueError('no') from KeyError('why')")
    assert frames_of(error) == ["checked"]
    assert isinstance(error.__cause__, KeyError)


def test_an_operation_that_fails_keeps_its_frames_since_it_may_be_a_bug():
    assert frames_of(raised_by("None + 1")) == ["checked", "door", "inner"]


def test_an_error_of_the_users_own_code_keeps_its_frames():
    def theirs():
        raise ValueError("theirs")

    assert frames_of(raised_by("theirs()", theirs=theirs)) == ["checked", "door", "inner", "theirs"]


def nothing():
    """Take nothing."""


def two(error, somebody):
    """Take one too many."""


@pytest.mark.parametrize("ask", [nothing, two, lambda *, error: None])
def test_an_escalation_that_cannot_take_the_exception_is_refused_where_it_is_declared(ask):
    name = ask.__name__
    with pytest.raises(ValueError, match=rf"escalation is called with one argument, .* and {name}\("):
        step("s", error_boundary="escalate", escalation=ask)
    with pytest.raises(ValueError, match=name):
        install(escalation=ask)


class Asked:
    """Called with an exception."""

    def __call__(self, error, *, urgent=False):
        """Say no."""

    def method(self, error):
        """Say no."""


class NoSignature(Asked):
    """Shows nothing of what it takes, as some functions written in C."""

    __signature__ = "unknown"


@pytest.mark.parametrize(
    "ask",
    [
        Asked(),
        Asked().method,
        functools.partial(two, somebody="me"),
        print,
        lambda *said: None,
        NoSignature(),
    ],
)
def test_whatever_takes_one_argument_may_be_asked(ask):
    assert step("s", error_boundary="escalate", escalation=ask).definition.escalation is ask


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        (
            lambda: install(max_usd=5),
            "install() got an unexpected keyword argument 'max_usd'; it is an option of step",
        ),
        (
            lambda: install(price={}),
            "install() got an unexpected keyword argument 'price'; did you mean 'prices'?",
        ),
        (
            lambda: Budget("t", max_seconds=1),
            "'max_seconds'; limit the time of a step, or give the budget a window",
        ),
        (lambda: Budget(max_calls=1), "Budget() needs a name"),
        (lambda: Stage(allowed_tools=[]), "Stage() needs a name"),
        (lambda: StepDefinition(max_calls=1), "StepDefinition() needs a name"),
    ],
)
def test_an_option_that_is_missing_or_elsewhere_is_named(wrong, says):
    with pytest.raises(TypeError) as raised:
        wrong()
    assert says in str(raised.value)


def test_an_amount_of_a_grant_is_called_so():
    with pytest.raises(ValueError, match="a Grant's max_calls must not be negative, not -1"):
        Grant(max_calls=-1)


def test_an_empty_list_of_models_is_refused_as_one_of_a_single_model_is():
    with pytest.raises(ValueError, match=r"step 's': models=\[\] names no model: name at least two"):
        step("s", models=[])
    assert step("s", models=()).definition.model_list is None


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        (lambda: install(tools={1: "network"}), "tools: a tool is named by a .*, such as 'search', not 1"),
        (lambda: install(tools={"": "network"}), "tools: a tool is named by a non-empty string.*, not ''"),
        (
            lambda: install(tools={"search": "network"}, prices={"": {"input_cost_per_token": 1}}),
            "prices: a model is named by a non-empty string, such as 'gpt-4o', not ''",
        ),
        (lambda: step("s", max_tool_calls={1: 1}), "step 's': max_tool_calls: a tool is named by .*, not 1"),
        (lambda: step("s", max_tool_calls={" ": 1}), "max_tool_calls: a tool is named by a non-empty string"),
    ],
)
def test_what_is_said_by_name_has_names(wrong, says):
    before = settings.now
    with pytest.raises(ValueError, match=says):
        wrong()
    assert settings.now is before
