"""A provider that a test scripts byte by byte: it lies, stalls, hangs up and repeats itself."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self

Script = Callable[["Line"], None]


class Line:
    """The connection to one client, as a script sees it."""

    def __init__(
        self, handler: BaseHTTPRequestHandler, body: dict[str, Any], released: threading.Event
    ) -> None:
        self._handler = handler
        self.body = body
        self._released = released

    def raw(self, content: bytes) -> None:
        """Send bytes."""
        with suppress(ConnectionError):
            self._handler.wfile.write(content)
            self._handler.wfile.flush()

    def answer(self, value: Any, status: int = 200) -> None:
        """Send a whole answer."""
        content = value if isinstance(value, bytes) else json.dumps(value).encode()
        self.raw(
            b"HTTP/1.1 %d OK\r\nconnection: close\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n"
            % (status, len(content))
        )
        self.raw(content)

    def begin_stream(self) -> None:
        """Send the head of a stream that ends with its connection."""
        self.raw(b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nconnection: close\r\n\r\n")

    def event(self, value: Any) -> None:
        """Send one event of a stream."""
        self.raw(
            b"data: " + (value.encode() if isinstance(value, str) else json.dumps(value).encode()) + b"\n\n"
        )

    def stall(self) -> None:
        """Say nothing until the test is over."""
        self._released.wait(30)


class Upstream:
    """The server, as a context manager; it answers every request by the script in force."""

    def __init__(self) -> None:
        self.script: Script = lambda line: line.answer(chat())
        self.count = 0
        self._released = threading.Event()
        self._lock = threading.Lock()
        outer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["content-length"])))
                with outer._lock:
                    outer.count += 1
                outer.script(Line(self, body, outer._released))
                self.close_connection = True

            def log_message(self, *_: object) -> None:
                """Tests print nothing."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}/v1"

    def __enter__(self) -> Self:
        threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._released.set()
        self._server.shutdown()
        self._server.server_close()


def chat(text: str = "an answer", **changes: Any) -> dict[str, Any]:
    """Build an answer of ten tokens in and two out."""
    message = {"role": "assistant", "content": text}
    return {
        "id": "same-id",
        "object": "chat.completion",
        "created": 1,
        "model": "gpt-4o",
        "choices": [{"index": 0, "message": message, "finish_reason": "stop"}],
        "usage": usage(10, 2),
    } | changes


def usage(sent: int, made: int) -> dict[str, int]:
    return {"prompt_tokens": sent, "completion_tokens": made, "total_tokens": sent + made}


def chunk(text: str | None, finish: str | None = None, **changes: Any) -> dict[str, Any]:
    """Build an event of a stream."""
    delta = {"role": "assistant", "content": text} if text is not None else {}
    return {
        "id": "same-id",
        "object": "chat.completion.chunk",
        "created": 1,
        "model": "gpt-4o",
        "choices": [{"index": 0, "delta": delta, "finish_reason": finish}],
    } | changes
