"""A worker with a durable budget: it may be killed at any moment, and the next one goes on with what is left.

The budget and the run live in a file. `redis://...` in its place shares them between machines.
"""

import tempfile
from pathlib import Path

import litellm

import steptrack_callbacks as steptrack
from steptrack_callbacks import Budget, step

folder = tempfile.TemporaryDirectory()  # a real worker keeps its file
LEDGER = f"sqlite:///{Path(folder.name, 'steps.db')}"
TEAM = Budget("team-a", max_calls=8, window="1d")


def work_off(jobs: list[str]) -> str:
    """Take jobs until they, or the day's budget, are used up."""
    with step("worker", budgets=[TEAM], error_boundary="continue", run_id="nightly") as worker:
        for job in jobs:
            litellm.completion(
                model="gpt-4o-mini",
                messages=[{"role": "user", "content": job}],
                mock_response="Done.",
            )
    return f"{worker.status}, {worker.usage.calls} calls of this run so far"


steptrack.install(ledger=LEDGER)
print(f"first start:  {work_off([f'job {number}' for number in range(5)])}")

steptrack.uninstall()  # as after a restart: nothing is left in memory
steptrack.install(ledger=LEDGER)
print(f"second start: {work_off([f'job {number}' for number in range(5, 12)])}\n")
print(steptrack.report())
steptrack.uninstall()
folder.cleanup()
