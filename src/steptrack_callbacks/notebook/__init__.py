"""Steps in notebooks: `%load_ext steptrack_callbacks.notebook`, and then `%%step plan --max-usd 0.05`.

Loading it calls `install()`, so that the calls of LangChain and LiteLLM are seen, and lets steps
with `error_boundary="escalate"` ask the person at the keyboard.
"""

from .extension import load_ipython_extension, unload_ipython_extension

__all__ = ["load_ipython_extension", "unload_ipython_extension"]
