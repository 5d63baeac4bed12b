"""The main job, to be watched: a persona with three steps, offline, on LiteLLM's real client code."""

from __future__ import annotations

import asyncio
import contextlib
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

from . import BudgetExhausted, Grant, Stage, Step, install, persona, report, step

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


_BEGINNING = """\
A writer has $0.01 to answer "why is the sky blue?", in three steps.
{where}; what is counted, priced and refused is real.
"""
_ENDING = """
What to type next:
  steptrack run --max-usd 5 your_program.py    a limit around a program of yours, unchanged
  steptrack prices gpt-4o-mini                 what a model costs, and who says so"""


def run(*, proxy: bool = False, as_json: bool = False) -> int:
    """Run the demo, print the tree of steps, and return an exit code.

    Args:
        proxy: Whether to call a LiteLLM proxy that is started on loopback for the time being, or
            LiteLLM's mock answers in this process.
        as_json: Whether to print JSON, and all else on stderr.

    Returns:
        0 if every step ended as it must, else 1.
    """
    os.environ.setdefault("LITELLM_LOCAL_MODEL_COST_MAP", "True")
    with contextlib.redirect_stdout(sys.stderr) if as_json else contextlib.nullcontext():
        writer = _call_proxy() if proxy else _call_mocks()
    tree, wrong = report(writer.run_id), _wrong_with(writer)
    if as_json:
        said = {"ok": not wrong, "wrong": wrong, "total": tree.total.to_dict()}
        print(json.dumps(said | {"steps": tree.to_dicts()}, indent=2))
    else:
        print(f"\nSpending per step:\n\n{tree}")
        print("\n".join(["\nwhat went wrong:", *wrong]) if wrong else _ENDING)
    return 1 if wrong else 0


def _call_proxy() -> Step:
    key = f"sk-{secrets.token_hex(16)}"
    with _proxy(key) as url:
        print(_BEGINNING.format(where=f"A LiteLLM proxy at {url} makes the answers up"))
        return _write({"model": f"openai/{MODEL}", "api_base": url, "api_key": key})


def _call_mocks() -> Step:
    print(_BEGINNING.format(where="The answers are made up, and nothing leaves this machine"))
    return _write({"model": MODEL, "mock_response": ANSWER})


class _Model:
    """Asks LiteLLM in three ways, and tells the reader one line for each call."""

    def __init__(self, target: dict[str, Any]) -> None:
        import litellm  # noqa: PLC0415 - takes seconds, so only when the demo runs

        self._litellm, self._target = litellm, target

    def ask(self, text: str) -> None:
        with _told(text):
            self._litellm.completion(**self._request(text))

    def ask_streaming(self, text: str) -> None:
        with _told(text, "streamed"):
            for _chunk in self._litellm.completion(
                **self._request(text), stream=True, stream_options={"include_usage": True}
            ):
                pass

    async def ask_async(self, text: str) -> None:
        with _told(text):
            await self._litellm.acompletion(**self._request(text))

    def _request(self, text: str) -> dict[str, Any]:
        return {"messages": [{"role": "user", "content": text}], **self._target}


@contextlib.contextmanager
def _told(text: str, answered: str = "answered") -> Iterator[None]:
    try:
        yield
    except BudgetExhausted:
        print(f"  {text:<24} refused before it was sent")
        raise
    print(f"  {text:<24} {answered}")


def _write(target: dict[str, Any]) -> Step:
    """Answer a question in three steps, with sync, streamed and async calls."""
    install()
    model = _Model(target)

    @step("plan", max_usd=0.001)
    def plan() -> None:
        print("plan: $0.001, which is plenty")
        model.ask("Outline an answer.")
        model.ask("Shorten the outline.")

    @step("research", max_calls=2, error_boundary="continue")
    def research() -> None:
        print("research: 2 calls, and the program goes on without it when they are used up")
        while True:  # it never has enough; its budget has
            model.ask_streaming("Find one more source.")

    def ask_the_editor(_error: BudgetExhausted) -> Grant:
        print("  the editor is asked for more, and grants one call")
        return Grant(max_calls=1, by="the editor")

    @step("publish", max_calls=1, error_boundary="escalate", escalation=ask_the_editor)
    async def publish() -> None:
        print("publish: 1 call, with someone to ask for more")
        await model.ask_async("Write it.")
        await model.ask_async("Proofread it.")

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
