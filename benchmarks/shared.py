"""Four processes of fifty tasks each, with one budget of ten calls on one Redis, twenty times in a row.

    python benchmarks/shared.py [RUNS [DOOR ...]]

How many calls reached the provider each time, and what the others got. The processes are new in each run.
"""

from __future__ import annotations

import json
import sys
import time
from collections import Counter
from itertools import product
from pathlib import Path
from typing import Any

import limits
from upstream import Upstream
from workers import Worker

RUNS, PROCESSES, CALLS = 20, 4, 200
DOORS = ("langchain", "litellm")


def run(runs: int = RUNS, doors: tuple[str, ...] = DOORS) -> list[dict[str, Any]]:
    return [_cell(door, runs, warm=warm, cap=cap) for door in doors for warm, cap in _states()]


def _states() -> product[tuple[bool, int | None]]:
    return product((False, True), (200, None))


def _cell(door: str, runs: int, *, warm: bool, cap: int | None) -> dict[str, Any]:
    trial = {"mode": "tasks", "warm": warm, "max_tokens": cap, "processes": PROCESSES, "calls": CALLS}
    sent, seconds, ends = [], [], Counter[str]()
    with Upstream() as upstream, limits.places_to_share() as places:
        worker = Worker("Ours", upstream.url)
        worker.ask(do="prepare", door=door)
        for _ in range(runs):
            start = time.monotonic()
            found = limits.try_out(worker, upstream, door, trial | places()["Redis"])
            seconds.append(round(time.monotonic() - start, 1))
            sent.append(found["sent"])
            ends.update(found["ends"])
        worker.stop()
    cell = {"door": door, "warm": warm, "max_tokens": cap, "sent": sent, "ends": ends, "seconds": seconds}
    print(json.dumps(cell), flush=True)
    return cell


def main() -> None:
    runs, doors = sys.argv[1:2] or [RUNS], tuple(sys.argv[2:]) or DOORS
    found = run(int(runs[0]), doors)
    Path(__file__).with_name("shared.json").write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
