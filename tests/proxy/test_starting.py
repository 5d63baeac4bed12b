"""What the handler needs to start, and what it says if that is missing."""

import json
import subprocess
import sys

import pytest
from serving import proxy

from steptrack_callbacks.config import ConfigError, LedgerOptions
from steptrack_callbacks.ledgers import current
from steptrack_callbacks.ledgers.memory import MemoryStore
from steptrack_callbacks.litellm_proxy import starting


def test_several_workers_with_a_ledger_in_memory_are_refused_with_the_fix(tmp_path):
    with pytest.raises(RuntimeError, match="did not start") as refused:
        with proxy(
            tmp_path, "http://127.0.0.1:1/v1", "", "--num_workers", "2", "--timeout_worker_healthcheck", "120"
        ):
            pass
    assert "2 workers with the ledger 'memory:' would each spend the whole budget" in str(refused.value)
    assert 'such as [ledger] url = "redis://localhost:6379" in steptrack.toml' in str(refused.value)


@pytest.mark.parametrize(
    ("environment", "arguments", "count"),
    [
        ({}, [], 1),
        ({"NUM_WORKERS": "4"}, [], 4),
        ({"WEB_CONCURRENCY": "3"}, [], 3),
        ({}, ["--workers", "2"], 2),
        ({}, ["--num_workers=5"], 5),
        ({}, ["-w", "6"], 6),
        ({"NUM_WORKERS": "1"}, ["--workers", "nonsense"], 1),
    ],
)
def test_the_number_of_workers_is_told_by_the_environment_or_the_command(
    monkeypatch, environment, arguments, count
):
    for name in ("NUM_WORKERS", "WEB_CONCURRENCY"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(sys, "argv", ["litellm", *arguments])
    assert starting.worker_count() == count


def test_one_worker_may_keep_its_books_in_memory_and_many_a_file():
    starting.refuse_many_books(current.LedgerClient(MemoryStore()), 1)
    with pytest.raises(ValueError, match="4 workers"):
        starting.refuse_many_books(current.LedgerClient(MemoryStore()), 4)


def test_limits_must_come_from_somewhere(monkeypatch, tmp_path):
    monkeypatch.delenv("STEPTRACK_CONFIG", raising=False)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match="set STEPTRACK_CONFIG to the path of a steptrack.toml"):
        starting.config_file()
    (tmp_path / "steptrack.toml").write_text("")
    assert starting.config_file().is_file()
    monkeypatch.setenv("STEPTRACK_CONFIG", "elsewhere.toml")
    with pytest.raises(ConfigError, match=r"elsewhere\.toml"):
        starting.load(starting.config_file())


def test_the_ledger_of_the_file_is_put_in_force(tmp_path, monkeypatch):
    starting.open_ledger(
        LedgerOptions(url=f"sqlite:///{tmp_path}/steps.db", on_store_error="allow", lease_s=7, timeout_s=3)
    )
    ledger = current.ledger()
    assert ledger.is_durable
    assert (ledger.on_error, ledger.lease_s) == ("allow", 7)
    starting.open_ledger(LedgerOptions(timeout_s=3))
    assert current.ledger() is ledger


def test_what_the_file_says_of_the_ledger_holds_for_the_one_in_the_environment(tmp_path, monkeypatch):
    monkeypatch.setenv("STEPTRACK_LEDGER", f"sqlite:///{tmp_path}/env.db")
    starting.open_ledger(LedgerOptions(on_store_error="allow", lease_s=7))
    ledger = current.ledger()
    assert (ledger.on_error, ledger.lease_s, ledger.store.timeout_s) == ("allow", 7, 2.0)


def test_a_proxy_that_is_not_installed_is_told_by_the_name_of_our_extra():
    code = (
        "import sys; sys.modules['apscheduler'] = None\n"
        "from steptrack_callbacks.cli import main; sys.exit(main(['proxy', '--example']))"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert ran.returncode != 0
    assert "pip install 'steptrack-callbacks[proxy]'" in ran.stderr
    assert "Traceback" not in ran.stderr


def test_naming_the_headers_needs_no_proxy():
    code = "import sys, steptrack_callbacks.litellm_proxy as p; p.headers(); print('litellm' in sys.modules)"
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert json.loads(said.stdout.lower()) is False
