"""The newest calls of this process, with when each began and ended: what a timeline is drawn from.

A call leaves one tuple here, and no more than a fixed number of them is kept. What a call asked and
what was answered is never kept.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple, TypeVar

from steptrack_callbacks.values.errors import StepTrackError
from steptrack_callbacks.values.usage import Usage

from .amounts import NOTHING, Charge
from .open_call import OpenCall, State
from .step_ref import StepRef

T = TypeVar("T")
KEPT_CALLS = 2_000
KEPT_DENIALS = 500


class SeenCall(NamedTuple):
    """One call, as a timeline shows it.

    Attributes:
        number: Counts the calls of this process.
        ref: The innermost step around it; of a call that found no step, its path is empty.
        model: The model that was asked.
        outcome: Where it stands. `swept` is open still, though its step has ended, charged an estimate.
        started_at: Seconds since the epoch.
        ended_at: Seconds since the epoch; `None` while it runs.
        charge: What was charged for it, at last.
        error: Why it was denied, or `None`.
        late: Whether its usage came only after its step had ended.
    """

    number: int
    ref: StepRef
    model: str
    outcome: State
    started_at: float
    ended_at: float | None
    charge: Charge = NOTHING
    error: str | None = None
    late: bool = False

    @property
    def run_id(self) -> str:
        """The run that it belongs to; empty for a call that found no step."""
        return self.ref.run_id

    @property
    def step_id(self) -> str | None:
        """The innermost step around it, or `None`."""
        return self.ref.step_id

    @property
    def path(self) -> str:
        """That step's path."""
        return self.ref.path

    @property
    def usage(self) -> Usage:
        """What was charged, in the form in which people take it."""
        return self.charge.as_usage()

    def to_dict(self) -> dict[str, Any]:
        """Return a flat dict of plain JSON values; an unknown cost is `None`."""
        used = self.usage
        usage, unknown = used.to_dict(), used.unpriced_calls and not used.cost_usd
        duration = None if self.ended_at is None else max(0.0, self.ended_at - self.started_at)
        return {
            "call": self.number,
            "run_id": self.run_id,
            "step_id": self.step_id,
            "path": self.path,
            "model": self.model,
            "outcome": self.outcome,
            "late": self.late,
            "started_at": self.started_at,
            "ended_at": self.ended_at,
            "duration_s": duration,
            **usage,
            "cost_usd": None if unknown else usage["cost_usd"],
            "error": self.error,
        }


Charged = tuple[int, StepRef, str, State, float, float, Charge]
"""The first fields of a `SeenCall`, which is made of them when somebody looks."""
_settled: deque[Charged] = deque(maxlen=KEPT_CALLS)
_denied: deque[SeenCall] = deque(maxlen=KEPT_DENIALS)


note_charge: Callable[[Charged], None] = _settled.append
"""Keeps what was charged for a call; a swept one is told again when more is known."""


def note_denial(number: int, ref: StepRef, model: str, error: StepTrackError) -> None:
    """Keep that a call was refused."""
    at = time.time()
    _denied.append(SeenCall(number, ref, model, "denied", at, at, error=str(error)))


def in_flight(call: OpenCall) -> SeenCall:
    """Return a call that still runs."""
    ref, model = call.accounts[0].ref, call.request.model
    return SeenCall(call.number, ref, model, "in flight", call.started_at, None)


def seen_calls(running: Iterable[SeenCall] = ()) -> list[SeenCall]:
    """Return the calls that are kept, each once, in the order in which they began.

    Args:
        running: Calls in flight, which are to be told of as well.
    """
    settled = [SeenCall(*charged) for charged in _copy(_settled)]
    swept = {call.number for call in settled if call.outcome == "swept"}
    newest: dict[int, SeenCall] = {}
    for call in [*_copy(_denied), *settled]:
        is_final = call.outcome != "swept"
        if call.number not in newest or is_final:  # two threads may have told of a call in any order
            newest[call.number] = call._replace(late=is_final and call.number in swept)
    for call in running:
        newest.setdefault(call.number, call)
    shown = (call for call in newest.values() if call.outcome != "withdrawn")
    return sorted(shown, key=lambda call: (call.started_at, call.number))


def _copy(calls: deque[T]) -> list[T]:
    while True:
        try:
            return list(calls)
        except RuntimeError:  # a garbage collection while it was copied has settled a call
            continue


def reset() -> None:
    """Forget all calls, for tests."""
    _settled.clear()
    _denied.clear()
