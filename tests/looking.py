"""What tests look at: the step here, the step in another thread, the record that a step left."""

import threading
from collections.abc import Callable
from typing import Any

from steptrack_callbacks import current_step, peek_completed_steps
from steptrack_callbacks.values.records import CompletedStep


def path() -> str | None:
    """Say which step is active here."""
    active = current_step()
    return active.path if active else None


def in_thread(function: Callable[[], Any]) -> Any:
    """Run a function in a plain thread and return what it returned."""
    results: list[Any] = []
    thread = threading.Thread(target=lambda: results.append(function()))
    thread.start()
    thread.join()
    return results[0]


def record_of(name: str) -> CompletedStep:
    """Find the record of the only step of a name."""
    (record,) = [record for record in peek_completed_steps() if record.name == name]
    return record
