"""Whether a call grows dearer with what came before it, or with what is around it. Runs in a worker."""

from __future__ import annotations

import os
import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

from cases import ENDLESS, question
from contestants.contestant import Contestant

SAMPLE = 500
DEPTHS = (1, 2, 4, 8, 16, 32, 64)
ROUNDS = 7
PATIENCE_S = 60  # of work, so that a busy machine cuts nothing short


def grow(who: Contestant, *, what: str, upto: int = 0) -> dict[str, Any]:
    """Measure growth with `depth`, or with so many `calls`, `steps` or `records`."""
    return depth(who) if what == "depth" else past(OF[what], who, upto)


def past(work_of: Callable[..., Any], who: Contestant, upto: int) -> dict[str, Any]:
    """Tell what one more costs after 1,000, 10,000 and so on, in microseconds, and the memory by then."""
    marks = [10**exponent for exponent in range(3, 7) if 10**exponent <= upto]
    found: dict[str, Any] = {"at": [], "us": [], "MiB": []}
    deadline = time.process_time() + PATIENCE_S
    with work_of(who) as once:
        for before, mark in pairwise([0, *marks]):
            for done in range(before, mark - SAMPLE):
                once()
                if not done % SAMPLE and time.process_time() > deadline:
                    return found
            samples = [_timed(once, SAMPLE // 10) for _ in range(10)]
            found["at"].append(mark)
            found["us"].append(round(statistics.median(samples), 2))
            found["MiB"].append(_resident_mib())
    return found


def _timed(once: Callable[[], Any], times: int) -> float:
    start = time.perf_counter()
    for _ in range(times):
        once()
    return (time.perf_counter() - start) / times * 1e6


def _resident_mib() -> float | None:
    statm = Path("/proc/self/statm")
    if not statm.exists():
        return None
    return round(int(statm.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20, 1)


@contextmanager
def _calls(who: Contestant) -> Iterator[Callable[[], Any]]:
    from fake_chat import FakeChat

    with who.langchain(ENDLESS) as config:
        model = FakeChat()
        yield lambda: model.invoke(question(), config)


@contextmanager
def _steps(who: Contestant) -> Iterator[Callable[[], Any]]:
    def once() -> None:
        with make():
            pass

    with who.scope() as make:
        yield once


@contextmanager
def _records(who: Contestant) -> Iterator[Callable[[], Any]]:
    """Charge without a framework, so that a million is soon done; only this package has such a verb."""
    from steptrack_callbacks import record_usage, step

    with step("bench", max_usd=10**6):
        yield lambda: record_usage("gpt-4o", input_tokens=100, output_tokens=200)


OF: dict[str, Callable[..., Any]] = {"calls": _calls, "steps": _steps, "records": _records}


def _ask(model: Any, config: Any) -> Any:
    return model.invoke(question(), config)


def depth(who: Contestant) -> dict[str, Any]:
    """Tell what a LangChain call costs inside so many scopes, in microseconds."""
    from fake_chat import FakeChat

    samples: dict[int, list[float]] = {}
    why = None
    with who.langchain(ENDLESS) as config, who.scope() as make:
        model = FakeChat()
        ask = partial(_ask, model, config)
        for _ in range(ROUNDS):
            for scopes in DEPTHS:
                with ExitStack() as stack:
                    try:
                        for _ in range(scopes):
                            stack.enter_context(make())
                    except Exception as error:
                        why = f"no deeper: {type(error).__name__}"
                        break
                    _timed(ask, 5)
                    samples.setdefault(scopes, []).append(_timed(ask, 30))
    medians = {scopes: round(statistics.median(each), 1) for scopes, each in samples.items()}
    return {"at": list(medians), "us": list(medians.values()), "why": why}
