"""A thread that works off a queue, as programs have for everything that happens in them."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable
from typing import Any, Self


class Worker:
    """The thread, started wherever this is made; as a context manager it ends with the block."""

    def __init__(self) -> None:
        self._jobs: queue.Queue[Callable[[], Any] | None] = queue.Queue()
        self._results: queue.Queue[Any] = queue.Queue()
        self._thread = threading.Thread(target=self._work)
        self._thread.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def _work(self) -> None:
        for job in iter(self._jobs.get, None):
            try:
                self._results.put(job())
            except Exception as error:
                self._results.put(error)

    def do(self, job: Callable[[], Any]) -> Any:
        """Have a job done; returns what it returned or raised."""
        self._jobs.put(job)
        return self._results.get(timeout=30)

    def stop(self) -> None:
        self._jobs.put(None)
        self._thread.join(30)
