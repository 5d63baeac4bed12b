"""Where the time of a call goes: the files of this package that a call passes, by their own time.

    python profiling.py

Three steps with a dollar limit are around each call. A profiler slows small functions more than large ones,
so that shares say more than microseconds do.
"""

from __future__ import annotations

import cProfile
import json
import os
import pstats
import sys
import warnings
from collections import Counter
from pathlib import Path
from typing import Any

os.environ |= {"LITELLM_LOCAL_MODEL_COST_MAP": "True", "LANGSMITH_TRACING": "false"}

from cases import CASES
from contestants.ours import OursDeep

import steptrack_callbacks

HOME = str(Path(steptrack_callbacks.__file__).parent)
CALLS = {"langchain_invoke": 2000, "langchain_stream": 50, "litellm_completion": 500}
MOST = 14


def profile(case: str, calls: int) -> dict[str, Any]:
    """Return what share of a call this package is, and how that divides among its files and functions."""
    profiler = cProfile.Profile()
    with CASES[case].opened(OursDeep(), "") as work:
        work(200 if case != "langchain_stream" else 5)
        profiler.runcall(work, calls)
    stats: Any = pstats.Stats(profiler)
    files: Counter[str] = Counter()
    functions: Counter[str] = Counter()
    for (path, _, name), (_, _, own, _, _) in stats.stats.items():
        if path.startswith(HOME):
            file = path.removeprefix(HOME + "/")
            files[file] += own
            functions[f"{file}: {name}"] += own
    scale = 1e6 / calls
    return {
        "whole_us": round(stats.total_tt * scale, 1),
        "ours_us": round(sum(files.values()) * scale, 1),
        "files_us": {file: round(own * scale, 1) for file, own in files.most_common(MOST)},
        "functions_us": {name: round(own * scale, 1) for name, own in functions.most_common(MOST)},
    }


def main() -> None:
    warnings.simplefilter("ignore")
    found = {case: profile(case, calls) for case, calls in CALLS.items()}
    if sys.argv[1:]:
        Path(sys.argv[1]).write_text(json.dumps(found), encoding="utf-8")
    print(json.dumps(found, indent=2))


if __name__ == "__main__":
    main()
