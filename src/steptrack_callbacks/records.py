"""What a step leaves behind."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from .definitions import Grant, LimitName
from .usage import Usage

Status = Literal[
    "new",  # not begun
    "open",  # still running
    "completed",
    "exhausted",  # ran out of budget; the body handled it
    "continued",  # ran out of budget; the boundary went on without it
    "escalated",  # ran out of budget; handed to whoever can decide
    "failed",  # ran out of budget; raised
    "stopped",  # a step around it ran out of budget
    "error",  # any other exception
    "cancelled",  # cancelled, interrupted by the user, or a generator closed early
    "interrupted",  # paused by a graph host, to be resumed
    "denied",  # a hook said no
]
Kind = Literal["step", "persona", "hook"]


@dataclass(frozen=True, slots=True, kw_only=True)
class CompletedStep:
    """The record of one activation of a step, or of a persona.

    Attributes:
        id: Unique to this activation.
        run_id: Shared by all steps under one outermost step.
        parent_id: The step around it, or `None`.
        path: Names from the outermost step to this one, joined with `/`.
        name: The step's name.
        kind: `step`, `persona`, or `hook` for calls made by a hook.
        function: The decorated function's name, or `None`.
        persona: The nearest persona around it (itself for a persona), or `None`.
        model: The model last used, else the declared one, else `None`.
        models: Own usage by model.
        limits: The limits in force at the end, grants included.
        own_usage: What was charged to this step itself.
        usage: The same with all steps inside it.
        denied_calls: Calls refused in it and inside it; nothing was sent for them.
        in_flight_calls: Calls still open when it ended, charged their estimate.
        strict_breaches: Times a `strict` limit was passed, because a provider reported more than its bound.
        tool_calls: Tools that were let through in this step.
        status: How it ended.
        error: The exception that left it or was handled by its boundary, as text; else `None`.
        grants: What escalations granted to it.
        started_at: Seconds since the epoch.
        ended_at: Seconds since the epoch.
        duration_s: Seconds by the monotonic clock.
        revision: Counts up when a late settlement changes the record.
    """

    id: str
    run_id: str
    parent_id: str | None
    path: str
    name: str
    kind: Kind
    function: str | None
    persona: str | None
    model: str | None
    models: Mapping[str, Usage] = field(default_factory=dict)
    limits: Mapping[LimitName, Any] = field(default_factory=dict)
    own_usage: Usage
    usage: Usage
    denied_calls: int
    in_flight_calls: int
    strict_breaches: int
    tool_calls: int
    status: Status
    error: str | None
    grants: tuple[Grant, ...]
    started_at: float
    ended_at: float
    duration_s: float
    revision: int = 0

    @property
    def llm_calls(self) -> int:
        """Requests sent in it and inside it, failed ones included."""
        return self.usage.calls

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON values; the top-level sums include the steps inside it."""
        usage = self.usage.to_dict()
        head = {"name": self.name, "function": self.function, "model": self.model}
        tail = {
            "kind": self.kind,
            "id": self.id,
            "run_id": self.run_id,
            "parent_id": self.parent_id,
            "path": self.path,
            "persona": self.persona,
            "models": {model: used.to_dict() for model, used in self.models.items()},
            "limits": {
                name: float(value) if name == "max_usd" else value for name, value in self.limits.items()
            },
            "own_usage": self.own_usage.to_dict(),
            "denied_calls": self.denied_calls,
            "in_flight_calls": self.in_flight_calls,
            "strict_breaches": self.strict_breaches,
            "tool_calls": self.tool_calls,
            "grants": [grant.to_dict() for grant in self.grants],
            "started_at": self.started_at,
            "ended_at": self.ended_at,
            "duration_s": self.duration_s,
            "revision": self.revision,
        }
        calls = usage.pop("calls")
        return head | usage | {"llm_calls": calls, "status": self.status, "error": self.error} | tail
