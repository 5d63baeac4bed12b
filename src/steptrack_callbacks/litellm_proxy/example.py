"""A proxy to try things on: mock models, a budget, and no key of any provider."""

from __future__ import annotations

import os
import sys
import tempfile
from pathlib import Path

CONFIG = """\
# A LiteLLM proxy whose model answers from this file: no provider, no key, no network.
model_list:
  - model_name: gpt-4o-mini
    litellm_params:
      model: openai/gpt-4o-mini
      api_key: none
      mock_response: "Rayleigh scattering: air bends short waves most, so blue light comes from all sides."

litellm_settings:
  callbacks: steptrack_callbacks.litellm_proxy.proxy_handler_instance

general_settings:
  master_key: sk-local
"""

LIMITS = """\
[steps.write]
max_calls = 2

[budgets.per-key] # clients may call their steps what they like; this is what protects you
max_usd = 5
window = "1d"
scope = "key"

[proxy]
budgets = ["per-key"]
"""

_TRY = """\
A LiteLLM proxy with mock models and these limits, in {folder}:

{limits}
Ask it three times, and the third is refused with status 402:

  curl http://127.0.0.1:{port}/v1/chat/completions -H 'authorization: Bearer sk-local' \\
    -H 'content-type: application/json' -H 'x-steptrack-run: try-1' -H 'x-steptrack-step: write' \\
    -d '{{"model": "gpt-4o-mini", "messages": [{{"role": "user", "content": "why is the sky blue?"}}]}}'

What the run has spent:

  curl http://127.0.0.1:{port}/steptrack/runs/try-1 -H 'authorization: Bearer sk-local'

It starts in some seconds; Ctrl+C ends it.
"""


def run(folder: Path | None = None, *, port: int = 4000) -> int:
    """Run a proxy on loopback in the place of this process' own work, until it is stopped.

    Args:
        folder: Where `config.yaml` and `steptrack.toml` are, or are written if they are missing; `None`
            takes a temporary folder.
        port: The port to listen on.

    Returns:
        The proxy's exit code.

    Raises:
        ModuleNotFoundError: The proxy is not installed; the message names the extra.
    """
    try:
        from litellm import run_server  # noqa: PLC0415 - takes seconds, so only when it runs
    except ImportError as error:
        raise _missing() from error
    if folder is None:
        with tempfile.TemporaryDirectory() as temporary:
            return run(Path(temporary), port=port)
    write(folder)
    os.environ.setdefault("LITELLM_LOCAL_MODEL_COST_MAP", "True")
    os.environ["STEPTRACK_CONFIG"] = str(folder / "steptrack.toml")
    sys.stdout.write(_TRY.format(folder=folder, port=port, limits=(folder / "steptrack.toml").read_text()))
    sys.stdout.flush()
    options = ["--config", str(folder / "config.yaml"), "--host", "127.0.0.1", "--port", str(port)]
    try:
        run_server(options, standalone_mode=False)
    except KeyboardInterrupt:
        return 130
    except ImportError as error:
        if "litellm[proxy]" in str(error):  # LiteLLM is there, and what its proxy needs is not
            raise _missing() from error
        raise
    return 0


def _missing() -> ModuleNotFoundError:
    return ModuleNotFoundError("the LiteLLM proxy is not installed: pip install 'steptrack-callbacks[proxy]'")


def write(folder: Path) -> None:
    """Write the example's two files into a folder, where they are missing."""
    for name, text in (("config.yaml", CONFIG), ("steptrack.toml", LIMITS)):
        if not (folder / name).exists():
            (folder / name).write_text(text, encoding="utf-8")


if __name__ == "__main__":
    raise SystemExit(run(Path(sys.argv[1]) if sys.argv[1:] else None))
