"""A run with everything in it that a report can show, on a clock of its own."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import ExitStack, contextmanager
from unittest import mock

from spending import open_call
from steptrack_callbacks import Budget, Grant, Step, Usage, persona, step
from steptrack_callbacks.engine import call, call_log
from steptrack_callbacks.steps import ending
from steptrack_callbacks.steps import step as step_file
from steptrack_callbacks.values.money import to_units


class Clock:
    """Time that passes only when it is told to."""

    def __init__(self) -> None:
        self.now = 1_767_261_600.0

    def time(self) -> float:
        return self.now

    monotonic = time

    def passes(self, seconds: float) -> None:
        self.now += seconds


@contextmanager
def stopped() -> Generator[Clock]:
    """Put a clock that stands still into the rooms that note when things happen."""
    clock = Clock()
    with ExitStack() as patches:
        for room in (step_file, ending, call, call_log):
            patches.enter_context(mock.patch.object(room, "time", clock))
        yield clock


def priced(per_token):
    return lambda usage: to_units(usage.total_tokens * per_token, "price")


SMALL, LARGE = (
    {"model": "small-1", "price": priced(0.0000004)},
    {"model": "large-2", "price": priced(0.000004)},
)


def tell(clock: Clock) -> Step:
    """Run a writer: plan, research with four calls at once, draft, check; each ends in its own way."""

    def ask(tokens, output, seconds, **details):
        call = open_call(tokens, output + 40, **details)
        clock.passes(seconds)
        call.settle(Usage(input_tokens=tokens, output_tokens=output, cache_read_tokens=tokens // 4))

    team = Budget("team-a", max_usd=0.25, window="1d")
    with persona("writer", max_usd=0.05, max_calls=40, max_seconds=60, budgets=[team]) as writer:
        with step("plan", max_usd=0.01):
            ask(820, 260, 1.4, **SMALL)
            clock.passes(0.2)
            ask(1_150, 310, 1.1, **SMALL)
        clock.passes(0.15)
        with step("research", max_calls=9, error_boundary="continue"):
            for topic in ("sources", "figures"):
                with step(topic, max_tokens=9_000):
                    calls = [open_call(600 + 90 * number, 500, **SMALL) for number in range(3)]
                    for number, call in enumerate(calls):
                        clock.passes(0.55 + 0.2 * number)
                        call.settle(Usage(input_tokens=600 + 90 * number, output_tokens=330))
                    if topic == "figures":
                        late = open_call(700, 300, **SMALL)
                        clock.passes(0.3)
            open_call(500, 200, **SMALL).fail()
            clock.passes(0.4)
            broken = open_call(900, 600, **SMALL)
            clock.passes(1.3)
            broken.abandon(410)
            open_call(500, 200, **SMALL)
        clock.passes(0.7)
        late.settle(Usage(input_tokens=700, output_tokens=280))
        with step(
            "draft",
            max_usd=0.02,
            error_boundary="escalate",
            escalation=lambda error: Grant(max_usd=0.02, by="the editor"),
        ):
            ask(2_400, 1_300, 3.2, **LARGE)
            clock.passes(0.1)
            ask(2_600, 900, 2.4, **LARGE)
        clock.passes(0.1)
        with step("check", max_tokens=20_000):
            ask(3_100, 120, 0.9, **SMALL)
    with step("summary", max_calls=3):
        ask(410, 90, 0.8, model="local-llama", price=lambda _: None)
        ask(260, 60, 0.5, **SMALL)
    open_call(50, 20, **SMALL).settle(Usage(input_tokens=50, output_tokens=12))
    return writer
