"""Starts workers and asks them."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from entrants import ALL
from venvs import PYTHONS

LOG = Path(__file__).with_name(".venvs") / "workers.log"


class Worker:
    """One contestant's process."""

    def __init__(self, name: str, url: str) -> None:
        self.name = name
        python = PYTHONS[ALL[name].package]
        self.process = subprocess.Popen(
            [python, Path(__file__).with_name("worker.py"), name, url],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=LOG.open("a"),
            text=True,
        )

    def ask(self, **request: Any) -> dict[str, Any]:
        """Let it do one thing; what it cannot do is in `cannot`."""
        self.tell(**request)
        return self.hear()

    def tell(self, **request: Any) -> None:
        """Let it do one thing; `hear` waits until it is done."""
        assert self.process.stdin is not None
        print(json.dumps(request), file=self.process.stdin, flush=True)

    def hear(self) -> dict[str, Any]:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            return {"cannot": f"its process ended with {self.process.wait()}"}
        return json.loads(line)

    def stop(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.close()
        try:
            self.process.wait(5)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


@contextmanager
def workers(names: list[str], url: str) -> Iterator[list[Worker]]:
    """Run a worker for each contestant whose package is there."""
    with ExitStack() as stack:
        started = [Worker(name, url) for name in names if ALL[name].package in PYTHONS]
        for worker in started:
            stack.callback(worker.stop)
        yield started
