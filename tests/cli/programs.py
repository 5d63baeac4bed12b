"""Programs for the command line to run, and how it is run: as a stranger runs it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

COMMAND = [sys.executable, "-m", "steptrack_callbacks"]

SPENDER = """
import sys
from steptrack_callbacks import record_usage

def spend(times):
    for _ in range(times):
        record_usage("my-model", input_tokens=10, output_tokens=5, cost_usd=0.01)
"""


def steptrack(*arguments: str | Path, **options: Any) -> subprocess.CompletedProcess[str]:
    """Run `steptrack` in a process of its own."""
    return subprocess.run(
        [*COMMAND, *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        env=environment(**options.pop("env", {})),
        **options,
    )


def environment(**changes: str) -> dict[str, str]:
    """Return the environment of this process without what would change the outcome."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("STEPTRACK_")}
    return kept | {"LITELLM_LOCAL_MODEL_COST_MAP": "True"} | changes
