"""The LiteLLM SDK: every call charged once, and refused before it is sent.

`steptrack_callbacks.install()` attaches all of it. `StepTrackLogger` alone, in
`litellm.callbacks`, is the second line, and promises less: see its docstring.
"""

# First: whoever attaches as soon as it is imported must not find this package half made.
import litellm  # noqa: F401

from .attachment import attach
from .logger import StepTrackLogger

__all__ = ("StepTrackLogger", "attach")
