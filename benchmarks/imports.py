"""How long a program waits until a package is imported, and until its first scope was open."""

from __future__ import annotations

import subprocess
import time
from pathlib import Path
from typing import Any

from entrants import ALL
from venvs import PYTHONS

ROUNDS = 5


def run(rounds: int = ROUNDS) -> dict[str, Any]:
    """Start a fresh interpreter for each sample, in turn; returns seconds, without the interpreter's own."""
    programs = dict(_programs())
    found: dict[str, list[float]] = {title: [] for title in programs}
    for number in range(rounds + 1):
        nothing = _seconds(PYTHONS[None], "pass")
        for title, (python, code) in programs.items():
            taken = _seconds(python, code) - nothing
            if number:  # the first round compiles and fills the disk's cache
                found[title].append(round(taken, 4))
    return found


def _programs() -> Any:
    for module in ("litellm", "langchain_core.callbacks", "openai"):
        yield f"import {module}", (PYTHONS[None], f"import {module}")
    for kind in ALL.values():
        if kind.package in PYTHONS and "module" in vars(kind) and kind.module:
            yield f"import {kind.module}", (PYTHONS[kind.package], f"import {kind.module}")
    for kind in ALL.values():
        if kind.package in PYTHONS and "first_use" in vars(kind) and kind.first_use:
            yield f"first scope: {kind.label}", (PYTHONS[kind.package], kind.first_use)


def _seconds(python: Path, code: str) -> float:
    start = time.perf_counter()
    subprocess.run([python, "-c", code], check=True, capture_output=True)
    return time.perf_counter() - start
