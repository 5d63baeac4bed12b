"""The schema that is shipped, the checks, and the definitions say the same; and nothing else comes out than an error."""

import json
import tomllib
from dataclasses import fields
from importlib.resources import files
from typing import get_args

import jsonschema
import pytest
import tomlkit
from hypothesis import given
from hypothesis import strategies as st

from steptrack_callbacks.config import Config, ConfigError, parse, schema
from steptrack_callbacks.config.shape import misshapen
from steptrack_callbacks.config.values import LedgerOptions, ProxyOptions, Scope
from steptrack_callbacks.ledgers.budget import Budget
from steptrack_callbacks.ledgers.current import OnStoreError
from steptrack_callbacks.pricing.user import _PER_MTOK, _RATE
from steptrack_callbacks.values.budgets import MOST_USD
from steptrack_callbacks.values.definitions import (
    ErrorBoundary,
    PersonaDefinition,
    SideEffectLevel,
    Stage,
    StepDefinition,
    Unpriced,
)
from steptrack_callbacks.values.limits import Enforce

DEFS = schema()["$defs"]
TOGETHER = {"wrap_up_usd", "wrap_up_calls", "models", "downgrade_at"}
"""Keys that are judged by what stands beside them."""
VALIDATOR = jsonschema.Draft202012Validator(schema())


def names(cls) -> set[str]:
    return {field.name for field in fields(cls)}


def keys(part) -> set[str]:
    return set(part["properties"])


def test_the_schema_is_shipped_and_is_one():
    jsonschema.Draft202012Validator.check_schema(schema())
    assert json.loads(files("steptrack_callbacks").joinpath("steptrack.schema.json").read_text()) == schema()


def test_the_keys_of_the_schema_are_those_of_the_definitions():
    only_in_code = {"name", "function", "escalation"}
    assert keys(DEFS["step"]) == names(StepDefinition) - only_in_code
    assert keys(DEFS["persona"]) == names(PersonaDefinition) - only_in_code
    assert keys(DEFS["stage"]) == names(Stage) - {"name"}
    assert keys(DEFS["budget"]) == names(Budget) - {"name"} | {"scope"}
    assert keys(schema()["properties"]["ledger"]) == names(LedgerOptions)
    assert keys(schema()["properties"]["proxy"]) == names(ProxyOptions)
    told = {"source", "scopes", "step_budgets", "persona_budgets", "warnings"}
    assert keys(schema()) == names(Config) - told


@pytest.mark.parametrize(
    ("part", "choices"),
    [
        (DEFS["error_boundary"], ErrorBoundary),
        (DEFS["enforce"], Enforce),
        (DEFS["unpriced"], Unpriced),
        (DEFS["side_effect_level"], SideEffectLevel),
        (DEFS["budget"]["properties"]["scope"], Scope),
        (schema()["properties"]["ledger"]["properties"]["on_store_error"], OnStoreError),
    ],
)
def test_the_choices_of_the_schema_are_those_of_the_definitions(part, choices):
    assert part["enum"] == list(get_args(choices))


def test_the_defaults_of_the_schema_are_those_of_the_definitions():
    defaults = {field.name: field.default for field in fields(StepDefinition)}
    stated = {key: DEFS[key]["default"] for key in keys(DEFS["step"]) if "default" in DEFS.get(key, {})}
    assert stated == {key: defaults[key] for key in stated}
    assert len(stated) == 5


def test_the_rates_of_the_schema_are_those_of_the_pricer():
    assert {key for key in keys(DEFS["price"]) if key.endswith("_per_mtok")} == set(_PER_MTOK)
    assert f"^(?:{_RATE.pattern})$" in DEFS["price"]["patternProperties"]
    assert DEFS["budget_usd"]["maximum"] == MOST_USD


def test_every_example_of_the_schema_is_accepted():
    for key in keys(DEFS["step"]) - {"budgets", *TOGETHER}:
        for example in DEFS[key].get("examples", ()):
            assert parse(tomlkit.dumps({"steps": {"s": {key: example}}})).steps["s"]
    for example in schema()["properties"]["ledger"]["properties"]["url"]["examples"][:1]:
        assert parse(tomlkit.dumps({"ledger": {"url": example}})).ledger.url == example


plain = st.one_of(
    st.booleans(),
    st.integers(-(2**70), 2**70),
    st.integers(-1, 20),
    st.floats(),
    st.text(max_size=5),
    st.sampled_from(["strict", "fail", "1d", "network", "key", "allow", "memory:", "a", "b", ""]),
    st.lists(st.sampled_from(["a", "b", 3]), max_size=3),
    st.dates(),
)
some = st.sampled_from(["a", "b", "", "x/y", "ü.1"])


def table(part, values=plain) -> st.SearchStrategy:
    known = st.sampled_from([*sorted(keys(part)), "escalation", "nonsense"])
    return st.dictionaries(known, values, max_size=4)


def one_of_kind(part, values=plain) -> st.SearchStrategy:
    return st.dictionaries(some, st.one_of(table(part, values), table(part, values), plain), max_size=2)


persona = st.tuples(table(DEFS["persona"]), st.dictionaries(some, table(DEFS["stage"]), max_size=2)).map(
    lambda both: {**both[0], "stages": both[1]}
)
config = st.fixed_dictionaries(
    {},
    optional={
        "steps": one_of_kind(DEFS["step"]),
        "personas": st.dictionaries(some, persona, max_size=2),
        "budgets": one_of_kind(DEFS["budget"]),
        "prices": one_of_kind(DEFS["price"]),
        "tools": st.dictionaries(some, plain, max_size=2),
        "ledger": table(schema()["properties"]["ledger"]),
        "proxy": table(schema()["properties"]["proxy"]),
        "nonsense": plain,
    },
)


@given(config)
def test_what_is_taken_fits_the_schema_and_what_does_not_fit_is_refused(tables):
    fits = VALIDATOR.is_valid(tables)
    shaped = not list(misshapen(tables))
    try:
        parse(tomlkit.dumps(tables))
        taken = True
    except ConfigError:
        taken = False
    assert fits or not taken
    assert shaped or not taken


@given(
    st.sampled_from(sorted(keys(DEFS["step"]) - {"budgets", "default", *TOGETHER})),
    plain,
)
def test_the_schema_and_a_definition_agree_on_each_value(key, value):
    shaped = not list(misshapen({"steps": {"s": {key: value}}}))
    try:
        StepDefinition(name="s", **{key: value})
        taken = True
    except ValueError:
        taken = False
    assert taken or not shaped
    stricter = key in ("wait_s", "max_seconds") or isinstance(
        value, int
    )  # numbers as text; 64 bits, as TOML has
    assert shaped or not taken or stricter


@given(st.text())
def test_any_text_is_read_or_refused(text):
    try:
        parse(text)
    except ConfigError as error:
        assert error.problems and str(error)


words = st.sampled_from(
    [
        "[",
        "]",
        "steps",
        ".",
        "a",
        "=",
        "1",
        '"',
        "'''",
        "\n",
        "{",
        "}",
        ",",
        "true",
        "#",
        " ",
        "0x",
        "budgets",
    ]
)


@given(st.lists(words, max_size=30).map("".join))
def test_any_row_of_words_is_read_or_refused(text):
    try:
        tomllib.loads(text)
        is_toml = True
    except ValueError:
        is_toml = False
    try:
        parse(text)
    except ConfigError as error:
        assert ("not TOML" in str(error)) == (not is_toml)
