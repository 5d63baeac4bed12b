"""One budget, many processes: never more than it is worth, and every sum exact."""

import subprocess
import sys

import pytest

from steptrack_callbacks.ledgers import open_ledger

WORKER = """
import sys
from steptrack_callbacks import Budget, BudgetExhausted, Usage, install, step
from steptrack_callbacks.values.money import to_units
from steptrack_callbacks.steps.attribution import new_call
from steptrack_callbacks.engine.request import Request
from steptrack_callbacks.tokens import InputCount

install(ledger=sys.argv[1])
worth_100 = Budget("team-a", max_usd=100, enforce="strict")
request = lambda: Request(
    model="m", count_input=lambda: InputCount(tokens=10, upper_bound=10), max_output_tokens=10,
    price=lambda usage: to_units(usage.total_tokens, "price") // 20,
)
admitted = 0
print("ready", flush=True)
sys.stdin.readline()
for _ in range(200):
    try:
        with step("job", budgets=[worth_100]):
            call = new_call(request())
            call.admit()
            admitted += 1
            call.settle(Usage(input_tokens=10, output_tokens=10))
    except BudgetExhausted as error:
        assert error.budget == "team-a"
print(admitted, flush=True)
"""


@pytest.fixture(params=["sqlite", "redis"])
def url(request, tmp_path):
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/books.db?timeout_s=30"
    return request.getfixturevalue("redis_server").url(prefix="many-processes", timeout_s=30)


def test_four_processes_of_two_hundred_calls_share_a_strict_budget_worth_a_hundred(url):
    command = [sys.executable, "-c", WORKER, url]
    workers = [
        subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) for _ in range(4)
    ]
    for worker in workers:
        assert worker.stdout.readline() == "ready\n"
    for worker in workers:
        worker.stdin.write("go\n")
        worker.stdin.flush()
    admitted = [int(worker.communicate(timeout=120)[0]) for worker in workers]
    (totals,) = open_ledger(url).look(["budget::0:team-a"])
    assert sum(admitted) == 100
    assert totals.settled["calls"] == 100
    assert totals.settled["cost_pico_usd"] == 100 * 10**12
    assert totals.settled["input_tokens"] == totals.settled["output_tokens"] == 1000
    assert (totals.held_calls, totals.held) == (0, (0, 0))
