"""What a good steptrack.toml says, and what is allowed in it and probably not meant."""

import re
import sys
from decimal import Decimal
from pathlib import Path

import pytest

from steptrack_callbacks.config import Config, LedgerOptions, ProxyOptions, load, parse, schema
from steptrack_callbacks.ledgers.budget import Budget
from steptrack_callbacks.values.definitions import Stage

FULL = """
[ledger]
url = "sqlite:///steps.db?timeout_s=0.5"
on_store_error = "allow"
lease_s = 60
timeout_s = 0.5

[budgets.team-a]
max_usd = 50
window = "1d"

[budgets.per-key]
max_calls = 1000
window = "1h"
enforce = "strict"
scope = "key"

[steps.plan]
model = "gpt-4o-mini"
max_usd = 0.05
max_tokens = 4_000
max_calls = 3
max_seconds = 60
error_boundary = "continue"
default = "no plan"
enforce = "strict"
wait_s = 1.5
clamp = false
cut_streams = false
wrap_up_usd = 0.01
unpriced = "warn"
budgets = ["team-a"]

[steps.draft]

[personas.editor]
max_usd = 1
budgets = ["team-a", "per-key"]

[personas.editor.stages.draft]
allowed_tools = ["search"]
side_effect_level = "read_only"
max_iterations = 2

[prices."my/model-1.5"]
input_usd_per_mtok = 0.5
output_cost_per_token = 1.5e-6

[tools]
search = "network"

[proxy]
budgets = ["per-key"]
max_open_steps = 100
step_ttl_s = 3600
"""


@pytest.fixture(scope="module")
def full(tmp_path_factory) -> Config:
    file = tmp_path_factory.mktemp("config") / "steptrack.toml"
    file.write_text(FULL, encoding="utf-8")
    return load(file)


def test_a_step_has_all_that_its_table_says(full):
    plan = full.steps["plan"]
    assert (plan.name, plan.model, plan.max_usd, plan.max_tokens) == (
        "plan",
        "gpt-4o-mini",
        Decimal("0.05"),
        4000,
    )
    assert (plan.max_calls, plan.max_seconds, plan.error_boundary, plan.default) == (
        3,
        60,
        "continue",
        "no plan",
    )
    assert (plan.enforce, plan.wait_s, plan.clamp, plan.cut_streams) == ("strict", 1.5, False, False)
    assert (plan.wrap_up_usd, plan.unpriced) == (Decimal("0.01"), "warn")


def test_budgets_hang_on_the_steps_and_personas_that_name_them(full):
    team = Budget("team-a", max_usd=50, window="1d")
    assert full.steps["plan"].budgets == (team,)
    assert full.steps["draft"].budgets == ()
    assert [budget.name for budget in full.personas["editor"].budgets] == ["team-a", "per-key"]
    assert full.step_budgets == {"plan": ("team-a",)}
    assert full.persona_budgets == {"editor": ("team-a", "per-key")}
    assert full.scopes == {"team-a": "all", "per-key": "key"}
    assert full.budgets["per-key"] == Budget("per-key", max_calls=1000, window="1h", enforce="strict")


def test_a_persona_has_its_stages(full):
    stage = Stage("draft", allowed_tools=["search"], side_effect_level="read_only", max_iterations=2)
    assert full.personas["editor"].stages == (stage,)
    assert full.personas["editor"].max_usd == 1


def test_the_other_tables_are_taken_as_they_are(full):
    assert full.prices == {"my/model-1.5": {"input_usd_per_mtok": 0.5, "output_cost_per_token": 1.5e-6}}
    assert full.tools == {"search": "network"}
    url = "sqlite:///steps.db?timeout_s=0.5"
    assert full.ledger == LedgerOptions(url=url, on_store_error="allow", lease_s=60, timeout_s=0.5)
    assert full.proxy == ProxyOptions(budgets=("per-key",), max_open_steps=100, step_ttl_s=3600)
    assert full.warnings == ()


def test_an_empty_file_says_nothing():
    assert parse("") == Config(source="steptrack.toml")


def test_to_read_a_file_opens_no_ledger(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    parse(FULL)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (
            "[budgets.a]\nmax_usd = 1",
            "line 1: budgets.a: no step, no persona and not the proxy is charged to it",
        ),
        (
            '[budgets.a]\nmax_usd = 1\nscope = "key"\n[steps.s]\nbudgets = ["a"]',
            'line 3: budgets.a.scope: scope = "key" has a meaning on the proxy only',
        ),
        (
            '[budgets.a]\nmax_usd = 1\n\n[proxy]\nbudgets = ["a"]',
            'line 4: proxy: no budget with scope = "key" is used',
        ),
        ("[proxy]", 'line 1: proxy: no budget with scope = "key" is used'),
        (
            '[budgets.a]\nmax_usd = 1\nscope = "key"\n[steps.s]\nbudgets = ["a"]\n[proxy]',
            'line 6: proxy: no budget with scope = "key" is used for all requests',
        ),
    ],
)
def test_what_is_probably_not_meant_is_a_warning(text, said):
    (warning,) = parse(text).warnings
    assert str(warning).startswith(said)


DOCS = Path(__file__).parents[2] / "docs" / "config.md"


def test_the_file_in_the_docs_is_a_good_one():
    [text] = re.findall(r"```toml\n(.*?)```", DOCS.read_text(encoding="utf-8"), re.DOTALL)
    config = parse(text)
    assert config.warnings == ()
    assert set(config.steps) == {"plan", "draft"}
    for table in schema()["properties"]:
        assert getattr(config, table), f"the docs show nothing of [{table}]"


def test_a_redis_may_be_named_where_its_driver_is_not_installed(monkeypatch):
    for module in [name for name in sys.modules if name.split(".")[0] == "redis"]:
        monkeypatch.delitem(sys.modules, module)
    monkeypatch.setitem(sys.modules, "redis", None)
    assert parse("[ledger]\nurl = 'redis://host:6379/0'").ledger.url == "redis://host:6379/0"
