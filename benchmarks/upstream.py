"""An OpenAI-compatible provider in a process of its own, which counts what reaches it.

Only whole chat answers, and fast: in timings it should be felt as little as it can be. Each answer is 100
tokens in and as many out as `outputs` says, in turn, capped by the request's `max_tokens`.
"""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import urllib.request
from pathlib import Path
from typing import Any, Self

INPUT_TOKENS = 100
SAME = [200]
VARIED = [200, 50, 350, 120, 280, 200, 90, 310, 160, 240]  # 200 on average
SHORT_FIRST = [50, 350, 120, 280, 200, 90, 310, 160, 240, 200]


class Provider:
    """The server's state."""

    def __init__(self) -> None:
        self.set(delay=0.0, outputs=SAME)

    def set(self, *, delay: float, outputs: list[int]) -> None:
        self.delay, self.outputs = delay, outputs
        self.requests = self.input_tokens = self.output_tokens = 0

    def control(self, request: dict[str, Any]) -> dict[str, Any]:
        counted = {
            "requests": self.requests,
            "input_tokens": self.input_tokens,
            "output_tokens": self.output_tokens,
        }
        if request:
            self.set(**request)
        return counted

    def answer(self, request: dict[str, Any]) -> dict[str, Any]:
        output = self.outputs[self.requests % len(self.outputs)]
        cap = request.get("max_tokens") or request.get("max_completion_tokens")
        output = min(output, cap or output)
        self.requests += 1
        self.input_tokens += INPUT_TOKENS
        self.output_tokens += output
        usage = {"prompt_tokens": INPUT_TOKENS, "completion_tokens": output}
        message = {"role": "assistant", "content": "Rayleigh scattering."}
        return {
            "id": f"chatcmpl-{self.requests}",
            "object": "chat.completion",
            "created": 1_700_000_000,
            "model": request["model"],
            "choices": [{"index": 0, "message": message, "finish_reason": "stop", "logprobs": None}],
            "usage": {**usage, "total_tokens": INPUT_TOKENS + output},
        }


class Connection(asyncio.Protocol):
    """One client, with as many requests as it likes, one after the other."""

    def __init__(self, provider: Provider) -> None:
        self.provider, self.got = provider, b""

    def connection_made(self, transport: Any) -> None:
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        self.got += data
        head, found, rest = self.got.partition(b"\r\n\r\n")
        if not found:
            return
        lines = head.decode("latin-1").split("\r\n")
        headers = {key.lower(): value for key, _, value in (line.partition(": ") for line in lines[1:])}
        length = int(headers.get("content-length", 0))
        if len(rest) < length:
            return
        self.got = rest[length:]
        self._serve(lines[0].split(" ")[1], json.loads(rest[:length] or b"{}"))

    def _serve(self, path: str, request: dict[str, Any]) -> None:
        if path == "/control":
            self._send(self.provider.control(request))
        elif self.provider.delay:
            answer = self.provider.answer(request)
            asyncio.get_running_loop().call_later(self.provider.delay, self._send, answer)
        else:
            self._send(self.provider.answer(request))

    def _send(self, answer: dict[str, Any]) -> None:
        body = json.dumps(answer).encode()
        head = f"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n"
        self.transport.write(head.encode() + body)


async def serve() -> None:
    provider = Provider()
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: Connection(provider), "127.0.0.1", 0, backlog=1024)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


class Upstream:
    """The server's process, as a context manager."""

    def __enter__(self) -> Self:
        self.process = subprocess.Popen(
            [sys.executable, Path(__file__)], stdout=subprocess.PIPE, text=True, env={}
        )
        assert self.process.stdout is not None
        self.root = f"http://127.0.0.1:{self.process.stdout.readline().strip()}"
        self.url = f"{self.root}/v1"
        return self

    def __exit__(self, *_: object) -> None:
        self.process.terminate()
        self.process.wait()
        assert self.process.stdout is not None
        self.process.stdout.close()

    def reset(self, *, delay: float, outputs: list[int]) -> dict[str, int]:
        """Begin counting anew; returns what was counted so far."""
        return self._control({"delay": delay, "outputs": outputs})

    def counted(self) -> dict[str, int]:
        return self._control({})

    def _control(self, request: dict[str, Any]) -> dict[str, int]:
        with urllib.request.urlopen(f"{self.root}/control", json.dumps(request).encode()) as answer:
            return json.load(answer)


if __name__ == "__main__":
    asyncio.run(serve())
