"""A ledger with something in it, and programs that hear Ctrl-C."""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from steptrack_callbacks import drain_completed_steps, record_usage, step
from steptrack_callbacks.ledgers import open_ledger
from steptrack_callbacks.ledgers.protocol import COST, AccountRequest, Asked, Entry, ReservationRequest


@pytest.fixture
def ledger(tmp_path: Path) -> Path:
    """A SQLite ledger with a run of three steps and an account that has a call in flight."""
    file = tmp_path / "steps.db"
    with step("nightly", max_usd=1, run_id="tonight"):
        with step("plan", max_calls=9):
            record_usage("my-model", input_tokens=1000, output_tokens=50, cost_usd=0.02)
        with step("=write"):
            record_usage("my-model", input_tokens=100, output_tokens=5, cost_usd=0.01)
    store = open_ledger(f"sqlite:///{file}")
    for record in drain_completed_steps():
        store.put_record(record.to_dict())
    key = "budget:1d:1795305600:team-a"
    amounts = {COST: 30_000_000_000, "calls": 2, "input_tokens": 1100, "output_tokens": 55}
    store.settle([Entry(id="1", keys=(key,), amounts=amounts, at=time.time())])
    store.reserve(
        ReservationRequest(
            id="2", asks=(AccountRequest(key=key, max_calls=9, held=Asked(5_000_000_000, 70)),), lease_s=900
        )
    )
    store.close_connections()
    return file


@pytest.fixture(autouse=True, scope="session")
def hears_ctrl_c() -> Iterator[None]:
    """Let programs be interrupted: those of a shell's background job are born deaf to it, and so are theirs."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)
