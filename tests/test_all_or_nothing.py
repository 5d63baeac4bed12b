"""install() does all that it is told, or raises and has done nothing."""

import inspect
import warnings

import pytest

import steptrack_callbacks as steptrack
from steptrack_callbacks import LedgerError, attachments, settings
from steptrack_callbacks.ledgers import current

GOOD = {
    "ledger": "memory:",
    "on_store_error": "allow",
    "lease_s": 7,
    "prices": {"our-model": {"input_usd_per_mtok": 1, "output_usd_per_mtok": 1}},
    "steps": {"plan": {"max_usd": 1}},
    "nodes": {"node": {"max_usd": 1}},
    "tools": {"search": "read_only"},
    "escalation": lambda _error: None,
    "proxy_url": "http://localhost:4000",
    "on_integration_change": "warn",
}
BAD = [
    ("ledger", "mysql://host/steps"),
    ("ledger", object()),
    ("on_store_error", "hope"),
    ("lease_s", -1),
    ("lease_s", "soon"),
    ("prices", {"fine": {"input_usd_per_mtok": 1}, "wrong": {"input_usd_per_mtok": -1}}),
    ("prices", {"wrong": {"input_usd": 1}}),
    ("steps", {"fine": {"max_usd": 1}, "wrong": {"max_usd": "lots"}}),
    ("steps", {"wrong": {"error_boundary": "continue"}}),
    ("steps", {"node": {"max_usd": 1}}),
    ("steps", ["plan"]),
    ("nodes", {"fine": {}, "a//b": {}}),
    ("nodes", {"plan": {"max_usd": 1}}),
    ("tools", {"fine": "none", "wrong": "some"}),
    ("escalation", "boss"),
    ("proxy_url", "ftp://localhost"),
    ("on_integration_change", "shrug"),
    ("config", "there-is-no-such-file.toml"),
]


@pytest.fixture(autouse=True)
def _off():
    yield
    steptrack.uninstall()


def state():
    return settings.now, current.is_chosen(), current._in_force, [attachments.is_attached("litellm")]


@pytest.mark.parametrize(("name", "value"), BAD, ids=lambda value: str(value)[:20])
@pytest.mark.parametrize("before", [{}, GOOD], ids=["at first", "once more"])
def test_with_one_bad_argument_nothing_is_changed(name, value, before):
    if before:
        steptrack.install(**before)
    found = state()
    with pytest.raises((ValueError, OSError, LedgerError)):
        steptrack.install(**{**GOOD, name: value})
    assert all(one is other for one, other in zip(found[:3], state()[:3], strict=True))
    assert found[3] == state()[3]


def test_a_ledger_is_not_in_force_after_a_bad_price(tmp_path):
    url = f"sqlite:///{tmp_path / 'steps.db'}"
    with pytest.raises(ValueError, match="-1"):
        steptrack.install(ledger=url, prices={"our-model": {"input_usd_per_mtok": -1}})
    assert not current.is_chosen()
    assert current.ledger().store.url == "memory:"


def test_steps_are_not_declared_after_a_bad_tool():
    with pytest.raises(ValueError, match="some"):
        steptrack.install(steps={"plan": {"max_calls": 1}}, tools={"search": "some"})
    assert settings.now == settings.Settings()


def test_a_file_does_not_count_after_a_bad_argument(tmp_path):
    file = tmp_path / "steptrack.toml"
    file.write_text('[steps.plan]\nmax_usd = 1\n[tools]\nsearch = "none"\n')
    with pytest.raises(ValueError, match="'x'"):
        steptrack.install(config=file, tools={"search": "x"})
    assert settings.now == settings.Settings()


def test_a_warning_that_a_filter_makes_an_error_leaves_all_as_it_was(tmp_path):
    file = tmp_path / "steptrack.toml"
    file.write_text("[steps.plan]\nmax_usd = 1\n[budgets.unused]\nmax_usd = 1\n")
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        steptrack.install(config=file)
    assert seen, "the file is one that is warned of"
    steptrack.uninstall()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(UserWarning):
            steptrack.install(config=file)
    assert settings.now == settings.Settings()


def test_what_is_given_later_is_added_and_what_is_not_given_stays():
    steptrack.install(**GOOD)
    first = settings.now
    steptrack.install(steps={"write": {"max_usd": 2}}, lease_s=8)
    now = settings.now
    assert set(now.steps) == {"plan", "write"}
    assert (now.ledger.lease_s, now.ledger.on_store_error) == (8, "allow")
    assert (now.prices, now.tools, now.nodes) == (first.prices, first.tools, first.nodes)
    assert (current.ledger().lease_s, current.ledger().on_error) == (8, "allow")


GARBAGE = (3, -1, True, "x", b"x", (), [1], {1: 2}, float("nan"), object)
FITTING = (("threads", True), ("lease_s", 3), ("escalation", object))


@pytest.mark.parametrize(
    ("argument", "value"),
    [
        (argument, value)
        for argument in inspect.signature(steptrack.install).parameters
        for value in GARBAGE
        if (argument, value) not in FITTING
    ],
    ids=repr,
)
def test_garbage_for_any_argument_of_install_is_named_and_changes_nothing(argument, value):
    before = settings.now
    with pytest.raises((ValueError, TypeError)) as refused:
        steptrack.install(**{argument: value})
    assert argument.removesuffix("s") in str(refused.value) or str(value) in str(refused.value)
    assert settings.now is before


def test_what_is_bound_must_be_a_function():
    with pytest.raises(TypeError, match=r"bind\(\) needs a function, not 3"):
        steptrack.bind(3)
