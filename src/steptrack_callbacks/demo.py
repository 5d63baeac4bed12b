"""The main job, to be watched: a persona with three steps, offline, on LiteLLM's real client code."""

from __future__ import annotations

import asyncio
import contextlib
import importlib.util
import json
import os
import secrets
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from . import Grant, Stage, Step, install, persona, report, step

MODEL = "gpt-4o-mini"
ANSWER = "Rayleigh scattering: air bends short waves most, so blue light reaches us from all sides."
STARTUP_S = 120.0

_CONFIG = f"""
model_list:
  - model_name: {MODEL}
    litellm_params:
      model: openai/{MODEL}
      api_key: none
      mock_response: "{ANSWER}"
"""

EXPECTED = {
    "writer": ("completed", 6),
    "writer/plan": ("completed", 2),
    "writer/research": ("continued", 2),
    "writer/publish": ("completed", 2),
}
"""How each step must end, and with how many calls."""


def run(*, proxy: bool | None = None, as_json: bool = False) -> int:
    """Run the demo, print the tree of steps, and return an exit code.

    Args:
        proxy: Whether to call a LiteLLM proxy that is started on loopback for the time being, or
            LiteLLM's mock answers in this process; `None` takes the proxy if it is installed.
        as_json: Whether to print JSON, and all else on stderr.

    Returns:
        0 if every step ended as it must, else 1.
    """
    os.environ.setdefault("LITELLM_LOCAL_MODEL_COST_MAP", "True")
    if proxy is None:
        proxy = all(importlib.util.find_spec(name) for name in ("fastapi", "uvicorn", "backoff", "orjson"))
    with contextlib.redirect_stdout(sys.stderr) if as_json else contextlib.nullcontext():
        writer = _call_proxy() if proxy else _call_mocks()
    tree, wrong = report(writer.run_id), _wrong_with(writer)
    if as_json:
        said = {"ok": not wrong, "wrong": wrong, "total": tree.total.to_dict()}
        print(json.dumps(said | {"steps": tree.to_dicts()}, indent=2))
    else:
        print(tree)
        print("\n".join(["\nwhat went wrong:", *wrong]) if wrong else "\nall steps ended as they must")
    return 1 if wrong else 0


def _call_proxy() -> Step:
    key = f"sk-{secrets.token_hex(16)}"
    with _proxy(key) as url:
        print(f"calling a LiteLLM proxy at {url}\n")
        return _write({"model": f"openai/{MODEL}", "api_base": url, "api_key": key})


def _call_mocks() -> Step:
    print("calling mock answers in this process\n")
    return _write({"model": MODEL, "mock_response": ANSWER})


def _write(target: dict[str, Any]) -> Step:
    """Answer a question in three steps, with sync, streamed and async calls."""
    install()
    import litellm  # noqa: PLC0415 - takes seconds, so only when the demo runs

    def messages(text: str) -> list[dict[str, str]]:
        return [{"role": "user", "content": text}]

    @step("plan", max_usd=0.001)
    def plan() -> None:
        litellm.completion(messages=messages("Outline an answer: why is the sky blue?"), **target)
        litellm.completion(messages=messages("Shorten the outline."), **target)

    @step("research", max_calls=2, error_boundary="continue")
    def research() -> None:
        while True:  # it never has enough; its budget has
            for _chunk in litellm.completion(
                messages=messages("Find one more source."), stream=True, **target
            ):
                pass

    def ask_the_editor(error: Exception) -> Grant:
        print(f"asked for more: {error}\n")
        return Grant(max_calls=1, by="the editor")

    @step("publish", max_calls=1, error_boundary="escalate", escalation=ask_the_editor)
    async def publish() -> None:
        await litellm.acompletion(messages=messages("Write it."), **target)
        await litellm.acompletion(messages=messages("Proofread it."), **target)

    with persona("writer", stages=[Stage("research", allowed_tools=["search"])], max_usd=0.01) as writer:
        plan()
        research()
        asyncio.run(publish())
    return writer


def _wrong_with(writer: Step) -> list[str]:
    found = {record.path: (record.status, record.llm_calls) for record in writer.records()}
    wrong = [
        f"{path}: {found.get(path)} instead of {end}"
        for path, end in EXPECTED.items()
        if found.get(path) != end
    ]
    if writer.cost_usd <= 0 or writer.usage.unpriced_calls:
        wrong.append(f"writer: a cost of {writer.cost_usd} USD cannot be right")
    return wrong


@contextlib.contextmanager
def _proxy(key: str) -> Iterator[str]:
    """Run a LiteLLM proxy with mock models on loopback, and stop it again."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    with tempfile.TemporaryDirectory() as folder:
        config = Path(folder, "config.yaml")
        config.write_text(_CONFIG, encoding="utf-8")
        log = Path(folder, "proxy.log")
        command = [sys.executable, "-c", "from litellm import run_server; run_server()"]
        command += ["--config", str(config), "--host", "127.0.0.1", "--port", str(port)]
        environment = os.environ | {"LITELLM_MASTER_KEY": key}
        with log.open("wb") as output:
            server = subprocess.Popen(  # noqa: S603 - our own interpreter, our own arguments
                command,
                stdout=output,
                stderr=subprocess.STDOUT,
                cwd=folder,
                env=environment,
                start_new_session=True,
            )
        try:
            _wait_for(server, f"http://127.0.0.1:{port}", log)
            yield f"http://127.0.0.1:{port}"
        finally:
            _stop(server)


def _wait_for(server: subprocess.Popen[bytes], url: str, log: Path) -> None:
    deadline = time.monotonic() + STARTUP_S
    while time.monotonic() < deadline and server.poll() is None:
        with contextlib.suppress(OSError), urllib.request.urlopen(f"{url}/health/liveliness", timeout=1):  # noqa: S310
            return
        time.sleep(0.2)
    said = log.read_text(encoding="utf-8", errors="replace")[-3000:]
    said = said.replace("'litellm[proxy]'", "'steptrack-callbacks[proxy]'")  # in what is missing
    raise RuntimeError(f"the LiteLLM proxy did not start:\n{said}")


def _stop(server: subprocess.Popen[bytes]) -> None:
    if server.poll() is None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(server.pid, signal.SIGTERM)
        try:
            server.wait(timeout=10)
        except subprocess.TimeoutExpired:
            server.kill()
            server.wait()
