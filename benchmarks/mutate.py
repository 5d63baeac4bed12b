"""Changes the machine in small ways, one at a time, and tells which changes no test notices.

    python benchmarks/mutate.py [EVERY]

mutmut changes the parts of the call, of the verbs and of prices, in a copy of the project beside the virtual
environments of the benchmarks, and runs for each change the tests that come past it. All of it takes about
half an hour on one core; with EVERY only each EVERY-th change is made. What survived is shown by
`mutmut show NAME` there.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections import Counter
from pathlib import Path

import venvs

ROOT = Path(__file__).parents[1]
WORK = venvs.HOME / "mutants"
PARTS = ("engine/*", "steps/verbs.py", "pricing/*")
TESTS = """
    admission all_or_nothing answers_of_several_models asked_in_code boundaries budgets call call_details
    cheaper_at_the_limit cold_models contexts defects escalation far_from_limits generators groups hooks
    kept_back_calls last_call late_reports looked_up_once lost_steps model_names one_budget_in_many_steps
    policy price_details price_sources price_terms prices_of_images pricing rates rates_given records
    reentrance reservations_grow room_beside_others room_set_aside runs steps steps_in_threads
    streams_on_ledgers strict two_ledgers verb_details views waiting waiting_async waiting_for_ledgers
""".split()  # noqa: SIM905 - a line for each name otherwise
LEFT_OUT = (
    "test_lost_steps.py::test_a_warning_names_the_line_that_the_user_wrote",
    "test_two_ledgers.py::test_a_program_under_steptrack_run_keeps_its_budgets_in_its_own_ledger",
    "test_runs.py::test_room_that_a_dead_process_holds_is_reserved_and_not_spent",
    "test_views.py::TestRunsThatAreBegunAgain::test_starts_that_overlap_in_any_way_add_up_to_the_run",
)
"""They meet mutmut's own frames, run a program where mutmut's configuration is not, and do not run twice."""
KILLED = ("killed", "timeout", "suspicious", "segfault")


def copy_project() -> None:
    """Copy what the tests need, with mutmut's configuration."""
    shutil.rmtree(WORK, ignore_errors=True)
    shutil.copytree(ROOT / "src", WORK / "src", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copytree(ROOT / "tests", WORK / "tests", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "README.md", WORK)
    options = {
        "source_paths": ["src/"],
        "only_mutate": [f"src/steptrack_callbacks/{part}" for part in PARTS],
        "pytest_add_cli_args": ["-p", "no:cacheprovider", *(f"--deselect=tests/{test}" for test in LEFT_OUT)],
        "pytest_add_cli_args_test_selection": [f"tests/test_{name}.py" for name in TESTS],
        "also_copy": ["tests", "README.md"],
    }
    lines = [f"{name} = {json.dumps(value)}" for name, value in options.items()]
    project = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    text = "\n".join([project, "[tool.mutmut]", *lines, ""])
    (WORK / "pyproject.toml").write_text(text, encoding="utf-8")


def mutmut(*arguments: str, check: bool = True) -> str:
    program = venvs.PYTHONS["mutmut"].with_name("mutmut")
    paths = {"PYTHONPATH": str(WORK / "mutants" / "src"), "LITELLM_LOCAL_MODEL_COST_MAP": "True"}
    done = subprocess.run(
        [program, *arguments], cwd=WORK, env=os.environ | paths, check=False, capture_output=True, text=True
    )
    if check and done.returncode:
        raise SystemExit(f"mutmut {arguments[0]} failed:\n{done.stdout[-3000:]}\n{done.stderr[-3000:]}")
    return done.stdout


def results() -> dict[str, str]:
    """Return how each change ended, by its name."""
    lines = [line.strip() for line in mutmut("results", "--all", "true").splitlines()]
    return dict(line.split(": ", 1) for line in lines if "__mutmut_" in line)


def summary(ends: dict[str, str]) -> str:
    """Count by part what became of the changes that were made."""
    made = {name: end for name, end in ends.items() if end != "not checked"}
    parts = Counter(_part(name) for name in made)
    killed = Counter(_part(name) for name, end in made.items() if end in KILLED)
    lines = ["| part | changes | noticed | share |", "| --- | --: | --: | --: |"]
    for part, count in [*sorted(parts.items()), ("all", len(made))]:
        noticed = killed.total() if part == "all" else killed[part]
        lines.append(f"| {part} | {count} | {noticed} | {noticed / count:.0%} |")
    return "\n".join(lines)


def _part(name: str) -> str:
    return name.removeprefix("steptrack_callbacks.").split(".x", maxsplit=1)[0]


def main() -> None:
    every = int(sys.argv[1]) if sys.argv[1:] else 1
    if "mutmut" not in (venvs.make(["mutmut"]) and venvs.PYTHONS):
        raise SystemExit("mutmut cannot be installed here")
    copy_project()
    mutmut("run", "--max-children", "1", "nothing*", check=False)  # makes the changes and matches none
    chosen = [] if every == 1 else list(results())[::every]
    mutmut("run", "--max-children", "1", *chosen)
    ends = results()
    survivors = sorted(name for name, end in ends.items() if end not in (*KILLED, "not checked"))
    (WORK / "survivors.txt").write_text("\n".join(survivors) + "\n", encoding="utf-8")
    print(f"{summary(ends)}\n\nWhat survived is listed in {WORK / 'survivors.txt'}")


if __name__ == "__main__":
    main()
