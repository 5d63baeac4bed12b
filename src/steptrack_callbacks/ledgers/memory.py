"""The default ledger: the newest records of this process, in memory."""

from __future__ import annotations

import threading

from steptrack_callbacks.records import CompletedStep

KEPT_RECORDS = 10_000


class MemoryLedger:
    """Keeps the newest records and says how many it let go.

    Attributes:
        dropped: Records that were let go to make room, since the last `clear`.
    """

    def __init__(self, *, kept: int = KEPT_RECORDS) -> None:
        self.dropped = 0
        self._kept = kept
        self._records: dict[str, CompletedStep] = {}
        self._lock = threading.RLock()  # a collected generator may end its step, and come here, any time

    def put(self, record: CompletedStep) -> None:
        """Keep a record, in place of an earlier revision of the same step."""
        with self._lock:
            self._records[record.id] = record
            while len(self._records) > self._kept:
                del self._records[next(iter(self._records))]
                self.dropped += 1

    def peek(self, run_id: str | None = None) -> list[CompletedStep]:
        """Return the records in the order in which steps ended; `None` means those of all runs."""
        with self._lock:
            records = list(self._records.values())
        return [record for record in records if run_id in (None, record.run_id)]

    def drain(self, run_id: str | None = None) -> list[CompletedStep]:
        """Return the records and forget them."""
        with self._lock:
            drained = self.peek(run_id)
            for record in drained:
                del self._records[record.id]
        return drained

    def clear(self) -> None:
        """Forget everything."""
        with self._lock:
            self._records.clear()
            self.dropped = 0
