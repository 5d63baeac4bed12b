"""A real LiteLLM proxy on loopback, with our handler in it and a provider behind it."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import openai

MASTER = "sk-master"
PROGRAM = """
import gc
import sys

from litellm import run_server

if sys.version_info < (3, 12):  # it might collect a stream of LiteLLM's while a variable is set: see docs/design.md
    gc.set_threshold(50_000)
run_server()
"""
STARTUP_S = 180

MODELS = """
model_list:
  - model_name: fast
    litellm_params: {{model: openai/gpt-4o-mini, api_base: "{provider}", api_key: none, max_retries: 0}}
  - model_name: dear
    litellm_params: {{model: openai/gpt-4o, api_base: "{provider}", api_key: none, max_retries: 0}}
  - model_name: lonely
    litellm_params: {{model: openai/gpt-4o-mini, api_base: "{provider}", api_key: none, max_retries: 0}}
  - model_name: terse
    litellm_params: {{model: openai/gpt-4o-mini-2024-07-18, api_base: "{provider}", api_key: none, max_retries: 0}}
  - model_name: vectors
    litellm_params: {{model: openai/text-embedding-3-small, api_base: "{provider}", api_key: none, max_retries: 0}}
  - model_name: more-vectors
    litellm_params: {{model: openai/text-embedding-3-large, api_base: "{provider}", api_key: none, max_retries: 0}}
  - model_name: claude
    litellm_params: {{model: anthropic/claude-sonnet-4-5, api_base: "{provider}/messages", api_key: none}}
  - model_name: vllm
    litellm_params:
      {{model: hosted_vllm/mine, api_base: "{provider}", api_key: none, input_cost_per_token: 1.5e-7, output_cost_per_token: 6e-7}}
  - model_name: rates-in-params
    litellm_params:
      {{model: openai/our-house, api_base: "{provider}", api_key: none, input_cost_per_token: 1.0e-6,
        output_cost_per_token: 2.0e-6, cache_read_input_token_cost: 1.0e-7}}
  - model_name: rates-in-info
    litellm_params: {{model: openai/our-house-too, api_base: "{provider}", api_key: none}}
    model_info:
      {{input_cost_per_token: 1.0e-6, output_cost_per_token: 2.0e-6, cache_read_input_token_cost: 1.0e-7}}
  - model_name: nobody-knows
    litellm_params: {{model: openai/nobody-knows-its-price, api_base: "{provider}", api_key: none}}
  - model_name: house
    litellm_params: {{model: openai/house-model, api_base: "{provider}", api_key: none, max_retries: 0}}
  - model_name: pictures
    litellm_params: {{model: openai/gpt-image-1, api_base: "{provider}", api_key: none}}
  - model_name: judge
    litellm_params: {{model: openai/omni-moderation-latest, api_base: "{provider}", api_key: none}}
  - model_name: voice
    litellm_params: {{model: openai/tts-1, api_base: "{provider}", api_key: none}}
  - model_name: ears
    litellm_params: {{model: openai/whisper-1, api_base: "{provider}", api_key: none}}
    model_info: {{mode: audio_transcription}}
  - model_name: ranks
    litellm_params: {{model: cohere/rerank-v3.5, api_base: "{provider}", api_key: none}}
files_settings:
  - custom_llm_provider: openai
    api_base: "{provider}"
    api_key: none
router_settings:
  num_retries: 1
  retry_after: 0
  disable_cooldowns: true
  fallbacks: [{{"fast": ["dear"]}}, {{"vectors": ["more-vectors"]}}]
litellm_settings:
  callbacks: [steptrack_callbacks.litellm_proxy.proxy_handler_instance, keys.seen]
  cache: true
  cache_params: {{type: local, mode: default_off}}
general_settings:
  master_key: sk-master
  custom_auth: keys.check
  custom_auth_run_common_checks: true
