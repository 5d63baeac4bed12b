"""The LiteLLM SDK: every call charged once, and refused before it is sent.

`steptrack_callbacks.install()` attaches all of it. `StepTrackLogger` alone, in
`litellm.callbacks`, is the second line, and promises less: see its docstring.
"""

from .attachment import attach
from .logger import StepTrackLogger

__all__ = ("StepTrackLogger", "attach")
