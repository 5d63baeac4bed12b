"""LangChain: every call in every mode, charged once, and refused before it is sent.

`steptrack_callbacks.install()` attaches `StepTrackHandler` to everything. What an exhaustion leads
to, beside failing, is said by `budgeted`; `admission` lets calls on an event loop wait.
"""

# First: whoever attaches as soon as it is imported must not find this package half made.
import langchain_core  # noqa: F401

from .attachment import attach
from .budgeting import budgeted
from .handler import StepTrackHandler
from .limiter import admission

__all__ = ("StepTrackHandler", "admission", "attach", "budgeted")
