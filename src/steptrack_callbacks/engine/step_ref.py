"""Whose account it is."""

from __future__ import annotations

from typing import Any, NamedTuple

from steptrack_callbacks.values.definitions import ErrorBoundary


class StepRef(NamedTuple):
    """A step, a persona or nobody, as errors, events and records name it."""

    name: str
    path: str
    step_id: str | None = None
    run_id: str = ""
    function: str | None = None
    persona: str | None = None
    error_boundary: ErrorBoundary = "fail"
    of_hook: bool = False  # whether it is a hook's, or inside one

    def event_fields(self) -> dict[str, Any]:
        """Return what every event says of the step that it happened in."""
        return {
            "step": self.name,
            "path": self.path,
            "persona": self.persona,
            "step_id": self.step_id,
            "run_id": self.run_id,
            "of_hook": self.of_hook,
        }
