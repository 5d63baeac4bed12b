"""From a URL to a ledger: what is wrong with one is said, and no password with it."""

import subprocess
import sys

import pytest
from ledger_words import at, spend

from steptrack_callbacks.ledgers import open_ledger
from steptrack_callbacks.ledgers.memory import MemoryStore
from steptrack_callbacks.ledgers.protocol import COST
from steptrack_callbacks.ledgers.redis import RedisStore
from steptrack_callbacks.ledgers.sqlite import SqliteStore
from steptrack_callbacks.ledgers.urls import redacted


@pytest.mark.parametrize(("url", "kind", "shown"), [
    ("memory:", MemoryStore, "memory:"),
    ("sqlite:////var/steps.db", SqliteStore, "sqlite:////var/steps.db"),
    ("sqlite:////var/my%20steps.db?timeout_s=2", SqliteStore, "sqlite:////var/my steps.db"),
    ("redis://h:7000/2?timeout_s=1&prefix=team.a", RedisStore, "redis://h:7000/2"),
    ("rediss://me:s3cret@h/0?ssl_ca_certs=/ca.pem", RedisStore, "rediss://me:***@h/0?ssl_ca_certs=/ca.pem"),
    ("REDIS://h", RedisStore, "redis://h"),
])  # fmt: skip
def test_a_url_names_a_ledger(url, kind, shown):
    store = open_ledger(url)
    assert type(store) is kind
    assert store.url == shown
    assert "s3cret" not in repr(store) + store.url


def test_options_are_heeded():
    assert open_ledger("sqlite:///x.db?timeout_s=1.5").timeout_s == 1.5
    assert open_ledger("redis://h?timeout_s=2").timeout_s == 2
    assert open_ledger("redis://h").timeout_s == 2.0
    assert open_ledger("redis://h?prefix=mine")._names.meta == "{mine}:ledger"


def test_a_relative_file_stays_where_the_process_was_when_it_was_named(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    store = open_ledger("sqlite:///steps.db")
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    spend(store, cost=1)
    assert (tmp_path / "steps.db").exists()
    assert store.url == f"sqlite:///{tmp_path}/steps.db"
    assert at(open_ledger(store.url)).settled[COST] == 1
    store.close_connections()


@pytest.mark.parametrize(("url", "message"), [
    ("", "'' is not a ledger: use memory:"),
    (None, "a ledger is named by a URL, .* not None"),
    ("steps.db", r"'steps.db' is not a ledger: did you mean 'sqlite:///steps.db'\? Otherwise use memory:"),
    ("mysql://me:s3cret@h/x", r"'mysql://me:\*\*\*@h/x' is not a ledger"),
    ("memory:steps", "say 'memory:'"),
    ("sqlite:///", "names no file"),
    ("sqlite://", "names no file"),
    ("sqlite:steps.db", "names no file"),
    ("sqlite://steps.db", "names no file: say sqlite:///relative.db"),
    ("sqlite:/var/x.db", "say sqlite:///var/x.db for a file in the working directory, sqlite:////var/x.db for"),
    ("SQLITE:/x.db?timeout_s=1", "'SQLITE:/x.db.timeout_s=1' has one slash: say sqlite:///x.db for"),
    ("sqlite:/", "names no file"),
    ("sqlite:/me:s3cret@h/x.db", "has one slash"),
    ("sqlite:///:memory:", "or memory:"),
    ("sqlite:///x.db?timeout=1", "unknown option 'timeout'; there are mode, timeout_s"),
    ("sqlite:///x.db?mode=rwc", "must be ro or rw, not 'rwc'"),
    ("sqlite:///x.db?timeout_s=soon", "must be a positive number of seconds, not 'soon'"),
    ("sqlite:///x.db?timeout_s=nan", "not 'nan'"),
    ("redis://h?timeout_s=0", "not '0'"),
    ("redis://h?timeout_s=inf", "not 'inf'"),
    ("redis://me:s3cret@h?decode_responses=1", r"me:\*\*\*@h.* unknown option 'decode_responses'"),
    ("redis://h?prefix={x}", "prefix must be 1 to 64 letters"),
    ("redis://h?prefix=", "prefix must be"),
    ("redis://h?cluster=1", "must be true or false, not '1'"),
    ("redis://h:port/0", "port of 'redis://h:port/0' must be a number"),
    ("redis://me:s3cret@h:70000/0", "must be a number from 0 to 65535"),
    ("redis://h/zero", "'redis://h/zero' names no database: use a number"),
    ("redis://me:a/s3cret@h/0", "write the special characters"),
    ("redis://me:a?s3cret@h/0", "write the special characters"),
    ("redis://me:a#s3cret@h/0", "write the special characters"),
    ("redis:///0", "names no host"),
])  # fmt: skip
def test_what_is_wrong_with_a_url_is_said(url, message):
    with pytest.raises(ValueError, match=message) as caught:
        open_ledger(url)
    assert "s3cret" not in str(caught.value)


@pytest.mark.parametrize(("url", "shown"), [
    ("redis://me:p@ss:w/rd@h/0", "redis://me:***@h/0"),
    ("redis://:s3cret@h", "redis://:***@h"),
    ("redis://h?ssl_password=s3cret&ssl_keyfile=a", "redis://h?ssl_password=***&ssl_keyfile=a"),
    ("redis://h", "redis://h"),
])  # fmt: skip
def test_a_password_is_not_shown(url, shown):
    assert redacted(url) == shown


def test_opening_a_ledger_imports_only_its_own_driver():
    code = (
        "import sys; from steptrack_callbacks.ledgers import open_ledger; open_ledger('memory:');"
        "print(*sorted({'sqlite3', 'redis', 'asyncio', 'urllib.parse'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""
