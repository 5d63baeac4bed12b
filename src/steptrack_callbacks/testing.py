"""Helpers for tests of programs that use this package; they need no test framework.

Example:
    >>> from steptrack_callbacks import record_usage, step
    >>> from steptrack_callbacks.testing import recorder, reset
    >>> with recorder() as seen, step("plan"):
    ...     record_usage("my-model", input_tokens=10, output_tokens=5, cost_usd=0.02)
    >>> [call.usage.cost_usd for call in seen.calls], [record.name for record in seen.records]
    ([Decimal('0.02')], ['plan'])
    >>> reset()
"""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass, field

from . import attachments, hooks, pricing, settings
from .engine import output_stats
from .hooks import CallDenied, CallSettled, StepEnded
from .settings import Settings
from .steps import attribution
from .values.records import CompletedStep

__all__ = ("Recording", "recorder", "reset", "strict")


def reset() -> None:
    """Forget all that earlier tests have left: steps, records, hooks, prices, levels, what was learned.

    What `install` has attached stays attached; what it was given besides is forgotten: prices, tools, steps,
    nodes, the escalation function, what a file said, and the ledger.

    Example:
        >>> from steptrack_callbacks import peek_completed_steps, step
        >>> with step("plan"):
        ...     pass
        >>> reset()
        >>> peek_completed_steps()
        []
    """
    attribution.reset()
    hooks.reset()
    output_stats.reset()
    pricing.reset()
    attachments.reset()
    attached = settings.now
    settings.put_in_force(
        Settings(proxy=attached.proxy, on_integration_change=attached.on_integration_change)
    )


@contextmanager
def strict() -> Generator[None]:
    """Let what a broken hook raises through, instead of logging it, while the block runs.

    Example:
        >>> from steptrack_callbacks import step
        >>> from steptrack_callbacks.hooks import StepEnded, on
        >>> off = on(StepEnded, lambda event: 1 / 0)
        >>> with strict(), step("plan"):
        ...     pass
        Traceback (most recent call last):
        ...
        ZeroDivisionError: division by zero
        >>> off()
    """
    before = hooks.set_strict(True)
    try:
        yield
    finally:
        hooks.set_strict(before)


@dataclass(slots=True)
class Recording:
    """What happened while a `recorder` was open, in the order in which it happened.

    Attributes:
        calls: Calls that were charged; one that was settled late is there once, as it was at last.
        denied: Calls that were refused.
        records: What steps have left.
    """

    calls: list[CallSettled] = field(default_factory=list)
    denied: list[CallDenied] = field(default_factory=list)
    records: list[CompletedStep] = field(default_factory=list)

    def _settled(self, event: CallSettled) -> None:
        for index, earlier in enumerate(self.calls):
            if earlier.call_id == event.call_id:
                self.calls[index] = event
                return
        self.calls.append(event)

    def _ended(self, event: StepEnded) -> None:
        self.records.append(event.record)


@contextmanager
def recorder() -> Generator[Recording]:
    """Collect calls, refusals and records of this process while the block runs.

    Yields:
        A `Recording`; it stays readable after the block.

    Example:
        >>> from steptrack_callbacks import BudgetExhausted, record_usage, step
        >>> with recorder() as seen:
        ...     with step("plan", max_calls=1, error_boundary="continue"):
        ...         record_usage("my-model", input_tokens=10, output_tokens=5)
        ...         record_usage("my-model", input_tokens=10, output_tokens=5)
        >>> [record.status for record in seen.records], len(seen.calls)
        (['continued'], 2)
    """
    recording = Recording()
    hooked = (
        hooks.on(CallSettled, recording._settled),  # noqa: SLF001
        hooks.on(CallDenied, recording.denied.append),
        hooks.on(StepEnded, recording._ended),  # noqa: SLF001
    )
    try:
        yield recording
    finally:
        for off in hooked:
            off()
