"""What a ledger and a log get to hold, and what nothing in this package does."""

from __future__ import annotations

import ast
import logging
import sqlite3
from pathlib import Path

import litellm
import pytest
from langchain_openai import ChatOpenAI

import steptrack_callbacks
from fake_framework import FakeFramework
from provider import WORDS, Provider
from spending import spend
from steptrack_callbacks import Budget, BudgetExhausted, step
from steptrack_callbacks.engine import output_stats
from steptrack_callbacks.ledgers import current

PROMPT = "Rosebud-in-the-prompt"
SOURCES = Path(steptrack_callbacks.__file__).parent


def content_of(folder: Path) -> bytes:
    return b"".join(file.read_bytes() for file in folder.glob("steps.db*"))


def test_no_prompt_and_no_answer_is_in_a_ledger(tmp_path: Path, provider: Provider) -> None:
    output_stats.reset()  # long answers of other tests would keep the last call from being sent
    current.use(f"sqlite:///{tmp_path}/steps.db")
    ask = [{"role": "user", "content": PROMPT}]
    given = {"api_base": provider.url, "api_key": "sk-secret-key", "max_retries": 0}
    model = ChatOpenAI(model="gpt-4o", base_url=provider.url, api_key="sk-secret-key", max_retries=0)
    with step("plan", max_usd=1, run_id="run-1", budgets=[Budget("team", max_usd=1)]):
        litellm.completion("openai/gpt-4o", ask, **given)
        list(litellm.completion("openai/gpt-4o", ask, **given, stream=True))
        model.invoke(PROMPT)
        list(model.stream(PROMPT))
    with pytest.raises(ValueError, match=PROMPT), step("fails", max_usd=1):
        raise ValueError(f"cannot parse the answer to {PROMPT}")
    with pytest.raises(BudgetExhausted), step("ends", max_tokens=115):
        litellm.completion("openai/gpt-4o", ask, **given)
    current.ledger().flush()
    records = {record["name"]: record for record in current.ledger().store.records()}
    assert records["plan"]["llm_calls"] == provider.count() - 1 == 4
    assert records["fails"]["error"] == "ValueError"
    assert records["ends"]["error"].startswith("BudgetExhausted: step 'ends' exceeded max_tokens")
    current.reset()
    kept = content_of(tmp_path)
    assert b"gpt-4o" in kept
    for secret in (PROMPT, "sk-secret-key", "".join(WORDS)):
        assert secret.encode() not in kept


NAMES = [
    "'; DROP TABLE accounts; --",
    'a" OR "1"="1',
    "%",
    "_",
    "a\nb",
    "{prefix}",
    "*",
    "💸",
    "x" * 3000,
]


@pytest.mark.parametrize("name", NAMES, ids=range(len(NAMES)))
def test_a_name_is_a_name_in_sql(name: str, tmp_path: Path) -> None:
    path = tmp_path / "steps.db"
    current.use(f"sqlite:///{path}")
    with step("plan", budgets=[Budget("other", max_calls=5)]):
        FakeFramework().ask()
    with step("plan", run_id=name, budgets=[Budget(name, max_calls=5)]):
        FakeFramework().ask()
    store = current.ledger().store
    assert [totals.settled["calls"] for totals in store.look([f"budget::0:{name}", f"run:plan:{name}"])] == [
        1,
        1,
    ]
    assert [record["name"] for record in store.records(run_id=name)] == ["plan"]
    current.reset()
    database = sqlite3.connect(path)
    assert database.execute("SELECT count(*) FROM accounts").fetchone() == (3,)
    database.close()


def test_a_name_makes_no_second_line_in_a_message_or_a_log(caplog: pytest.LogCaptureFixture) -> None:
    name = "plan\nERROR forged: all is well\x1b[2J"
    with pytest.raises(BudgetExhausted) as refused, step(name, max_usd=1):
        spend(cost_usd=2)
    with caplog.at_level(logging.DEBUG), step(name, max_usd=1, enforce="observe", error_boundary="continue"):
        spend(cost_usd=2)
    for said in (str(refused.value), *caplog.messages):
        assert said.isprintable(), said


FORBIDDEN = {"pickle", "marshal", "shelve", "dill", "yaml", "ctypes", "telnetlib"}
CALLS = {"eval", "exec", "compile", "__import__"}
ALLOWED = {("cli/program.py", "exec"), ("cli/program.py", "compile")}  # `steptrack run PROGRAM`


def test_nothing_is_unpickled_or_evaluated() -> None:
    files = list(SOURCES.rglob("*.py"))
    assert len(files) > 100
    for file in files:
        where = file.relative_to(SOURCES).as_posix()
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            assert not FORBIDDEN & imported(node), where
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
                assert node.func.id not in CALLS or (where, node.func.id) in ALLOWED, where
            if isinstance(node, ast.keyword):
                assert not (node.arg == "shell" and getattr(node.value, "value", None) is True), where


def imported(node: ast.AST) -> set[str]:
    if isinstance(node, ast.Import):
        return {alias.name.partition(".")[0] for alias in node.names}
    return {(node.module or "").partition(".")[0]} if isinstance(node, ast.ImportFrom) else set()
