"""Wrong arguments: whose frames are left out of a traceback, and what an escalation has to take."""

import functools
import traceback

import pytest

from steptrack_callbacks import install, step
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
