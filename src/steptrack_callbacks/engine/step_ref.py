"""Whose account it is."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from steptrack_callbacks.values.definitions import ErrorBoundary


@dataclass(frozen=True, slots=True, kw_only=True)
class StepRef:
    """A step, a persona or nobody, as errors, events and records name it."""

    name: str
    path: str
    step_id: str | None = None
    run_id: str = ""
    function: str | None = None
    persona: str | None = None
    error_boundary: ErrorBoundary = "fail"

    def event_fields(self) -> dict[str, Any]:
        """Return what every event says of the step that it happened in."""
        return {
            "step": self.name,
            "path": self.path,
            "persona": self.persona,
            "step_id": self.step_id,
            "run_id": self.run_id,
        }
