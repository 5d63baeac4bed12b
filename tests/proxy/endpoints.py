"""The proxy's endpoints, each asked in the same words and read to its end."""

from __future__ import annotations

import http.client
import json
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from serving import MASTER, Proxy, named

ASK = [{"role": "user", "content": "hello"}]


@dataclass(frozen=True)
class Endpoint:
    """One endpoint, in one mode."""

    path: str
    body: dict[str, Any]
    model: str = "fast"

    def ask(
        self, proxy: Proxy, run: str, step: str, key: str = MASTER, **options: Any
    ) -> tuple[int, Any, Any]:
        """Ask, and read the answer; returns status, headers and body."""
        body = {"model": self.model, **self.body, **options}
        return proxy.send(self.path, body, run=run, step=step, key=key)

    @property
    def streams(self) -> bool:
        return bool(self.body.get("stream"))


ENDPOINTS = {
    "chat": Endpoint("/v1/chat/completions", {"messages": ASK}),
    "chat stream": Endpoint("/v1/chat/completions", {"messages": ASK, "stream": True}),
    "text": Endpoint("/v1/completions", {"prompt": "hello"}),
    "text stream": Endpoint("/v1/completions", {"prompt": "hello", "stream": True}),
    "embeddings": Endpoint("/v1/embeddings", {"input": ["hello"]}, "vectors"),
    "responses": Endpoint("/v1/responses", {"input": "hello"}),
    "responses stream": Endpoint("/v1/responses", {"input": "hello", "stream": True}),
    "messages": Endpoint("/v1/messages", {"messages": ASK, "max_tokens": 1000}),
    "messages stream": Endpoint("/v1/messages", {"messages": ASK, "max_tokens": 1000, "stream": True}),
}
UNRETRIED = {name: endpoint for name, endpoint in ENDPOINTS.items() if name != "embeddings"}
"""Those whose client, inside LiteLLM, makes no retries of its own that nobody sees."""

STREAMS = {name: endpoint for name, endpoint in ENDPOINTS.items() if endpoint.streams}


def error_in(body: Any) -> dict[str, Any]:
    """Return what a refusal says, from a body or from the last frame of a stream."""
    if isinstance(body, dict):
        return body["error"]
    frames = [json.loads(line[5:]) for line in body.splitlines() if line.startswith("data:") and "{" in line]
    return frames[-1]["error"]


@contextmanager
def leave_unanswered(proxy: Proxy, endpoint: Endpoint, run: str, step: str) -> Iterator[None]:
    """Send a request, and hang up at the end of the block without having read anything."""
    body = json.dumps({"model": endpoint.model, **endpoint.body}).encode()
    address = urlsplit(proxy.url)
    connection = http.client.HTTPConnection(str(address.hostname), address.port)
    with closing(connection):
        connection.request("POST", endpoint.path, body, _headers(run, step))
        yield


def begin(proxy: Proxy, endpoint: Endpoint, run: str, step: str) -> Iterator[bytes]:
    """Begin to read a stream; closing the generator hangs up."""
    body = json.dumps({"model": endpoint.model, **endpoint.body}).encode()
    request = urllib.request.Request(proxy.url + endpoint.path, body, _headers(run, step))
    with closing(urllib.request.urlopen(request, timeout=60)) as answer:
        yield from answer


def _headers(run: str, step: str) -> dict[str, str]:
    return {
        "content-type": "application/json",
        "authorization": f"Bearer {MASTER}",
        **named(run=run, step=step),
    }
