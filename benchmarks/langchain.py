"""What the LangChain edge costs, as ratios to LangChain's own `UsageMetadataCallbackHandler`, in one run.

Both watch the same fake model, in turn, inside three steps with a limit in dollars.
"""

from __future__ import annotations

import asyncio
import statistics
import sys
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "langchain_edge"))

from asking import FakeChat
from langchain_core.callbacks import BaseCallbackHandler, UsageMetadataCallbackHandler

from steptrack_callbacks import LostStepWarning, step
from steptrack_callbacks.langchain import StepTrackHandler

ROUNDS = 15
QUESTION = "why is the sky blue?"
SHORT, LONG = FakeChat(), FakeChat(words=200)

Ask = Callable[[dict[str, Any]], Any]
loop = asyncio.new_event_loop()


async def read(config: dict[str, Any]) -> list[Any]:
    return [chunk async for chunk in LONG.astream(QUESTION, config)]


CASES: dict[str, tuple[Ask, int]] = {
    "invoke": (lambda config: SHORT.invoke(QUESTION, config), 100),
    "ainvoke": (lambda config: loop.run_until_complete(SHORT.ainvoke(QUESTION, config)), 50),
    "stream of 200 chunks": (lambda config: list(LONG.stream(QUESTION, config)), 5),
    "async stream of 200 chunks": (lambda config: loop.run_until_complete(read(config)), 3),
}


def microseconds(ask: Ask, config: dict[str, Any], times: int) -> float:
    start = time.perf_counter()
    for _ in range(times):
        ask(config)
    return (time.perf_counter() - start) / times * 1e6


def compare(ask: Ask, times: int) -> dict[str, float]:
    """Measure bare, with LangChain's handler and with ours, in turn."""
    handlers: dict[str, list[BaseCallbackHandler]] = {
        "bare": [],
        "usage handler": [UsageMetadataCallbackHandler()],
        "ours": [StepTrackHandler()],
    }
    samples: dict[str, list[float]] = {name: [] for name in handlers}
    for _ in range(ROUNDS):
        for name, callbacks in handlers.items():
            samples[name].append(microseconds(ask, {"callbacks": callbacks}, times))
    return {name: statistics.median(values) for name, values in samples.items()}


def main() -> None:
    warnings.simplefilter("ignore", LostStepWarning)  # nothing is attached: only the handlers given count
    with step("a", max_usd=100), step("b", max_usd=100), step("c", max_usd=100):
        for name, (ask, times) in CASES.items():
            medians = compare(ask, times)
            ratio = medians["ours"] / medians["usage handler"]
            figures = ", ".join(f"{who} {value:,.0f} us" for who, value in medians.items())
            print(f"{name}: {ratio:.2f} ({figures})")


if __name__ == "__main__":
    main()
