"""A small provider on this machine, for calls that LiteLLM has no mock answer for."""

from __future__ import annotations

import json
from collections.abc import Generator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any

_PAGE = {"index": 0, "markdown": "hello", "images": [], "dimensions": None}
_ANSWERS: dict[str, Any] = {
    "/audio/speech": "hello to you",
    "/audio/transcriptions": {"text": "hello to you"},
    "/images/edits": {"created": 1, "data": [{"b64_json": "AAAA"}]},
    "/moderations": {
        "id": "hello",
        "model": "omni-moderation-latest",
        "results": [{"flagged": False, "categories": {}, "category_scores": {}}],
    },
    "/ocr": {
        "pages": [_PAGE],
        "model": "mistral-ocr-latest",
        "usage_info": {"pages_processed": 1, "doc_size_bytes": 1},
    },
    "/rerank": {
        "id": "hello",
        "results": [{"index": 0, "relevance_score": 0.5}],
        "meta": {"billed_units": {"search_units": 1}},
    },
}
"""What is answered, by the end of the address."""


@contextmanager
def provider() -> Generator[str | None]:
    """Run the provider during this block.

    Yields:
        Its address; `None` where a program may not listen on loopback.
    """
    try:
        server = ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
    except OSError:
        yield None
        return
    with server:
        Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        try:
            yield f"http://127.0.0.1:{server.server_port}/v1"
        finally:
            server.shutdown()


class _Handler(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        """Read the request, and answer it by its address."""
        self.rfile.read(int(self.headers.get("content-length") or 0))
        answer = next((each for end, each in _ANSWERS.items() if self.path.endswith(end)), None)
        self.send_response(404 if answer is None else 200)
        self.send_header("content-type", "application/json")
        self.end_headers()
        self.wfile.write(answer.encode() if isinstance(answer, str) else json.dumps(answer).encode())

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - its name in the standard library
        """Print nothing."""
