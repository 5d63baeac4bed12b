"""Calls that `steptrack doctor` makes: one through each entry point and call mode, answered by mocks.

Each is made twice: in a step that has no call left, where it must be refused, and in one that has one,
where it must be charged once. Nothing leaves this machine.
"""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Callable, Iterator

from steptrack_callbacks import install, step, uninstall
from steptrack_callbacks.integrations.versions import version_of
from steptrack_callbacks.steps.step import Step

from . import loopback, probes_langchain, probes_litellm
from .probes import Probe, Result


def run() -> list[Result]:
    """Make all calls that the installed packages offer; what fails is said in its result, and not raised."""
    install(ledger="memory:", on_integration_change="warn")
    try:
        with loopback.provider() as url:
            return list(_results(url))
    finally:
        uninstall()


def _results(url: str | None) -> Iterator[Result]:
    tried = list(probes(url))
    with asyncio.Runner() as runner:
        for probe in tried:
            yield Result(probe.package, probe.entry, probe.mode, wrong=wrong_with(probe, runner))
    if version_of("litellm") is not None:
        yield from probes_litellm.not_called(tried)


def probes(url: str | None) -> Iterator[Probe]:
    """List the calls that the installed packages offer."""
    offered: dict[str, Callable[[], Iterator[Probe]]] = {
        "litellm": lambda: probes_litellm.of_litellm(url),
        "langchain_core": probes_langchain.of_models,
        "langchain_litellm": probes_langchain.of_litellm,
        "langchain": probes_langchain.of_agents,
    }
    for package, probes_of in offered.items():
        if version_of(package) is not None:
            yield from probes_of()


def wrong_with(probe: Probe, runner: asyncio.Runner) -> str:
    """Make a call twice, and say what is wrong with how it was held to its limit; nothing if nothing is."""
    try:
        refused, charged = (_tried(probe, calls, runner) for calls in (0, 1))
    except Exception as error:  # noqa: BLE001 - whatever it is, it is the answer
        return f"raises {type(error).__name__}: {error}"
    if refused.usage.calls or not refused.record().denied_calls:
        return "is not refused at max_calls=0"
    used = charged.usage
    if used.calls != 1:
        return f"is charged {used.calls} times at max_calls=1"
    if used.ungated_calls:
        return "is charged, but was seen only after it had been sent"
    return "" if used.total_tokens or not probe.in_words else "is charged without its usage"


def _tried(probe: Probe, max_calls: int, runner: asyncio.Runner) -> Step:
    tried = step("doctor", max_calls=max_calls, error_boundary="continue")
    if inspect.iscoroutinefunction(probe.call):
        runner.run(_awaited(probe, tried))
        return tried
    with tried:
        probe.call()
    return tried


async def _awaited(probe: Probe, tried: Step) -> None:
    async with tried:
        await probe.call()
