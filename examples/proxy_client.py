"""An unchanged OpenAI client, and a LiteLLM proxy that holds its budget.

It needs the `[proxy]` extra. The proxy is started on loopback with a mock model, by `examples/proxy/`: its
`steptrack.toml` has the limits. The client names its run and its step in two headers, and has nothing of this
package in it.
"""

import socket
import subprocess
import sys
import time
from pathlib import Path

import httpx
import openai

with socket.socket() as probe:
    probe.bind(("127.0.0.1", 0))
    port = probe.getsockname()[1]
folder = Path(__file__).with_name("proxy")
serve = [sys.executable, "-m", "steptrack_callbacks", "proxy", "--example"]
proxy = subprocess.Popen([*serve, "--port", str(port), "--folder", str(folder)], stdout=subprocess.DEVNULL)
url = f"http://127.0.0.1:{port}"


def is_up() -> bool:
    try:
        return httpx.get(f"{url}/health/liveliness").is_success
    except httpx.TransportError:
        return False


try:
    while not is_up() and proxy.poll() is None:
        time.sleep(0.2)
    client = openai.OpenAI(
        base_url=url,
        api_key="sk-local",
        default_headers={"x-steptrack-run": "try-1", "x-steptrack-step": "write"},
    )
    for number in range(1, 4):
        try:
            client.chat.completions.create(
                model="gpt-4o-mini", messages=[{"role": "user", "content": "Why is the sky blue?"}]
            )
            print(f"call {number}: answered")
        except openai.APIStatusError as refusal:
            print(f"call {number}: {refusal.status_code}, {refusal.body['message']}")  # type: ignore[index]
finally:
    proxy.terminate()
    proxy.wait(30)
