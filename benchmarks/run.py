"""Measures this package beside its peers, and writes `docs/benchmarks.md`.

    python benchmarks/run.py [PART ...]

Without a part it measures all; with some, only those anew. What was found is in `results.json`.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import admission
import growth
import imports
import limits
import machine
import overhead
import page
import shared
import venvs

HERE = Path(__file__).parent
RESULTS = HERE / "results.json"
DOC = HERE.parent / "docs" / "benchmarks.md"


def of_program(name: str) -> dict[str, Any]:
    """Run a benchmark that is a program of its own and writes its results to the file it is given."""
    with tempfile.TemporaryDirectory() as folder:
        results = Path(folder) / "results.json"
        subprocess.run([sys.executable, HERE / name, results], check=True, stdout=subprocess.DEVNULL)
        return json.loads(results.read_text(encoding="utf-8"))


def ledgers() -> dict[str, Any]:
    subprocess.run([sys.executable, HERE / "ledgers.py"], check=True, stdout=subprocess.DEVNULL)
    return json.loads((HERE / "ledgers.json").read_text(encoding="utf-8"))


PARTS: dict[str, Callable[[], Any]] = {
    "overhead": overhead.run,
    "imports": imports.run,
    "limits": limits.run,
    "shared": shared.run,
    "admission": admission.run,
    "growth": growth.run,
    "ledgers": ledgers,
    "proxy": lambda: of_program("proxy.py"),
    "profile": lambda: of_program("profiling.py"),
}


def main() -> None:
    options = argparse.ArgumentParser(description="Measure, and write docs/benchmarks.md.")
    options.add_argument("parts", nargs="*", metavar="PART", help=", ".join(PARTS))
    wanted = options.parse_args().parts or list(PARTS)
    if unknown := set(wanted) - set(PARTS):
        options.error(f"no part {', '.join(unknown)}: there are {', '.join(PARTS)}")
    results = json.loads(RESULTS.read_text(encoding="utf-8")) if RESULTS.exists() else {}
    results = {part: found for part, found in results.items() if part in PARTS}
    results["packages"] = venvs.make()
    results["machine"] = machine.describe()
    failed: list[str] = []
    for part in wanted:
        start = time.monotonic()
        results.pop(part, None)
        try:
            results[part] = PARTS[part]()
        except (OSError, ValueError, subprocess.CalledProcessError) as error:  # the others are still to come
            failed.append(f"{part} could not be measured: {error}")
        print(f"{part}: {time.monotonic() - start:.0f} s", flush=True)
        RESULTS.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
    DOC.write_text(page.written(results), encoding="utf-8")
    if failed:
        sys.exit("\n".join(failed))


if __name__ == "__main__":
    main()
