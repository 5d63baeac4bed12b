"""Names alone: which keys of a table a model is looked for under, and whose prices a call may take."""

from __future__ import annotations

import sys
from types import SimpleNamespace

import pytest

from steptrack_callbacks.pricing.names import accepts, canonical, spellings
from steptrack_callbacks.pricing.table import Row, Table, live_entries, package_folder


def bare(name, provider):
    """Return the spellings of a model itself, each of which is also looked for with its provider."""
    *pairs, _, _ = spellings(name, provider)
    with_provider, without = pairs[::2], pairs[1::2]
    assert with_provider == [f"{provider}/{each}" for each in without]
    return without


def test_a_model_is_looked_for_with_its_provider_then_alone_then_with_other_forms_of_the_provider():
    assert list(spellings("gpt-5", "github_copilot")) == [
        "github_copilot/gpt-5",
        "gpt-5",
        "github-copilot/gpt-5",
        "github_copilot/github_copilot/gpt-5",
    ]


@pytest.mark.parametrize(
    ("name", "provider", "others"),
    [
        ("models/gemini-9-flash-001", "gemini", ["gemini-9-flash-001", "gemini-9-flash"]),
        ("google/gemini-9-flash", "gemini", ["gemini-9-flash"]),
        (
            "publishers/meta/models/llama-9-maas",
            "vertex_ai",
            ["llama-9-maas", "meta/llama-9-maas", "llama-9-maas@latest", "llama-9-maas@default"],
        ),
        ("llama-9", "fireworks_ai", ["accounts/fireworks/models/llama-9"]),
        ("databricks-llama-9-001", "databricks", ["databricks-llama-9"]),
        ("gpt-9-001", "openai", []),
        ("gpt-9-2026-01-31", "openai", ["gpt-9"]),
        ("ft:gpt-9-2026-01-31:my-org::id", "openai", ["ft:gpt-9-2026-01-31"]),
    ],
)
def test_what_frameworks_write_around_a_model_is_taken_off_it_and_what_tables_do_is_put_on(
    name, provider, others
):
    assert bare(name, provider) == [name, *others]


@pytest.mark.parametrize(
    ("name", "others"),
    [
        (
            "arn:aws:bedrock:eu-west-1:1:inference-profile/eu.a.b-v1:0",
            ["eu.a.b-v1:0", "a.b-v1:0", "bedrock_mantle/eu.a.b-v1:0"],
        ),
        ("arn:aws:bedrock:eu-west-1:1:custom-model/a.b-v1:0/own", ["own", "bedrock_mantle/own"]),
        ("converse/a.b-v1:0", ["a.b-v1:0", "bedrock_mantle/a.b-v1:0"]),
        ("us-east-1/a.b-v1:0", ["a.b-v1:0", "bedrock_mantle/us-east-1/a.b-v1:0"]),
        ("a.b-v1:0:48k", ["a.b-v1:0", "bedrock_mantle/a.b-v1:0"]),
        ("global.a.b-v1:0", ["a.b-v1:0", "bedrock_mantle/global.a.b-v1:0"]),
    ],
)
def test_a_model_of_bedrock_is_looked_for_as_it_is_then_without_route_throughput_and_region(name, others):
    assert bare(name, "bedrock") == [name, *others]


@pytest.mark.parametrize(
    ("name", "provider"),
    [("openai/gpt-oss-9b", "groq"), ("anthropic/claude-9", "openai"), ("gemini", "gemini")],
)
def test_the_name_of_another_maker_stays_part_of_the_model(name, provider):
    assert bare(name, provider) == [name]


def test_a_provider_that_stands_twice_is_taken_off_once():
    assert bare("cohere/embed/large", "cohere") == ["cohere/embed/large", "embed/large"]


@pytest.mark.parametrize(
    ("written", "name"),
    [("Azure OpenAI", "azure"), ("z.ai", "zai"), ("x.AI", "xai"), (" Google-GenAI ", "gemini")],
)
def test_a_provider_may_be_written_with_spaces_points_and_dashes(written, name):
    assert canonical(written) == name


@pytest.mark.parametrize(
    ("provider", "owner", "may"),
    [
        ("azure_ai", "azure", True),
        ("azure_ai", "openai", True),
        ("azure_ai", "anthropic", False),
        ("azure", "openai", False),
        ("bedrock", "bedrock_mantle", True),
        ("bedrock_mantle", "bedrock_converse", True),
        ("bedrock", "anthropic", False),
        ("anthropic", "bedrock", False),
        ("", "anthropic", True),
        ("anthropic", None, True),
    ],
)
def test_prices_are_shared_between_the_doors_of_one_house_only(provider, owner, may):
    assert accepts(provider, owner) is may


# The table


def test_a_model_is_found_in_whatever_case_it_is_written_and_keeps_the_tables_own():
    entries = {"Org/Model-A": {"mode": "chat"}}
    assert Table(entries).row("org/MODEL-a") == Row("Org/Model-A", entries["Org/Model-A"])
    assert Table(entries).row("org/model-b") is None


def test_of_two_models_that_differ_in_case_the_one_that_is_written_so_is_meant():
    entries = {"Model-A": {"mode": "chat"}, "model-a": {"mode": "embedding"}}
    assert [Table(entries).row(key).key for key in entries] == list(entries)


def test_litellm_has_no_living_table_unless_it_is_imported_and_has_one(monkeypatch):
    entries = {}
    monkeypatch.setitem(sys.modules, "litellm", SimpleNamespace(model_cost=entries))
    assert live_entries() is entries
    monkeypatch.setitem(sys.modules, "litellm", SimpleNamespace(model_cost=[]))
    assert live_entries() is None
    monkeypatch.setitem(sys.modules, "litellm", SimpleNamespace())
    assert live_entries() is None
    monkeypatch.delitem(sys.modules, "litellm")
    assert live_entries() is None


def test_what_is_not_installed_and_what_is_no_package_has_no_folder():
    assert package_folder("no_such_package_anywhere") is None
    assert package_folder("decimal") is None
    assert package_folder("json").name == "json"
