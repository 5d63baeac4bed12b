"""Four processes of fifty tasks each on one Redis: nobody is refused because a ledger is merely slow."""

from __future__ import annotations

import json
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator

import pytest

ROUNDS = 5
"""Of each of four kinds, so twenty in a row."""
WORKER = """
import asyncio, json, sys
from collections import Counter
from steptrack_callbacks import Budget, Usage, install, step
from steptrack_callbacks.engine import output_stats
from steptrack_callbacks.engine.request import Request
from steptrack_callbacks.steps.attribution import new_call
from steptrack_callbacks.tokens import InputCount

url, processes = sys.argv[1:]
install(ledger=url)

async def ask(budget, most, gone):
    count = lambda: InputCount(tokens=100, upper_bound=100)
    async with step("job", budgets=[budget]):
        call = new_call(Request(model="m", count_input=count, max_output_tokens=most))
        await call.admit_async()
        async with call.telling_ledger():
            await asyncio.wait_for(gone.wait(), 60)
            call.settle(Usage(input_tokens=100, output_tokens=200))

async def main(number, most):
    budget = Budget(f"ten-{number}", max_tokens=3000)
    gone = asyncio.Event()
    tasks = [asyncio.create_task(ask(budget, most, gone)) for _ in range(50)]
    asyncio.get_running_loop().call_soon(gone.set)
    ends = await asyncio.gather(*tasks, return_exceptions=True)
    return Counter("sent" if end is None else type(end).__name__ for end in ends)

for line in sys.stdin:
    number, most, warm = json.loads(line)
    output_stats.reset()
    if warm:
        output_stats.learn("m", output_tokens=200, counted_input=100, input_tokens=100, took_s=1.0)
    print(json.dumps(asyncio.run(main(number, most))), flush=True)
"""


@pytest.fixture
def workers(redis_server) -> Iterator[list[subprocess.Popen[str]]]:
    command = [sys.executable, "-c", WORKER, redis_server.url(prefix="fifty"), "4"]
    started = [
        subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) for _ in range(4)
    ]
    yield started
    for worker in started:
        worker.communicate(timeout=60)


@pytest.mark.parametrize("most", [200, None], ids=["max_tokens", "none"])
@pytest.mark.parametrize("warm", [False, True], ids=["cold", "warm"])
def test_ten_of_two_hundred_are_sent_time_after_time(workers, most, warm):
    for number in range(ROUNDS):
        for worker in workers:
            worker.stdin.write(json.dumps([f"{number}-{most}-{warm}", most, warm]) + "\n")
            worker.stdin.flush()
        ends = sum((Counter(json.loads(worker.stdout.readline())) for worker in workers), Counter())
        assert set(ends) <= {"sent", "BudgetExhausted"}, (number, ends)
        assert 9 <= ends["sent"] <= 10, (number, ends)