"""

KEYS = '''
from litellm.integrations.custom_logger import CustomLogger
from litellm.proxy._types import ProxyException, UserAPIKeyAuth


class Events(CustomLogger):
    """What LiteLLM tells its own budgets: a line for each request, with what it cost."""

    async def async_log_success_event(self, kwargs, response_obj, start_time, end_time):
        with open("events.txt", "a") as lines:
            lines.write(f"{kwargs['litellm_params']['metadata'].get('mark')} {kwargs.get('response_cost')}\\n")


seen = Events()


async def check(request, api_key):
    """Every key that begins with sk- is a key of its own; one that begins with sk-poor has little money.

    One that begins with sk-dear may call only one model.
    """
    if not api_key.startswith("sk-"):
        raise ProxyException(message="no such key", type="auth_error", param="api_key", code=401)
    budget = {"max_budget": 0.0005, "token": api_key, "spend": 0.0} if api_key.startswith("sk-poor") else {}
    may = {"models": ["dear"]} if api_key.startswith("sk-dear") else {}
    return UserAPIKeyAuth(api_key=api_key, **budget, **may)
'''


@dataclass
class Proxy:
    """A running proxy."""

    url: str
    folder: Path
    process: subprocess.Popen[bytes]

    def client(self, key: str = MASTER, **headers: str) -> openai.OpenAI:
        return openai.OpenAI(
            base_url=f"{self.url}/v1", api_key=key, max_retries=0, default_headers=named(**headers)
        )

    def async_client(self, key: str = MASTER, **headers: str) -> openai.AsyncOpenAI:
        return openai.AsyncOpenAI(
            base_url=f"{self.url}/v1", api_key=key, max_retries=0, default_headers=named(**headers)
        )

    def send(
        self,
        path: str,
        body: Any = None,
        *,
        key: str | None = MASTER,
        method: str | None = None,
        **headers: str,
    ) -> tuple[int, dict[str, str], Any]:
        """Send a request by hand; returns status, headers and the body, parsed if it is JSON."""
        sent = {"content-type": "application/json", **named(**headers)}
        if key is not None:
            sent["authorization"] = f"Bearer {key}"
        content = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self.url + path, content, sent, method=method)
        try:
            with urllib.request.urlopen(request, timeout=60) as answer:
                return answer.status, dict(answer.headers), _parsed(answer.read())
        except urllib.error.HTTPError as error:
            return error.code, dict(error.headers), _parsed(error.read())

    def run(self, run: str, key: str = MASTER) -> dict[str, dict[str, Any]]:
        """Return the steps of a run by path."""
        status, _, tree = self.send(f"/steptrack/runs/{run}", key=key)
        return {} if status == 404 else {step["path"]: step for step in _flat(tree["steps"])}

    def settled(self, run: str, path: str, key: str = MASTER) -> dict[str, Any]:
        """Return a step once nothing of it is in flight."""
        deadline = time.monotonic() + 60
        while (step := self.run(run, key)[path])["in_flight_calls"]:
            if time.monotonic() > deadline:
                raise TimeoutError(f"still in flight: {step}")
            time.sleep(0.01)
        return step

    def log(self) -> str:
        return (self.folder / "proxy.log").read_text(errors="replace")


def named(**names: str) -> dict[str, str]:
    return {f"x-steptrack-{name.replace('_', '-')}": value for name, value in names.items()}


def _flat(steps: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    for step in steps:
        yield step
        yield from _flat(step["steps"])


def _parsed(content: bytes) -> Any:
    try:
        return json.loads(content)
    except ValueError:
        return content.decode()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def proxy(folder: Path, provider: str, limits: str, *options: str, models: str = MODELS) -> Iterator[Proxy]:
    """Run a proxy with these limits, and stop it again."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.yaml").write_text(models.format(provider=provider))
    (folder / "keys.py").write_text(KEYS)
    (folder / "steptrack.toml").write_text(limits)
    port = free_port()
    command = [sys.executable, "-c", PROGRAM, "--config", "config.yaml"]
    command += ["--host", "127.0.0.1", "--port", str(port), *options]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("COV_CORE")} | {
        "STEPTRACK_CONFIG": str(folder / "steptrack.toml"),
        "LITELLM_LOCAL_MODEL_COST_MAP": "True",
        "PYTHONFAULTHANDLER": "1",  # a crash of the interpreter says in the log where it was
    }
    with (folder / "proxy.log").open("wb") as log:
        process = subprocess.Popen(
            command, cwd=folder, stdout=log, stderr=log, env=environment, start_new_session=True
        )
    running = Proxy(f"http://127.0.0.1:{port}", folder, process)
    try:
        _wait_for(running)
        yield running
    finally:
        stop(process)


def _wait_for(running: Proxy) -> None:
    deadline = time.monotonic() + STARTUP_S
    while time.monotonic() < deadline and running.process.poll() is None:
        with suppress(OSError), urllib.request.urlopen(f"{running.url}/health/liveliness", timeout=1):
            return
        time.sleep(0.1)
    raise RuntimeError(f"the proxy did not start:\n{running.log()[-4000:]}")


def stop(process: subprocess.Popen[bytes]) -> None:
    if process.poll() is None:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGTERM)
        try:
            process.wait(timeout=15)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
