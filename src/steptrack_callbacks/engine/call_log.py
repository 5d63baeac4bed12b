"""The newest calls of this process, with when each began and ended: what a timeline is drawn from.

A call leaves one tuple here, and no more than a fixed number of them is kept. What a call asked and
what was answered is never kept.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

from steptrack_callbacks.values.errors import StepTrackError
from steptrack_callbacks.values.usage import Usage

from .amounts import NOTHING, Charge
from .open_call import OpenCall
from .step_ref import StepRef

KEPT_CALLS = 2_000
KEPT_DENIALS = 500

Outcome = Literal["in flight", "swept", "settled", "failed", "abandoned", "denied", "withdrawn"]


@dataclass(frozen=True, slots=True, kw_only=True)
class SeenCall:
    """One call, as a timeline shows it.

    Attributes:
        number: Counts the calls of this process.
        run_id: The run that it belongs to; empty for a call that found no step.
        step_id: The innermost step around it, or `None`.
        path: That step's path; empty for a call that found no step.
        model: The model that was asked.
        outcome: Where it stands. `swept` is open still, though its step has ended, charged an estimate.
        started_at: Seconds since the epoch.
        ended_at: Seconds since the epoch; `None` while it runs.
        usage: What was charged for it, at last.
        late: Whether its usage came only after its step had ended.
        error: Why it was denied, or `None`.
    """

    number: int
    run_id: str
    step_id: str | None
    path: str
    model: str
    outcome: Outcome
    started_at: float
    ended_at: float | None
    usage: Usage = field(default_factory=Usage)
    late: bool = False
    error: str | None = None

    def to_dict(self) -> dict[str, Any]:
        """Return a flat dict of plain JSON values; an unknown cost is `None`."""
        usage = self.usage.to_dict()
        unknown = self.usage.unpriced_calls and not self.usage.cost_usd
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


class _Line(NamedTuple):
    number: int
    ref: StepRef
    model: str
    state: Any
    started_at: float
    ended_at: float
    charge: Charge = NOTHING
    error: str | None = None


_settled: deque[_Line] = deque(maxlen=KEPT_CALLS)
_denied: deque[_Line] = deque(maxlen=KEPT_DENIALS)


def note_charge(
    number: int, ref: StepRef, charge: Charge, *, model: str, state: Any, started_at: float
) -> None:
    """Keep what was charged for a call; a swept one is told again when more is known."""
    _settled.append(_Line(number, ref, model, state, started_at, time.time(), charge))


def note_denial(number: int, ref: StepRef, model: str, error: StepTrackError) -> None:
    """Keep that a call was refused."""
    at = time.time()
    _denied.append(_Line(number, ref, model, "denied", at, at, error=str(error)))


def in_flight(call: OpenCall) -> SeenCall:
    """Return a call that still runs."""
    ref = call.accounts[0].ref
    return SeenCall(
        number=call.number,
        run_id=ref.run_id,
        step_id=ref.step_id,
        path=ref.path,
        model=call.request.model,
        outcome="in flight",
        started_at=call.started_at,
        ended_at=None,
    )


def seen_calls(running: Iterable[SeenCall] = ()) -> list[SeenCall]:
    """Return the calls that are kept, each once, in the order in which they began.

    Args:
        running: Calls in flight, which are to be told of as well.
    """
    settled = _copy(_settled)
    swept = {line.number for line in settled if line.state == "swept"}
    newest: dict[int, SeenCall] = {}
    for line in [*_copy(_denied), *settled]:
        is_final = line.state != "swept"
        if line.number not in newest or is_final:  # two threads may have told of a call in any order
            newest[line.number] = _seen(line, late=is_final and line.number in swept)
    for call in running:
        newest.setdefault(call.number, call)
    shown = (call for call in newest.values() if call.outcome != "withdrawn")
    return sorted(shown, key=lambda call: (call.started_at, call.number))


def _copy(lines: deque[_Line]) -> list[_Line]:
    while True:
        try:
            return list(lines)
        except RuntimeError:  # a garbage collection while it was copied has settled a call
            continue


def _seen(line: _Line, *, late: bool) -> SeenCall:
    return SeenCall(
        number=line.number,
        run_id=line.ref.run_id,
        step_id=line.ref.step_id,
        path=line.ref.path,
        model=line.model,
        outcome=line.state,
        started_at=line.started_at,
        ended_at=line.ended_at,
        usage=line.charge.as_usage(),
        late=late,
        error=line.error,
    )


def reset() -> None:
    """Forget all calls, for tests."""
    _settled.clear()
    _denied.clear()
