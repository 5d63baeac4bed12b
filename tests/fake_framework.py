"""A framework without a provider: what it sends goes nowhere and is counted.

A call has 100 tokens in and 200 out and costs $0.00225, unless said otherwise; ten of them are worth
`TEN_CALLS_USD` or `TEN_CALLS_TOKENS`.
"""

import asyncio
import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

from steptrack_callbacks import BudgetExhausted, Usage, bind
from steptrack_callbacks.engine.account import Account
from steptrack_callbacks.engine.call import Call
from steptrack_callbacks.engine.request import Request
from steptrack_callbacks.steps.attribution import new_call
from steptrack_callbacks.tokens import InputCount
from steptrack_callbacks.values.money import to_units

CALL_USD = Decimal("0.00225")
CALL_TOKENS = 300
TEN_CALLS_USD = 10 * CALL_USD
TEN_CALLS_TOKENS = 10 * CALL_TOKENS

_INPUT_TOKEN, _OUTPUT_TOKEN = to_units("0.0000025", "price"), to_units("0.00001", "price")


def price(usage: Usage) -> int:
    """$2.50 per million tokens in, $10 per million out."""
    return usage.input_tokens * _INPUT_TOKEN + usage.output_tokens * _OUTPUT_TOKEN


@dataclass
class FakeFramework:
    """Opens calls, and answers them all alike.

    Attributes:
        sent: Calls that would have reached a provider.
        answered: Those that came to a good end.
        refused: The errors of those that were not sent.
        gathered: What `try_to_ask` waits for before it answers, so that calls are in flight together.
    """

    input_tokens: int = 100
    output_tokens: int = 200
    sent: int = 0
    answered: int = 0
    refused: list[BudgetExhausted] = field(default_factory=list)
    gathered: Callable[[], object] = lambda: True
    lock: Any = field(default_factory=threading.Lock)

    def request(self, max_output_tokens: int | None = 200, **details: Any) -> Request:
        """Describe a call whose input is counted rightly, unless `upper_bound` says more."""
        upper_bound = details.pop("upper_bound", self.input_tokens)
        options = {"model": "fake-model", "price": price, "can_clamp": True} | details
        return Request(
            count_input=lambda: InputCount(tokens=self.input_tokens, upper_bound=upper_bound),
            max_output_tokens=max_output_tokens,
            **options,
        )

    def open(self, max_output_tokens: int | None = 200, *, patient: bool = True, **details: Any) -> Call:
        """Send a call, which is then in flight."""
        call = new_call(self.request(max_output_tokens, **details))
        call.admit(patient=patient)
        self._count_sent()
        return call

    async def open_async(self, max_output_tokens: int | None = 200, **details: Any) -> Call:
        """Do as `open`, on the event loop."""
        call = new_call(self.request(max_output_tokens, **details))
        await call.admit_async()
        self._count_sent()
        return call

    def answer(self, call: Call, output_tokens: int | None = None, **report: Any) -> None:
        """Report the usage of a call, which keeps to the `max_tokens` that it was sent with."""
        output = self.output_tokens if output_tokens is None else output_tokens
        caps = [cap for cap in (call.request.max_output_tokens, call.max_output_tokens) if cap is not None]
        call.settle(Usage(input_tokens=self.input_tokens, output_tokens=min([output, *caps])), **report)
        with self.lock:
            self.answered += 1

    def ask(self, max_output_tokens: int | None = 200, **details: Any) -> Call:
        """Make a call from beginning to end."""
        call = self.open(max_output_tokens, **details)
        self.answer(call)
        return call

    def refusal(self, max_output_tokens: int | None = 200, **details: Any) -> BudgetExhausted:
        """Make a call that must be refused at once, and return the refusal."""
        before = self.sent
        try:
            self.open(max_output_tokens, patient=False, **details)
        except BudgetExhausted as refusal:
            assert self.sent == before
            return refusal
        raise AssertionError("the call was sent")

    def try_to_ask(self, max_output_tokens: int | None = 200, **details: Any) -> None:
        """Make a call, and keep the refusal if there is one."""
        try:
            call = self.open(max_output_tokens, **details)
        except BudgetExhausted as refusal:
            self._keep(refusal)
            return
        until(self.gathered)
        self.answer(call)

    async def try_to_ask_async(self, max_output_tokens: int | None = 200, **details: Any) -> None:
        """Do as `try_to_ask`, on the event loop, where others come to their turn meanwhile."""
        try:
            call = await self.open_async(max_output_tokens, **details)
        except BudgetExhausted as refusal:
            self._keep(refusal)
            return
        await until_async(self.gathered)
        self.answer(call)

    def gather(self, account: Account, many: int) -> None:
        """Answer nothing before so many calls are in flight, refused, or waiting for room in an account."""
        self.gathered = lambda: self.sent + len(self.refused) + account.waiting >= many

    def _count_sent(self) -> None:
        with self.lock:
            self.sent += 1

    def _keep(self, refusal: BudgetExhausted) -> None:
        with self.lock:
            self.refused.append(refusal)


def until(condition: Callable[[], object]) -> None:
    """Let other threads run until something holds."""
    deadline = time.perf_counter() + 20  # which no test stops
    while not condition():
        assert time.perf_counter() < deadline, "this never came to hold"
        time.sleep(0)


async def until_async(condition: Callable[[], object]) -> None:
    """Let other tasks run until something holds."""
    deadline = time.perf_counter() + 20  # which no test stops
    while not condition():
        assert time.perf_counter() < deadline, "this never came to hold"
        await asyncio.sleep(0)


def run_all(jobs: Iterable[Callable[[], object]]) -> None:
    """Run functions in threads of their own that begin together, and raise what any of them raised."""
    jobs = list(jobs)
    barrier, errors = threading.Barrier(len(jobs)), []

    def run(job: Callable[[], object]) -> None:
        barrier.wait()
        try:
            job()
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=run, args=(job,)) for job in jobs]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120)
        assert not thread.is_alive(), "a thread is stuck"
    if errors:
        raise errors[0]


def open_elsewhere(framework: FakeFramework, max_output_tokens: int | None = 200, **details: object) -> Call:
    """Open a call in a thread of its own, so that this thread does not stand in its own way."""
    opened: list[Call] = []
    run_all([bind(lambda: opened.append(framework.open(max_output_tokens, **details)))])
    return opened[0]


class Asking:
    """A call that is being asked for in a thread of its own, and what came of it."""

    def __init__(
        self, framework: FakeFramework, max_output_tokens: int | None = 200, **details: object
    ) -> None:
        self.call: Call | None = None
        self.refusal: BudgetExhausted | None = None
        self._thread = threading.Thread(target=bind(self._ask), args=(framework, max_output_tokens, details))
        self._thread.start()

    def _ask(self, framework, max_output_tokens, details):
        try:
            self.call = framework.open(max_output_tokens, **details)
        except BudgetExhausted as refusal:
            self.refusal = refusal

    def end(self) -> "Asking":
        self._thread.join(60)
        assert not self._thread.is_alive(), "still waiting"
        return self

    @property
    def is_waiting(self) -> bool:
        return self._thread.is_alive()


def ask_and_wait(framework, running, max_output_tokens: int | None = 200, **details) -> Asking:
    """Ask in a thread, and go on once it stands in line."""
    before = running.account.waiting
    asking = Asking(framework, max_output_tokens, **details)
    until(lambda: running.account.waiting > before)
    return asking
