"""How a step ended, and what that means."""

from __future__ import annotations

from typing import Literal

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
    "interrupted",  # paused by a graph framework, to be resumed
    "denied",  # a hook said no
]

STATUS_MEANS: dict[Status, str] = {
    "new": "not begun",
    "open": "still running",
    "completed": "ended within its limits",
    "exhausted": "ran out of budget, and its body handled that",
    "continued": "ran out of budget, and the program went on without it",
    "escalated": "ran out of budget, and was handed to whoever can decide",
    "failed": "ran out of budget, and raised",
    "stopped": "a step around it ran out of budget",
    "error": "left by another exception",
    "cancelled": "cancelled or interrupted",
    "interrupted": "paused, to be resumed",
    "denied": "kept from starting by a hook",
}
TONES = {
    "completed": "good",
    "open": "busy",
    "new": "quiet",
    "continued": "warn",
    "exhausted": "warn",
    "escalated": "bad",
    "failed": "bad",
    "error": "bad",
    "denied": "bad",
}
